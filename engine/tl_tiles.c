#include "engine/tl_tiles.h"

#include <stdio.h>
#include <string.h>

#include "engine/model_write.h"

enum { TEXT_BYTES = 96 };

struct entry {
    uint64_t rows, cols;
    struct tl_tiles tiles;
};

static bool parse(const char *text, struct entry *e)
{
    unsigned rows, cols, bm, bk, inner;
    int end = 0;
    if (sscanf(text, "%9ux%9u=%9u,%9u,%9u%n", &rows, &cols, &bm, &bk, &inner, &end) != 5 ||
        text[end] != '\0') {
        return false;
    }
    *e = (struct entry){rows, cols, {bm, bk, inner}};
    return true;
}

bool tl_tiles_of_file(const struct gguf *g, enum tensor_type type, uint64_t rows, uint64_t cols,
                      struct tl_tiles *out)
{
    struct gguf_iter it;
    struct gguf_str s;
    bool any = gguf_iter_begin(g, TL_TILES_KEY, GGUF_STR, &it);
    while (any && gguf_iter_str(&it, &s)) {
        char text[TEXT_BYTES] = "";
        struct entry e;
        memcpy(text, s.data, s.len < sizeof text ? s.len : 0);
        if (parse(text, &e) && e.rows == rows && e.cols == cols) {
            *out = e.tiles;
            return true;
        }
    }
    return tl_tiles_known(type, rows, cols, out);
}

static enum bnt_status unknown(enum tensor_type type, uint64_t rows, uint64_t cols,
                               struct bnt_err *err)
{
    bnt_err_hint(err,
                 "say them: --tiles %llux%llu=BM,BK,BM_INNER (rows and columns of a tile, rows of "
                 "an inner one: 32, or for TL1 32 or 64)",
                 (unsigned long long)rows, (unsigned long long)cols);
    return bnt_err_set(err, BNT_E_USAGE, "no tile sizes of %s are known for %llu x %llu",
                       tensor_type_info((uint32_t)type)->name, (unsigned long long)rows,
                       (unsigned long long)cols);
}

enum bnt_status tl_tiles_check(const char *const *texts, size_t n, struct bnt_err *err)
{
    struct entry e;
    for (size_t i = 0; i < n; i++) {
        if (!parse(texts[i], &e)) {
            return bnt_err_set(err, BNT_E_USAGE, "--tiles %s: must be ROWSxCOLS=BM,BK,BM_INNER",
                               texts[i]);
        }
    }
    return BNT_OK;
}

/* The first of n texts that is of this shape. */
static bool said(const char *const *texts, size_t n, uint64_t rows, uint64_t cols,
                 struct tl_tiles *out)
{
    struct entry e;
    for (size_t i = 0; i < n; i++) {
        if (parse(texts[i], &e) && e.rows == rows && e.cols == cols) {
            *out = e.tiles;
            return true;
        }
    }
    return false;
}

bool tl_tiles_of_tensor(const struct gguf *g, const struct gguf_tensor *t, const char *const *texts,
                        size_t n, struct tl_tiles *out)
{
    const uint64_t rows = t->ne[1], cols = t->ne[0];
    return said(texts, n, rows, cols, out) || tl_tiles_of_file(g, t->type, rows, cols, out);
}

enum bnt_status tl_tiles_choose(enum tensor_type type, uint64_t rows, uint64_t cols,
                                const char *const *texts, size_t n, struct tl_tiles *out,
                                struct bnt_err *err)
{
    enum bnt_status st = tl_tiles_check(texts, n, err);
    if (st != BNT_OK || said(texts, n, rows, cols, out) || tl_tiles_known(type, rows, cols, out)) {
        return st;
    }
    return unknown(type, rows, cols, err);
}

static bool same_shape(const struct recode_item *a, const struct recode_item *b)
{
    return a->rows == b->rows && a->cols == b->cols;
}

/* The first of its shape. */
static bool is_first(const struct mwrite_tensor *tensors, size_t i)
{
    size_t k = 0;
    while (tensors[k].item.tiles.bm == 0 || !same_shape(&tensors[k].item, &tensors[i].item)) {
        k++;
    }
    return k == i;
}

enum bnt_status tl_tiles_put(struct gguf_plan *p, const struct mwrite_tensor *tensors, size_t n,
                             struct bnt_err *err)
{
    struct bnt_buf texts = BNT_BUF(GPLAN_MAX_BYTES);
    enum bnt_status st = BNT_OK;
    uint64_t count = 0;
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        const struct recode_item *item = &tensors[i].item;
        char text[TEXT_BYTES];
        if (item->tiles.bm == 0 || !is_first(tensors, i)) {
            continue;
        }
        int len = snprintf(text, sizeof text, "%llux%llu=%u,%u,%u", (unsigned long long)item->rows,
                           (unsigned long long)item->cols, item->tiles.bm, item->tiles.bk,
                           item->tiles.bm_inner);
        st = gplan_append_text(&texts, text, (size_t)len, err);
        count++;
    }
    gplan_drop(p, TL_TILES_KEY);
    if (st == BNT_OK && count > 0) {
        st = gplan_put_array(p, TL_TILES_KEY, GGUF_STR, count, &texts, err);
    }
    bnt_buf_release(&texts);
    return st;
}
