/* Guards the rows of the architecture table and the rotary embedding: a family that is read with
 * the wrong activation, norm, bias or rotation answers fluently and wrongly. The bundled model's
 * weights are written again as other families, and their logits are held against those of an
 * independent forward pass in float64. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/bnt_infer.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/gguf.h"
#include "engine/rope.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/fake_cuda.h"
#include "testkit/suites/gguf_bytes.h"

enum { TOP = 5, MAX_KEYS = 4, MAX_TENSORS = 128, NAME_BYTES = 96, ALIGNMENT = 32 };

/* "Once upon a time, there was a little girl named Lily. She loved" in the bundled vocabulary. */
static const int32_t story[] = {2045, 394, 401, 258, 372, 44, 382, 280,
                                258,  386, 427, 391, 332, 46, 325, 430};

/* Below "<arch>."; a key without text is a number, as float or (whole) as u32. */
struct key {
    const char *name, *text;
    double number;
    bool whole;
};

struct family {
    const char *name, *arch;
    struct key keys[MAX_KEYS]; /* take the place of the bundled model's, or are added */
    bool q_k_v_bias;           /* element i is (37 i mod 64 - 32) / 64 */
    bool head_norms;           /* element i of both is one more than that */
    const char *freq_factors;  /* a tensor of which element i is 1 + i / 4 */
    bool own_head;             /* output.weight: the embedding's rows in reverse */
    /* After the story, best first, by a float64 forward pass over the same file. */
    int32_t top[TOP];
    double logit[TOP];
};

