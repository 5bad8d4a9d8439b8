/* Kept forms of weights. Owns the files of the folder packed/ (base/packed_dir.h).
 *
 * A file is a header of HEADER_BYTES and the form, in the byte order of the machine. The header is
 * proven by a SHA-256 of its own at every use. The form is proven by the SHA-256 in the header:
 * once, and then by the identity and the times of the file, for which that result is remembered
 * (engine/file_facts.h), so that a start reads no gigabyte for it. Whatever writes to the file or
 * puts another in its place changes those. */
#include "engine/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/packed_dir.h"
#include "engine/bnt_infer.h"

#define MAGIC "bntpack"
#define PROVEN_KEY                                                                                 \
    "packed" /* of the fact: its value is the digest that the form was found to have */
enum { HEADER_BYTES = 4096, FORMAT_VERSION = 1, BYTE_ORDER_MARK = 0x01020304 };

struct header {
    char magic[8];
    uint32_t format, byte_order;
    char layout[PACKED_LAYOUT_MAX]; /* filled up with zeros */
    uint64_t version, size;         /* of the layout; bytes of the form */
    char model[BNT_SHA256_HEX + 7]; /* digests in hex, filled up with zeros */
    char form[BNT_SHA256_HEX + 7];
    char self[BNT_SHA256_HEX + 7]; /* of all that stands before it */
};

/* Where a form is looked for. */
struct place {
    const struct packed_want *want;
    char folder[BNT_PATH_MAX], path[BNT_PATH_MAX];
};

/* ---- the store ---- */

enum bnt_status packed_store_init(struct packed_store *s, const char *path,
                                  const struct bnt_model_options *opts, struct bnt_err *err)
{
    *s = (struct packed_store){
        .warn = opts->warn, .packing = opts->packing, .warn_ctx = opts->warn_ctx};
    s->min_bytes = opts->packed_min_bytes ? opts->packed_min_bytes : PACKED_MIN_BYTES;
    if (!opts->packed_dir || !bnt_file_identify(path, &s->id)) {
        return BNT_OK;
    }
    if (opts->digest && bnt_sha256_is_hex(opts->digest)) {
        memcpy(s->digest, opts->digest, sizeof s->digest);
    }
    s->model_path = strdup(path);
    s->dir = strdup(opts->packed_dir);
    return s->model_path && s->dir ? BNT_OK
                                   : bnt_err_nomem(err, "a path", strlen(opts->packed_dir));
}

bool packed_store_keeps(const struct packed_store *s, uint64_t bytes)
{
    return s->dir != NULL && bytes >= s->min_bytes;
}

void packed_store_release(struct packed_store *s)
{
    for (size_t i = 0; i < s->n_written; i++) {
        struct packed_written *w = &s->written[i];
        struct bnt_file_id now;
        if (bnt_file_identify(w->path, &now) && bnt_file_same(&now, &w->id)) {
            bnt_fact_put(&now, PROVEN_KEY, w->form);
        }
        free(w->path);
    }
    free(s->dir);
    free(s->model_path);
    *s = (struct packed_store){0};
}

static void tell(const struct packed_store *s, const char *what, const char *hint)
{
    if (s->warn) {
        s->warn(s->warn_ctx, what, hint);
    }
}

/* Nothing is kept from here on, and why. */
static void give_up(struct packed_store *s, const struct bnt_err *why)
{
    char text[sizeof why->msg + 64];
    snprintf(text, sizeof text, "packed weights are not kept for the next start: %s", why->msg);
    tell(s, text, "--packed off does without; bnt cache dir shows where they would lie");
    free(s->dir);
    s->dir = NULL;
}

/* The digest of the model, which must still be the file that was opened. */
static enum bnt_status find_digest(struct packed_store *s, struct bnt_err *err)
{
    struct bnt_file_id now;
    bool hashed;
    if (s->digest[0] != '\0') {
        return BNT_OK;
    }
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = bnt_digest_of_file(s->model_path, NULL, NULL, s->digest, &hashed, err);
    s->hash_ns += bnt_clock_now_ns() - t0;
    if (st == BNT_OK && (!bnt_file_identify(s->model_path, &now) || !bnt_file_same(&now, &s->id))) {
        st = bnt_err_set(err, BNT_E_FAILED, "%s was replaced while it was opened", s->model_path);
    }
    if (st != BNT_OK) {
        s->digest[0] = '\0';
    }
    return st;
}

