#include "engine/gguf_plan.h"

#include <stdlib.h>
#include <string.h>

#include "engine/gguf_impl.h"

enum { VERSION = 3 };

void gplan_init(struct gguf_plan *p)
{
    *p = (struct gguf_plan){.version = VERSION, .alignment = GPLAN_DEFAULT_ALIGNMENT};
}

static void release_kv(struct gplan_kv *kv)
{
    free(kv->key);
    bnt_buf_release(&kv->value);
}

void gplan_release(struct gguf_plan *p)
{
    for (size_t i = 0; i < p->n_kv; i++) {
        release_kv(&p->kv[i]);
    }
    free(p->kv);
    free(p->tensors);
    *p = (struct gguf_plan){0};
}

/* ---- bytes ---- */

enum bnt_status gplan_append_number(struct bnt_buf *out, uint64_t v, unsigned width,
                                    struct bnt_err *err)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < width; i++) {
        bytes[i] = (uint8_t)(v >> 8 * i);
    }
    return bnt_buf_append(out, bytes, width, err);
}

enum bnt_status gplan_append_text(struct bnt_buf *out, const char *text, size_t len,
                                  struct bnt_err *err)
{
    enum bnt_status st = gplan_append_number(out, len, 8, err);
    return st == BNT_OK ? bnt_buf_append(out, text, len, err) : st;
}

/* ---- keys ---- */

struct gplan_kv *gplan_find(const struct gguf_plan *p, const char *key)
{
    for (size_t i = 0; i < p->n_kv; i++) {
        if (strcmp(p->kv[i].key, key) == 0) {
            return &p->kv[i];
        }
    }
    return NULL;
}

void gplan_drop(struct gguf_plan *p, const char *key)
{
    struct gplan_kv *kv = gplan_find(p, key);
    if (kv) {
        release_kv(kv);
        memmove(kv, kv + 1, (size_t)(p->kv + p->n_kv - (kv + 1)) * sizeof *kv);
        p->n_kv--;
    }
}

/* Room for one more element of a growing array; NULL: out of memory. */
static void *grown(void *at, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) {
        return at;
    }
    size_t more = *cap ? 2 * *cap : 64;
    void *p = realloc(at, more * size);
    *cap = p ? more : *cap;
    return p;
}

/* A new key at the end, without a value yet; NULL: out of memory. */
static struct gplan_kv *append_kv(struct gguf_plan *p, const char *key, struct bnt_err *err)
{
    struct gplan_kv *kv = grown(p->kv, p->n_kv, &p->cap_kv, sizeof *kv);
    char *copy = kv ? strdup(key) : NULL;
    if (kv) {
        p->kv = kv;
    }
    if (!copy) {
        bnt_err_nomem(err, "metadata", p->n_kv * sizeof *kv);
        return NULL;
    }
    kv = &p->kv[p->n_kv++];
    *kv = (struct gplan_kv){.key = copy};
    bnt_buf_init(&kv->value, GPLAN_MAX_BYTES);
    return kv;
}

/* The key with an empty value, ready to be filled from its value type on. */
static enum bnt_status begin_value(struct gguf_plan *p, const char *key, enum gguf_value_type type,
                                   struct gplan_kv **out, struct bnt_err *err)
{
    struct gplan_kv *kv = gplan_find(p, key);
    kv = kv ? kv : append_kv(p, key, err);
    if (!kv) {
        return BNT_E_MEMORY;
    }
    bnt_buf_reset(&kv->value);
    *out = kv;
    return gplan_append_number(&kv->value, (uint64_t)type, 4, err);
}

static enum bnt_status put_number(struct gguf_plan *p, const char *key, enum gguf_value_type type,
                                  uint64_t v, struct bnt_err *err)
{
    struct gplan_kv *kv;
    enum bnt_status st = begin_value(p, key, type, &kv, err);
    return st == BNT_OK ? gplan_append_number(&kv->value, v, type == GGUF_BOOL ? 1 : 4, err) : st;
}

enum bnt_status gplan_put_u32(struct gguf_plan *p, const char *key, uint32_t v, struct bnt_err *err)
{
    return put_number(p, key, GGUF_U32, v, err);
}

enum bnt_status gplan_put_f32(struct gguf_plan *p, const char *key, float v, struct bnt_err *err)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_number(p, key, GGUF_F32, bits, err);
}

enum bnt_status gplan_put_bool(struct gguf_plan *p, const char *key, bool v, struct bnt_err *err)
{
    return put_number(p, key, GGUF_BOOL, v, err);
}

enum bnt_status gplan_put_str(struct gguf_plan *p, const char *key, const char *text,
                              struct bnt_err *err)
{
    struct gplan_kv *kv;
    enum bnt_status st = begin_value(p, key, GGUF_STR, &kv, err);
    return st == BNT_OK ? gplan_append_text(&kv->value, text, strlen(text), err) : st;
}