static const struct family families[] = {
    {.name = "bitnet-b1.58",
     .arch = "bitnet-b1.58",
     .top = {264, 548, 1020, 310, 883},
     .logit = {13.42658, 10.49100, 6.27777, 5.38869, 4.98271}},
    {.name = "bitnet-25",
     .arch = "bitnet-25",
     .top = {264, 548, 1020, 310, 883},
     .logit = {13.42658, 10.49100, 6.27777, 5.38869, 4.98271}},
    {.name = "bitnet, SiLU",
     .arch = "bitnet",
     .top = {264, 310, 548, 262, 258},
     .logit = {11.94704, 7.83705, 7.65523, 7.39717, 5.71347}},
    {.name = "llama",
     .arch = "llama",
     .top = {264, 262, 310, 351, 44},
     .logit = {9.66355, 9.01311, 8.54883, 7.05404, 6.40662}},
    {.name = "qwen2",
     .arch = "qwen2",
     .q_k_v_bias = true,
     .top = {264, 262, 310, 306, 351},
     .logit = {9.78882, 9.08788, 8.26893, 6.17279, 6.10400}},
    {.name = "qwen3",
     .arch = "qwen3",
     .head_norms = true,
     .top = {264, 262, 310, 351, 44},
     .logit = {10.49236, 9.31856, 7.35894, 6.99925, 6.84624}},
    {.name = "minicpm",
     .arch = "minicpm",
     .top = {264, 262, 310, 430, 548},
     .logit = {10.48561, 7.72915, 7.02347, 6.64311, 6.44898}},
    {.name = "minicpm, its own factors and LongRoPE's",
     .arch = "minicpm",
     .keys = {{"embedding_scale", NULL, 3, false},
              {"residual_scale", NULL, 0.5, false},
              {"logit_scale", NULL, 4, true},
              {"rope.scaling.type", "longrope", 0, false}},
     .freq_factors = "rope_factors_short.weight",
     .top = {264, 262, 310, 351, 44},
     .logit = {2.46735, 2.19912, 1.99125, 1.71493, 1.57857}},
    {.name = "llama with biases",
     .arch = "llama",
     .q_k_v_bias = true,
     .top = {264, 262, 310, 44, 351},
     .logit = {9.33668, 8.82846, 8.20885, 6.51716, 6.42588}},
    {.name = "a head of its own",
     .arch = "bitnet-b1.58",
     .own_head = true,
     .top = {1783, 1499, 1027, 1737, 1164},
     .logit = {13.42658, 10.49100, 6.27777, 5.38869, 4.98271}},
    {.name = "half of a head rotated",
     .arch = "bitnet-b1.58",
     .keys = {{"rope.dimension_count", NULL, 32, true}},
     .top = {264, 548, 883, 1195, 1020},
     .logit = {11.86250, 7.77475, 4.94448, 4.71434, 4.65025}},
    {.name = "half of a head rotated, llama",
     .arch = "llama",
     .keys = {{"rope.dimension_count", NULL, 32, true}},
     .top = {264, 262, 310, 351, 44},
     .logit = {9.49587, 9.10113, 8.02259, 6.93502, 6.88202}},
    {.name = "qwen2, half of a head rotated",
     .arch = "qwen2",
     .keys = {{"rope.dimension_count", NULL, 32, true}},
     .q_k_v_bias = true,
     .top = {264, 262, 44, 46, 310},
     .logit = {9.21259, 8.24808, 7.12835, 6.84226, 6.28262}},
    {.name = "bitnet, half of a head rotated",
     .arch = "bitnet",
     .keys = {{"rope.dimension_count", NULL, 32, true}},
     .top = {264, 262, 258, 310, 548},
     .logit = {10.72803, 8.07397, 7.04696, 6.83533, 6.83443}},
    {.name = "linear",
     .arch = "bitnet-b1.58",
     .keys = {{"rope.scaling.type", "linear", 0, false}, {"rope.scaling.factor", NULL, 4, false}},
     .top = {264, 548, 1020, 1195, 1163},
     .logit = {11.68940, 9.43094, 6.21267, 5.51346, 5.23402}},
    {.name = "linear, whole factor and no type",
     .arch = "bitnet-b1.58",
     .keys = {{"rope.scaling.factor", NULL, 8, true}},
     .top = {264, 548, 1020, 1195, 883},
     .logit = {11.00801, 8.46856, 6.00562, 5.11157, 5.02126}},
    {.name = "yarn",
     .arch = "bitnet-b1.58",
     .keys = {{"rope.scaling.type", "yarn", 0, false},
              {"rope.scaling.factor", NULL, 8, false},
              {"rope.scaling.original_context_length", NULL, 64, true}},
     .top = {264, 548, 1020, 883, 310},
     .logit = {13.21214, 10.15408, 6.06671, 4.69417, 4.65165}},
    {.name = "yarn with betas",
     .arch = "bitnet-b1.58",
     .keys = {{"rope.scaling.type", "yarn", 0, false},
              {"rope.scaling.factor", NULL, 8, false},
              {"rope.scaling.yarn_beta_fast", NULL, 8, false},
              {"rope.scaling.attn_factor", NULL, 0.75, false}},
     .top = {264, 548, 1020, 310, 883},
     .logit = {13.46243, 10.15738, 5.99254, 5.16791, 4.99792}},
    {.name = "frequency factors",
     .arch = "bitnet-b1.58",
     .freq_factors = "rope_freqs.weight",
     .top = {264, 548, 1020, 883, 310},
     .logit = {13.12012, 10.18320, 5.92044, 4.80520, 4.67307}},
    {.name = "base and epsilon",
     .arch = "bitnet-b1.58",
     .keys = {{"rope.freq_base", NULL, 500000, false},
              {"attention.layer_norm_rms_epsilon", NULL, 0.01, false}},
     .top = {264, 548, 1020, 883, 672},
     .logit = {12.55379, 9.79509, 5.29671, 5.17665, 4.95801}},
};

/* ---- writing a family's file ---- */

struct part {
    char name[NAME_BYTES];
    uint64_t cols, rows;
    enum tensor_type type;
    const struct gguf_tensor *copy_of; /* NULL: made by fill */
    void (*fill)(struct gguf_bytes *g, const struct gguf *src, uint64_t n);
    uint64_t size;
};

struct parts {
    struct part at[MAX_TENSORS];
    size_t n;
};

static void fill_bias(struct gguf_bytes *g, const struct gguf *src, uint64_t n)
{
    (void)src;
    for (uint64_t i = 0; i < n; i++) {
        gb_f32(g, ((float)(i * 37 % 64) - 32) / 64);
    }
}

static void fill_norm(struct gguf_bytes *g, const struct gguf *src, uint64_t n)
{
    (void)src;
    for (uint64_t i = 0; i < n; i++) {
        gb_f32(g, 1 + ((float)(i * 37 % 64) - 32) / 64);
    }
}

