/* Names, look-up tables, typed values and iterators over an opened GGUF. */
#include <math.h>
#include <stdlib.h>

#include "engine/gguf_impl.h"

static const char *const type_names[GGUF_N_VALUE_TYPES] = {
    [GGUF_U8] = "u8",   [GGUF_I8] = "i8",     [GGUF_U16] = "u16", [GGUF_I16] = "i16",
    [GGUF_U32] = "u32", [GGUF_I32] = "i32",   [GGUF_F32] = "f32", [GGUF_BOOL] = "bool",
    [GGUF_STR] = "str", [GGUF_ARR] = "array", [GGUF_U64] = "u64", [GGUF_I64] = "i64",
    [GGUF_F64] = "f64",
};

static const uint8_t type_sizes[GGUF_N_VALUE_TYPES] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2,  [GGUF_I16] = 2, [GGUF_U32] = 4,
    [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_STR] = 0, [GGUF_ARR] = 0,
    [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

/* FNV-1a from a random seed, finished so that the low bits depend on all: a file cannot be made to
 * collide. */
static uint64_t hash_name(struct gguf_str s, uint64_t seed)
{
    uint64_t h = 0xcbf29ce484222325u ^ seed;
    for (size_t i = 0; i < s.len; i++) {
        h = (h ^ (uint8_t)s.data[i]) * 0x100000001b3u;
        h ^= h >> 29;
    }
    h = (h ^ h >> 32) * (seed | 1);
    return h ^ h >> 32;
}

static bool same(struct gguf_str a, struct gguf_str b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* Slot that holds `s`, or the free one where it belongs. */
static uint32_t *find_slot(const struct gguf *g, gguf_name_fn *name, const struct gguf_index *index,
                           struct gguf_str s)
{
    uint64_t i = hash_name(s, g->priv->hash_seed) & index->mask;
    while (index->slots[i] != 0 && !same(name(g, index->slots[i] - 1), s)) {
        i = (i + 1) & index->mask;
    }
    return &index->slots[i];
}

enum bnt_status gguf_index_build(const struct gguf *g, gguf_name_fn *name, uint32_t n,
                                 struct gguf_index *index, uint32_t *duplicate, struct bnt_err *err)
{
    uint64_t slots = 8;
    while (slots < 2 * (uint64_t)n) {
        slots *= 2;
    }
    *duplicate = n;
    index->mask = slots - 1;
    index->slots = calloc(slots, sizeof *index->slots);
    if (!index->slots) {
        return bnt_err_nomem(err, "look-up table", slots * sizeof *index->slots);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *slot = find_slot(g, name, index, name(g, i));
        if (*slot == 0) {
            *slot = i + 1;
        } else if (*duplicate == n) {
            *duplicate = i;
        }
    }
    return BNT_OK;
}

uint32_t gguf_index_find(const struct gguf *g, gguf_name_fn *name, const struct gguf_index *index,
                         struct gguf_str s)
{
    uint32_t slot = *find_slot(g, name, index, s);
    return slot ? slot - 1 : UINT32_MAX;
}

struct gguf_str gguf_kv_name(const struct gguf *g, uint32_t i)
{
    return g->kv[i].key;
}

struct gguf_str gguf_tensor_name(const struct gguf *g, uint32_t i)
{
    return g->tensors[i].name;
}

unsigned gguf_value_size(uint32_t type)
{
    return type < GGUF_N_VALUE_TYPES ? type_sizes[type] : 0;
}

struct gguf_shown gguf_show(struct gguf_str s)
{
    struct gguf_shown out;
    const size_t room = sizeof out.text - 4; /* for "..." and the end */
    size_t n = s.len < room ? s.len : room;
    for (size_t i = 0; i < n; i++) {
        char c = s.data[i];
        out.text[i] = c >= 0x20 && c < 0x7f ? c : '?';
    }
    memcpy(out.text + n, s.len > n ? "..." : "", s.len > n ? 4 : 1);
    return out;
}

bool gguf_str_eq(struct gguf_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    struct gguf_str s = {key, strlen(key)};
    uint32_t i = gguf_index_find(g, gguf_kv_name, &g->priv->kv_index, s);
    return i != UINT32_MAX ? &g->kv[i] : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    struct gguf_str s = {name, strlen(name)};
    uint32_t i = gguf_index_find(g, gguf_tensor_name, &g->priv->tensor_index, s);
    return i != UINT32_MAX ? &g->tensors[i] : NULL;
}

bool gguf_has_type(const struct gguf *g, enum tensor_type type)
{
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].type == type) {
            return true;
        }
    }
    return false;
}

