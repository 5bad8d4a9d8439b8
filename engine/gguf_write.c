/* Owns the temporary file of bnt_durable until commit. Invariants: `bytes` is the length of that
 * file and what `digest` has seen; tensors are begun in the order of the plan, each at its offset,
 * none before the one ahead of it is complete. */
#include "engine/gguf_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

enum { COPY_BYTES = 1 << 22 };

static enum bnt_status write_bytes(struct gguf_writer *w, const void *bytes, size_t n,
                                   struct bnt_err *err)
{
    if (w->interrupted && *w->interrupted) {
        return bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted: nothing was written");
    }
    enum bnt_status st = bnt_durable_write(&w->file, bytes, n, err);
    if (st == BNT_OK) {
        st = bnt_sha256_update(w->digest, bytes, n, err);
    }
    w->bytes += n;
    return st;
}

static enum bnt_status pad_to(struct gguf_writer *w, uint64_t at, struct bnt_err *err)
{
    static const uint8_t zeros[256];
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && w->bytes < at) {
        uint64_t n = at - w->bytes;
        st = write_bytes(w, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros, err);
    }
    return st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A name that stands twice among n, or NULL. The order of names[] changes. */
static const char *find_twice(const char **names, size_t n)
{
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            return names[i];
        }
    }
    return NULL;
}

/* What a reader refuses is not written. */
static enum bnt_status check_plan(const struct gguf_plan *p, struct bnt_err *err)
{
    if (p->alignment < 8 || p->alignment > 1u << 20 || (p->alignment & (p->alignment - 1)) != 0) {
        return bnt_err_set(err, BNT_E_USAGE, "an alignment of %u is no power of two from 8 on",
                           p->alignment);
    }
    size_t most = p->n_kv > p->n_tensors ? p->n_kv : p->n_tensors;
    const char **names = malloc((most + 1) * sizeof *names);
    if (!names) {
        return bnt_err_nomem(err, "names", most * sizeof *names);
    }
    for (size_t i = 0; i < p->n_kv; i++) {
        names[i] = p->kv[i].key;
    }
    const char *key = find_twice(names, p->n_kv);
    for (size_t i = 0; i < p->n_tensors; i++) {
        names[i] = p->tensors[i].name;
    }
    const char *tensor = find_twice(names, p->n_tensors);
    free(names);
    if (key || tensor) {
        return bnt_err_set(err, BNT_E_USAGE, "%s %s would stand twice in the file",
                           key ? "key" : "tensor", key ? key : tensor);
    }
    return BNT_OK;
}

/* The key stands where the alignment is not the default of the format. */
static enum bnt_status put_alignment(struct gguf_plan *p, struct bnt_err *err)
{
    if (p->alignment == GPLAN_DEFAULT_ALIGNMENT && !gplan_find(p, "general.alignment")) {
        return BNT_OK;
    }
    return gplan_put_u32(p, "general.alignment", p->alignment, err);
}

static enum bnt_status write_header(struct gguf_writer *w, struct bnt_err *err)
{
    struct bnt_buf header = BNT_BUF(GGUF_MAX_HEADER_BYTES);
    enum bnt_status st = gplan_header(w->plan, &header, err);
    if (st == BNT_OK) {
        st = write_bytes(w, header.data, header.len, err);
    }
    w->data_offset = header.len;
    bnt_buf_release(&header);
    return st;
}

