/* What the GGUF fuzzer does with one input, shared with the test that replays the kept corpus: open
 * it, and if it opens, use everything that an opened file promises. */
#ifndef BNT_EXERCISE_GGUF_H
#define BNT_EXERCISE_GGUF_H

#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"

/* Weights of a tensor that are looked at, so that one input stays fast. */
#define EXERCISE_MAX_WEIGHTS (1u << 16)

/* Read every byte, so that a sanitizer sees one that is out of bounds. */
static unsigned exercise_sum(const void *p, uint64_t n)
{
    const volatile uint8_t *bytes = p;
    unsigned sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        sum += bytes[i];
    }
    return sum;
}

static void exercise_array(const struct gguf *g, const char *key, enum gguf_value_type elem)
{
    struct gguf_iter it;
    struct gguf_str s;
    double f;
    int64_t i;
    if (gguf_iter_begin(g, key, elem, &it)) {
        while (gguf_iter_str(&it, &s)) {
            exercise_sum(s.data, s.len);
        }
    }
    if (gguf_iter_begin(g, key, elem, &it)) {
        while (gguf_iter_f64(&it, &f)) {
        }
    }
    if (gguf_iter_begin(g, key, elem, &it)) {
        while (gguf_iter_i64(&it, &i)) {
        }
    }
}

static void exercise_kv(const struct gguf *g, const struct gguf_kv *kv)
{
    char *key = strndup(kv->key.data, kv->key.len);
    struct gguf_str s;
    uint64_t u;
    int64_t i;
    double f;
    bool b;
    if (!key || gguf_find(g, key) != kv) {
        abort();
    }
    exercise_sum(kv->raw, kv->raw_len);
    gguf_get_u64(g, key, &u);
    gguf_get_i64(g, key, &i);
    gguf_get_f64(g, key, &f);
    gguf_get_bool(g, key, &b);
    if (gguf_get_str(g, key, &s)) {
        exercise_sum(s.data, s.len);
    }
    exercise_array(g, key, kv->elem_type);
    free(key);
}

static void exercise_ternary(const struct gguf_tensor *t, const uint8_t *data)
{
    static const struct tl_tiles tiles[] = {
        {32, 64, 32}, {64, 32, 64}, {32, 96, 32}, {32, 192, 32}};
    struct ternary_source src = {.type = t->type,
                                 .data = data,
                                 .size = t->size,
                                 .cols = t->ne[0],
                                 .rows = t->ne[1] * t->ne[2] * t->ne[3]};
    uint64_t rows =
        EXERCISE_MAX_WEIGHTS / src.cols < src.rows ? EXERCISE_MAX_WEIGHTS / src.cols : src.rows;
    int8_t *codes = malloc(EXERCISE_MAX_WEIGHTS);
    uint8_t *packed = malloc(rows * ternary_row_bytes(src.cols) + 1);
    float scale;
    if (!codes || !packed) {
        abort();
    }
    for (unsigned i = 0; i < 4; i++) {
        src.layout = (enum i2s_layout)(i % 3);
        src.tiles = tiles[i];
        /* The first rows and the last ones, so that both ends of the data are touched. */
        ternary_decode(&src, src.rows - rows, src.rows, codes, &scale, NULL);
        if (ternary_decode(&src, 0, rows, codes, &scale, NULL) == BNT_OK) {
            ternary_pack(codes, rows, src.cols, packed);
        }
    }
    free(codes);
    free(packed);
}

static void exercise_tensor(const struct gguf *g, const struct gguf_tensor *t)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)t->type);
    const void *view = gguf_tensor_view(g, t);
    uint8_t *data = malloc(t->size);
    float *row = malloc(EXERCISE_MAX_WEIGHTS * sizeof *row);
    if (!data || !row || !info || gguf_tensor_read(g, t, 0, t->size, data, NULL) != BNT_OK) {
        abort();
    }
    if (view && memcmp(view, data, t->size) != 0) {
        abort();
    }
    gguf_tensor_willneed(g, t);
    gguf_tensor_release(g, t);
    if (info->block_bytes && t->ne[0] <= EXERCISE_MAX_WEIGHTS) {
        dequantize_row(t->type, data, t->ne[0], row);
    }
    if (info->ternary) {
        exercise_ternary(t, data);
    }
    free(data);
    free(row);
}

/* Returns the status of the open. */
static enum bnt_status exercise_gguf(const uint8_t *bytes, size_t size, struct bnt_err *err)
{
    struct gguf *g;
    enum bnt_status st = gguf_open_memory(bytes, size, "input", &g, err);
    if (st != BNT_OK) {
        return st;
    }
    for (uint64_t i = 0; i < g->n_kv; i++) {
        exercise_kv(g, &g->kv[i]);
    }
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        char *name = strndup(g->tensors[i].name.data, g->tensors[i].name.len);
        if (!name || gguf_find_tensor(g, name) != &g->tensors[i]) {
            abort();
        }
        free(name);
        exercise_tensor(g, &g->tensors[i]);
    }
    gguf_close(g);
    return BNT_OK;
}

#endif
