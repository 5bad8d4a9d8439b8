/* Parsing and checking of a GGUF header; see gguf.h for what an opened file guarantees.
 *
 * The parser works on offsets into the header bytes and turns them into pointers at the end,
 * because the bytes of a streamed header move while it grows. Every read goes through need(), which
 * is the only place that compares a position with the end of the file; every number is checked
 * before it is used as a size. Order: fixed part, metadata, tensor infos; what comes after them
 * (duplicates, tensor types, sizes and extents) is in gguf_place.c. */
#include <stdlib.h>

#include "base/checked.h"
#include "base/fault.h"
#include "engine/gguf_impl.h"

/* For a defect that no key or tensor has. */
#define NO_PLACE ((struct gguf_place){0})

static const uint8_t *here(const struct gguf_reader *r)
{
    return r->g->priv->bytes + r->at;
}

static enum bnt_status header_ends(const struct gguf_reader *r, uint64_t n)
{
    const struct gguf *g = r->g;
    unsigned long long at = r->at, size = g->file_size, which = r->which;
    if (n > g->file_size) {
        return gguf_fail(
            r->err, GGUF_FAULT_BOUNDS,
            "%s %llu at byte %llu: length %llu is more than the whole file (%llu bytes)", r->what,
            which, at, (unsigned long long)n, size);
    }
    return gguf_fail(r->err, GGUF_FAULT_HEADER,
                     "file ends at byte %llu inside the header (%s %llu at byte %llu)", size,
                     r->what, which, at);
}

/* The next n bytes are there. */
static enum bnt_status need(struct gguf_reader *r, uint64_t n)
{
    struct gguf *g = r->g;
    if (n <= g->priv->have - r->at) {
        return BNT_OK;
    }
    if (n > g->file_size - r->at) {
        return header_ends(r, n);
    }
    if (r->at + n > GGUF_MAX_HEADER_BYTES) {
        return gguf_fail(r->err, GGUF_FAULT_BOUNDS,
                         "%s %llu at byte %llu: the header is larger than %llu bytes", r->what,
                         (unsigned long long)r->which, (unsigned long long)r->at,
                         (unsigned long long)GGUF_MAX_HEADER_BYTES);
    }
    return gguf_header_more(g, r->at + n, r->err);
}

static enum bnt_status take_u32(struct gguf_reader *r, uint32_t *out)
{
    enum bnt_status st = need(r, 4);
    if (st == BNT_OK) {
        *out = gguf_load32(here(r), r->g->big_endian);
        r->at += 4;
    }
    return st;
}

static enum bnt_status take_u64(struct gguf_reader *r, uint64_t *out)
{
    enum bnt_status st = need(r, 8);
    if (st == BNT_OK) {
        *out = gguf_load64(here(r), r->g->big_endian);
        r->at += 8;
    }
    return st;
}

/* Step over a string of at most max bytes; *at and *len say where its text is. */
static enum bnt_status take_string(struct gguf_reader *r, uint64_t max, uint64_t *at, uint64_t *len)
{
    enum bnt_status st = take_u64(r, len);
    if (st != BNT_OK) {
        return st;
    }
    if (*len > max) {
        return gguf_fail(r->err, GGUF_FAULT_BOUNDS,
                         "%s %llu at byte %llu: text of %llu bytes (at most %llu allowed)", r->what,
                         (unsigned long long)r->which, (unsigned long long)(r->at - 8),
                         (unsigned long long)*len, (unsigned long long)max);
    }
    st = need(r, *len);
    if (st == BNT_OK) {
        *at = r->at;
        r->at += *len;
    }
    return st;
}

/* A key or a tensor's name: not empty and without NUL bytes, since it is looked up by a C string.
 */
static enum bnt_status take_name(struct gguf_reader *r, uint64_t max, uint64_t *at, uint64_t *len)
{
    enum bnt_status st = take_string(r, max, at, len);
    if (st != BNT_OK) {
        return st;
    }
    if (*len == 0 || memchr(r->g->priv->bytes + *at, '\0', *len)) {
        st = gguf_fail(r->err, GGUF_FAULT_CORRUPT,
                       "%s %llu at byte %llu: name is empty or holds a NUL byte", r->what,
                       (unsigned long long)r->which, (unsigned long long)*at);
        return gguf_go_on(r, st, NO_PLACE);
    }
    return BNT_OK;
}

static enum bnt_status check_value_type(const struct gguf_reader *r, uint32_t type)
{
    if (type < GGUF_N_VALUE_TYPES) {
        return BNT_OK;
    }
    return gguf_fail(r->err, GGUF_FAULT_UNSUPPORTED_TYPE,
                     "%s %llu at byte %llu: unknown value type %u", r->what,
                     (unsigned long long)r->which, (unsigned long long)(r->at - 4), type);
}

