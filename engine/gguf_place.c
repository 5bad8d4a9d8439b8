/* What a GGUF header says of places, checked once its infos have been read: names that stand twice,
 * the alignment, types, sizes and extents of tensors. A reader that is watched goes on after a
 * defect, as far as what follows makes sense without it. */
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

/* An extent of tensor data, for the overlap check. */
struct extent {
    uint64_t offset;
    uint32_t tensor;
};

enum bnt_status gguf_go_on(struct gguf_reader *r, enum bnt_status st, struct gguf_place where)
{
    bool defect = r->err->domain && strcmp(r->err->domain, "gguf") == 0;
    if (st == BNT_OK || !r->watch || !defect || BNT_FAULT(gguf_watch_blind)) {
        return st;
    }
    r->watch->defect(r->watch->ctx, r->err, &where);
    *r->err = (struct bnt_err){0};
    return BNT_OK;
}

static enum bnt_status go_on_at(struct gguf_reader *r, enum bnt_status st,
                                const struct gguf_tensor *t)
{
    return gguf_go_on(r, st, (struct gguf_place){.tensor = t->name});
}

/* ---- names ---- */

static bool is_duplicate(const struct gguf *g, gguf_name_fn *name, const struct gguf_index *index,
                         uint32_t i)
{
    return gguf_index_find(g, name, index, name(g, i)) != i;
}

static enum bnt_status build_kv_index(struct gguf_reader *r)
{
    struct gguf *g = r->g;
    struct gguf_index *index = &g->priv->kv_index;
    uint32_t n = (uint32_t)g->n_kv, i;
    enum bnt_status st = gguf_index_build(g, gguf_kv_name, n, index, &i, r->err);
    for (; st == BNT_OK && i < n && !BNT_FAULT(gguf_duplicate); i++) {
        if (is_duplicate(g, gguf_kv_name, index, i)) {
            st = gguf_fail(r->err, GGUF_FAULT_CORRUPT, "key %s stands twice (again at byte %llu)",
                           gguf_show(g->kv[i].key).text, (unsigned long long)r->kv_places[i].key);
            st = gguf_go_on(r, st, (struct gguf_place){.key = g->kv[i].key});
        }
    }
    return st;
}

static enum bnt_status build_tensor_index(struct gguf_reader *r)
{
    struct gguf *g = r->g;
    struct gguf_index *index = &g->priv->tensor_index;
    uint32_t n = (uint32_t)g->n_tensors, i;
    enum bnt_status st = gguf_index_build(g, gguf_tensor_name, n, index, &i, r->err);
    for (; st == BNT_OK && i < n; i++) {
        if (is_duplicate(g, gguf_tensor_name, index, i)) {
            st = gguf_fail(
                r->err, GGUF_FAULT_CORRUPT, "tensor %s stands twice (again at byte %llu)",
                gguf_show(g->tensors[i].name).text, (unsigned long long)r->tensor_places[i].name);
            st = go_on_at(r, st, &g->tensors[i]);
        }
    }
    return st;
}

/* ---- alignment ---- */

/* The tensors, placed after the header with this alignment, end where the file does. */
static bool ends_with_file(const struct gguf_reader *r, uint64_t alignment)
{
    const struct gguf *g = r->g;
    uint64_t start, end = 0, padded;
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const struct tensor_type_info *info = tensor_type_info(r->tensor_places[i].type_id);
        uint64_t size, last;
        if (info && tensor_size(info->type, t->ne, &size) && bnt_add_u64(t->offset, size, &last) &&
            last > end) {
            end = last;
        }
    }
    if (!bnt_align_u64(r->at, alignment, &start) || !bnt_add_u64(start, end, &end)) {
        return false;
    }
    return end == g->file_size ||
           (bnt_align_u64(end - start, alignment, &padded) && start + padded == g->file_size);
}

/* What the writer of a file aligned to, when what the file states cannot be: the stated number if
 * only with it the tensors fill the file. Told of no watcher, or when both would fit, the file is
 * refused. */
static enum bnt_status guess_alignment(struct gguf_reader *r, uint64_t stated)
{
    bool fits = stated > 0 && stated <= MAX_ALIGNMENT && ends_with_file(r, stated);
    bool usual = ends_with_file(r, DEFAULT_ALIGNMENT);
    uint64_t a = 0, b = 0;
    enum bnt_status st =
        gguf_fail(r->err, GGUF_FAULT_ALIGNMENT,
                  "general.alignment is %llu: it must be a power of two from 8 to %u",
                  (unsigned long long)stated, MAX_ALIGNMENT);
    if (fits && usual && bnt_align_u64(r->at, stated, &a) &&
        bnt_align_u64(r->at, DEFAULT_ALIGNMENT, &b) && a != b) {
        return st;
    }
    r->g->alignment = fits && !usual ? stated : DEFAULT_ALIGNMENT;
    return gguf_go_on(r, st, (struct gguf_place){.key = {"general.alignment", 17}});
}

static enum bnt_status find_alignment(struct gguf_reader *r)
{
    struct gguf *g = r->g;
    enum bnt_status st = BNT_OK;
    g->alignment = DEFAULT_ALIGNMENT;
    if (gguf_find(g, "general.alignment")) {
        uint64_t a = 0;
        bool number = gguf_get_u64(g, "general.alignment", &a);
        if (!number || a < 8 || a > MAX_ALIGNMENT || (a & (a - 1)) != 0) {
            st = guess_alignment(r, a);
        } else {
            g->alignment = BNT_FAULT(gguf_alignment) ? DEFAULT_ALIGNMENT : a;
        }
    }
    if (!bnt_align_u64(r->at, g->alignment, &g->data_offset) || g->data_offset > g->file_size) {
        /* Without tensors nothing need follow the header; with some, their extents will be refused.
         */
        g->data_offset = g->file_size;
    }
    return st;
}

