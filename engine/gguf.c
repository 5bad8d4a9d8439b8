/* Parsing and checking of a GGUF header; see gguf.h for what an opened file guarantees.
 *
 * The parser works on offsets into the header bytes and turns them into pointers at the end,
 * because the bytes of a streamed header move while it grows. Every read goes through need(), which
 * is the only place that compares a position with the end of the file; every number is checked
 * before it is used as a size. Order: fixed part, metadata, tensor infos, then look-up tables
 * (duplicates), then tensor types, sizes and extents. */
#include <stdlib.h>

#include "base/checked.h"
#include "base/fault.h"
#include "engine/gguf_impl.h"

#define DEFAULT_ALIGNMENT 32u
#define MAX_ALIGNMENT (1u << 30)

/* Type id that is TL2 to bitnet.cpp and MXFP4 to ggml; one MXFP4 block is 32 weights in 17 bytes.
 */
#define AMBIGUOUS_TYPE 39u
#define MXFP4_BLOCK_WEIGHTS 32u
#define MXFP4_BLOCK_BYTES 17u
#define FILE_TYPE_TL2 39u

/* Where a key, a value or a tensor's name stands, until pointers are final. */
struct kv_place {
    uint64_t key, raw;
};
struct tensor_place {
    uint64_t name;
    uint32_t type_id;
};

struct reader {
    struct gguf *g;
    uint64_t at;
    /* What is being read, for messages: "key 3", "tensor 12". */
    const char *what;
    uint64_t which;
    struct gguf_kv *kv;
    struct gguf_tensor *tensors;
    struct kv_place *kv_places;
    struct tensor_place *tensor_places;
    struct bnt_err *err;
};

/* An extent of tensor data, for the overlap check. */
struct extent {
    uint64_t offset;
    uint32_t tensor;
};

static const uint8_t *here(const struct reader *r)
{
    return r->g->priv->bytes + r->at;
}

static enum bnt_status header_ends(const struct reader *r, uint64_t n)
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
static enum bnt_status need(struct reader *r, uint64_t n)
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

static enum bnt_status take_u32(struct reader *r, uint32_t *out)
{
    enum bnt_status st = need(r, 4);
    if (st == BNT_OK) {
        *out = gguf_load32(here(r), r->g->big_endian);
        r->at += 4;
    }
    return st;
}

static enum bnt_status take_u64(struct reader *r, uint64_t *out)
{
    enum bnt_status st = need(r, 8);
    if (st == BNT_OK) {
        *out = gguf_load64(here(r), r->g->big_endian);
        r->at += 8;
    }
    return st;
}

/* Step over a string of at most max bytes; *at and *len say where its text is. */
static enum bnt_status take_string(struct reader *r, uint64_t max, uint64_t *at, uint64_t *len)
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
static enum bnt_status take_name(struct reader *r, uint64_t max, uint64_t *at, uint64_t *len)
{
    enum bnt_status st = take_string(r, max, at, len);
    if (st != BNT_OK) {
        return st;
    }
    if (*len == 0 || memchr(r->g->priv->bytes + *at, '\0', *len)) {
        return gguf_fail(r->err, GGUF_FAULT_CORRUPT,
                         "%s %llu at byte %llu: name is empty or holds a NUL byte", r->what,
                         (unsigned long long)r->which, (unsigned long long)*at);
    }
    return BNT_OK;
}

static enum bnt_status check_value_type(const struct reader *r, uint32_t type)
{
    if (type < GGUF_N_VALUE_TYPES) {
        return BNT_OK;
    }
    return gguf_fail(r->err, GGUF_FAULT_UNSUPPORTED_TYPE,
                     "%s %llu at byte %llu: unknown value type %u", r->what,
                     (unsigned long long)r->which, (unsigned long long)(r->at - 4), type);
}

static enum bnt_status check_bools(const struct reader *r, uint64_t n)
{
    const uint8_t *p = here(r);
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1) {
            return gguf_fail(r->err, GGUF_FAULT_CORRUPT,
                             "%s %llu at byte %llu: boolean has value %u", r->what,
                             (unsigned long long)r->which, (unsigned long long)(r->at + i), p[i]);
        }
    }
    return BNT_OK;
}