/* An integer of any type: its bits as i64, and whether they mean a u64 above INT64_MAX. */
static bool load_integer(enum gguf_value_type type, const uint8_t *p, bool big, int64_t *out,
                         bool *huge)
{
    *huge = false;
    switch (type) {
    case GGUF_U8:
        *out = p[0];
        return true;
    case GGUF_I8:
        *out = (int8_t)p[0];
        return true;
    case GGUF_U16:
        *out = gguf_load16(p, big);
        return true;
    case GGUF_I16:
        *out = (int16_t)gguf_load16(p, big);
        return true;
    case GGUF_U32:
        *out = gguf_load32(p, big);
        return true;
    case GGUF_I32:
        *out = (int32_t)gguf_load32(p, big);
        return true;
    case GGUF_U64:
        *out = (int64_t)gguf_load64(p, big);
        *huge = *out < 0;
        return true;
    case GGUF_I64:
        *out = (int64_t)gguf_load64(p, big);
        return true;
    default:
        return false;
    }
}

static bool load_float(enum gguf_value_type type, const uint8_t *p, bool big, double *out)
{
    if (type == GGUF_F32) {
        uint32_t bits = gguf_load32(p, big);
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = f;
        return true;
    }
    if (type == GGUF_F64) {
        uint64_t bits = gguf_load64(p, big);
        memcpy(out, &bits, sizeof *out);
        return true;
    }
    return false;
}

bool gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    int64_t v;
    bool huge;
    if (!kv || !load_integer(kv->type, kv->raw, g->big_endian, &v, &huge) || (v < 0 && !huge)) {
        return false;
    }
    *out = (uint64_t)v;
    return true;
}

bool gguf_get_i64(const struct gguf *g, const char *key, int64_t *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    int64_t v;
    bool huge;
    if (!kv || !load_integer(kv->type, kv->raw, g->big_endian, &v, &huge) || huge) {
        return false;
    }
    *out = v;
    return true;
}

bool gguf_get_f64(const struct gguf *g, const char *key, double *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    return kv && load_float(kv->type, kv->raw, g->big_endian, out);
}

bool gguf_get_number(const struct gguf *g, const char *key, double *out)
{
    int64_t whole;
    if (!gguf_get_i64(g, key, &whole)) {
        return gguf_get_f64(g, key, out);
    }
    *out = (double)whole;
    return true;
}

bool gguf_get_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv || kv->type != GGUF_BOOL) {
        return false;
    }
    *out = kv->raw[0] != 0;
    return true;
}

bool gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv || kv->type != GGUF_STR) {
        return false;
    }
    *out = (struct gguf_str){(const char *)kv->raw, kv->raw_len};
    return true;
}

bool gguf_iter_begin(const struct gguf *g, const char *key, enum gguf_value_type elem_type,
                     struct gguf_iter *it)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv || kv->type != GGUF_ARR || kv->elem_type != elem_type) {
        return false;
    }
    *it = (struct gguf_iter){g, kv, 0, kv->raw};
    return true;
}

bool gguf_iter_str(struct gguf_iter *it, struct gguf_str *out)
{
    if (it->i >= it->kv->n || it->kv->elem_type != GGUF_STR) {
        return false;
    }
    out->len = gguf_load64(it->at, it->g->big_endian);
    out->data = (const char *)it->at + 8;
    it->at += 8 + out->len;
    it->i++;
    return true;
}

bool gguf_iter_f64(struct gguf_iter *it, double *out)
{
    int64_t v;
    bool huge, big = it->g->big_endian;
    enum gguf_value_type type = it->kv->elem_type;
    if (it->i >= it->kv->n) {
        return false;
    }
    if (load_integer(type, it->at, big, &v, &huge)) {
        *out = huge ? (double)(uint64_t)v : (double)v;
    } else if (!load_float(type, it->at, big, out)) {
        return false;
    }
    it->at += gguf_value_size(type);
    it->i++;
    return true;
}

bool gguf_iter_i64(struct gguf_iter *it, int64_t *out)
{
    bool huge = false;
    enum gguf_value_type type = it->kv->elem_type;
    if (it->i >= it->kv->n) {
        return false;
    }
    if (type == GGUF_BOOL) {
        *out = it->at[0] != 0;
    } else if (!load_integer(type, it->at, it->g->big_endian, out, &huge) || huge) {
        return false;
    }
    it->at += gguf_value_size(type);
    it->i++;
    return true;
}

const char *gguf_value_type_name(enum gguf_value_type t)
{
    return (unsigned)t < GGUF_N_VALUE_TYPES ? type_names[t] : "unknown";
}
