/* Guards the attention of the CUDA back end on the fake device: kernels whose result differs from
 * the reference's in any bit, at the borders of what they divide a context into; a step that is
 * captured on one side of the border between two forms and goes on beyond it. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/cpu/tables.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/cuda/launches.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/fake_cuda.h"

/* ---- kernels ---- */

enum { N_TOK = 3, N_SEQ = 2, N_CTX = 603 };
enum form { EACH_HEAD, GROUPS, SPLIT, STEP_IN_ONE, STEP_SPLIT, N_FORMS };

struct attend_case {
    uint32_t n_head, n_head_kv, head_dim, n_rot, neox, f16;
    uint32_t pos[N_TOK]; /* ascending; of the tokens of a batch, or of one step each */
    uint32_t n_processors;
};

/* Operands on the host; caches as the device has them, [N_SEQ][n_head_kv][N_CTX][head_dim]. */
struct attention {
    const struct attend_case *c;
    uint32_t q_dim, kv_dim;
    uint64_t cache_n, cache_bytes;
    float *q, *k, *v, *cs;
    unsigned char *k_cache, *v_cache;
};

static float *random_floats(struct bnt_rng *rng, uint64_t n)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (uint64_t i = 0; i < n; i++) {
        x[i] = (float)(bnt_rng_unit(rng) * 2 - 1);
    }
    return x;
}

static void store(const struct attend_case *c, unsigned char *cache, uint64_t at, const float *x,
                  uint64_t n)
{
    if (c->f16) {
        cpu_kernels_ref.store_f16(x, n, (uint16_t *)(void *)cache + at);
    } else {
        memcpy(cache + at * sizeof *x, x, n * sizeof *x);
    }
}

static unsigned char *random_cache(const struct attention *a, struct bnt_rng *rng)
{
    float *x = random_floats(rng, a->cache_n);
    unsigned char *cache = malloc(a->cache_bytes);
    assert_non_null(cache);
    store(a->c, cache, 0, x, a->cache_n);
    free(x);
    return cache;
}

static void make_attention(struct attention *a, const struct attend_case *c, uint64_t seed)
{
    struct bnt_rng rng;
    bnt_rng_seed(&rng, seed);
    *a = (struct attention){
        .c = c, .q_dim = c->n_head * c->head_dim, .kv_dim = c->n_head_kv * c->head_dim};
    a->cache_n = (uint64_t)N_SEQ * N_CTX * a->kv_dim;
    a->cache_bytes = a->cache_n * (c->f16 ? 2 : 4);
    a->q = random_floats(&rng, (uint64_t)N_TOK * a->q_dim);
    a->k = random_floats(&rng, (uint64_t)N_TOK * a->kv_dim);
    a->v = random_floats(&rng, (uint64_t)N_TOK * a->kv_dim);
    a->cs = random_floats(&rng, (uint64_t)N_CTX * c->n_rot);
    a->k_cache = random_cache(a, &rng);
    a->v_cache = random_cache(a, &rng);
}

static void release_attention(struct attention *a)
{
    free(a->q);
    free(a->k);
    free(a->v);
    free(a->cs);
    free(a->k_cache);
    free(a->v_cache);
}

static uint64_t cache_place(const struct attention *a, uint32_t tok, uint32_t head, uint32_t pos)
{
    return (((uint64_t)(tok % N_SEQ) * a->c->n_head_kv + head) * N_CTX + pos) * a->c->head_dim;
}