static void fill_factors(struct gguf_bytes *g, const struct gguf *src, uint64_t n)
{
    (void)src;
    for (uint64_t i = 0; i < n; i++) {
        gb_f32(g, 1 + (float)i / 4);
    }
}

static void fill_reversed_embedding(struct gguf_bytes *g, const struct gguf *src, uint64_t n)
{
    const struct gguf_tensor *t = gguf_find_tensor(src, "token_embd.weight");
    const uint8_t *bytes = gguf_tensor_view(src, t);
    uint64_t row_bytes = t->size / t->ne[1];
    assert_int_equal(n, t->ne[0] * t->ne[1]);
    for (uint64_t r = t->ne[1]; r > 0; r--) {
        gb_raw(g, bytes + (r - 1) * row_bytes, row_bytes);
    }
}

static struct part *add_part(struct parts *p, uint64_t cols, uint64_t rows, enum tensor_type type)
{
    assert_true(p->n < MAX_TENSORS);
    struct part *part = &p->at[p->n++];
    *part = (struct part){.cols = cols, .rows = rows, .type = type};
    part->size = cols * rows * (type == TENSOR_F16 ? sizeof(uint16_t) : sizeof(float));
    return part;
}

static void add_biases(struct parts *p, const struct gguf *src)
{
    for (uint64_t i = 0; i < src->n_tensors; i++) {
        const struct gguf_tensor *t = &src->tensors[i];
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        char *end = strstr(name, ".weight");
        if (strstr(name, ".attn_q.") || strstr(name, ".attn_k.") || strstr(name, ".attn_v.")) {
            struct part *bias = add_part(p, t->ne[1], 1, TENSOR_F32);
            snprintf(bias->name, sizeof bias->name, "%.*s.bias", (int)(end - name), name);
            bias->fill = fill_bias;
        }
    }
}

static void add_head_norms(struct parts *p)
{
    for (int i = 0; i < 8; i++) { /* of four layers */
        struct part *part = add_part(p, 64, 1, TENSOR_F32);
        snprintf(part->name, sizeof part->name, "blk.%d.attn_%c_norm.weight", i / 2, "qk"[i % 2]);
        part->fill = fill_norm;
    }
}

static void list_parts(struct parts *p, const struct gguf *src, const struct family *f)
{
    bool sub_norms = strncmp(f->arch, "bitnet", 6) == 0;
    p->n = 0;
    for (uint64_t i = 0; i < src->n_tensors; i++) {
        const struct gguf_tensor *t = &src->tensors[i];
        struct part *part = add_part(p, t->ne[0], t->ne[1], t->type);
        snprintf(part->name, sizeof part->name, "%.*s", (int)t->name.len, t->name.data);
        part->copy_of = t;
        part->size = t->size;
        p->n -= !sub_norms && strstr(part->name, "_sub_norm") ? 1 : 0;
    }
    if (f->q_k_v_bias) {
        add_biases(p, src);
    }
    if (f->head_norms) {
        add_head_norms(p);
    }
    if (f->freq_factors) {
        struct part *part = add_part(p, 32, 1, TENSOR_F32);
        snprintf(part->name, sizeof part->name, "%s", f->freq_factors);
        part->fill = fill_factors;
    }
    if (f->own_head) {
        const struct gguf_tensor *t = gguf_find_tensor(src, "token_embd.weight");
        struct part *part = add_part(p, t->ne[0], t->ne[1], t->type);
        snprintf(part->name, sizeof part->name, "output.weight");
        part->fill = fill_reversed_embedding;
    }
}

/* The key in the family's file; NULL where the family has its own value for it. */
static const char *renamed(const struct gguf_kv *kv, const struct family *f, char *name)
{
    static const char prefix[] = "bitnet-b1.58.";
    size_t n = sizeof prefix - 1;
    if (kv->key.len < n || memcmp(kv->key.data, prefix, n) != 0) {
        snprintf(name, NAME_BYTES, "%.*s", (int)kv->key.len, kv->key.data);
        return strcmp(name, "general.architecture") == 0 ? NULL : name;
    }
    const char *suffix = kv->key.data + n;
    for (size_t i = 0; i < MAX_KEYS && f->keys[i].name; i++) {
        if (strlen(f->keys[i].name) == kv->key.len - n &&
            memcmp(f->keys[i].name, suffix, kv->key.len - n) == 0) {
            return NULL;
        }
    }
    snprintf(name, NAME_BYTES, "%s.%.*s", f->arch, (int)(kv->key.len - n), suffix);
    return name;
}

