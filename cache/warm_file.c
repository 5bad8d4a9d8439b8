/* Layout of a warm file, in the words of zstd's seekable format:
 *
 *   zstd frame 0 ... n-1     each 4 MiB of the blob (the last may be shorter), filtered, with the
 *                            checksum of its content
 *   skippable frame          magic 0x184D2A5D: "bntwarm1", u64 size of the blob, n filter numbers
 *   skippable frame          magic 0x184D2A5E, the seek table: per frame u32 compressed and u32
 *                            decompressed size (the frame above counts, with 0), then the footer:
 *                            u32 number of frames, u8 descriptor 0, u32 magic 0x8F92EAB1
 *
 * Numbers are little-endian. `zstd -d` expands the file to the filtered bytes; with the filter
 * numbers they become the blob.
 *
 * Invariants:
 *   1. Frames are independent: any number of threads works on different ones, and damage to one
 *      costs 4 MiB.
 *   2. Every number of the file is checked against its length before it is used.
 *   3. The filter of a frame is the one that made it smallest, or a faster one within 1 % of it. */
#include "cache/warm_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/file.h"
#include "base/sysinfo.h"
#include "cache/frame_filter.h"

enum {
    FRAME_BYTES = 4 << 20,
    DIRECT_MIN = 16 << 20, /* a smaller blob is rather left in memory for its first reader */
    FILTER_MAGIC = 0x184D2A5D,
    TABLE_MAGIC = 0x184D2A5E,
    SKIP_HEAD = 8,
    FILTER_HEAD = 16, /* "bntwarm1" and the size */
    ENTRY = 8,
    FOOTER = 9,
    FRAMES_MAX = 1 << 18, /* 2^40 bytes */
    TRY_LEVEL = 1,        /* to choose a filter */
    HARD_LEVEL = 6,       /* kept where it saves at least 1 % more */
    THREADS_MAX = 8,
    TEAM_MAX = 2 * THREADS_MAX
};
#define FOOTER_MAGIC 0x8F92EAB1u
#define NAME "bntwarm1"

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(v >> 8 * i);
    }
}

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The border: zstd's code becomes ours here. */
static enum bnt_status zstd_error(size_t code, const char *what, struct bnt_err *err)
{
    return bnt_err_set(
        err, ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation ? BNT_E_MEMORY : BNT_E_FILE,
        "%s: zstd: %s", what, ZSTD_getErrorName(code));
}

static int thread_count(void)
{
    int n = bnt_cpu_count();
    return n < THREADS_MAX ? n : THREADS_MAX;
}

/* ---- threads ---- */

/* Work on the items [0, n), each on some thread; the first error is kept. */
struct team {
    enum bnt_status (*work)(void *ctx, size_t item, struct bnt_err *err);
    void *ctx;
    size_t n;
    int n_wanted; /* threads, at most TEAM_MAX */
    atomic_size_t next;
    pthread_mutex_t lock; /* guards st and err */
    enum bnt_status st;
    struct bnt_err err;
    pthread_t threads[TEAM_MAX];
    int n_threads;
};

static void *team_member(void *arg)
{
    struct team *t = arg;
    for (size_t i = atomic_fetch_add(&t->next, 1); i < t->n; i = atomic_fetch_add(&t->next, 1)) {
        struct bnt_err err = {0};
        enum bnt_status st = t->work(t->ctx, i, &err);
        if (st != BNT_OK) {
            pthread_mutex_lock(&t->lock);
            if (t->st == BNT_OK) {
                t->st = st;
                t->err = err;
            }
            pthread_mutex_unlock(&t->lock);
        }
    }
    return NULL;
}

/* Begin; what no thread could be made for is done by team_end. */
static void team_begin(struct team *t)
{
    atomic_init(&t->next, 0);
    pthread_mutex_init(&t->lock, NULL);
    t->st = BNT_OK;
    t->n_threads = 0;
    while (t->n_threads < t->n_wanted && (size_t)t->n_threads < t->n &&
           pthread_create(&t->threads[t->n_threads], NULL, team_member, t) == 0) {
        t->n_threads++;
    }
}