/* The first that is neither: an array of them is one defect. */
static enum bnt_status check_bools(struct gguf_reader *r, uint64_t n)
{
    const uint8_t *p = here(r);
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1) {
            enum bnt_status st = gguf_fail(
                r->err, GGUF_FAULT_CORRUPT, "%s %llu at byte %llu: boolean has value %u", r->what,
                (unsigned long long)r->which, (unsigned long long)(r->at + i), p[i]);
            return gguf_go_on(r, st, NO_PLACE);
        }
    }
    return BNT_OK;
}

/* Step over n values of a type of fixed size. */
static enum bnt_status skip_fixed(struct gguf_reader *r, uint32_t type, uint64_t n)
{
    uint64_t bytes;
    if (!bnt_mul_u64(n, gguf_value_size(type), &bytes)) {
        return gguf_fail(r->err, GGUF_FAULT_BOUNDS, "%s %llu at byte %llu: array of %llu elements",
                         r->what, (unsigned long long)r->which, (unsigned long long)r->at,
                         (unsigned long long)n);
    }
    enum bnt_status st = need(r, bytes);
    if (st == BNT_OK && type == GGUF_BOOL) {
        st = check_bools(r, n);
    }
    if (st == BNT_OK) {
        r->at += bytes;
    }
    return st;
}

/* Step over n strings: the one walk over a vocabulary, so the common case is kept short. */
static enum bnt_status skip_strings(struct gguf_reader *r, uint64_t n)
{
    const struct gguf_priv *priv = r->g->priv;
    const bool big = r->g->big_endian;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t room = priv->have - r->at;
        if (room >= 8) {
            uint64_t len = gguf_load64(priv->bytes + r->at, big);
            if (len <= room - 8) {
                r->at += 8 + len;
                continue;
            }
        }
        uint64_t at, len;
        enum bnt_status st = take_string(r, UINT64_MAX, &at, &len);
        if (st != BNT_OK) {
            return st;
        }
    }
    return BNT_OK;
}

static enum bnt_status take_array_head(struct gguf_reader *r, uint32_t *type, uint64_t *n)
{
    enum bnt_status st = take_u32(r, type);
    if (st == BNT_OK) {
        st = check_value_type(r, *type);
    }
    return st == BNT_OK ? take_u64(r, n) : st;
}

/* Step over n elements of an array; depth counts the arrays around them. */
static enum bnt_status skip_elements(struct gguf_reader *r, uint32_t type, uint64_t n,
                                     unsigned depth)
{
    if (type == GGUF_STR) {
        return skip_strings(r, n);
    }
    if (type != GGUF_ARR) {
        return skip_fixed(r, type, n);
    }
    if (depth >= GGUF_MAX_ARRAY_DEPTH) {
        return gguf_fail(
            r->err, GGUF_FAULT_BOUNDS, "%s %llu at byte %llu: arrays nested deeper than %u",
            r->what, (unsigned long long)r->which, (unsigned long long)r->at, GGUF_MAX_ARRAY_DEPTH);
    }
    for (uint64_t i = 0; i < n; i++) {
        uint32_t inner;
        uint64_t inner_n;
        enum bnt_status st = take_array_head(r, &inner, &inner_n);
        if (st == BNT_OK) {
            st = skip_elements(r, inner, inner_n, depth + 1);
        }
        if (st != BNT_OK) {
            return st;
        }
    }
    return BNT_OK;
}

static enum bnt_status take_value(struct gguf_reader *r, struct gguf_kv *kv,
                                  struct gguf_kv_place *place)
{
    uint32_t type, elem = 0;
    enum bnt_status st = take_u32(r, &type);
    if (st == BNT_OK) {
        st = check_value_type(r, type);
    }
    if (st != BNT_OK) {
        return st;
    }
    kv->type = (enum gguf_value_type)type;
    kv->elem_type = kv->type;
    kv->n = 1;
    if (type == GGUF_STR) {
        return take_string(r, UINT64_MAX, &place->raw, &kv->raw_len);
    }
    if (type == GGUF_ARR) {
        st = take_array_head(r, &elem, &kv->n);
        kv->elem_type = (enum gguf_value_type)elem;
    }
    place->raw = r->at;
    if (st == BNT_OK) {
        st = type == GGUF_ARR ? skip_elements(r, elem, kv->n, 1) : skip_fixed(r, type, 1);
    }
    kv->raw_len = r->at - place->raw;
    return st;
}

