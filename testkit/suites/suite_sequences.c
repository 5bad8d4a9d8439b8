/* Guards sessions of several sequences: logits that differ in any bit from those of a session of
 * its own, a sequence that reads or writes the cache of another, one whose end disturbs the rest, a
 * refused step that leaves something behind, and a GPU whose failure changes what any of them
 * says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/best.h"
#include "engine/cuda/backend_cuda.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/fake_cuda.h"
#include "testkit/suites/mock_support.h"

enum { SEQUENCES = 9, STEPS = 7, CTX = 48 };

/* Prompt of sequence i: 1 + 3i % 8 ids, none like another's. */
static size_t prompt_of(uint32_t i, int32_t n_vocab, int32_t ids[CTX])
{
    size_t n = 1 + 3 * i % 8;
    for (size_t j = 0; j < n; j++) {
        ids[j] = (int32_t)((17 + 101 * i + 29 * j + i * j * j) % (uint32_t)n_vocab);
    }
    return n;
}

/* Sequence i has ended after so many steps. */
static uint32_t steps_of(uint32_t i)
{
    return STEPS - i % 4;
}

/* What sequences say, step by step: rows of logits, and the best id of each. */
struct said {
    size_t n_vocab;
    float *rows; /* [SEQUENCES][STEPS][n_vocab] */
    int32_t best[SEQUENCES][STEPS];
};

static float *row_of(const struct said *s, uint32_t seq, uint32_t step)
{
    return s->rows + ((size_t)seq * STEPS + step) * s->n_vocab;
}

static void said_init(struct said *s, size_t n_vocab)
{
    *s = (struct said){.n_vocab = n_vocab};
    s->rows = calloc((size_t)SEQUENCES * STEPS * n_vocab, sizeof *s->rows);
    assert_non_null(s->rows);
}

/* Each sequence in a session of its own; step 0 is its prompt. */
static void say_alone(const char *path, struct bnt_session_options so, uint32_t n, struct said *out)
{
    struct es_engine e;
    so.n_ctx = CTX;
    es_open(&e, path, &so);
    said_init(out, bnt_session_n_vocab(e.session));
    for (uint32_t i = 0; i < n; i++) {
        struct bnt_err err = {0};
        int32_t ids[CTX];
        size_t len = prompt_of(i, (int32_t)out->n_vocab, ids);
        es_ok(bnt_session_rewind(e.session, 0, &err), &err);
        for (uint32_t step = 0; step < steps_of(i); step++) {
            out->best[i][step] = es_greedy(&e, ids, len);
            memcpy(row_of(out, i, step), bnt_session_logits(e.session),
                   out->n_vocab * sizeof(float));
            ids[0] = out->best[i][step];
            len = 1;
        }
    }
    es_close(&e);
}

struct taken {
    struct said *said;
    const struct bnt_step *steps;
    uint32_t step;
};

static enum bnt_status take_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct taken *t = ctx;
    (void)err;
    memcpy(row_of(t->said, t->steps[index].sequence, t->step), logits,
           t->said->n_vocab * sizeof *logits);
    return BNT_OK;
}

/* The best id of sequence i after its prompt. */
static int32_t begin(struct bnt_session *s, uint32_t i, struct said *out)
{
    struct bnt_err err = {0};
    int32_t ids[CTX];
    size_t len = prompt_of(i, (int32_t)out->n_vocab, ids);
    struct bnt_candidate best;
    es_ok(bnt_session_select(s, i, &err), &err);
    es_ok(bnt_session_eval(s, ids, len, &err), &err);
    memcpy(row_of(out, i, 0), bnt_session_logits(s), out->n_vocab * sizeof(float));
    assert_int_equal(best_of_row(row_of(out, i, 0), out->n_vocab, 1, &best), 1);
    return best.id;
}