/* ---- extents ---- */

static int by_offset(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static enum bnt_status check_offset(struct gguf_reader *r, const struct gguf_tensor *t)
{
    const struct gguf *g = r->g;
    if (t->offset % g->alignment == 0) {
        return BNT_OK;
    }
    enum bnt_status st = gguf_fail(
        r->err, GGUF_FAULT_ALIGNMENT, "tensor %s: offset %llu is no multiple of %llu",
        gguf_show(t->name).text, (unsigned long long)t->offset, (unsigned long long)g->alignment);
    return go_on_at(r, st, t);
}

/* Offsets become positions in the file; extents of those that begin inside it are sorted by them.
 */
static enum bnt_status place_tensors(struct gguf_reader *r, struct extent *extents,
                                     uint64_t *n_extents)
{
    struct gguf *g = r->g;
    bool sorted = true;
    uint64_t n = 0;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &r->tensors[i];
        enum bnt_status st = check_offset(r, t);
        bool outside = t->offset > g->file_size || g->data_offset + t->offset > g->file_size;
        if (st == BNT_OK && outside) {
            st = gguf_fail(r->err, GGUF_FAULT_SIZE,
                           "tensor %s: starts at byte %llu + %llu, the file has %llu bytes",
                           gguf_show(t->name).text, (unsigned long long)g->data_offset,
                           (unsigned long long)t->offset, (unsigned long long)g->file_size);
            st = go_on_at(r, st, t);
        }
        if (st != BNT_OK) {
            return st;
        }
        if (outside) {
            t->type = (enum tensor_type)r->tensor_places[i].type_id;
            t->offset = g->file_size;
            continue;
        }
        t->offset += g->data_offset;
        extents[n++] = (struct extent){t->offset, i};
        sorted = sorted && (n == 1 || extents[n - 2].offset < t->offset);
    }
    if (!sorted) {
        qsort(extents, n, sizeof *extents, by_offset);
    }
    *n_extents = n;
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

/* Are the blocks of Q2_0 in this file of 128 weights (else of 64)? Tensors that only one of the two
 * fills tell. */
static bool has_long_q2_0(const struct gguf_reader *r, const struct extent *extents, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = &r->tensors[extents[i].tensor];
        uint64_t end = i + 1 < n ? extents[i + 1].offset : r->g->file_size;
        uint64_t room = end - extents[i].offset, in_64, in_128;
        if (r->tensor_places[extents[i].tensor].type_id == TENSOR_Q2_0 &&
            tensor_size(TENSOR_Q2_0, t->ne, &in_64) &&
            tensor_size(TENSOR_Q2_0_G128, t->ne, &in_128) && !fills(r->g, in_64, room) &&
            fills(r->g, in_128, room)) {
            return true;
        }
    }
    return false;
}

static enum bnt_status unknown_type(const struct gguf_reader *r, const struct gguf_tensor *t,
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
static enum bnt_status size_tensor(struct gguf_reader *r, struct gguf_tensor *t, uint32_t id,
                                   uint64_t room)
{
    bool long_q2_0 = id == TENSOR_Q2_0 && r->long_q2_0 && !BNT_FAULT(gguf_q2_0_short);
    const struct tensor_type_info *info =
        id <= TENSOR_ID_MASK ? tensor_type_info(long_q2_0 ? TENSOR_Q2_0_G128 : id) : NULL;
    t->type = (enum tensor_type)id;
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

static enum bnt_status does_not_fit(const struct gguf_reader *r, const struct gguf_tensor *t,
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

static enum bnt_status fit_tensor(struct gguf_reader *r, struct gguf_tensor *t,
                                  const struct gguf_tensor *next)
{
    struct gguf *g = r->g;
    uint64_t room = (next ? next->offset : g->file_size) - t->offset;
    enum bnt_status st = size_tensor(r, t, r->tensor_places[t - r->tensors].type_id, room);
    /* Past the end as well as over the next one: the file is cut, that is the news. */
    bool cut = t->size > g->file_size - t->offset;
    if (st == BNT_OK && t->size > room && !BNT_FAULT(gguf_bounds)) {
        st = does_not_fit(r, t, cut ? NULL : next);
    }
    if (st != BNT_OK) {
        st = go_on_at(r, st, t);
        t->size = cut ? 0 : t->size;
    }
    return st;
}

static enum bnt_status check_tensors(struct gguf_reader *r)
{
    uint64_t n = 0;
    struct extent *extents = calloc(r->g->n_tensors + 1, sizeof *extents);
    if (!extents) {
        return bnt_err_nomem(r->err, "tensor extents", r->g->n_tensors * sizeof *extents);
    }
    enum bnt_status st = place_tensors(r, extents, &n);
    r->long_q2_0 = st == BNT_OK && has_long_q2_0(r, extents, n);
    for (uint64_t i = 0; i < n && st == BNT_OK; i++) {
        const struct gguf_tensor *next = i + 1 < n ? &r->tensors[extents[i + 1].tensor] : NULL;
        st = fit_tensor(r, &r->tensors[extents[i].tensor], next);
    }
    free(extents);
    return st;
}

enum bnt_status gguf_place_all(struct gguf_reader *r)
{
    enum bnt_status st = build_kv_index(r);
    if (st == BNT_OK) {
        st = build_tensor_index(r);
    }
    if (st == BNT_OK) {
        st = find_alignment(r);
    }
    return st == BNT_OK ? check_tensors(r) : st;
}