/* Step over n values of a type of fixed size. */
static enum bnt_status skip_fixed(struct reader *r, uint32_t type, uint64_t n)
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
static enum bnt_status skip_strings(struct reader *r, uint64_t n)
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

static enum bnt_status take_array_head(struct reader *r, uint32_t *type, uint64_t *n)
{
    enum bnt_status st = take_u32(r, type);
    if (st == BNT_OK) {
        st = check_value_type(r, *type);
    }
    return st == BNT_OK ? take_u64(r, n) : st;
}

/* Step over n elements of an array; depth counts the arrays around them. */
static enum bnt_status skip_elements(struct reader *r, uint32_t type, uint64_t n, unsigned depth)
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

static enum bnt_status take_value(struct reader *r, struct gguf_kv *kv, struct kv_place *place)
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

static enum bnt_status take_kv(struct reader *r, uint64_t i)
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
        struct gguf_str key = {(const char *)r->g->priv->bytes + r->kv_places[i].key, len};
        bnt_err_context(r->err, "value of %s", gguf_show(key).text);
    }
    return st;
}

static enum bnt_status take_dims(struct reader *r, struct gguf_tensor *t)
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

static enum bnt_status take_tensor(struct reader *r, uint64_t i)
{
    struct gguf_tensor *t = &r->tensors[i];
    struct tensor_place *place = &r->tensor_places[i];
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
        struct gguf_str name = {(const char *)r->g->priv->bytes + place->name, len};
        bnt_err_context(r->err, "tensor %s", gguf_show(name).text);
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

static enum bnt_status check_magic(struct reader *r)
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
static enum bnt_status take_version(struct reader *r)
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

static enum bnt_status check_count(const struct reader *r, const char *what, uint64_t n,
                                   uint64_t max)
{
    if (n <= max || BNT_FAULT(gguf_count)) {
        return BNT_OK;
    }
    return gguf_fail(r->err, GGUF_FAULT_BOUNDS, "%s count %llu at byte %llu (at most %llu allowed)",
                     what, (unsigned long long)n, (unsigned long long)(r->at - 8),
                     (unsigned long long)max);
}

static enum bnt_status take_counts(struct reader *r)
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
static void *table(struct reader *r, uint64_t n, size_t size, const char *what, enum bnt_status *st)
{
    void *p = calloc(n ? n : 1, size);
    if (!p && *st == BNT_OK) {
        *st = bnt_err_nomem(r->err, what, n * size);
    }
    return p;
}

static enum bnt_status take_infos(struct reader *r)
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
static void settle_pointers(struct reader *r)
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

static enum bnt_status build_indexes(struct reader *r)
{
    struct gguf *g = r->g;
    uint32_t duplicate;
    enum bnt_status st = gguf_index_build(g, gguf_kv_name, (uint32_t)g->n_kv, &g->priv->kv_index,
                                          &duplicate, r->err);
    if (st == BNT_OK && duplicate < g->n_kv && !BNT_FAULT(gguf_duplicate)) {
        st = gguf_fail(r->err, GGUF_FAULT_CORRUPT, "key %s stands twice (again at byte %llu)",
                       gguf_show(g->kv[duplicate].key).text,
                       (unsigned long long)r->kv_places[duplicate].key);
    }
    if (st == BNT_OK) {
        st = gguf_index_build(g, gguf_tensor_name, (uint32_t)g->n_tensors, &g->priv->tensor_index,
                              &duplicate, r->err);
    }
    if (st == BNT_OK && duplicate < g->n_tensors) {
        st = gguf_fail(r->err, GGUF_FAULT_CORRUPT, "tensor %s stands twice (again at byte %llu)",
                       gguf_show(g->tensors[duplicate].name).text,
                       (unsigned long long)r->tensor_places[duplicate].name);
    }
    return st;
}

static enum bnt_status find_alignment(struct reader *r)
{
    struct gguf *g = r->g;
    g->alignment = DEFAULT_ALIGNMENT;
    const struct gguf_kv *kv = gguf_find(g, "general.alignment");
    if (kv) {
        uint64_t a = 0;
        bool number = gguf_get_u64(g, "general.alignment", &a);
        if (!number || a < 8 || a > MAX_ALIGNMENT || (a & (a - 1)) != 0) {
            return gguf_fail(r->err, GGUF_FAULT_ALIGNMENT,
                             "general.alignment is %llu: it must be a power of two from 8 to %u",
                             (unsigned long long)a, MAX_ALIGNMENT);
        }
        g->alignment = BNT_FAULT(gguf_alignment) ? DEFAULT_ALIGNMENT : a;
    }
    if (!bnt_align_u64(r->at, g->alignment, &g->data_offset) || g->data_offset > g->file_size) {
        /* Without tensors nothing need follow the header; with some, their extents will be refused.
         */
        g->data_offset = g->file_size;
    }
    return BNT_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

/* Offsets become positions in the file; extents are sorted by them. */
static enum bnt_status place_tensors(struct reader *r, struct extent *extents)
{
    struct gguf *g = r->g;
    bool sorted = true;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &r->tensors[i];
        if (t->offset % g->alignment != 0) {
            return gguf_fail(r->err, GGUF_FAULT_ALIGNMENT,
                             "tensor %s: offset %llu is no multiple of %llu",
                             gguf_show(t->name).text, (unsigned long long)t->offset,
                             (unsigned long long)g->alignment);
        }
        if (t->offset > g->file_size || g->data_offset + t->offset > g->file_size) {
            return gguf_fail(r->err, GGUF_FAULT_SIZE,
                             "tensor %s: starts at byte %llu + %llu, the file has %llu bytes",
                             gguf_show(t->name).text, (unsigned long long)g->data_offset,
                             (unsigned long long)t->offset, (unsigned long long)g->file_size);
        }
        t->offset += g->data_offset;
        extents[i] = (struct extent){t->offset, i};
        sorted = sorted && (i == 0 || extents[i - 1].offset < t->offset);
    }
    if (!sorted) {
        qsort(extents, g->n_tensors, sizeof *extents, by_offset);
    }
    return BNT_OK;
}

/* True when `bytes`, padded as a writer pads, end exactly where the next tensor begins. */
static bool fills(const struct gguf *g, uint64_t bytes, uint64_t room)
{
    uint64_t padded;
    return room == bytes || (bnt_align_u64(bytes, g->alignment, &padded) && room == padded);
}

/* Is this tensor of type 39 TL2 (else MXFP4)? Its room in the file decides when it fits one of them
 * exactly, since they differ by a factor of 2.5; else the architecture and the file type do. */
static bool is_tl2(const struct gguf *g, const struct gguf_tensor *t, uint64_t room)
{
    uint64_t tl2 = 0, file_type = 0;
    bool may_be_tl2 = tensor_size(TENSOR_TL2, t->ne, &tl2);
    if (!may_be_tl2) {
        return false;
    }
    if (fills(g, tl2, room)) {
        return true;
    }
    uint64_t weights = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    if (fills(g, weights / MXFP4_BLOCK_WEIGHTS * MXFP4_BLOCK_BYTES, room)) {
        return false;
    }
    struct gguf_str arch;
    if (gguf_get_str(g, "general.architecture", &arch) && arch.len >= 6 &&
        memcmp(arch.data, "bitnet", 6) == 0) {
        return true;
    }
    return gguf_get_u64(g, "general.file_type", &file_type) && file_type == FILE_TYPE_TL2;
}

static enum bnt_status unknown_type(const struct reader *r, const struct gguf_tensor *t,
                                    uint32_t id)
{
    const char *name = id == AMBIGUOUS_TYPE ? "MXFP4" : tensor_type_name(id);
    if (name) {
        return gguf_fail(r->err, GGUF_FAULT_UNSUPPORTED_TYPE,
                         "tensor %s: type %s (%u) is not supported", gguf_show(t->name).text, name,
                         id);
    }
    return gguf_fail(r->err, GGUF_FAULT_UNSUPPORTED_TYPE, "tensor %s: unknown type %u",
                     gguf_show(t->name).text, id);
}

/* Type and size of a tensor that has `room` bytes until the next one or the end. */
static enum bnt_status size_tensor(struct reader *r, struct gguf_tensor *t, uint32_t id,
                                   uint64_t room)
{
    const struct tensor_type_info *info = tensor_type_info(id);
    if (!info || (id == AMBIGUOUS_TYPE && !is_tl2(r->g, t, room))) {
        return unknown_type(r, t, id);
    }
    t->type = info->type;
    if (tensor_size(t->type, t->ne, &t->size)) {
        return BNT_OK;
    }
    return gguf_fail(
        r->err, GGUF_FAULT_DIMENSIONS,
        "tensor %s: %s cannot have the shape %llu x %llu x %llu x %llu (blocks of %u weights)",
        gguf_show(t->name).text, info->name, (unsigned long long)t->ne[0],
        (unsigned long long)t->ne[1], (unsigned long long)t->ne[2], (unsigned long long)t->ne[3],
        info->block_weights);
}

static enum bnt_status does_not_fit(const struct reader *r, const struct gguf_tensor *t,
                                    const struct gguf_tensor *next)
{
    unsigned long long offset = t->offset, size = t->size, file_size = r->g->file_size;
    if (next) {
        return gguf_fail(r->err, GGUF_FAULT_BOUNDS,
                         "tensor %s: its %llu bytes at byte %llu overlap tensor %s at byte %llu",
                         gguf_show(t->name).text, size, offset, gguf_show(next->name).text,
                         (unsigned long long)next->offset);
    }
    return gguf_fail(
        r->err, GGUF_FAULT_SIZE,
        "tensor %s: needs %llu bytes at byte %llu, the file ends at byte %llu (%llu bytes missing)",
        gguf_show(t->name).text, size, offset, file_size, size - (file_size - offset));
}

static enum bnt_status size_tensors(struct reader *r, const struct extent *extents)
{
    struct gguf *g = r->g;
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        uint32_t index = extents[i].tensor;
        struct gguf_tensor *t = &r->tensors[index];
        const struct gguf_tensor *next =
            i + 1 < g->n_tensors ? &r->tensors[extents[i + 1].tensor] : NULL;
        uint64_t room = (next ? next->offset : g->file_size) - t->offset;
        enum bnt_status st = size_tensor(r, t, r->tensor_places[index].type_id, room);
        if (st == BNT_OK && t->size > room && !BNT_FAULT(gguf_bounds)) {
            /* Past the end as well as over the next one: the file is cut, that is the news. */
            bool cut = t->size > g->file_size - t->offset;
            st = does_not_fit(r, t, cut ? NULL : next);
        }
        if (st != BNT_OK) {
            return st;
        }
    }
    return BNT_OK;
}

static enum bnt_status check_tensors(struct reader *r)
{
    enum bnt_status st = BNT_OK;
    struct extent *extents = table(r, r->g->n_tensors, sizeof *extents, "tensor extents", &st);
    if (st == BNT_OK) {
        st = place_tensors(r, extents);
    }
    if (st == BNT_OK) {
        st = size_tensors(r, extents);
    }
    free(extents);
    return st;
}

enum bnt_status gguf_parse(struct gguf *g, struct bnt_err *err)
{
    struct reader r = {.g = g, .what = "magic", .err = err};
    enum bnt_status st = check_magic(&r);
    if (st == BNT_OK) {
        st = take_version(&r);
    }
    if (st == BNT_OK) {
        st = take_counts(&r);
    }
    if (st == BNT_OK) {
        st = take_infos(&r);
    }
    if (st == BNT_OK) {
        settle_pointers(&r);
        st = build_indexes(&r);
    }
    if (st == BNT_OK) {
        st = find_alignment(&r);
    }
    if (st == BNT_OK) {
        st = check_tensors(&r);
    }
    free(r.kv_places);
    free(r.tensor_places);
    return st;
}
