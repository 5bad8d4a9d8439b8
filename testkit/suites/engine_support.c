#include "testkit/suites/engine_support.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "testkit/suite.h"

/* ---- engine ---- */

void es_ok(enum bnt_status st, const struct bnt_err *err)
{
    if (st != BNT_OK) {
        fail_msg("status %d: %s (%s)", (int)st, err->msg, err->hint);
    }
}

void es_open_with(struct es_engine *e, const char *path, struct bnt_model_options *mo,
                  const struct bnt_session_options *so)
{
    struct bnt_err err = {0};
    struct bnt_session_options on_device = so ? *so : (struct bnt_session_options){0};
    if (!on_device.device && !on_device.kernel) {
        on_device.device = suite_on_device();
        on_device.fallback = "never";
    }
    mo->session = &on_device;
    es_ok(bnt_model_open(path, mo, &e->model, &err), &err);
    es_ok(bnt_session_new(e->model, &on_device, &e->session, &err), &err);
    mo->session = NULL;
}

void es_open(struct es_engine *e, const char *path, const struct bnt_session_options *so)
{
    struct bnt_model_options mo = {.i2s_layout = "128/32"};
    es_open_with(e, path, &mo, so);
}

void es_close(struct es_engine *e)
{
    bnt_session_free(e->session);
    bnt_model_close(e->model);
    *e = (struct es_engine){0};
}

int32_t es_greedy(struct es_engine *e, const int32_t *ids, size_t n)
{
    struct bnt_err err = {0};
    es_ok(bnt_session_eval(e->session, ids, n, &err), &err);
    const float *logits = bnt_session_logits(e->session);
    int32_t best = 0;
    for (int32_t i = 1; i < (int32_t)bnt_session_n_vocab(e->session); i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

struct rows {
    float *at;
    size_t n_vocab;
};

static enum bnt_status keep_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    (void)err;
    struct rows *r = ctx;
    memcpy(r->at + index * r->n_vocab, logits, r->n_vocab * sizeof *logits);
    return BNT_OK;
}

float *es_eval_rows(struct bnt_session *s, const int32_t *ids, size_t n)
{
    struct bnt_err err = {0};
    struct rows r = {.n_vocab = bnt_session_n_vocab(s)};
    r.at = malloc(n * r.n_vocab * sizeof *r.at);
    assert_non_null(r.at);
    es_ok(bnt_session_eval_each(s, ids, n, keep_row, &r, &err), &err);
    assert_memory_equal(bnt_session_logits(s), r.at + (n - 1) * r.n_vocab,
                        r.n_vocab * sizeof *r.at);
    return r.at;
}

/* ---- allocations ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWNED_BY_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define OWNED_BY_SANITIZER 1
#endif
#endif

static atomic_uint_fast64_t n_allocations;

#if !defined(OWNED_BY_SANITIZER) && defined(__GLIBC__)
/* glibc's own entry points behind the public names. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

__attribute__((visibility("default"))) void *malloc(size_t n)
{
    atomic_fetch_add(&n_allocations, 1);
    return __libc_malloc(n);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
    atomic_fetch_add(&n_allocations, 1);
    return __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t n)
{
    atomic_fetch_add(&n_allocations, 1);
    return __libc_realloc(p, n);
}

bool es_counts_allocations(void)
{
    return true;
}
#else
bool es_counts_allocations(void)
{
    return false;
}
#endif

uint64_t es_allocations(void)
{
    return atomic_load(&n_allocations);
}

/* ---- variants of the bundled file ---- */

enum { MODEL_MAX_BYTES = 8 << 20 };

static void load(struct bnt_buf *file)
{
    struct bnt_err err = {0};
    bnt_buf_init(file, MODEL_MAX_BYTES);
    es_ok(bnt_file_read(suite_bundled_model(), file, &err), &err);
}

static const char *save(struct bnt_buf *file)
{
    static char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_durable d;
    es_ok(bnt_path_format(path, &err, "%s/variant.gguf", suite_scratch()), &err);
    es_ok(bnt_durable_open(&d, path, &err), &err);
    es_ok(bnt_durable_write(&d, file->data, file->len, &err), &err);
    es_ok(bnt_durable_commit(&d, 0644, &err), &err);
    bnt_buf_release(file);
    return path;
}

/* Writers of the packings in docs/formats.md; w in {-1, 0, 1}. */
static void write_arm(const int8_t *w, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n / 64; i++) {
        for (uint64_t p = 0; p < 16; p++) {
            const int8_t *at = w + 64 * i + p;
            dst[16 * i + p] =
                (uint8_t)((at[0] + 1) << 6 | (at[16] + 1) << 4 | (at[32] + 1) << 2 | (at[48] + 1));
        }
    }
}