static enum bnt_status team_end(struct team *t, struct bnt_err *err)
{
    team_member(t);
    for (int i = 0; i < t->n_threads; i++) {
        pthread_join(t->threads[i], NULL);
    }
    pthread_mutex_destroy(&t->lock);
    if (t->st != BNT_OK && err && err->status == BNT_OK) {
        *err = t->err;
    }
    return t->st;
}

/* ---- writing ---- */

struct packed_frame {
    const uint8_t *raw;
    size_t raw_bytes;
    uint8_t *out; /* heap; NULL before */
    size_t out_bytes, filtered_bytes;
    enum frame_filter filter;
};

/* Compress `in` at a level; the better of this and what the frame has stays. */
static enum bnt_status try_level(ZSTD_CCtx *z, struct packed_frame *f, enum frame_filter filter,
                                 const uint8_t *in, size_t n, int level, struct bnt_err *err)
{
    size_t cap = ZSTD_compressBound(n);
    uint8_t *out = malloc(cap);
    if (!out) {
        return bnt_err_nomem(err, "a compressed frame", cap);
    }
    ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    size_t size = ZSTD_compress2(z, out, cap, in, n);
    if (ZSTD_isError(size)) {
        free(out);
        return zstd_error(size, "compress", err);
    }
    /* Trits come last, expand fastest, and win within 1 %. The hard level must save 1 %. */
    bool wins = !f->out || (filter == FRAME_TRITS && level == TRY_LEVEL
                                ? size <= f->out_bytes + f->out_bytes / 100
                                : size < f->out_bytes - f->out_bytes / 100);
    if (wins) {
        free(f->out);
        f->out = out;
        f->out_bytes = size;
        f->filtered_bytes = n;
        f->filter = filter;
    } else {
        free(out);
    }
    return BNT_OK;
}

static enum bnt_status pack_frame(void *ctx, size_t item, struct bnt_err *err)
{
    struct packed_frame *f = (struct packed_frame *)ctx + item;
    ZSTD_CCtx *z = ZSTD_createCCtx();
    uint8_t *filtered = malloc(frame_filter_bound(f->raw_bytes));
    enum bnt_status st =
        z && filtered ? BNT_OK : bnt_err_nomem(err, "a frame", frame_filter_bound(f->raw_bytes));
    for (int k = 0; st == BNT_OK && k < FRAME_FILTERS; k++) {
        size_t n = frame_filter_encode((enum frame_filter)k, f->raw, f->raw_bytes, filtered);
        if (n > 0) {
            st = try_level(z, f, (enum frame_filter)k, filtered, n, TRY_LEVEL, err);
        }
    }
    if (st == BNT_OK) {
        size_t n = frame_filter_encode(f->filter, f->raw, f->raw_bytes, filtered);
        st = try_level(z, f, f->filter, filtered, n, HARD_LEVEL, err);
    }
    free(filtered);
    ZSTD_freeCCtx(z);
    return st;
}

/* The two skippable frames at the end, growing with the frames. */
struct tail {
    uint8_t *filters; /* n */
    uint8_t *entries; /* ENTRY * n */
    size_t n;
};

static enum bnt_status write_tail(const struct tail *t, uint64_t raw_bytes, int fd,
                                  const char *what, struct bnt_err *err)
{
    uint8_t head[SKIP_HEAD + FILTER_HEAD], last[ENTRY + FOOTER], skip[SKIP_HEAD];
    put_u32(head, FILTER_MAGIC);
    put_u32(head + 4, (uint32_t)(FILTER_HEAD + t->n));
    memcpy(head + SKIP_HEAD, NAME, 8);
    put_u32(head + SKIP_HEAD + 8, (uint32_t)raw_bytes);
    put_u32(head + SKIP_HEAD + 12, (uint32_t)(raw_bytes >> 32));
    put_u32(skip, TABLE_MAGIC);
    put_u32(skip + 4, (uint32_t)((t->n + 1) * ENTRY + FOOTER));
    put_u32(last, (uint32_t)(sizeof head + t->n)); /* the entry of the first skippable frame */
    put_u32(last + 4, 0);
    put_u32(last + ENTRY, (uint32_t)(t->n + 1));
    last[ENTRY + 4] = 0;
    put_u32(last + ENTRY + 5, FOOTER_MAGIC);
    const struct {
        const void *bytes;
        size_t n;
    } parts[] = {{head, sizeof head},
                 {t->filters, t->n},
                 {skip, sizeof skip},
                 {t->entries, t->n * ENTRY},
                 {last, sizeof last}};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof parts / sizeof parts[0]; i++) {
        st = bnt_write_all(fd, parts[i].bytes, parts[i].n, what, err);
    }
    return st;
}