static uint64_t write_keys(struct gguf_bytes *g, const struct gguf *src, const struct family *f)
{
    char name[NAME_BYTES];
    uint64_t n = 1;
    gb_key_str(g, "general.architecture", f->arch);
    for (uint64_t i = 0; i < src->n_kv; i++) {
        const struct gguf_kv *kv = &src->kv[i];
        if (!renamed(kv, f, name)) {
            continue;
        }
        gb_key(g, name, (uint32_t)kv->type);
        if (kv->type == GGUF_ARR) {
            gb_u32(g, (uint32_t)kv->elem_type);
            gb_u64(g, kv->n);
        } else if (kv->type == GGUF_STR) {
            gb_u64(g, kv->raw_len);
        }
        gb_raw(g, kv->raw, kv->raw_len);
        n++;
    }
    for (size_t i = 0; i < MAX_KEYS && f->keys[i].name; i++, n++) {
        const struct key *k = &f->keys[i];
        snprintf(name, sizeof name, "%s.%s", f->arch, k->name);
        if (k->text) {
            gb_key_str(g, name, k->text);
        } else if (k->whole) {
            gb_key_u32(g, name, (uint32_t)k->number);
        } else {
            gb_key(g, name, GGUF_F32);
            gb_f32(g, (float)k->number);
        }
    }
    return n;
}

static void write_parts(struct gguf_bytes *g, const struct gguf *src, const struct parts *p)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct part *part = &p->at[i];
        gb_tensor(g, part->name, part->cols, part->rows, (uint32_t)part->type, offset);
        offset += (part->size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    for (size_t i = 0; i < p->n; i++) {
        const struct part *part = &p->at[i];
        gb_pad(g, ALIGNMENT);
        if (part->copy_of) {
            gb_raw(g, gguf_tensor_view(src, part->copy_of), part->size);
        } else {
            part->fill(g, src, part->cols * part->rows);
        }
    }
    gb_pad(g, ALIGNMENT);
}

static void write_family(const struct family *f, const char *path)
{
    struct bnt_err err = {0};
    struct gguf *src;
    struct gguf_bytes g, keys;
    struct parts parts;
    struct bnt_durable d;
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_MAP, &src, &err), &err);
    list_parts(&parts, src, f);
    gb_init(&keys, false);
    gb_init(&g, false);
    uint64_t n_keys = write_keys(&keys, src, f);
    gb_head(&g, 3, parts.n, n_keys);
    gb_raw(&g, keys.buf.data, keys.buf.len);
    write_parts(&g, src, &parts);
    es_ok(bnt_durable_open(&d, path, &err), &err);
    es_ok(bnt_durable_write(&d, g.buf.data, g.buf.len, &err), &err);
    es_ok(bnt_durable_commit(&d, 0644, &err), &err);
    gb_release(&keys);
    gb_release(&g);
    gguf_close(src);
}

static const char *family_path(void)
{
    static char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    es_ok(bnt_path_format(path, &err, "%s/family.gguf", suite_scratch()), &err);
    return path;
}

/* ---- tests ---- */

/* What float arithmetic allows against another implementation: a difference of at most 3 % of the
 * largest logit, and the best id wherever the two best are further apart than that. */
#define ALLOWED 0.03
/* The rule asks for a median of 0.2 % over the whole vocabulary. Five logits scatter more: all
 * families stay below 0.23 %, while a forgotten bias or a doubled base reach 0.35 % and more. */
