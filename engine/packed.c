/* Kept forms of weights. Owns the named files of the folder packed/ (base/packed_dir.h).
 *
 * A file is a header of PACKED_HEADER_BYTES and the form, in the byte order of the machine. The
 * header is proven by a SHA-256 of its own at every use. The form is proven by the SHA-256 in the
 * header: once, and then by the identity and the times of the file, for which that result is
 * remembered (engine/file_facts.h), so that a start reads no gigabyte for it. Whatever writes to
 * the file or puts another in its place changes those. */
#include "engine/packed.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/packed_dir.h"
#include "base/thread.h"
#include "engine/packed_impl.h"

#define MAGIC "bntpack"
#define PROVEN_KEY                                                                                 \
    "packed" /* of the fact: its value is the digest that the form was found to have */
enum { FORMAT_VERSION = 1, BYTE_ORDER_MARK = 0x01020304 };

struct header {
    char magic[8];
    uint32_t format, byte_order;
    char layout[PACKED_LAYOUT_MAX]; /* filled up with zeros */
    uint64_t version, size;         /* of the layout; bytes of the form */
    char model[BNT_SHA256_HEX + 7]; /* digests in hex, filled up with zeros */
    char form[BNT_SHA256_HEX + 7];
    char self[BNT_SHA256_HEX + 7]; /* of all that stands before it */
};

/* A thread that hashes the model. It reads path and id until it is joined, and writes the rest. */
struct hashing {
    pthread_t thread;
    bool running; /* started and not joined */
    const char *path;
    struct bnt_file_id id;
    const volatile sig_atomic_t *interrupted;
    char digest[BNT_SHA256_HEX];
    enum bnt_status st;
    struct bnt_err why;
    uint64_t ns;
};

/* While forms are made. Order of locks: the model's, then the folder's. */
struct packed_making {
    struct hashing hash;
    int model_lock, folder_lock; /* -1: not held */
    struct packed_kept *first;   /* the one that was made last */
};

/* Where a form is looked for: empty until the digest is known. */
struct place {
    const struct packed_want *want;
    char folder[BNT_PATH_MAX], path[BNT_PATH_MAX];
};

/* ---- the store ---- */

enum bnt_status packed_store_init(struct packed_store *s, const char *path,
                                  const struct bnt_model_options *opts, struct bnt_err *err)
{
    *s = (struct packed_store){.warn = opts->warn,
                               .packing = opts->packing,
                               .warn_ctx = opts->warn_ctx,
                               .interrupted = opts->session ? opts->session->interrupted : NULL,
                               .late_bytes = PACKED_LATE_BYTES};
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
    return s->dir != NULL && !s->gave_up && bytes >= s->min_bytes;
}