/* Compress the frames [first, first + n) and write them in order. */
static enum bnt_status write_batch(const struct bnt_mapping *m, size_t first, size_t n,
                                   struct tail *tail, int fd, const char *what, struct bnt_err *err)
{
    struct packed_frame frames[THREADS_MAX] = {{0}};
    struct team team = {.work = pack_frame, .ctx = frames, .n = n, .n_wanted = thread_count()};
    for (size_t i = 0; i < n; i++) {
        uint64_t at = (uint64_t)(first + i) * FRAME_BYTES;
        frames[i].raw = m->data + at;
        frames[i].raw_bytes = m->size - at < FRAME_BYTES ? (size_t)(m->size - at) : FRAME_BYTES;
    }
    team_begin(&team);
    enum bnt_status st = team_end(&team, err);
    for (size_t i = 0; i < n; i++) {
        if (st == BNT_OK) {
            st = bnt_write_all(fd, frames[i].out, frames[i].out_bytes, what, err);
            tail->filters[tail->n] = (uint8_t)frames[i].filter;
            put_u32(tail->entries + tail->n * ENTRY, (uint32_t)frames[i].out_bytes);
            put_u32(tail->entries + tail->n * ENTRY + 4, (uint32_t)frames[i].filtered_bytes);
            tail->n++;
        }
        free(frames[i].out);
    }
    return st;
}

enum bnt_status warm_file_write(const char *from, int fd, const char *what,
                                const volatile sig_atomic_t *interrupted, struct bnt_err *err)
{
    struct bnt_mapping m;
    enum bnt_status st = bnt_map_file(from, &m, err);
    if (st != BNT_OK) {
        return st;
    }
    size_t frames = (size_t)(m.size / FRAME_BYTES + (m.size % FRAME_BYTES != 0));
    struct tail tail = {calloc(frames + 1, 1), calloc(frames + 1, ENTRY), 0};
    if (frames > FRAMES_MAX) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "%s is too large to be compressed", from);
    } else if (!tail.filters || !tail.entries) {
        st = bnt_err_nomem(err, "a seek table", frames * ENTRY);
    }
    size_t batch = (size_t)thread_count();
    for (size_t i = 0; st == BNT_OK && i < frames; i += batch) {
        st = write_batch(&m, i, frames - i < batch ? frames - i : batch, &tail, fd, what, err);
        st = st == BNT_OK ? bnt_err_interrupted(interrupted, err) : st;
    }
    if (st == BNT_OK) {
        st = write_tail(&tail, m.size, fd, what, err);
    }
    free(tail.filters);
    free(tail.entries);
    bnt_unmap(&m);
    return st;
}

/* ---- reading ---- */

struct warm_map {
    struct bnt_mapping m;
    uint64_t raw_bytes;
    size_t n;
    const uint8_t *filters, *entries;
    uint64_t *offset; /* of each frame */
};

static enum bnt_status malformed(const char *path, struct bnt_err *err)
{
    return bnt_err_set(err, BNT_E_FILE, "%s is not a warm file, or is damaged", path);
}

static uint64_t frames_of(uint64_t raw_bytes)
{
    return raw_bytes / FRAME_BYTES + (raw_bytes % FRAME_BYTES != 0);
}