/* The reference's results to out; a step is rotated and stored before. */
static void attend_by_reference(struct attention *a, bool steps, float *out)
{
    const struct attend_case *c = a->c;
    uint32_t group = c->n_head / c->n_head_kv, element = c->f16 ? 2 : 4;
    float *scores = malloc((size_t)group * N_CTX * sizeof *scores);
    assert_non_null(scores);
    memcpy(out, a->q, (size_t)N_TOK * a->q_dim * sizeof *out);
    for (uint32_t i = 0; i < N_TOK * c->n_head_kv; i++) {
        uint32_t tok = i / c->n_head_kv, head = i % c->n_head_kv, pos = c->pos[tok];
        uint64_t kv = (uint64_t)tok * a->kv_dim + head * c->head_dim;
        const float *cs = a->cs + (uint64_t)pos * c->n_rot;
        float *q = out + (uint64_t)tok * a->q_dim + (uint64_t)head * group * c->head_dim;
        enum rope_style style = c->neox ? ROPE_NEOX : ROPE_NORM;
        if (steps) {
            float *key = malloc(c->head_dim * sizeof *key);
            assert_non_null(key);
            memcpy(key, a->k + kv, c->head_dim * sizeof *key);
            cpu_kernels_ref.rope(q, group, c->head_dim, c->n_rot, style, cs);
            cpu_kernels_ref.rope(key, 1, c->head_dim, c->n_rot, style, cs);
            store(c, a->k_cache, cache_place(a, tok, head, pos), key, c->head_dim);
            store(c, a->v_cache, cache_place(a, tok, head, pos), a->v + kv, c->head_dim);
            free(key);
        }
        struct attend_args args = {.q = q,
                                   .out = q,
                                   .n_tok = 1,
                                   .tok_stride = a->q_dim,
                                   .n_head_group = group,
                                   .head_dim = c->head_dim,
                                   .k = a->k_cache + cache_place(a, tok, head, 0) * element,
                                   .v = a->v_cache + cache_place(a, tok, head, 0) * element,
                                   .kv_stride = c->head_dim,
                                   .kv_f16 = c->f16,
                                   .n_kv = pos + 1,
                                   .scale = 0.75f,
                                   .scores = scores};
        cpu_kernels_ref.attend(&args);
    }
    free(scores);
}

static struct cuda_context *context;

static void *on_device(const void *bytes, uint64_t n)
{
    void *p = NULL;
    assert_int_equal(fake_cuda_table()->alloc(context, n, &p), CUDA_OK);
    if (bytes) {
        assert_int_equal(fake_cuda_table()->upload(context, p, bytes, n), CUDA_OK);
    }
    return p;
}

static void from_device(void *to, const void *from, uint64_t n)
{
    assert_int_equal(fake_cuda_table()->download(context, to, from, n), CUDA_OK);
}

static void run(const struct cuda_launch *l)
{
    assert_int_equal(fake_cuda_table()->launch(context, l), CUDA_OK);
}

static struct cuda_heads heads_on_device(const struct attention *a)
{
    const struct attend_case *c = a->c;
    return (struct cuda_heads){.n_head = c->n_head,
                               .n_head_kv = c->n_head_kv,
                               .head_dim = c->head_dim,
                               .n_rot = c->n_rot,
                               .neox = c->neox,
                               .n_ctx = N_CTX,
                               .kv_f16 = c->f16,
                               .seq_stride = (uint64_t)N_CTX * a->kv_dim,
                               .cs = on_device(a->cs, (uint64_t)N_CTX * c->n_rot * sizeof *a->cs),
                               .k_cache = on_device(a->k_cache, a->cache_bytes),
                               .v_cache = on_device(a->v_cache, a->cache_bytes)};
}

/* A batch by the kernels that have a block for all positions of a head, or of a group. */
static void attend_by_blocks(const struct attention *a, bool groups, const struct cuda_heads *heads,
                             const struct cuda_row *rows, float *q)
{
    const struct attend_case *c = a->c;
    uint32_t pieces = launch_pieces(c->n_head / c->n_head_kv, CUDA_ATTEND_GROUP);
    struct cuda_attend_args args = {.heads = *heads, .rows = rows, .q = q, .scale = 0.75f};
    run(&(struct cuda_launch){.kernel = groups ? CUDA_K_ATTEND_GROUP : CUDA_K_ATTEND,
                              .grid_x = groups ? c->n_head_kv * pieces : c->n_head,
                              .grid_y = N_TOK,
                              .block = 128,
                              .shared = groups ? CUDA_GROUP_BYTES(c->head_dim, N_CTX)
                                               : CUDA_ATTEND_BYTES(c->head_dim, N_CTX),
                              .args = &args,
                              .args_bytes = sizeof args});
}

/* n tokens from tok on by the kernels that spread them; a step's result is not where its query is.
 */