#define ALLOWED_MEDIAN 0.003

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The recorded logits against ours: each, and the median of the differences. */
static void check_top(const struct family *f, const float *logits, double largest)
{
    double differences[TOP];
    for (size_t i = 0; i < TOP; i++) {
        differences[i] = fabs(logits[f->top[i]] - f->logit[i]);
        if (!(differences[i] <= ALLOWED * largest)) {
            fail_msg("%s: logit of %d is %.5f, should be %.5f", f->name, f->top[i],
                     (double)logits[f->top[i]], f->logit[i]);
        }
    }
    qsort(differences, TOP, sizeof differences[0], by_value);
    if (!(differences[TOP / 2] <= ALLOWED_MEDIAN * largest)) {
        fail_msg("%s: the logits differ by %.3f %% of the largest in the median", f->name,
                 100 * differences[TOP / 2] / largest);
    }
}

/* The CUDA back end, on the fake device, gives the same bits. */
static void check_cuda(const float *wanted)
{
    struct bnt_err err = {0};
    struct es_engine e;
    cuda_table_use(fake_cuda_table());
    es_open(&e, family_path(),
            &(struct bnt_session_options){.n_ctx = 32, .n_threads = 1, .device = "cuda"});
    es_ok(bnt_session_eval(e.session, story, sizeof story / sizeof story[0] - 1, &err), &err);
    es_ok(bnt_session_eval(e.session, &story[sizeof story / sizeof story[0] - 1], 1, &err), &err);
    assert_memory_equal(bnt_session_logits(e.session), wanted,
                        bnt_session_n_vocab(e.session) * sizeof *wanted);
    es_close(&e);
    cuda_table_use(NULL);
}

static void check_family(const struct family *f)
{
    struct bnt_err err = {0};
    struct es_engine e;
    write_family(f, family_path());
    es_open(&e, family_path(), &(struct bnt_session_options){.n_ctx = 32, .n_threads = 1});
    es_ok(bnt_session_eval(e.session, story, sizeof story / sizeof story[0], &err), &err);
    const float *logits = bnt_session_logits(e.session);
    double largest = 0;
    int32_t best = 0;
    for (int32_t i = 0; i < (int32_t)bnt_session_n_vocab(e.session); i++) {
        largest = fabsf(logits[i]) > largest ? fabsf(logits[i]) : largest;
        best = logits[i] > logits[best] ? i : best;
    }
    check_top(f, logits, largest);
    if (f->logit[0] - f->logit[1] > ALLOWED * largest) {
        assert_int_equal(best, f->top[0]);
    }
    check_cuda(logits);
    es_close(&e);
}

static void families_answer_as_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        check_family(&families[i]);
    }
}

static void keys_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const struct {
        struct family family;
        enum bnt_status status;
        const char *named;
    } cases[] = {
        {{.arch = "llama", .keys = {{"rope.scaling.type", "dynamic", 0, false}}},
         BNT_E_UNSUPPORTED,
         "dynamic"},
        {{.arch = "llama", .keys = {{"rope.dimension_count", "64", 0, false}}},
         BNT_E_FILE,
         "rope.dimension_count"},
        {{.arch = "llama", .keys = {{"rope.dimension_count", NULL, 33, true}}},
         BNT_E_FILE,
         "rope.dimension_count"},
        {{.arch = "llama", .keys = {{"rope.dimension_count", NULL, 66, true}}},
         BNT_E_FILE,
         "rope.dimension_count"},
        {{.arch = "llama", .keys = {{"rope.freq_base", NULL, NAN, false}}},
         BNT_E_FILE,
         "rope.freq_base"},
        {{.arch = "llama", .keys = {{"rope.scaling.factor", NULL, -2, false}}},
         BNT_E_FILE,
         "rope.scaling.factor"},
        {{.arch = "llama", .keys = {{"rope.scaling.attn_factor", NULL, 0, false}}},
         BNT_E_FILE,
         "rope.scaling.attn_factor"},
        {{.arch = "llama",
          .keys = {{"rope.scaling.type", "yarn", 0, false},
                   {"rope.scaling.factor", NULL, 4, false},
                   {"rope.scaling.original_context_length", NULL, 0, true}}},
         BNT_E_FILE,
         "yarn"},
        {{.arch = "llama",
          .keys = {{"rope.scaling.original_context_length", NULL, 0, true}},
          .freq_factors = "rope_factors_long.weight"},
         BNT_E_FILE,
         "original context of 0"},
        {{.arch = "minicpm", .keys = {{"logit_scale", NULL, 0, true}}},
         BNT_E_FILE,
         "minicpm.logit_scale is 0"},
        {{.arch = "minicpm", .keys = {{"embedding_scale", "12", 0, false}}},
         BNT_E_FILE,
         "minicpm.embedding_scale is nan"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_model *m = NULL;
        write_family(&cases[i].family, family_path());
        assert_int_equal(bnt_model_open(family_path(), NULL, &m, &err), cases[i].status);
        if (!strstr(err.msg, cases[i].named) || !err.hint[0]) {
            fail_msg("case %zu: message '%s', hint '%s'", i, err.msg, err.hint);
        }
    }
}