/* The seek table and the filter frame, from the end. */
static bool parse_tail(struct warm_map *w)
{
    const uint8_t *d = w->m.data;
    uint64_t size = w->m.size;
    if (size < FOOTER || get_u32(d + size - 4) != FOOTER_MAGIC || d[size - 5] != 0) {
        return false;
    }
    uint64_t n = get_u32(d + size - FOOTER);
    if (n < 1 || n > FRAMES_MAX + 1 || size < n * ENTRY + FOOTER + SKIP_HEAD) {
        return false;
    }
    uint64_t table = size - FOOTER - n * ENTRY - SKIP_HEAD;
    w->n = (size_t)n - 1;
    uint64_t filters = SKIP_HEAD + FILTER_HEAD + w->n;
    if (get_u32(d + table) != TABLE_MAGIC || get_u32(d + table + 4) != n * ENTRY + FOOTER ||
        table < filters) {
        return false;
    }
    const uint8_t *f = d + table - filters;
    if (get_u32(f) != FILTER_MAGIC || get_u32(f + 4) != FILTER_HEAD + w->n ||
        memcmp(f + SKIP_HEAD, NAME, 8) != 0) {
        return false;
    }
    w->raw_bytes = get_u32(f + 16) | (uint64_t)get_u32(f + 20) << 32;
    w->filters = f + SKIP_HEAD + FILTER_HEAD;
    w->entries = d + table + SKIP_HEAD;
    return frames_of(w->raw_bytes) == w->n && get_u32(w->entries + w->n * ENTRY) == filters;
}

static void unmap_warm(struct warm_map *w)
{
    free(w->offset);
    bnt_unmap(&w->m);
}

static enum bnt_status map_warm(const char *path, struct warm_map *w, struct bnt_err *err)
{
    *w = (struct warm_map){0};
    enum bnt_status st = bnt_map_file(path, &w->m, err);
    if (st != BNT_OK) {
        return st;
    }
    if (!parse_tail(w)) {
        st = malformed(path, err);
    }
    w->offset = calloc(w->n + 1, sizeof *w->offset);
    if (st == BNT_OK && !w->offset) {
        st = bnt_err_nomem(err, "a seek table", (w->n + 1) * sizeof *w->offset);
    }
    for (size_t i = 0; st == BNT_OK && i < w->n; i++) {
        w->offset[i + 1] = w->offset[i] + get_u32(w->entries + i * ENTRY);
    }
    if (st == BNT_OK && w->offset[w->n] + SKIP_HEAD + FILTER_HEAD + w->n + SKIP_HEAD +
                                (w->n + 1) * ENTRY + FOOTER !=
                            w->m.size) {
        st = malformed(path, err);
    }
    if (st != BNT_OK) {
        unmap_warm(w);
    }
    return st;
}

enum bnt_status warm_file_info(const char *path, struct warm_info *out, struct bnt_err *err)
{
    struct warm_map w;
    enum bnt_status st = map_warm(path, &w, err);
    if (st == BNT_OK) {
        *out = (struct warm_info){w.raw_bytes, w.m.size, w.n};
        unmap_warm(&w);
    }
    return st;
}

/* A warm file on its way into fd and a hash. Frames are expanded in any order and hashed in that of
 * the file; whoever is free does what is due, so no processor waits for another one's part. */
struct reading {
    const struct warm_map *w;
    const char *what;
    int fd;               /* -1: nowhere */
    int direct;           /* the same file past the page cache; -1: cannot be */
    bool salvage;         /* leave damaged frames out */
    struct bnt_sha256 *d; /* NULL: not hashed */
    const volatile sig_atomic_t *interrupted;
    int n_threads;
    uint8_t *slots; /* n_slots of FRAME_BYTES; frame i lies in slot i % n_slots */
    size_t n_slots;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t step;  /* something of it changed */
    bool *ready;          /* per slot: expanded, and not hashed yet */
    size_t next, hashed;  /* frames that were begun, and those that are done with */
    bool hashing;
    enum bnt_status st;
    struct bnt_err err;
};