static void attend_by_spreading(const struct attention *a, enum form form, uint32_t tok,
                                struct cuda_split_args *args)
{
    uint32_t n = form == SPLIT ? N_TOK : 1;
    uint64_t n_head = a->c->n_head, stride = (N_CTX + 3) / 4 * 4;
    args->n_slices = launch_score_slices(&args->heads, n, a->c->n_processors);
    args->rows += tok;
    args->q += (uint64_t)tok * a->q_dim;
    args->k += (uint64_t)tok * a->kv_dim;
    args->v += (uint64_t)tok * a->kv_dim;
    args->out += (uint64_t)tok * a->q_dim;
    args->rotate = form != SPLIT;
    args->stride = (uint32_t)stride;
    args->scores = on_device(NULL, n * n_head * stride * sizeof *args->scores);
    args->tops = on_device(NULL, n * n_head * args->n_slices * sizeof *args->tops);
    struct cuda_launch one = launch_of_attend_one(args, a->c->pos[tok] + 1);
    struct cuda_launch scores = launch_of_scores(args, n), values = launch_of_values(args, n);
    run(form == STEP_IN_ONE ? &one : &scores);
    if (form != STEP_IN_ONE) {
        run(&values);
    }
}

/* The results of a form to out; of steps the caches, too. */
static void attend_on_device(struct attention *a, enum form form, float *out)
{
    const struct attend_case *c = a->c;
    struct cuda_row rows[N_TOK];
    uint64_t bytes = (uint64_t)N_TOK * a->q_dim * sizeof *out;
    bool steps = form >= STEP_IN_ONE;
    for (uint32_t i = 0; i < N_TOK; i++) {
        rows[i] = (struct cuda_row){.seq = i % N_SEQ, .pos = c->pos[i]};
    }
    float *q = on_device(a->q, bytes);
    struct cuda_split_args args = {.heads = heads_on_device(a),
                                   .rows = on_device(rows, sizeof rows),
                                   .q = q,
                                   .k = on_device(a->k, (uint64_t)N_TOK * a->kv_dim * sizeof *a->k),
                                   .v = on_device(a->v, (uint64_t)N_TOK * a->kv_dim * sizeof *a->v),
                                   .out = steps ? on_device(NULL, bytes) : q,
                                   .scale = 0.75f};
    if (form <= GROUPS) {
        attend_by_blocks(a, form == GROUPS, &args.heads, args.rows, q);
    }
    for (uint32_t tok = 0; form > GROUPS && tok < (steps ? N_TOK : 1u); tok++) {
        struct cuda_split_args here = args;
        attend_by_spreading(a, form, tok, &here);
    }
    from_device(out, args.out, bytes);
    from_device(a->k_cache, args.heads.k_cache, a->cache_bytes);
    from_device(a->v_cache, args.heads.v_cache, a->cache_bytes);
}

static void check_form(const struct attend_case *c, enum form form, uint64_t seed)
{
    struct attention wanted, got;
    make_attention(&wanted, c, seed);
    make_attention(&got, c, seed);
    size_t n = (size_t)N_TOK * wanted.q_dim;
    float *x = malloc(2 * n * sizeof *x);
    assert_non_null(x);
    fake_cuda_reset(&(struct fake_cuda_plan){.downwards = seed % 2, .threads = seed % 5 == 1});
    assert_int_equal(fake_cuda_table()->open(0, 0, &context), CUDA_OK);
    attend_by_reference(&wanted, form >= STEP_IN_ONE, x);
    attend_on_device(&got, form, x + n);
    if (memcmp(x, x + n, n * sizeof *x) != 0) {
        fail_msg("form %d, case %llu", (int)form, (unsigned long long)seed);
    }
    assert_memory_equal(got.k_cache, wanted.k_cache, wanted.cache_bytes);
    assert_memory_equal(got.v_cache, wanted.v_cache, wanted.cache_bytes);
    fake_cuda_table()->close(context);
    free(x);
    release_attention(&wanted);
    release_attention(&got);
}

/* Positions around the borders of slices (32, 64, 128) and of stages (64, 128), groups that are
 * whole, cut, and several to a key, heads that end in the middle of what is read at once, rows of
 * caches that begin at 16, 8, 4 and 2 bytes. */