enum bnt_status gguf_writer_open(struct gguf_writer *w, struct gguf_plan *plan, const char *path,
                                 struct bnt_err *err)
{
    w->file.fd = -1;
    w->plan = plan;
    enum bnt_status st = check_plan(plan, err);
    if (st == BNT_OK) {
        st = put_alignment(plan, err);
    }
    if (st == BNT_OK) {
        gplan_place(plan);
        st = bnt_durable_open(&w->file, path, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_new(&w->digest, err);
    }
    return st == BNT_OK ? write_header(w, err) : st;
}

static const char *current_name(const struct gguf_writer *w)
{
    return w->n_begun ? w->plan->tensors[w->n_begun - 1].name : "the header";
}

static enum bnt_status check_complete(const struct gguf_writer *w, struct bnt_err *err)
{
    return w->left == 0 ? BNT_OK
                        : bnt_err_set(err, BNT_E_INTERNAL, "%s: %s lacks %llu bytes",
                                      w->file.target, current_name(w), (unsigned long long)w->left);
}

enum bnt_status gguf_writer_begin(struct gguf_writer *w, const char *name, struct bnt_err *err)
{
    enum bnt_status st = check_complete(w, err);
    if (st != BNT_OK) {
        return st;
    }
    const struct gplan_tensor *t =
        w->n_begun < w->plan->n_tensors ? &w->plan->tensors[w->n_begun] : NULL;
    if (!t || strcmp(t->name, name) != 0) {
        return bnt_err_set(err, BNT_E_INTERNAL, "%s: tensor %s comes after %s, planned was %s",
                           w->file.target, name, current_name(w), t ? t->name : "none");
    }
    w->n_begun++;
    w->left = t->size;
    return pad_to(w, w->data_offset + t->offset - (BNT_FAULT(gguf_write_pad) ? 8 : 0), err);
}

enum bnt_status gguf_writer_put(struct gguf_writer *w, const void *bytes, size_t n,
                                struct bnt_err *err)
{
    if (n > w->left) {
        return bnt_err_set(err, BNT_E_INTERNAL, "%s: %s has room for %llu bytes, %zu came",
                           w->file.target, current_name(w), (unsigned long long)w->left, n);
    }
    enum bnt_status st = write_bytes(w, bytes, n, err);
    w->left -= n;
    return st;
}

enum bnt_status gguf_writer_finish(struct gguf_writer *w, struct bnt_err *err)
{
    enum bnt_status st = check_complete(w, err);
    if (st == BNT_OK && w->n_begun != w->plan->n_tensors) {
        st = bnt_err_set(err, BNT_E_INTERNAL, "%s: %zu of %zu tensors were written", w->file.target,
                         w->n_begun, w->plan->n_tensors);
    }
    uint64_t alignment = w->plan->alignment;
    return st == BNT_OK ? pad_to(w, (w->bytes + alignment - 1) / alignment * alignment, err) : st;
}

enum bnt_status gguf_writer_commit(struct gguf_writer *w, char digest[BNT_SHA256_HEX],
                                   struct bnt_err *err)
{
    enum bnt_status st = digest ? bnt_sha256_hex(w->digest, digest, err) : BNT_OK;
    return st == BNT_OK ? bnt_durable_commit(&w->file, 0644, err) : st;
}

void gguf_writer_release(struct gguf_writer *w)
{
    bnt_durable_release(&w->file);
    bnt_sha256_free(w->digest);
    w->digest = NULL;
}

enum bnt_status gguf_writer_copy(struct gguf_writer *w, const struct gguf *g,
                                 const struct gguf_tensor *t, struct bnt_err *err)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    gplan_name(name, t->name);
    enum bnt_status st = gguf_writer_begin(w, name, err);
    /* Whole blocks or rows, as a foreign byte order wants it. */
    uint64_t unit = tensor_unit_bytes(t->type, t->ne[0]);
    unit = unit ? unit : 32;
    uint64_t piece = unit < COPY_BYTES ? COPY_BYTES / unit * unit : unit;
    uint8_t *bytes = malloc((size_t)piece);
    if (st == BNT_OK && !bytes) {
        st = bnt_err_nomem(err, "a piece of a tensor", piece);
    }
    for (uint64_t at = 0; st == BNT_OK && at < t->size; at += piece) {
        uint64_t n = t->size - at < piece ? t->size - at : piece;
        st = gguf_tensor_read(g, t, at, n, bytes, err);
        if (st == BNT_OK) {
            st = gguf_writer_put(w, bytes, (size_t)n, err);
        }
    }
    free(bytes);
    return st;
}
