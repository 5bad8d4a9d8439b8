/* Sessions in files: what a session holds, to go on with in another process.
 *
 * A file is a header, the ids, then keys and values: for each layer and each head of it the keys of
 * all positions, then their values, in the type and byte order of the cache. The header says which
 * model they belong to and has a SHA-256 over itself and one over all that follows; both are looked
 * at before a session is touched, so that a bad file leaves it as it was. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"
#include "engine/backend.h"
#include "engine/session.h"

#define MAGIC "bntsess"
enum { FORMAT_VERSION = 1, BYTE_ORDER_MARK = 0x01020304 };

struct header {
    char magic[8];
    uint32_t format, byte_order;
    char model[BNT_SHA256_HEX + 7]; /* digests in hex, filled up with zeros */
    uint32_t kv_type, n_layer, n_head_kv, head_dim;
    uint32_t n_past, position_bytes;  /* of the keys of one head */
    char content[BNT_SHA256_HEX + 7]; /* of all that follows the header */
    char self[BNT_SHA256_HEX + 7];    /* of all that stands before it */
};

/* A cache on a GPU is not read or written by the host. */
enum bnt_status bnt_session_check_kept(const struct bnt_session *s, const char *path,
                                       struct bnt_err *err)
{
    if (s->backend->ops->kv_head) {
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: a session on %s is not kept in files", path,
                s->backend->device);
    bnt_err_hint(err, "--device cpu keeps it");
    return BNT_E_UNSUPPORTED;
}

static void header_init(struct header *h, const struct bnt_session *s, const char *model_digest)
{
    const struct bnt_model_info *in = bnt_model_info(s->model);
    size_t position_bytes;
    (void)s->backend->ops->kv_head(s->backend, (struct backend_head){0}, false, &position_bytes);
    *h = (struct header){.magic = MAGIC,
                         .format = FORMAT_VERSION,
                         .byte_order = BYTE_ORDER_MARK,
                         .kv_type = (uint32_t)s->backend->config.kv_type,
                         .n_layer = in->n_layer,
                         .n_head_kv = in->n_head_kv,
                         .head_dim = in->head_dim,
                         .n_past = s->now->n_past,
                         .position_bytes = (uint32_t)position_bytes};
    snprintf(h->model, sizeof h->model, "%s", model_digest);
}

/* Call fn for every piece of a session's content, in the order of the file. */
typedef enum bnt_status piece_fn(void *ctx, void *bytes, size_t n, struct bnt_err *err);
static enum bnt_status each_piece(struct bnt_session *s, uint32_t n_past, piece_fn *fn, void *ctx,
                                  struct bnt_err *err)
{
    enum bnt_status st = fn(ctx, s->now->held, n_past * sizeof *s->now->held, err);
    const struct bnt_model_info *in = bnt_model_info(s->model);
    for (uint32_t il = 0; il < in->n_layer; il++) {
        for (uint32_t k = 0; st == BNT_OK && k < in->n_head_kv * 2; k++) {
            size_t bytes;
            struct backend_head head = {.seq = (uint32_t)(s->now - s->sequences),
                                        .layer = il,
                                        .head = k / 2,
                                        .n_pos = n_past};
            void *at = s->backend->ops->kv_head(s->backend, head, k % 2 != 0, &bytes);
            st = fn(ctx, at, n_past * bytes, err);
        }
    }
    return st;
}

/* ---- save ---- */

struct writer {
    struct bnt_durable file;
    struct bnt_sha256 *digest;
};

static enum bnt_status write_piece(void *ctx, void *bytes, size_t n, struct bnt_err *err)
{
    struct writer *w = ctx;
    enum bnt_status st = bnt_sha256_update(w->digest, bytes, n, err);
    return st == BNT_OK ? bnt_durable_write(&w->file, bytes, n, err) : st;
}

static enum bnt_status seal(struct writer *w, struct header *h, struct bnt_err *err)
{
    enum bnt_status st = bnt_sha256_hex(w->digest, h->content, err);
    if (st == BNT_OK) {
        st = bnt_sha256_text(h, offsetof(struct header, self), h->self, err);
    }
    if (st == BNT_OK) {
        st = bnt_pwrite_all(w->file.fd, h, sizeof *h, 0, w->file.target, err);
    }
    return st == BNT_OK ? bnt_durable_commit(&w->file, 0644, err) : st;
}

enum bnt_status bnt_session_save(struct bnt_session *s, const char *path, const char *model_digest,
                                 struct bnt_err *err)
{
    struct writer w = {.digest = NULL};
    struct header h;
    if (s->now->n_past == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "%s: an empty session is not worth a file", path);
    }
    enum bnt_status st = bnt_session_check_kept(s, path, err);
    if (st != BNT_OK) {
        return st;
    }
    header_init(&h, s, model_digest);
    st = bnt_durable_open(&w.file, path, err);
    if (st != BNT_OK) {
        return st;
    }
    st = bnt_sha256_new(&w.digest, err);
    if (st == BNT_OK) {
        st = bnt_durable_write(&w.file, &h, sizeof h, err);
    }
    if (st == BNT_OK) {
        st = each_piece(s, s->now->n_past, write_piece, &w, err);
    }
    if (st == BNT_OK) {
        st = seal(&w, &h, err);
    }
    bnt_sha256_free(w.digest);
    bnt_durable_release(&w.file);
    return st;
}