/* What a thread needs to expand frames. */
struct expander {
    ZSTD_DCtx *z;
    uint8_t *filtered; /* frame_filter_bound(FRAME_BYTES) */
};

static size_t frame_raw_bytes(const struct warm_map *w, size_t i)
{
    uint64_t rest = w->raw_bytes - (uint64_t)i * FRAME_BYTES;
    return rest < FRAME_BYTES ? (size_t)rest : FRAME_BYTES;
}

static enum bnt_status expand_frame(const struct reading *r, const struct expander *x, size_t frame,
                                    uint8_t *raw, struct bnt_err *err)
{
    const struct warm_map *w = r->w;
    size_t n = frame_raw_bytes(w, frame), filtered_bytes = get_u32(w->entries + frame * ENTRY + 4);
    const uint8_t *in = w->m.data + w->offset[frame];
    size_t in_bytes = (size_t)(w->offset[frame + 1] - w->offset[frame]);
    bool plain = w->filters[frame] == FRAME_PLAIN;
    if (filtered_bytes > frame_filter_bound(n) || (plain && filtered_bytes != n)) {
        return malformed(r->what, err);
    }
    uint8_t *filtered = plain ? raw : x->filtered;
    size_t got = ZSTD_decompressDCtx(x->z, filtered, filtered_bytes, in, in_bytes);
    if (ZSTD_isError(got)) {
        return zstd_error(got, r->what, err);
    }
    if (got != filtered_bytes ||
        (!plain &&
         !frame_filter_decode((enum frame_filter)w->filters[frame], filtered, got, raw, n))) {
        return malformed(r->what, err);
    }
    return BNT_OK;
}

static enum bnt_status write_frame(const struct reading *r, size_t frame, const uint8_t *raw,
                                   struct bnt_err *err)
{
    uint64_t at = (uint64_t)frame * FRAME_BYTES;
    size_t n = frame_raw_bytes(r->w, frame);
    size_t whole = r->direct >= 0 ? n / BNT_FILE_BLOCK * BNT_FILE_BLOCK : 0;
    enum bnt_status st = bnt_pwrite_all(r->direct, raw, whole, at, r->what, err);
    if (st == BNT_OK) {
        st = bnt_pwrite_all(r->fd, raw + whole, n - whole, at + whole, r->what, err);
    }
    if (st == BNT_OK && r->direct < 0) {
        /* The disk works while the next frames expand; who wants them there for sure syncs. */
        (void)sync_file_range(r->fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WRITE);
    }
    return st;
}

static enum bnt_status read_frame(const struct reading *r, const struct expander *x, size_t frame,
                                  struct bnt_err *err)
{
    uint8_t *raw = r->slots + frame % r->n_slots * FRAME_BYTES;
    enum bnt_status st = expand_frame(r, x, frame, raw, err);
    if (st != BNT_OK && r->salvage) {
        return BNT_OK;
    }
    if (st == BNT_OK && r->fd >= 0) {
        st = write_frame(r, frame, raw, err);
    }
    return st;
}

static enum bnt_status hash_frame(const struct reading *r, size_t frame, struct bnt_err *err)
{
    return r->d ? bnt_sha256_update(r->d, r->slots + frame % r->n_slots * FRAME_BYTES,
                                    frame_raw_bytes(r->w, frame), err)
                : BNT_OK;
}

/* Do one thing that is due; called with the lock, which is open meanwhile. The hash comes first: it
 * is the part that cannot be shared. */
static void do_step(struct reading *r, const struct expander *x)
{
    struct bnt_err err = {0};
    bool hash = !r->hashing && r->ready[r->hashed % r->n_slots];
    bool expand = !hash && r->next < r->w->n && r->next < r->hashed + r->n_slots;
    if (!hash && !expand) {
        pthread_cond_wait(&r->step, &r->lock);
        return;
    }
    size_t frame = hash ? r->hashed : r->next++;
    r->hashing = r->hashing || hash;
    pthread_mutex_unlock(&r->lock);
    enum bnt_status st = hash ? hash_frame(r, frame, &err) : read_frame(r, x, frame, &err);
    st = st == BNT_OK ? bnt_err_interrupted(r->interrupted, &err) : st;
    pthread_mutex_lock(&r->lock);
    r->ready[frame % r->n_slots] = !hash;
    if (hash) {
        r->hashed++;
        r->hashing = false;
    }
    if (st != BNT_OK && r->st == BNT_OK) {
        r->st = st;
        r->err = err;
    }
    pthread_cond_broadcast(&r->step);
}