static enum bnt_status find_place(struct packed_store *s, struct place *p, struct bnt_err *err)
{
    enum bnt_status st = find_digest(s, err);
    if (st == BNT_OK) {
        st = bnt_path_format(p->folder, err, "%s/%s", s->dir, s->digest);
    }
    return st == BNT_OK ? bnt_path_format(p->path, err, "%s/%s.%u" BNT_PACKED_SUFFIX, p->folder,
                                          p->want->layout, p->want->version)
                        : st;
}

/* ---- the header ---- */

static enum bnt_status header_digest(const struct header *h, char hex[BNT_SHA256_HEX],
                                     struct bnt_err *err)
{
    return bnt_sha256_text(h, offsetof(struct header, self), hex, err);
}

/* What the header of a wanted form is, but for the digests of the form and of itself. */
static void header_init(struct header *h, const struct packed_store *s,
                        const struct packed_want *want)
{
    *h = (struct header){.magic = MAGIC,
                         .format = FORMAT_VERSION,
                         .byte_order = BYTE_ORDER_MARK,
                         .version = want->version,
                         .size = want->size};
    snprintf(h->layout, sizeof h->layout, "%s", want->layout);
    snprintf(h->model, sizeof h->model, "%s", s->digest);
}

/* ---- reading ---- */

/* NULL when a mapped file has the header of what is wanted, else what is wrong with it. */
static const char *header_fault(const struct packed_store *s, const struct packed_want *want,
                                const struct bnt_mapping *map)
{
    struct header h, wanted;
    char hex[BNT_SHA256_HEX];
    if (map->size < HEADER_BYTES) {
        return "it is cut short";
    }
    memcpy(&h, map->data, sizeof h);
    if (memcmp(h.magic, MAGIC, sizeof h.magic) != 0) {
        return "it is no file of this kind";
    }
    if (header_digest(&h, hex, NULL) != BNT_OK || memcmp(hex, h.self, sizeof hex) != 0) {
        return "its header is damaged";
    }
    header_init(&wanted, s, want);
    if (memcmp(&h, &wanted, offsetof(struct header, form)) != 0) {
        return "it was made for something else";
    }
    return map->size == HEADER_BYTES + want->size ? NULL : "its size is not what its header says";
}

/* Whether the form is what the header says; what was found out is remembered. */
static bool proven(const char *path, const struct bnt_mapping *map)
{
    const struct header *h = (const struct header *)(const void *)map->data;
    char value[BNT_FACT_MAX], hex[BNT_SHA256_HEX];
    struct bnt_file_id id;
    bool known = bnt_file_identify(path, &id);
    if (known && bnt_fact_get(&id, PROVEN_KEY, value) && strcmp(value, h->form) == 0) {
        return true;
    }
    if (bnt_sha256_text(map->data + HEADER_BYTES, map->size - HEADER_BYTES, hex, NULL) != BNT_OK ||
        (strcmp(hex, h->form) != 0 && !BNT_FAULT(packed_unproven))) {
        return false;
    }
    if (known) {
        bnt_fact_put(&id, PROVEN_KEY, hex);
    }
    return true;
}

/* Note the use, at most once per step; best effort. */
static void note_use(const struct place *p)
{
    char path[BNT_PATH_MAX];
    struct stat sb;
    if (bnt_path_format(path, NULL, "%s/%s.%u" BNT_PACKED_USED_SUFFIX, p->folder, p->want->layout,
                        p->want->version) != BNT_OK ||
        (stat(path, &sb) == 0 && sb.st_mtim.tv_sec + BNT_PACKED_USE_STEP_S > bnt_clock_unix_s())) {
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0) {
        futimens(fd, NULL);
        close(fd);
    }
}

/* Map the file if there is one that is right. A wrong one is told, if `aloud`. */
static bool find(const struct packed_store *s, const struct place *p, bool aloud,
                 struct packed *out)
{
    struct bnt_mapping map;
    struct bnt_err why = {0};
    if (access(p->path, F_OK) != 0) {
        return false;
    }
    const char *fault =
        bnt_map_file(p->path, &map, &why) != BNT_OK ? why.msg : header_fault(s, p->want, &map);
    if (!fault && !proven(p->path, &map)) {
        fault = "its content is damaged";
    }
    if (fault && aloud) {
        char text[BNT_PATH_MAX + sizeof why.msg + 32];
        snprintf(text, sizeof text, "%s is made anew: %s", p->path, fault);
        tell(s, text, NULL);
    }
    if (fault) {
        bnt_unmap(&map);
        return false;
    }
    note_use(p);
    *out = (struct packed){
        .data = map.data + HEADER_BYTES, .size = p->want->size, .mapped = true, .map = map};
    return true;
}