/* ---- restore ---- */

static enum bnt_status bad(const char *path, struct bnt_err *err, const char *what)
{
    bnt_err_set(err, BNT_E_FILE, "%s: %s", path, what);
    bnt_err_hint(err, "save the session again: bnt infer --session-save FILE");
    return BNT_E_FILE;
}

static uint64_t content_bytes(const struct header *h)
{
    return h->n_past *
           (sizeof(int32_t) + (uint64_t)h->n_layer * h->n_head_kv * 2 * h->position_bytes);
}

static enum bnt_status check_header(const struct bnt_mapping *map, const char *path,
                                    struct header *h, struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX];
    if (map->size < sizeof *h || memcmp(map->data, MAGIC, sizeof MAGIC) != 0) {
        return bad(path, err, "it is no saved session");
    }
    memcpy(h, map->data, sizeof *h);
    enum bnt_status st = bnt_sha256_text(h, offsetof(struct header, self), hex, err);
    if (st != BNT_OK) {
        return st;
    }
    if (memcmp(hex, h->self, sizeof hex) != 0) {
        return bad(path, err, "the header is damaged");
    }
    if (h->format != FORMAT_VERSION || h->byte_order != BYTE_ORDER_MARK) {
        bnt_err_set(err, BNT_E_UNSUPPORTED,
                    "%s: a session of format %u in another byte order or of another version", path,
                    h->format);
        return BNT_E_UNSUPPORTED;
    }
    return BNT_OK;
}

/* Whether a sound file is of this model, and fits into this session. */
static enum bnt_status check_fit(const struct bnt_session *s, const char *path,
                                 const struct header *h, const char *model_digest,
                                 struct bnt_err *err)
{
    struct header mine;
    header_init(&mine, s, model_digest);
    if (memcmp(h->model, mine.model, sizeof mine.model) != 0) {
        bnt_err_set(err, BNT_E_USAGE, "%s: a session of another model (sha256 %.12s...)", path,
                    h->model);
        bnt_err_hint(err, "name the model that it was saved with, or save it anew");
        return BNT_E_USAGE;
    }
    if (h->kv_type != mine.kv_type) {
        bnt_err_set(err, BNT_E_USAGE, "%s: a session with another type of KV cache", path);
        bnt_err_hint(err, "give --kv-type %s", h->kv_type == BNT_KV_F32 ? "f32" : "f16");
        return BNT_E_USAGE;
    }
    if (h->n_past > bnt_session_n_ctx(s)) {
        bnt_err_set(err, BNT_E_USAGE, "%s: a session of %u positions, this one has %u", path,
                    h->n_past, bnt_session_n_ctx(s));
        bnt_err_hint(err, "give --ctx %u or more", h->n_past);
        return BNT_E_USAGE;
    }
    if (h->n_layer != mine.n_layer || h->n_head_kv != mine.n_head_kv ||
        h->head_dim != mine.head_dim || h->position_bytes != mine.position_bytes) {
        return bad(path, err, "its shapes are not those of the model that it names");
    }
    return BNT_OK;
}

static bool ids_are_known(const struct bnt_session *s, const void *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id;
        memcpy(&id, (const char *)ids + i * sizeof id, sizeof id);
        if (id >= bnt_session_n_vocab(s)) {
            return false;
        }
    }
    return true;
}

static enum bnt_status check_content(const struct bnt_session *s, const struct bnt_mapping *map,
                                     const char *path, const struct header *h, struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX];
    if (map->size != sizeof *h + content_bytes(h)) {
        return bad(path, err, "its size is not what its header says");
    }
    enum bnt_status st =
        bnt_sha256_text(map->data + sizeof *h, (size_t)(map->size - sizeof *h), hex, err);
    if (st == BNT_OK && memcmp(hex, h->content, sizeof hex) != 0 && !BNT_FAULT(session_unproven)) {
        return bad(path, err, "the content is damaged");
    }
    return st != BNT_OK || ids_are_known(s, map->data + sizeof *h, h->n_past)
               ? st
               : bad(path, err, "it holds ids that the model does not have");
}

static enum bnt_status read_piece(void *ctx, void *bytes, size_t n, struct bnt_err *err)
{
    const uint8_t **at = ctx;
    (void)err;
    memcpy(bytes, *at, n);
    *at += n;
    return BNT_OK;
}

enum bnt_status bnt_session_restore(struct bnt_session *s, const char *path,
                                    const char *model_digest, struct bnt_err *err)
{
    struct bnt_mapping map;
    struct header h;
    enum bnt_status st = bnt_session_check_kept(s, path, err);
    if (st == BNT_OK) {
        st = bnt_map_file(path, &map, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    st = check_header(&map, path, &h, err);
    if (st == BNT_OK) {
        st = check_fit(s, path, &h, model_digest, err);
    }
    if (st == BNT_OK) {
        st = check_content(s, &map, path, &h, err);
    }
    if (st == BNT_OK) {
        const uint8_t *at = map.data + sizeof h;
        st = each_piece(s, h.n_past, read_piece, &at, err);
        s->now->n_past = h.n_past;
        s->n_last = 0;
        s->last = NULL;
    }
    bnt_unmap(&map);
    return st;
}