/* The sequences that go on at a step, each time in another order. */
static uint32_t steps_at(uint32_t n, uint32_t step, const struct said *s, struct bnt_step *out)
{
    uint32_t m = 0;
    for (uint32_t j = 0; j < n; j++) {
        uint32_t i = step % 2 ? n - 1 - j : (j + step) % n;
        if (step < steps_of(i)) {
            out[m++] = (struct bnt_step){i, s->best[i][step - 1]};
        }
    }
    return m;
}

/* All in one session. Rows come on even steps, the best ids alone on odd ones. */
static void say_together(const char *path, struct bnt_session_options so, uint32_t n,
                         struct said *out)
{
    struct es_engine e;
    so.n_ctx = CTX;
    so.n_sequences = n;
    es_open(&e, path, &so);
    said_init(out, bnt_session_n_vocab(e.session));
    for (uint32_t i = n; i-- > 0;) {
        out->best[i][0] = begin(e.session, i, out);
    }
    for (uint32_t step = 1; step < STEPS; step++) {
        struct bnt_err err = {0};
        struct bnt_step steps[SEQUENCES];
        struct bnt_candidate best[SEQUENCES][2];
        uint32_t found[SEQUENCES], m = steps_at(n, step, out, steps);
        struct taken t = {out, steps, step};
        if (m == 0) {
            break;
        }
        if (step % 2) {
            es_ok(bnt_session_step_best(e.session, steps, m, 2, best[0], found, &err), &err);
        } else {
            es_ok(bnt_session_step(e.session, steps, m, take_row, &t, &err), &err);
        }
        for (uint32_t j = 0; j < m; j++) {
            const float *row = row_of(out, steps[j].sequence, step);
            if (step % 2 == 0) {
                found[j] = (uint32_t)best_of_row(row, out->n_vocab, 2, best[j]);
            }
            assert_int_equal(found[j], 2);
            out->best[steps[j].sequence][step] = best[j][0].id;
        }
    }
    es_close(&e);
}

static void assert_same(const struct said *got, const struct said *wanted, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_memory_equal(got->best[i], wanted->best[i], steps_of(i) * sizeof(int32_t));
        for (uint32_t step = 0; step < steps_of(i); step += 2) {
            assert_memory_equal(row_of(got, i, step), row_of(wanted, i, step),
                                wanted->n_vocab * sizeof(float));
        }
    }
}

static void assert_same_together(const char *path, struct bnt_session_options so, uint32_t n)
{
    struct said alone, together;
    say_alone(path,
              (struct bnt_session_options){.n_threads = 1, .kv_type = so.kv_type, .device = "cpu"},
              n, &alone);
    say_together(path, so, n, &together);
    assert_same(&together, &alone, n);
    free(alone.rows);
    free(together.rows);
}

static void sequences_together_say_what_each_says_alone(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        struct bnt_session_options so;
    } cases[] = {
        {1, {.n_threads = 1}},
        {2, {.n_threads = 2, .n_batch = 3}},
        {5, {.n_threads = 1, .kernel = "ref"}},
        {SEQUENCES, {.n_threads = 2, .kv_type = BNT_KV_F32}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_same_together(suite_bundled_model(), cases[i].so, cases[i].n);
    }
    const struct bnt_mock_recipe q8 = {
        .type = "q8_0", .embd_type = "q6_k", .n_vocab = 512, .n_head = 4, .n_head_kv = 1};
    assert_same_together(ms_make("model.gguf", &q8, NULL), cases[1].so, 4);
}

/* ---- on a GPU ---- */

static int n_warned;

static void count_warning(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)what;
    (void)hint;
    n_warned++;
}

static struct bnt_session_options on_fake(const struct fake_cuda_plan *plan)
{
    fake_cuda_reset(plan);
    cuda_table_use(fake_cuda_table());
    n_warned = 0;
    return (struct bnt_session_options){.device = "cuda", .n_threads = 1, .warn = count_warning};
}