static void attention_of_every_form_is_the_references(void **state)
{
    (void)state;
    static const struct attend_case cases[] = {
        {8, 2, 128, 128, 1, 1, {0, 15, 16}, 4},    {6, 2, 80, 80, 0, 1, {30, 31, 32}, 132},
        {5, 5, 100, 100, 1, 1, {62, 63, 64}, 1},   {4, 2, 48, 32, 0, 1, {126, 127, 128}, 4},
        {2, 1, 16, 16, 1, 0, {191, 192, 193}, 1},  {5, 1, 64, 20, 1, 1, {254, 255, 256}, 4},
        {3, 1, 36, 36, 0, 0, {383, 384, 385}, 4},  {4, 4, 22, 22, 1, 1, {510, 511, 512}, 132},
        {7, 1, 128, 64, 0, 1, {513, 575, 576}, 1}, {2, 2, 33, 32, 1, 1, {600, 601, 602}, 4},
        {4, 1, 128, 128, 1, 0, {511, 513, 602}, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct cuda_heads heads = {.n_head = cases[i].n_head,
                                         .n_head_kv = cases[i].n_head_kv,
                                         .head_dim = cases[i].head_dim,
                                         .kv_f16 = cases[i].f16};
        for (enum form form = EACH_HEAD; form < N_FORMS; form++) {
            if (form != GROUPS || launch_groups_fit(&heads, N_CTX)) {
                check_form(&cases[i], form, i);
            }
        }
    }
}

/* ---- sessions ---- */

static const int32_t story[] = {45, 394, 401, 258, 372, 44, 382, 280, 267, 300, 12, 77};
enum { STORY = sizeof story / sizeof story[0], SINGLES = 14, ROWS = 2 * STORY + SINGLES };

/* Logits of a prompt, of single ids, and of a few at once, as a check of drafts has them; n_graphs
 * are captured meanwhile. */
static float *say(struct bnt_session_options so, uint64_t n_graphs, size_t *n)
{
    struct es_engine e;
    struct bnt_err err = {0};
    es_open(&e, suite_bundled_model(), &so);
    size_t n_vocab = bnt_session_n_vocab(e.session), bytes = n_vocab * sizeof(float);
    float *all = malloc(ROWS * bytes), *rows = es_eval_rows(e.session, story, STORY);
    assert_non_null(all);
    memcpy(all, rows, STORY * bytes);
    free(rows);
    for (int32_t i = 0; i < SINGLES; i++) {
        int32_t id = 40 + i;
        es_ok(bnt_session_eval(e.session, &id, 1, &err), &err);
        memcpy(all + (STORY + (size_t)i) * n_vocab, bnt_session_logits(e.session), bytes);
    }
    for (size_t i = 0; i < STORY; i += 4) {
        rows = es_eval_rows(e.session, story + i, 4);
        memcpy(all + (STORY + SINGLES + i) * n_vocab, rows, 4 * bytes);
        free(rows);
    }
    *n = ROWS * bytes;
    assert_int_equal(fake_cuda_count().graphs, n_graphs);
    assert_string_equal(bnt_session_device(e.session), so.device ? "cuda:0" : "cpu");
    es_close(&e);
    return all;
}

/* The border at the first position, in the prompt, among single ids, and past all of them. */
static void a_context_goes_on_past_the_border_between_two_forms(void **state)
{
    (void)state;
    static const struct {
        const char *split;
        enum bnt_kv_type kv;
        uint64_t n_graphs;
    } cases[] = {
        {"1", BNT_KV_F16, 1}, {"13", BNT_KV_F32, 2}, {"20", BNT_KV_F16, 2}, {"500", BNT_KV_F16, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_session_options so = {.n_threads = 1, .n_ctx = 64, .kv_type = cases[i].kv};
        size_t n = 0;
        float *wanted = say(so, 0, &n);
        so.device = "cuda";
        so.fallback = "never";
        setenv("BNT_CUDA_SPLIT", cases[i].split, 1);
        fake_cuda_reset(&(struct fake_cuda_plan){.downwards = i % 2});
        cuda_table_use(fake_cuda_table());
        float *got = say(so, cases[i].n_graphs, &n);
        assert_memory_equal(got, wanted, n);
        free(got);
        free(wanted);
    }
    unsetenv("BNT_CUDA_SPLIT");
}

static const struct suite_test tests[] = {
    {.name = "cuda_attention_of_every_form_is_the_references",
     .body = attention_of_every_form_is_the_references,
     .timeout_ms = 60000},
    {.name = "cuda_a_context_goes_on_past_the_border_between_two_forms",
     .body = a_context_goes_on_past_the_border_between_two_forms},
    {0},
};

const struct suite suite_cuda_attend = {"cuda_attend", tests, "cuda_slice_lost"};