/* ---- making ---- */

static enum bnt_status make(const struct packed_want *want, struct packed *out, struct bnt_err *err)
{
    void *p =
        mmap(NULL, (size_t)want->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return bnt_err_nomem(err, "packed weights", want->size);
    }
    *out = (struct packed){.data = p, .size = want->size, .map = {.data = p, .size = want->size}};
    enum bnt_status st = want->fill(want->ctx, p, err);
    if (st != BNT_OK) {
        packed_release(out);
    }
    return st;
}

/* What was just written is too young to be remembered as proven: that is done when the model is
 * closed. Best effort. */
static void remember_written(struct packed_store *s, const struct place *p, const char *form)
{
    struct packed_written *w = &s->written[s->n_written];
    if (s->n_written == PACKED_WRITTEN_MAX || !bnt_file_identify(p->path, &w->id)) {
        return;
    }
    w->path = strdup(p->path);
    memcpy(w->form, form, sizeof w->form);
    s->n_written += w->path != NULL;
}

static enum bnt_status write_file(struct packed_store *s, const struct place *p,
                                  const struct packed *made, struct bnt_err *err)
{
    union {
        struct header h;
        char bytes[HEADER_BYTES];
    } head = {.bytes = {0}};
    struct bnt_durable d;
    header_init(&head.h, s, p->want);
    enum bnt_status st = bnt_durable_open(&d, p->path, err);
    if (st != BNT_OK) {
        return st;
    }
    st = bnt_durable_write(&d, head.bytes, sizeof head.bytes, err);
    if (st == BNT_OK) {
        st = bnt_durable_write(&d, made->data, made->size, err);
    }
    if (st == BNT_OK) { /* the disk works while the processor hashes */
        sync_file_range(d.fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        st = bnt_sha256_text(made->data, made->size, head.h.form, err);
    }
    if (st == BNT_OK) {
        st = header_digest(&head.h, head.h.self, err);
    }
    if (st == BNT_OK) {
        st = bnt_pwrite_all(d.fd, head.bytes, sizeof head.bytes, 0, p->path, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_commit(&d, 0444, err);
    }
    bnt_durable_release(&d);
    if (st == BNT_OK) {
        remember_written(s, p, head.h.form);
    }
    return st;
}

/* Find or make the form and its file, with the folder's lock. This process goes on with what it
 * made in memory. */
static enum bnt_status make_kept(struct packed_store *s, const struct place *p, struct packed *out,
                                 struct bnt_err *err)
{
    char lock_path[BNT_PATH_MAX];
    struct bnt_err why = {0};
    int lock = -1;
    enum bnt_status kept = bnt_mkdirs(p->folder, &why);
    if (kept == BNT_OK) {
        kept = bnt_path_format(lock_path, &why, "%s/" BNT_PACKED_LOCK, p->folder);
    }
    if (kept == BNT_OK) {
        kept = bnt_lock_acquire(lock_path, &lock, &why);
    }
    if (kept == BNT_OK && find(s, p, false, out)) { /* who had the lock before has made it */
        bnt_lock_release(&lock);
        s->mapped_bytes += out->size;
        return BNT_OK;
    }
    if (s->packing) {
        s->packing(s->warn_ctx, p->want->size);
    }
    enum bnt_status st = make(p->want, out, err);
    if (st == BNT_OK && kept == BNT_OK) {
        kept = write_file(s, p, out, &why);
    }
    if (st == BNT_OK && kept != BNT_OK) {
        give_up(s, &why);
    }
    s->made_bytes += st == BNT_OK ? out->size : 0;
    bnt_lock_release(&lock);
    return st;
}

enum bnt_status packed_open(struct packed_store *s, const struct packed_want *want,
                            struct packed *out, struct bnt_err *err)
{
    struct place p = {.want = want};
    struct bnt_err why = {0};
    *out = (struct packed){0};
    uint64_t cost_bytes = want->cost_bytes > want->size ? want->cost_bytes : want->size;
    if (packed_store_keeps(s, cost_bytes)) {
        if (find_place(s, &p, &why) != BNT_OK) {
            give_up(s, &why);
        } else if (find(s, &p, true, out)) {
            s->mapped_bytes += out->size;
            return BNT_OK;
        } else {
            return make_kept(s, &p, out, err);
        }
    }
    enum bnt_status st = make(want, out, err);
    s->made_bytes += st == BNT_OK ? out->size : 0;
    return st;
}

void packed_release(struct packed *p)
{
    bnt_unmap(&p->map);
    *p = (struct packed){0};
}