static void assert_nothing_held(void)
{
    struct fake_cuda_counts c = fake_cuda_count();
    assert_int_equal(c.contexts + c.allocations + c.bytes + c.graphs, 0);
}

static void sequences_on_a_gpu_say_what_each_says_alone(void **state)
{
    (void)state;
    /* Nine rows go by tiles, fewer do not. */
    assert_same_together(suite_bundled_model(), on_fake(&(struct fake_cuda_plan){0}), SEQUENCES);
    assert_int_equal(n_warned, 0);
    struct bnt_session_options so = on_fake(&(struct fake_cuda_plan){.downwards = true});
    so.kv_type = BNT_KV_F32;
    assert_same_together(suite_bundled_model(), so, 3);
    /* Float rows longer than a tile, in whole sixteens and not. */
    static const uint32_t n_ff[] = {2080, 1100};
    for (size_t i = 0; i < 2; i++) {
        const struct bnt_mock_recipe wide = {.type = "f16",
                                             .n_embd = 32,
                                             .n_head = 2,
                                             .n_ff = n_ff[i],
                                             .n_layer = 1,
                                             .n_vocab = 512,
                                             .seed = i};
        so = on_fake(&(struct fake_cuda_plan){.downwards = i});
        assert_same_together(ms_make("model.gguf", &wide, NULL), so, 3);
    }
    assert_nothing_held();
}

/* Where there is one. */
static void sequences_on_a_gpu_are_the_cpus(void **state)
{
    (void)state;
    const struct bnt_session_options so = {.device = "cuda", .fallback = "never"};
    assert_same_together(suite_bundled_model(), so, SEQUENCES);
}

static void a_gpu_that_fails_leaves_every_sequence_as_it_was(void **state)
{
    (void)state;
    /* The launches of a run: 141 for the prompts, about 60 for a step. In a prompt; in a captured
     * step; when the best are chosen; in a step after one has ended; too slow. */
    static const struct {
        struct fake_cuda_plan plan;
        const char *fallback;
    } cases[] = {{{.lost_at = 30}, NULL},
                 {{.lost_at = 230}, NULL},
                 {{.launch_fails = 319}, NULL},
                 {{.launch_fails = 390}, NULL},
                 {{0}, "below:900000000"}};
    enum { N = 3 };
    struct said alone, together;
    say_alone(suite_bundled_model(), (struct bnt_session_options){.n_threads = 1, .device = "cpu"},
              N, &alone);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_session_options so = on_fake(&cases[i].plan);
        so.fallback = cases[i].fallback;
        say_together(suite_bundled_model(), so, N, &together);
        assert_int_equal(n_warned, 1);
        assert_same(&together, &alone, N);
        assert_nothing_held();
        free(together.rows);
    }
    free(alone.rows);
}

static void room_on_a_gpu_is_asked_for_all_caches(void **state)
{
    (void)state;
    struct es_engine e;
    struct bnt_err err = {0};
    struct backend_config c = {.n_ctx = 512, .n_batch = 64, .n_seq = 1, .kv_type = BNT_KV_F16};
    struct bnt_session_options so = on_fake(&(struct fake_cuda_plan){0});
    es_open(&e, suite_bundled_model(), &(struct bnt_session_options){.n_threads = 1});
    struct cuda_memory one = cuda_memory_need(e.model, &c);
    c.n_seq = 64;
    struct cuda_memory many = cuda_memory_need(e.model, &c);
    assert_true(many.kv == 64 * one.kv);
    bnt_session_free(e.session);
    so.n_ctx = 512;
    so.n_batch = 64;
    so.n_sequences = 64;
    so.fallback = "never";
    so.device_memory = many.weights + many.kv + many.scratch - 1;
    assert_int_equal(bnt_session_new(e.model, &so, &e.session, &err), BNT_E_MEMORY);
    so.n_sequences = 63;
    err = (struct bnt_err){0};
    es_ok(bnt_session_new(e.model, &so, &e.session, &err), &err);
    es_close(&e);
    assert_nothing_held();
}