enum bnt_status gplan_put_array(struct gguf_plan *p, const char *key, enum gguf_value_type elem,
                                uint64_t n, const struct bnt_buf *bytes, struct bnt_err *err)
{
    struct gplan_kv *kv;
    enum bnt_status st = begin_value(p, key, GGUF_ARR, &kv, err);
    if (st == BNT_OK) {
        st = gplan_append_number(&kv->value, (uint64_t)elem, 4, err);
    }
    if (st == BNT_OK) {
        st = gplan_append_number(&kv->value, n, 8, err);
    }
    return st == BNT_OK ? bnt_buf_append(&kv->value, bytes->data, bytes->len, err) : st;
}

static uint64_t load_number(const uint8_t *at, unsigned width, bool big)
{
    return width == 1   ? at[0]
           : width == 2 ? gguf_load16(at, big)
           : width == 4 ? gguf_load32(at, big)
                        : gguf_load64(at, big);
}

/* n texts with their lengths, walked as the file has them. */
static enum bnt_status copy_texts(struct bnt_buf *out, const struct gguf *g,
                                  const struct gguf_kv *kv, struct bnt_err *err)
{
    struct gguf_iter it = {.g = g, .kv = kv, .at = kv->raw};
    struct gguf_str text;
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && gguf_iter_str(&it, &text)) {
        st = gplan_append_text(out, text.data, text.len, err);
    }
    return st;
}

/* The elements of a value of foreign byte order, or its one number. */
static enum bnt_status copy_swapped(struct bnt_buf *out, const struct gguf *g,
                                    const struct gguf_kv *kv, struct bnt_err *err)
{
    enum gguf_value_type type = kv->type == GGUF_ARR ? kv->elem_type : kv->type;
    unsigned width = gguf_value_size((uint32_t)type);
    if (type == GGUF_STR) {
        return kv->type == GGUF_ARR ? copy_texts(out, g, kv, err)
                                    : bnt_buf_append(out, kv->raw, kv->raw_len, err);
    }
    if (width == 0) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "%s: the nested array %.*s of a big-endian file cannot be copied",
                           g->path, (int)kv->key.len, kv->key.data);
    }
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < kv->n; i++) {
        uint64_t v = load_number(kv->raw + i * width, width, g->big_endian);
        st = gplan_append_number(out, v, width, err);
    }
    return st;
}

/* The raw bytes of a string or an array begin behind its length. */
static enum bnt_status copy_value(struct bnt_buf *out, const struct gguf *g,
                                  const struct gguf_kv *kv, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (kv->type == GGUF_ARR) {
        st = gplan_append_number(out, (uint64_t)kv->elem_type, 4, err);
    }
    if (st == BNT_OK && (kv->type == GGUF_ARR || kv->type == GGUF_STR)) {
        st = gplan_append_number(out, kv->type == GGUF_ARR ? kv->n : kv->raw_len, 8, err);
    }
    if (st != BNT_OK || g->big_endian) {
        return st == BNT_OK ? copy_swapped(out, g, kv, err) : st;
    }
    return bnt_buf_append(out, kv->raw, kv->raw_len, err);
}

enum bnt_status gplan_put_copy(struct gguf_plan *p, const struct gguf *g, const struct gguf_kv *kv,
                               struct bnt_err *err)
{
    struct gplan_kv *to;
    char *key = strndup(kv->key.data, kv->key.len);
    if (!key) {
        return bnt_err_nomem(err, "a key", kv->key.len);
    }
    enum bnt_status st = begin_value(p, key, kv->type, &to, err);
    free(key);
    return st == BNT_OK ? copy_value(&to->value, g, kv, err) : st;
}

enum bnt_status gplan_add_raw(struct gguf_plan *p, const char *key, const void *value, size_t n,
                              struct bnt_err *err)
{
    struct gplan_kv *kv = append_kv(p, key, err);
    return kv ? bnt_buf_append(&kv->value, value, n, err) : BNT_E_MEMORY;
}

/* ---- tensors ---- */

/* Room for one more tensor, with nothing in it; not counted yet. */
static struct gplan_tensor *next_tensor(struct gguf_plan *p, struct bnt_err *err)
{
    struct gplan_tensor *all = grown(p->tensors, p->n_tensors, &p->cap_tensors, sizeof *all);
    if (!all) {
        bnt_err_nomem(err, "tensor infos", p->n_tensors * sizeof *all);
        return NULL;
    }
    p->tensors = all;
    all[p->n_tensors] = (struct gplan_tensor){0};
    return &all[p->n_tensors];
}