void packed_store_release(struct packed_store *s)
{
    packed_finish(s);
    for (size_t i = 0; i < s->n_written; i++) {
        struct packed_written *w = &s->written[i];
        struct bnt_file_id now;
        if (bnt_file_identify(w->path, &now) && bnt_file_same(&now, &w->id)) {
            bnt_file_settle(&now);
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

/* No form that is asked for from here on is kept, and why; what was made before still is. */
static void give_up(struct packed_store *s, const struct bnt_err *why)
{
    char text[sizeof why->msg + 64];
    snprintf(text, sizeof text, "packed weights are not kept for the next start: %s", why->msg);
    tell(s, text, "--packed off does without; bnt cache dir shows where they would lie");
    s->gave_up = true;
}

/* ---- the digest of the model ---- */

/* The model must still be the file that was opened. */
static enum bnt_status same_model(const char *path, const struct bnt_file_id *id,
                                  struct bnt_err *err)
{
    struct bnt_file_id now;
    return bnt_file_identify(path, &now) && (bnt_file_same(&now, id) || BNT_FAULT(packed_replaced))
               ? BNT_OK
               : bnt_err_set(err, BNT_E_FAILED, "%s was replaced while it was opened", path);
}

static void *hash_main(void *arg)
{
    struct hashing *h = arg;
    bool hashed;
    uint64_t t0 = bnt_clock_now_ns();
    h->st = bnt_digest_of_file(h->path, h->interrupted, h->digest, &hashed, &h->why);
    if (h->st == BNT_OK) {
        h->st = same_model(h->path, &h->id, &h->why);
    }
    h->ns = bnt_clock_now_ns() - t0;
    return NULL;
}

/* Take what was found. */
static enum bnt_status end_hash(struct packed_store *s, struct hashing *h, struct bnt_err *err)
{
    s->hash_ns += h->ns;
    if (h->st == BNT_OK) {
        memcpy(s->digest, h->digest, sizeof s->digest);
    } else if (err) {
        *err = h->why;
    }
    return h->st;
}

static enum bnt_status hash_now(struct packed_store *s, struct bnt_err *err)
{
    struct hashing h = {.path = s->model_path, .id = s->id, .interrupted = s->interrupted};
    hash_main(&h);
    return end_hash(s, &h, err);
}

static bool start_hash(struct packed_store *s)
{
    struct hashing *h = &s->making->hash;
    *h = (struct hashing){.path = s->model_path, .id = s->id, .interrupted = s->interrupted};
    h->running = bnt_thread_start(&h->thread, hash_main, h) == 0;
    return h->running;
}

static enum bnt_status join_hash(struct packed_store *s, struct bnt_err *err)
{
    struct hashing *h = &s->making->hash;
    if (!h->running) {
        return BNT_OK;
    }
    pthread_join(h->thread, NULL);
    h->running = false;
    return end_hash(s, h, err);
}

static bool recall_digest(struct packed_store *s)
{
    char value[BNT_FACT_MAX];
    if (!bnt_fact_get(&s->id, "sha256", value) || !bnt_sha256_is_hex(value) ||
        same_model(s->model_path, &s->id, NULL) != BNT_OK) {
        return false;
    }
    memcpy(s->digest, value, sizeof s->digest);
    return true;
}

/* ---- locks ---- */

static enum bnt_status begin_making(struct packed_store *s, struct bnt_err *err)
{
    if (!s->making) {
        s->making = calloc(1, sizeof *s->making);
        if (!s->making) {
            return bnt_err_nomem(err, "packed weights", sizeof *s->making);
        }
        s->making->model_lock = s->making->folder_lock = -1;
    }
    return BNT_OK;
}

/* Each model's file has a part of one lock, which needs no digest. */
static enum bnt_status lock_model(struct packed_store *s, bool *waited)
{
    char path[BNT_PATH_MAX];
    if (s->making->model_lock >= 0) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_mkdirs(s->dir, NULL);
    if (st == BNT_OK) {
        st = bnt_path_format(path, NULL, "%s/" BNT_PACKED_LOCK, s->dir);
    }
    return st == BNT_OK ? bnt_lock_acquire_part(path, s->id.ino ^ s->id.dev << 40,
                                                &s->making->model_lock, waited, NULL)
                        : st;
}

/* The lock for all files of that content. Who makes forms of this file has its lock, although it
 * may not have the folder's yet, so that one is waited for, too; it is no error to be without. */
static enum bnt_status lock_folder(struct packed_store *s, const char *folder, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    bool waited;
    if (s->making->folder_lock >= 0) {
        return BNT_OK;
    }
    (void)lock_model(s, &waited);
    enum bnt_status st = bnt_mkdirs(folder, err);
    if (st == BNT_OK) {
        st = bnt_path_format(path, err, "%s/" BNT_PACKED_LOCK, folder);
    }
    return st == BNT_OK ? bnt_lock_acquire(path, &s->making->folder_lock, err) : st;
}

/* Find the digest if that takes no time, else have a thread look for it while forms are made.
 *
 * That needs the lock of the model, so that of processes that start together one makes the forms
 * before any of them has the digest, which names the folder and its lock. A process that waited for
 * the lock finds the digest remembered, or hashes first; one that comes later finds it remembered,
 * which is why a digest that might not be is looked for at once. */
static enum bnt_status find_digest(struct packed_store *s, struct bnt_err *err)
{
    bool waited = false;
    if (s->digest[0] != '\0' || (s->making && s->making->hash.running) || recall_digest(s)) {
        return BNT_OK;
    }
    if (s->id.size >= s->late_bytes && bnt_file_settled(&s->id) &&
        begin_making(s, NULL) == BNT_OK && lock_model(s, &waited) == BNT_OK && !waited &&
        !recall_digest(s) && start_hash(s)) {
        return BNT_OK;
    }
    return s->digest[0] != '\0' ? BNT_OK : hash_now(s, err);
}

static enum bnt_status find_place(const struct packed_store *s, struct place *p,
                                  struct bnt_err *err)
{
    enum bnt_status st = bnt_path_format(p->folder, err, "%s/%s", s->dir, s->digest);
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
    if (map->size < PACKED_HEADER_BYTES) {
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
    return map->size == PACKED_HEADER_BYTES + want->size ? NULL
                                                         : "its size is not what its header says";
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
    if (bnt_sha256_text(map->data + PACKED_HEADER_BYTES, map->size - PACKED_HEADER_BYTES, hex,
                        NULL) != BNT_OK ||
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
        .data = map.data + PACKED_HEADER_BYTES, .size = p->want->size, .mapped = true, .map = map};
    return true;
}

/* ---- making ---- */

/* Find the form, or make it in a file that gets its name in packed_finish. */
static enum bnt_status make_kept(struct packed_store *s, const struct place *p, struct packed *out,
                                 struct bnt_err *err)
{
    struct bnt_err why = {0};
    struct packed_kept *k = NULL;
    bool known = s->digest[0] != '\0';
    enum bnt_status kept = begin_making(s, &why);
    if (kept == BNT_OK && known) {
        kept = lock_folder(s, p->folder, &why);
    }
    if (kept == BNT_OK && known && find(s, p, false, out)) { /* who had the lock has made it */
        s->mapped_bytes += out->size;
        return BNT_OK;
    }
    if (s->packing) {
        s->packing(s->warn_ctx, p->want->size);
    }
    if (kept == BNT_OK) {
        kept = packed_kept_new(s->dir, p->want, &k, &why);
    }
    if (kept != BNT_OK) {
        give_up(s, &why);
        return packed_make_in_memory(p->want, out, err);
    }
    uint8_t *form = (uint8_t *)(uintptr_t)k->map.data + PACKED_HEADER_BYTES;
    enum bnt_status st = p->want->fill(p->want->ctx, form, err);
    st = st == BNT_OK ? bnt_err_interrupted(s->interrupted, err) : st;
    if (st != BNT_OK) {
        packed_kept_drop(k);
        return st;
    }
    k->looked = known;
    k->interrupted = s->interrupted;
    k->users++;
    k->next = s->making->first;
    s->making->first = k;
    packed_kept_start(k);
    *out = (struct packed){.data = form, .size = p->want->size, .kept = k};
    return BNT_OK;
}

enum bnt_status packed_open(struct packed_store *s, const struct packed_want *want,
                            struct packed *out, struct bnt_err *err)
{
    struct place p = {.want = want};
    struct bnt_err why = {0};
    *out = (struct packed){0};
    uint64_t cost_bytes = want->cost_bytes > want->size ? want->cost_bytes : want->size;
    if (packed_store_keeps(s, cost_bytes) &&
        (find_digest(s, &why) != BNT_OK || find_place(s, &p, &why) != BNT_OK)) {
        if (why.status == BNT_E_INTERRUPTED) {
            return bnt_err_copy(err, &why);
        }
        give_up(s, &why);
    }
    bool keeps = packed_store_keeps(s, cost_bytes);
    if (keeps && s->digest[0] != '\0' && find(s, &p, true, out)) {
        s->mapped_bytes += out->size;
        return BNT_OK;
    }
    enum bnt_status st = bnt_err_interrupted(s->interrupted, err);
    if (st == BNT_OK) {
        st = keeps ? make_kept(s, &p, out, err) : packed_make_in_memory(want, out, err);
    }
    if (st == BNT_OK && (st = bnt_err_interrupted(s->interrupted, err)) != BNT_OK) {
        packed_release(out);
    }
    s->made_bytes += st == BNT_OK && !out->mapped ? out->size : 0;
    return st;
}

/* ---- into its place ---- */

/* What was just written is too young to be remembered as proven: that is done when the model is
 * closed. Best effort. */
static void remember_written(struct packed_store *s, const char *path, const char *form)
{
    struct packed_written *w = &s->written[s->n_written];
    if (s->n_written == PACKED_WRITTEN_MAX || !bnt_file_identify(path, &w->id)) {
        return;
    }
    w->path = strdup(path);
    memcpy(w->form, form, sizeof w->form);
    s->n_written += w->path != NULL;
}

static enum bnt_status name_file(struct packed_store *s, const struct place *p,
                                 struct packed_kept *k, struct bnt_err *err)
{
    union {
        struct header h;
        char bytes[PACKED_HEADER_BYTES];
    } head = {.bytes = {0}};
    header_init(&head.h, s, p->want);
    memcpy(head.h.form, k->digest, sizeof k->digest);
    enum bnt_status st = header_digest(&head.h, head.h.self, err);
    if (st == BNT_OK) {
        st = bnt_pwrite_all(k->file.fd, head.bytes, sizeof head.bytes, 0, p->path, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_retarget(&k->file, p->path, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_commit(&k->file, 0444, err);
    }
    if (st == BNT_OK) {
        remember_written(s, p->path, k->digest);
    }
    return st;
}

/* With the folder's lock. Another file of the same model may have brought the form meanwhile: then
 * that file is used, and ours is dropped. */
static enum bnt_status put_in_place(struct packed_store *s, struct packed_kept *k,
                                    struct bnt_err *err)
{
    const struct packed_want want = {.layout = k->layout, .version = k->version, .size = k->size};
    struct place p = {.want = &want};
    struct packed theirs;
    enum bnt_status st = find_place(s, &p, err);
    if (st == BNT_OK) {
        st = lock_folder(s, p.folder, err);
    }
    if (st == BNT_OK && !k->looked && !BNT_FAULT(packed_twice) && find(s, &p, true, &theirs)) {
        packed_kept_replace(k, &theirs.map);
        return BNT_OK;
    }
    return st == BNT_OK ? name_file(s, &p, k, err) : st;
}

void packed_finish(struct packed_store *s)
{
    struct packed_making *m = s->making;
    struct bnt_err why = {0};
    if (!m) {
        return;
    }
    enum bnt_status kept = join_hash(s, &why);
    for (struct packed_kept *k = m->first, *next; k; k = next) {
        next = k->next;
        packed_kept_join(k);
        if (kept == BNT_OK && k->st != BNT_OK) {
            kept = k->st;
            why = k->why;
        }
        if (kept == BNT_OK) {
            kept = put_in_place(s, k, &why);
        }
        if (kept != BNT_OK && kept != BNT_E_INTERRUPTED) { /* else nobody will read it for long */
            packed_kept_replace(k, NULL);
        }
        if (kept != BNT_OK && kept != BNT_E_INTERRUPTED && !s->gave_up) {
            give_up(s, &why);
        }
        bnt_durable_release(&k->file);
        packed_kept_drop(k);
    }
    bnt_lock_release(&m->folder_lock);
    bnt_lock_release(&m->model_lock);
    free(m);
    s->making = NULL;
}