/* ---- what is refused, and what goes on ---- */

static void a_refused_step_changes_nothing(void **state)
{
    (void)state;
    enum { N = 3 };
    struct es_engine e;
    struct said said, after;
    es_open(&e, suite_bundled_model(),
            &(struct bnt_session_options){.n_ctx = CTX, .n_threads = 1, .n_sequences = N});
    said_init(&said, bnt_session_n_vocab(e.session));
    for (uint32_t i = 0; i < N; i++) {
        said.best[i][0] = begin(e.session, i, &said);
    }
    const int32_t id = said.best[0][0], n_vocab = (int32_t)said.n_vocab;
    const struct {
        uint32_t n;
        struct bnt_step steps[N + 1];
        const char *says;
    } cases[] = {
        {0, {{0, id}}, "step of 0"},
        {N + 1, {{0, id}, {1, id}, {2, id}, {0, id}}, "step of 4"},
        {2, {{1, id}, {N, id}}, "sequence 3 of a session of 3"},
        {3, {{1, id}, {0, id}, {1, id}}, "sequence 1 stands twice"},
        {2, {{0, id}, {1, n_vocab}}, "outside the vocabulary"},
        {2, {{0, id}, {1, -1}}, "outside the vocabulary"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        assert_int_equal(bnt_session_step(e.session, cases[i].steps, cases[i].n, NULL, NULL, &err),
                         BNT_E_USAGE);
        assert_non_null(strstr(err.msg, cases[i].says));
    }
    struct bnt_err err = {0};
    assert_int_equal(bnt_session_select(e.session, N, &err), BNT_E_USAGE);
    say_alone(suite_bundled_model(), (struct bnt_session_options){.n_threads = 1}, N, &after);
    struct bnt_step steps[N];
    struct taken t = {&said, steps, 1};
    uint32_t m = steps_at(N, 1, &said, steps);
    es_ok(bnt_session_step(e.session, steps, m, take_row, &t, &err), &err);
    for (uint32_t i = 0; i < N; i++) {
        assert_memory_equal(row_of(&said, i, 1), row_of(&after, i, 1),
                            said.n_vocab * sizeof(float));
    }
    es_close(&e);
    free(said.rows);
    free(after.rows);
}

/* A full one is named, and the place of one that ended is taken by another. */
static void a_full_sequence_stops_a_step_until_it_is_left_out(void **state)
{
    (void)state;
    struct es_engine e;
    struct bnt_err err = {0};
    static const int32_t full[] = {5, 6, 7, 8}, other[] = {9, 10};
    const struct bnt_step steps[] = {{1, 11}, {0, 12}};
    struct bnt_candidate best[2], wanted;
    uint32_t found[2], n;
    es_open(&e, suite_bundled_model(),
            &(struct bnt_session_options){.n_ctx = 4, .n_threads = 1, .n_sequences = 2});
    es_ok(bnt_session_eval(e.session, full, 4, &err), &err);
    es_ok(bnt_session_select(e.session, 1, &err), &err);
    es_ok(bnt_session_eval(e.session, other, 2, &err), &err);
    assert_int_equal(bnt_session_step_best(e.session, steps, 2, 1, best, found, &err),
                     BNT_E_INFERENCE);
    assert_non_null(strstr(err.msg, "sequence 0 has taken all of its 4 positions"));
    assert_int_equal(bnt_session_n_past(e.session), 2);
    err = (struct bnt_err){0};
    es_ok(bnt_session_step_best(e.session, steps, 1, 1, best, found, &err), &err);
    assert_int_equal(bnt_session_n_past(e.session), 3);
    es_ok(bnt_session_select(e.session, 0, &err), &err);
    assert_int_equal(bnt_session_n_past(e.session), 4);
    /* The other's ids in the place of the first say what they said there. */
    es_ok(bnt_session_rewind(e.session, 0, &err), &err);
    es_ok(bnt_session_eval(e.session, other, 2, &err), &err);
    es_ok(bnt_session_eval_best(e.session, &steps[0].id, 1, 1, &wanted, &n, &err), &err);
    assert_memory_equal(&best[0], &wanted, sizeof wanted);
    es_close(&e);
}

static void every_sequence_has_a_cache_and_is_kept_by_itself(void **state)
{
    (void)state;
    enum { N = 3 };
    struct es_engine one, many;
    struct bnt_session_stats alone, together;
    struct said said;
    struct bnt_err err = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/kept.session", suite_scratch());
    struct bnt_session_options so = {.n_ctx = CTX, .n_threads = 1, .device = "cpu"};
    es_open(&one, suite_bundled_model(), &so);
    so.n_sequences = N;
    es_open(&many, suite_bundled_model(), &so);
    bnt_session_stats(one.session, &alone);
    bnt_session_stats(many.session, &together);
    assert_true(together.kv_bytes == N * alone.kv_bytes);
    assert_true(bnt_model_memory_need(many.model, &so) >=
                bnt_model_memory_need(one.model,
                                      &(struct bnt_session_options){.n_ctx = CTX, .n_threads = 1}) +
                    (N - 1) * alone.kv_bytes);
    said_init(&said, bnt_session_n_vocab(many.session));
    for (uint32_t i = 0; i < N; i++) {
        said.best[i][0] = begin(many.session, i, &said);
    }
    es_ok(bnt_session_select(many.session, 1, &err), &err);
    es_ok(bnt_session_save(many.session, path, "digest", &err), &err);
    es_ok(bnt_session_restore(one.session, path, "digest", &err), &err);
    struct bnt_step step = {1, said.best[1][0]};
    struct taken t = {&said, &step, 1};
    es_ok(bnt_session_step(many.session, &step, 1, take_row, &t, &err), &err);
    es_ok(bnt_session_eval(one.session, &step.id, 1, &err), &err);
    assert_memory_equal(bnt_session_logits(one.session), row_of(&said, 1, 1),
                        said.n_vocab * sizeof(float));
    free(said.rows);
    bnt_session_free(many.session);
    so.n_sequences = BNT_MAX_SEQUENCES + 1;
    assert_int_equal(bnt_session_new(many.model, &so, &many.session, &err), BNT_E_USAGE);
    bnt_model_close(many.model);
    es_close(&one);
}

static const struct suite_test tests[] = {
    {.name = "sequences_together_say_what_each_says_alone",
     .body = sequences_together_say_what_each_says_alone},
    {.name = "sequences_on_a_gpu_say_what_each_says_alone",
     .body = sequences_on_a_gpu_say_what_each_says_alone},
    {.name = "sequences_on_a_gpu_are_the_cpus",
     .body = sequences_on_a_gpu_are_the_cpus,
     .needs = "cuda",
     .timeout_ms = 60000},
    {.name = "a_gpu_that_fails_leaves_every_sequence_as_it_was",
     .body = a_gpu_that_fails_leaves_every_sequence_as_it_was},
    {.name = "room_on_a_gpu_is_asked_for_all_caches",
     .body = room_on_a_gpu_is_asked_for_all_caches},
    {.name = "a_refused_step_changes_nothing", .body = a_refused_step_changes_nothing},
    {.name = "a_full_sequence_stops_a_step_until_it_is_left_out",
     .body = a_full_sequence_stops_a_step_until_it_is_left_out},
    {.name = "every_sequence_has_a_cache_and_is_kept_by_itself",
     .body = every_sequence_has_a_cache_and_is_kept_by_itself},
    {0},
};

const struct suite suite_sequences = {"sequences", tests,
                                      "sequence_mixed step_twice cuda_sequence_mixed"};