static void contexts_beyond_their_factors_are_refused(void **state)
{
    (void)state;
    static const struct family f = {
        .arch = "llama",
        .keys = {{"rope.scaling.original_context_length", NULL, 64, true}},
        .freq_factors = "rope_factors_long.weight"};
    struct bnt_err err = {0};
    struct bnt_session *s = NULL;
    struct es_engine e;
    write_family(&f, family_path());
    es_open(&e, family_path(), &(struct bnt_session_options){.n_threads = 1});
    assert_int_equal(bnt_session_n_ctx(e.session), 64);
    assert_int_equal(bnt_session_new(e.model, &(struct bnt_session_options){.n_ctx = 65}, &s, &err),
                     BNT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "rope_factors_long"));
    es_close(&e);
}

/* Where nothing is turned, cos is what rotated values are multiplied with. */
static void attn_factor_counts_for_every_kind_of_scaling(void **state)
{
    (void)state;
    static const struct {
        struct family family;
        double want;
    } cases[] = {
        {{.arch = "llama", .keys = {{"rope.scaling.attn_factor", NULL, 0.5, false}}}, 0.5},
        {{.arch = "llama",
          .keys = {{"rope.scaling.type", "none", 0, false},
                   {"rope.scaling.attn_factor", NULL, 2, true}}},
         2},
        {{.arch = "llama",
          .keys = {{"rope.scaling.type", "linear", 0, false},
                   {"rope.scaling.factor", NULL, 4, false},
                   {"rope.scaling.attn_factor", NULL, 0.75, false}}},
         0.75},
        {{.arch = "llama",
          .keys = {{"rope.scaling.type", "yarn", 0, false},
                   {"rope.scaling.factor", NULL, 1, false},
                   {"rope.scaling.attn_factor", NULL, 0.75, false}}},
         0.75},
        {{.arch = "llama",
          .keys = {{"rope.scaling.type", "yarn", 0, false},
                   {"rope.scaling.factor", NULL, 8, false},
                   {"rope.scaling.attn_factor", NULL, 0.75, false}}},
         0.75 * 1.2079441541679836}, /* 1 + ln(8)/10 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct gguf *g;
        struct rope r;
        float cs[64];
        write_family(&cases[i].family, family_path());
        es_ok(gguf_open(family_path(), GGUF_MODE_MAP, &g, &err), &err);
        es_ok(rope_init(&r, g, "llama", 64, 512, &err), &err);
        rope_at(&r, 0, cs);
        if (cs[0] != (float)cases[i].want || cs[r.n_rot - 1] != 0) {
            fail_msg("case %zu: %g, not %g", i, (double)cs[0], cases[i].want);
        }
        rope_release(&r);
        gguf_close(g);
    }
}

static const struct suite_test tests[] = {
    {.name = "families_answer_as_the_reference",
     .body = families_answer_as_the_reference,
     .timeout_ms = 30000},
    {.name = "families_keys_that_make_no_sense_are_refused",
     .body = keys_that_make_no_sense_are_refused},
    {.name = "families_contexts_beyond_their_factors_are_refused",
     .body = contexts_beyond_their_factors_are_refused},
    {.name = "rope_attn_factor_counts_for_every_kind_of_scaling",
     .body = attn_factor_counts_for_every_kind_of_scaling},
    {0},
};
const struct suite suite_families = {
    "families", tests,
    "i2s_scale kv_off_by_one head_group attention_scale rope_style norm_epsilon "
    "sub_norm head_norm family_factor residual bias rope_base rope_factors yarn_scale attn_factor"};