enum bnt_status gplan_add_tensor(struct gguf_plan *p, const char *name, enum tensor_type type,
                                 uint64_t cols, uint64_t rows, struct bnt_err *err)
{
    struct gplan_tensor *t = next_tensor(p, err);
    if (!t) {
        return BNT_E_MEMORY;
    }
    t->type = (uint32_t)type;
    t->n_dims = rows == 1 ? 1 : 2;
    t->ne[0] = cols;
    t->ne[1] = rows;
    t->ne[2] = t->ne[3] = 1;
    size_t len = strlen(name);
    if (len > GGUF_MAX_NAME_BYTES || !tensor_size(type, t->ne, &t->size)) {
        const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
        return bnt_err_set(err, BNT_E_USAGE,
                           "tensor %s: %s cannot have the shape %llu x %llu (blocks of %u weights)",
                           name, info ? info->name : "this type", (unsigned long long)cols,
                           (unsigned long long)rows, info ? info->block_weights : 0);
    }
    memcpy(t->name, name, len + 1);
    p->n_tensors++;
    return BNT_OK;
}

void gplan_name(char out[GGUF_MAX_NAME_BYTES + 1], struct gguf_str name)
{
    size_t n = name.len < GGUF_MAX_NAME_BYTES ? name.len : GGUF_MAX_NAME_BYTES;
    memcpy(out, name.data, n);
    out[n] = '\0';
}

enum bnt_status gplan_copy_tensor(struct gguf_plan *p, const struct gguf_tensor *t,
                                  struct bnt_err *err)
{
    struct gplan_tensor *to = next_tensor(p, err);
    if (!to) {
        return BNT_E_MEMORY;
    }
    gplan_name(to->name, t->name);
    to->type = (uint32_t)t->type;
    to->n_dims = t->n_dims;
    memcpy(to->ne, t->ne, sizeof to->ne);
    to->size = t->size;
    p->n_tensors++;
    return BNT_OK;
}

struct gplan_tensor *gplan_find_tensor(const struct gguf_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n_tensors; i++) {
        if (strcmp(p->tensors[i].name, name) == 0) {
            return &p->tensors[i];
        }
    }
    return NULL;
}

void gplan_drop_tensor(struct gguf_plan *p, const char *name)
{
    struct gplan_tensor *t = gplan_find_tensor(p, name);
    if (t) {
        memmove(t, t + 1, (size_t)(p->tensors + p->n_tensors - (t + 1)) * sizeof *t);
        p->n_tensors--;
    }
}

void gplan_place(struct gguf_plan *p)
{
    uint64_t at = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        p->tensors[i].offset = at;
        at += (p->tensors[i].size + p->alignment - 1) / p->alignment * p->alignment;
    }
}

/* ---- header ---- */

static enum bnt_status append_tensor(struct bnt_buf *out, const struct gplan_tensor *t,
                                     struct bnt_err *err)
{
    enum bnt_status st = gplan_append_text(out, t->name, strlen(t->name), err);
    if (st == BNT_OK) {
        st = gplan_append_number(out, (uint64_t)t->n_dims, 4, err);
    }
    for (int d = 0; st == BNT_OK && d < t->n_dims; d++) {
        st = gplan_append_number(out, t->ne[d % GGUF_MAX_DIMS], 8, err);
    }
    if (st == BNT_OK) {
        st = gplan_append_number(out, t->type & TENSOR_ID_MASK, 4, err);
    }
    return st == BNT_OK ? gplan_append_number(out, t->offset, 8, err) : st;
}

enum bnt_status gplan_header(const struct gguf_plan *p, struct bnt_buf *out, struct bnt_err *err)
{
    enum bnt_status st = bnt_buf_puts(out, "GGUF", err);
    if (st == BNT_OK) {
        st = gplan_append_number(out, p->version, 4, err);
    }
    if (st == BNT_OK) {
        st = gplan_append_number(out, p->n_tensors, 8, err);
    }
    if (st == BNT_OK) {
        st = gplan_append_number(out, p->n_kv, 8, err);
    }
    for (size_t i = 0; st == BNT_OK && i < p->n_kv; i++) {
        const struct gplan_kv *kv = &p->kv[i];
        st = gplan_append_text(out, kv->key, strlen(kv->key), err);
        if (st == BNT_OK) {
            st = bnt_buf_append(out, kv->value.data, kv->value.len, err);
        }
    }
    for (size_t i = 0; st == BNT_OK && i < p->n_tensors; i++) {
        st = append_tensor(out, &p->tensors[i], err);
    }
    while (st == BNT_OK && out->len % p->alignment != 0) {
        st = bnt_buf_putc(out, 0, err);
    }
    return st;
}