static enum bnt_status take_kv(struct gguf_reader *r, uint64_t i)
{
    uint64_t len;
    r->what = "key";
    r->which = i;
    enum bnt_status st = take_name(r, GGUF_MAX_KEY_BYTES, &r->kv_places[i].key, &len);
    if (st != BNT_OK) {
        return st;
    }
    r->kv[i].key.len = len;
    st = take_value(r, &r->kv[i], &r->kv_places[i]);
    if (st != BNT_OK) {
        r->where.key =
            (struct gguf_str){(const char *)r->g->priv->bytes + r->kv_places[i].key, len};
        bnt_err_context(r->err, "value of %s", gguf_show(r->where.key).text);
    }
    return st;
}

static enum bnt_status take_dims(struct gguf_reader *r, struct gguf_tensor *t)
{
    uint32_t n_dims = 0;
    enum bnt_status st = take_u32(r, &n_dims);
    if (st == BNT_OK && n_dims > GGUF_MAX_DIMS) {
        st = gguf_fail(r->err, GGUF_FAULT_BOUNDS, "%u dimensions at byte %llu (at most %d allowed)",
                       n_dims, (unsigned long long)(r->at - 4), GGUF_MAX_DIMS);
    }
    t->n_dims = (int)n_dims;
    for (int d = 0; d < GGUF_MAX_DIMS && st == BNT_OK; d++) {
        t->ne[d] = 1;
        if (d < t->n_dims) {
            st = take_u64(r, &t->ne[d]);
        }
    }
    return st;
}

static enum bnt_status take_tensor(struct gguf_reader *r, uint64_t i)
{
    struct gguf_tensor *t = &r->tensors[i];
    struct gguf_tensor_place *place = &r->tensor_places[i];
    uint64_t len;
    r->what = "tensor";
    r->which = i;
    enum bnt_status st = take_name(r, GGUF_MAX_NAME_BYTES, &place->name, &len);
    if (st != BNT_OK) {
        return st;
    }
    t->name.len = len;
    st = take_dims(r, t);
    if (st == BNT_OK) {
        st = take_u32(r, &place->type_id);
    }
    if (st == BNT_OK) {
        st = take_u64(r, &t->offset);
    }
    if (st != BNT_OK) {
        r->where.tensor = (struct gguf_str){(const char *)r->g->priv->bytes + place->name, len};
        bnt_err_context(r->err, "tensor %s", gguf_show(r->where.tensor).text);
    }
    return st;
}