static enum bnt_status read_member(void *ctx, size_t item, struct bnt_err *err)
{
    struct reading *r = ctx;
    struct expander x = {ZSTD_createDCtx(), malloc(frame_filter_bound(FRAME_BYTES))};
    (void)item;
    enum bnt_status st =
        x.z && x.filtered ? BNT_OK : bnt_err_nomem(err, "a frame", frame_filter_bound(FRAME_BYTES));
    pthread_mutex_lock(&r->lock);
    if (st != BNT_OK && r->st == BNT_OK) {
        r->st = st;
        r->err = *err;
    }
    while (r->st == BNT_OK && r->hashed < r->w->n) {
        do_step(r, &x);
    }
    if (st == BNT_OK && r->st != BNT_OK) {
        st = r->st;
        *err = r->err;
    }
    pthread_cond_broadcast(&r->step);
    pthread_mutex_unlock(&r->lock);
    free(x.filtered);
    ZSTD_freeDCtx(x.z);
    return st;
}

static enum bnt_status read_all(struct reading *r, struct bnt_err *err)
{
    struct team team = {
        .work = read_member, .ctx = r, .n = (size_t)r->n_threads, .n_wanted = r->n_threads};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->step, NULL);
    team_begin(&team);
    enum bnt_status st = team_end(&team, err);
    pthread_cond_destroy(&r->step);
    pthread_mutex_destroy(&r->lock);
    return st;
}

/* r: what, fd, salvage, d and interrupted are set. */
static enum bnt_status read_warm(struct reading r, struct bnt_err *err)
{
    const char *path = r.what;
    const int fd = r.fd;
    struct warm_map w;
    enum bnt_status st = map_warm(path, &w, err);
    if (st != BNT_OK) {
        return st;
    }
    r.w = &w;
    r.direct = -1;
    if (fd >= 0) {
        st = bnt_file_reserve(fd, w.raw_bytes, path, err);
        r.direct = st == BNT_OK && w.raw_bytes >= DIRECT_MIN ? bnt_file_open_direct(fd) : -1;
    }
    /* Who writes past the page cache waits for the disk: others compute meanwhile. */
    r.n_threads = thread_count() * (r.direct >= 0 ? 2 : 1);
    r.n_slots = (size_t)r.n_threads * 2 + 2;
    r.slots = aligned_alloc(BNT_FILE_BLOCK, r.n_slots * FRAME_BYTES);
    r.ready = calloc(r.n_slots, sizeof *r.ready);
    if (st == BNT_OK && (!r.slots || !r.ready)) {
        st = bnt_err_nomem(err, "frames", r.n_slots * FRAME_BYTES);
    }
    if (st == BNT_OK) {
        st = read_all(&r, err);
    }
    if (r.direct >= 0) {
        close(r.direct);
    }
    free(r.slots);
    free(r.ready);
    unmap_warm(&w);
    return st;
}

enum bnt_status warm_file_read(const char *path, int fd, char hex[BNT_SHA256_HEX],
                               const volatile sig_atomic_t *interrupted, struct bnt_err *err)
{
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    if (st == BNT_OK) {
        st = read_warm((struct reading){.what = path, .fd = fd, .d = d, .interrupted = interrupted},
                       err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, hex, err);
    }
    bnt_sha256_free(d);
    return st;
}

enum bnt_status warm_file_salvage(const char *path, int fd, struct bnt_err *err)
{
    return read_warm((struct reading){.what = path, .fd = fd, .salvage = true}, err);
}