static void write_rows4(const int8_t *w, uint64_t rows, uint64_t cols, uint8_t *dst)
{
    for (uint64_t g = 0; g < rows / 4; g++) {
        for (uint64_t c = 0; c < cols; c++) {
            const int8_t *at = w + 4 * g * cols + c;
            dst[g * cols + c] = (uint8_t)((at[0] + 1) << 6 | (at[cols] + 1) << 4 |
                                          (at[2 * cols] + 1) << 2 | (at[3 * cols] + 1));
        }
    }
}

static void repack(uint8_t *bytes, const struct gguf_tensor *t, enum i2s_layout layout)
{
    struct bnt_err err = {0};
    float scale;
    uint64_t n = t->ne[0] * t->ne[1];
    int8_t *w = malloc(n);
    assert_non_null(w);
    struct ternary_source src = {
        .type = t->type, .data = bytes, .size = t->size, .rows = t->ne[1], .cols = t->ne[0]};
    es_ok(ternary_decode(&src, 0, t->ne[1], w, &scale, &err), &err);
    if (layout == I2S_ARM) {
        write_arm(w, n, bytes);
    } else {
        write_rows4(w, t->ne[1], t->ne[0], bytes);
    }
    free(w);
}

static void scramble(uint8_t *bytes, const struct gguf_tensor *t)
{
    uint32_t x = 12345;
    for (uint64_t i = 0; i < t->ne[0] * t->ne[1] / 4; i++) {
        uint8_t codes = 0;
        for (int j = 0; j < 4; j++) {
            x = x * 1664525u + 1013904223u;
            codes = (uint8_t)(codes << 2 | (x >> 24) % 3);
        }
        bytes[i] = codes;
    }
}

/* Each code becomes one of the other two with this probability. */
static void add_noise(uint8_t *bytes, const struct gguf_tensor *t, double share)
{
    struct bnt_rng rng;
    bnt_rng_seed(&rng, t->offset);
    for (uint64_t i = 0; i < t->ne[0] * t->ne[1]; i++) {
        unsigned shift = (unsigned)(i % 4) * 2, code = bytes[i / 4] >> shift & 3u;
        if (bnt_rng_unit(&rng) < share) {
            unsigned other = (code + 1 + (unsigned)bnt_rng_below(&rng, 2)) % 3;
            bytes[i / 4] ^= (uint8_t)((code ^ other) << shift);
        }
    }
}

/* Codes become others with the probability `noise`; 1: random ones; 0: only the packing changes. */
static const char *change_ternary(double noise, enum i2s_layout layout)
{
    struct bnt_err err = {0};
    struct bnt_buf file;
    struct gguf *g;
    load(&file);
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_AUTO, &g, &err), &err);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        uint8_t *bytes = (uint8_t *)file.data + t->offset;
        if (t->type == TENSOR_I2_S && noise >= 1) {
            scramble(bytes, t);
        } else if (t->type == TENSOR_I2_S && noise > 0) {
            add_noise(bytes, t, noise);
        } else if (t->type == TENSOR_I2_S) {
            repack(bytes, t, layout);
        }
    }
    gguf_close(g);
    return save(&file);
}

const char *es_repacked_model(enum i2s_layout layout)
{
    return change_ternary(0, layout);
}

const char *es_scrambled_model(void)
{
    return change_ternary(1, I2S_X86);
}

const char *es_noisy_model(double share)
{
    return change_ternary(share, I2S_X86);
}

const char *es_patched_model(const char *from, const char *to)
{
    struct bnt_buf file;
    load(&file);
    char *at = memmem(file.data, file.len, from, strlen(from));
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    return save(&file);
}