/* What a file without the magic turns out to be, for the message. */
static const char *guess_content(const uint8_t *p, uint64_t n)
{
    static const struct {
        const char *prefix;
        uint8_t len, at;
        const char *what;
    } known[] = {
        {"version https://git-lfs", 23, 0,
         "a Git LFS pointer, not the model itself (run: git lfs pull)"},
        {"<!DOCTYPE", 9, 0, "a web page, not a model"},
        {"<!doctype", 9, 0, "a web page, not a model"},
        {"<html", 5, 0, "a web page, not a model"},
        {"lmgg", 4, 0, "an old GGML file, from before GGUF"},
        {"fmgg", 4, 0, "an old GGML file, from before GGUF"},
        {"tjgg", 4, 0, "an old GGML file, from before GGUF"},
        {"algg", 4, 0, "an old GGML adapter, from before GGUF"},
        {"PK\003\004", 4, 0, "a zip archive (a PyTorch checkpoint, perhaps)"},
        {"\037\213", 2, 0, "gzip-compressed"},
        {"\050\265\057\375", 4, 0, "zstd-compressed"},
        {"{", 1, 8, "a safetensors file: convert it to GGUF first"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (n >= (uint64_t)known[i].at + known[i].len &&
            memcmp(p + known[i].at, known[i].prefix, known[i].len) == 0) {
            return known[i].what;
        }
    }
    return NULL;
}

static enum bnt_status check_magic(struct gguf_reader *r)
{
    struct gguf *g = r->g;
    uint64_t n = g->file_size < 32 ? g->file_size : 32;
    if (n == 0) {
        return gguf_fail(r->err, GGUF_FAULT_HEADER, "the file is empty");
    }
    enum bnt_status st = need(r, n);
    if (st != BNT_OK) {
        return st;
    }
    const uint8_t *p = here(r);
    if (n < 4 || memcmp(p, "GGUF", 4) != 0) {
        const char *what = guess_content(p, n);
        return what ? gguf_fail(r->err, GGUF_FAULT_HEADER, "no GGUF magic at byte 0: this is %s",
                                what)
                    : gguf_fail(r->err, GGUF_FAULT_HEADER, "no GGUF magic at byte 0");
    }
    r->at = 4;
    return BNT_OK;
}

/* The version is a small number, so the half it stands in tells the byte order. */
static enum bnt_status take_version(struct gguf_reader *r)
{
    struct gguf *g = r->g;
    enum bnt_status st = need(r, 4);
    if (st != BNT_OK) {
        return st;
    }
    uint32_t little = gguf_load32(here(r), false);
    g->big_endian = (little & 0xffff) == 0 && little != 0;
    g->version = gguf_load32(here(r), g->big_endian);
    r->at += 4;
    if (g->version == 1) {
        return gguf_fail(r->err, GGUF_FAULT_VERSION,
                         "GGUF version 1 (32-bit counts, used for some weeks in 2023) is not read");
    }
    if (g->version != 2 && g->version != 3 && !BNT_FAULT(gguf_version)) {
        return gguf_fail(r->err, GGUF_FAULT_VERSION, "GGUF version %u at byte 4 is not known here",
                         g->version);
    }
    return BNT_OK;
}

static enum bnt_status check_count(const struct gguf_reader *r, const char *what, uint64_t n,
                                   uint64_t max)
{
    if (n <= max || BNT_FAULT(gguf_count)) {
        return BNT_OK;
    }
    return gguf_fail(r->err, GGUF_FAULT_BOUNDS, "%s count %llu at byte %llu (at most %llu allowed)",
                     what, (unsigned long long)n, (unsigned long long)(r->at - 8),
                     (unsigned long long)max);
}

static enum bnt_status take_counts(struct gguf_reader *r)
{
    struct gguf *g = r->g;
    r->what = "count";
    r->which = 0;
    enum bnt_status st = take_u64(r, &g->n_tensors);
    if (st == BNT_OK) {
        st = check_count(r, "tensor", g->n_tensors, GGUF_MAX_TENSORS);
    }
    if (st == BNT_OK) {
        st = take_u64(r, &g->n_kv);
    }
    return st == BNT_OK ? check_count(r, "key", g->n_kv, GGUF_MAX_KV) : st;
}

/* calloc of n > 0 or 0 elements; NULL only without memory. */
static void *table(struct gguf_reader *r, uint64_t n, size_t size, const char *what,
                   enum bnt_status *st)
{
    void *p = calloc(n ? n : 1, size);
    if (!p && *st == BNT_OK) {
        *st = bnt_err_nomem(r->err, what, n * size);
    }
    return p;
}

static enum bnt_status take_infos(struct gguf_reader *r)
{
    struct gguf *g = r->g;
    enum bnt_status st = BNT_OK;
    r->kv = table(r, g->n_kv, sizeof *r->kv, "metadata", &st);
    r->kv_places = table(r, g->n_kv, sizeof *r->kv_places, "metadata", &st);
    r->tensors = table(r, g->n_tensors, sizeof *r->tensors, "tensor infos", &st);
    r->tensor_places = table(r, g->n_tensors, sizeof *r->tensor_places, "tensor infos", &st);
    /* gguf_close frees these two, whatever happens. */
    g->kv = r->kv;
    g->tensors = r->tensors;
    for (uint64_t i = 0; i < g->n_kv && st == BNT_OK; i++) {
        st = take_kv(r, i);
    }
    for (uint64_t i = 0; i < g->n_tensors && st == BNT_OK; i++) {
        st = take_tensor(r, i);
    }
    return st;
}

/* The header has been read: its bytes no longer move. */
static void settle_pointers(struct gguf_reader *r)
{
    const uint8_t *bytes = r->g->priv->bytes;
    for (uint64_t i = 0; i < r->g->n_kv; i++) {
        r->kv[i].key.data = (const char *)bytes + r->kv_places[i].key;
        r->kv[i].raw = bytes + r->kv_places[i].raw;
    }
    for (uint64_t i = 0; i < r->g->n_tensors; i++) {
        r->tensors[i].name.data = (const char *)bytes + r->tensor_places[i].name;
    }
}

static enum bnt_status parse_steps(struct gguf_reader *r)
{
    enum bnt_status st = check_magic(r);
    if (st == BNT_OK) {
        st = take_version(r);
    }
    if (st == BNT_OK) {
        st = take_counts(r);
    }
    if (st == BNT_OK) {
        st = take_infos(r);
    }
    if (st == BNT_OK) {
        settle_pointers(r);
        st = gguf_place_all(r);
    }
    return st;
}

enum bnt_status gguf_parse(struct gguf *g, const struct gguf_watch *watch, struct bnt_err *err)
{
    struct bnt_err own = {0};
    struct gguf_reader r = {.g = g, .what = "magic", .err = err ? err : &own, .watch = watch};
    enum bnt_status st = parse_steps(&r);
    if (st != BNT_OK && watch) {
        watch->defect(watch->ctx, r.err, &r.where);
    }
    free(r.kv_places);
    free(r.tensor_places);
    return st;
}
