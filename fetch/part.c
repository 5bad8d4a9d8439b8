/* Parts: <cache>/part/<key>.<owner>.state and <cache>/part/<key>.<random>.data
 *
 * Invariants:
 *   1. A data file has one writer for all its life, or one after the other. The state file names
 *      its owner in its own name, so owning is a rename, which only one process can win: no lock
 *      has to work for that.
 *   2. A part is taken up in place only from an owner that is known to be gone: "free", or a
 *      process of this boot and this pid namespace that does not live any more. What another
 *      machine or an earlier boot left is copied instead, so that a writer that still lives there
 *      does no harm.
 *   3. Every byte is written once: at the beginning of a hole, which then shrinks (data first, then
 *      the record). The record may claim less than is there, never more.
 *   4. 3 survives a kill, since the kernel keeps what was written, and pages of the record are
 *      written in an order that claims less. After a power cut it holds for the second record,
 *      which is written only after the data before it was synced, and has a check sum.
 *   5. All bytes of a part are of one content: whoever learns that the content at the source is
 *      another one restarts, with a new data file. Whoever publishes a part has hashed it, every
 *      byte at the time of its writing or later.
 *
 *            part_open               part_write...              bnt_cache_add, part_drop
 *   nothing ----------> <me>.state ---------------> no holes ---------------------------> blob
 *                         ^    |
 *               part_open |    +-- part_keep: free.state
 *     (a rename or a copy)|    +-- SIGKILL at any point: <dead>.state
 *                         +----------------------------+
 *
 * The lock <key>.lock orders live processes: while one transfers, the others wait, then find the
 * model in the cache. Where locks lie, each of them makes a part of its own: bandwidth, not
 * correctness. */
#include "fetch/part.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "fetch/backoff.h"
#include "fetch/fetch_stop.h"

#define MAGIC "bntpart2"
#define DURABLE_AT 32768 /* offset of the second record in the state file */
#define SYNC_BYTES (256u << 20)
#define COPY_BYTES (1u << 20)
#define PAGE_BYTES 4096
#define POLL_NS 50000000u
#define FREE_OWNER "free"
#define SEED_HOLES (PART_HOLES / 2) /* the rest is for cuts */
#define SEED_GAP_BYTES (4u << 20)

enum { OWNER_MAX = 64 };

static_assert(sizeof(struct part_record) <= DURABLE_AT, "the records do not overlap");
static_assert(offsetof(struct part_record, holes) % sizeof(struct part_hole) == 0,
              "no hole lies in two pages");

/* ---- owners ---- */

/* Digits that are the same for processes that can see each other's pids: boot and namespace. */
static void world(char out[17])
{
    char text[256] = "", ns[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof text - 1);
        text[n > 0 ? n : 0] = '\0';
        close(fd);
    }
    ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof ns - 1);
    ns[n > 0 ? n : 0] = '\0';
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *p = text; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    }
    for (const char *p = ns; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    }
    snprintf(out, 17, "%016" PRIx64, hash);
}

/* When a process began, in ticks since boot: a pid alone may have been given to another one. 0: no
 * such process, or one that has ended and that its parent has not asked for yet, as nobody ever
 * does in a container whose first process is no init. */
static unsigned long long start_of(long pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    char *p = strrchr(text, ')'); /* the name before it may hold anything */
    if (p && p[1] == ' ' && (p[2] == 'Z' || p[2] == 'X')) {
        return 0;
    }
    for (int field = 2; p && field < 22; field++) {
        p = strchr(p + 1, ' ');
    }
    return p ? strtoull(p + 1, NULL, 10) : 0;
}

/* World, pid, start, and bits that tell two parts of one process apart. */
static void own_name(char out[OWNER_MAX])
{
    char here[17];
    world(here);
    snprintf(out, OWNER_MAX, "%s-%ld-%llu-%04x", here, (long)getpid(), start_of((long)getpid()),
             (unsigned)(backoff_random() & 0xffff));
}

enum owner { OWNER_GONE, OWNER_ALIVE, OWNER_ELSEWHERE };

static enum owner owner_state(const char *owner)
{
    char here[17];
    world(here);
    if (strcmp(owner, FREE_OWNER) == 0) {
        return OWNER_GONE;
    }
    if (strncmp(owner, here, 16) != 0 || owner[16] != '-') {
        return OWNER_ELSEWHERE;
    }
    char *end;
    long pid = strtol(owner + 17, &end, 10);
    unsigned long long start = *end == '-' ? strtoull(end + 1, NULL, 10) : 0;
    unsigned long long now = start_of(pid);
    return now != 0 && now == start ? OWNER_ALIVE : OWNER_GONE;
}

/* ---- keys and the lock ---- */

enum bnt_status part_key(const char *digest, const char *source, char key[PART_KEY_MAX],
                         struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX];
    if (digest[0]) {
        snprintf(key, PART_KEY_MAX, "%.32s", digest);
        return BNT_OK;
    }
    enum bnt_status st = bnt_sha256_text(source, strlen(source), hex, err);
    if (st == BNT_OK) {
        snprintf(key, PART_KEY_MAX, "s%.31s", hex); /* no digest begins with s */
    }
    return st;
}

static enum bnt_status make_folder(const char *cache_dir, char out[BNT_PATH_MAX],
                                   struct bnt_err *err)
{
    enum bnt_status st = bnt_path_format(out, err, "%s/part", cache_dir);
    if (st == BNT_OK) {
        st = bnt_mkdirs(out, err);
    }
    if (st != BNT_OK) {
        bnt_err_hint(err, "set BNT_CACHE_DIR to a folder that can be written");
    }
    return st;
}

/* Whether the file that we have locked is still the one of that name: a sweep may have removed it
 * before it was locked. */
static bool still_there(const struct part_lock *l)
{
    struct stat ours, now;
    return fstat(l->fd, &ours) == 0 && stat(l->path, &now) == 0 && ours.st_ino == now.st_ino &&
           ours.st_dev == now.st_dev;
}

enum bnt_status part_lock_wait(const char *cache_dir, const char *key,
                               const struct bnt_fetch_opts *opts, struct part_lock *lock,
                               struct bnt_err *err)
{
    char dir[BNT_PATH_MAX];
    lock->fd = -1;
    enum bnt_status st = make_folder(cache_dir, dir, err);
    if (st == BNT_OK) {
        st = bnt_path_format(lock->path, err, "%s/%s.lock", dir, key);
    }
    while (st == BNT_OK) {
        lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (lock->fd < 0) {
            return bnt_err_errno(err, "cannot open %s", lock->path);
        }
        while (flock(lock->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            st = fetch_stop(opts, "while another process fetches the same file", err);
            if (st != BNT_OK) {
                part_lock_release(lock);
                return st;
            }
            bnt_clock_sleep_ns(POLL_NS);
        }
        if (still_there(lock)) { /* also where locks do not work: then nobody waits */
            break;
        }
        close(lock->fd);
        lock->fd = -1;
    }
    return st;
}

void part_lock_release(struct part_lock *lock)
{
    if (lock->fd >= 0) {
        close(lock->fd);
        lock->fd = -1;
    }
}

/* ---- records ---- */

static enum bnt_status write_at(const struct part *p, const void *bytes, size_t n, uint64_t at,
                                struct bnt_err *err)
{
    return bnt_pwrite_all(p->state_fd, bytes, n, at, p->state_path, err);
}

/* A kill can end a write between two pages. Holes beyond the first page come first, so that a
 * record of which only some is new claims less than is there. */
enum bnt_status part_save(struct part *p, struct bnt_err *err)
{
    const char *bytes = (const char *)&p->record;
    enum bnt_status st =
        write_at(p, bytes + PAGE_BYTES, sizeof p->record - PAGE_BYTES, PAGE_BYTES, err);
    return st == BNT_OK ? write_at(p, bytes, PAGE_BYTES, 0, err) : st;
}

/* One hole of the record on disk; it never lies in two pages. */
static enum bnt_status save_hole(const struct part *p, size_t i, struct bnt_err *err)
{
    const struct part_hole *h = &p->record.holes[i];
    return write_at(p, h, sizeof *h, offsetof(struct part_record, holes) + i * sizeof *h, err);
}

static uint64_t check_of(const struct part_record *r)
{
    const unsigned char *bytes = (const unsigned char *)r;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < offsetof(struct part_record, check); i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

static int sync_file(int fd)
{
    errno = bnt_file_step(BNT_FILE_SYNC, NULL);
    return errno ? -1 : fdatasync(fd);
}

/* Bring the bytes to disk, then the record that names them. */
static enum bnt_status sync_part(struct part *p, struct bnt_err *err)
{
    p->unsynced_bytes = 0;
    if (sync_file(p->file.fd) != 0) {
        return bnt_err_errno(err, "cannot bring %s to disk", p->file.path);
    }
    p->record.check = check_of(&p->record);
    enum bnt_status st = write_at(p, &p->record, sizeof p->record, DURABLE_AT, err);
    if (st == BNT_OK && sync_file(p->state_fd) != 0) {
        st = bnt_err_errno(err, "cannot bring %s to disk", p->state_path);
    }
    return st;
}

/* Numbers from a file are hostile, too. */
static bool record_ok(const struct part_record *r, const char *key, uint64_t data_bytes)
{
    size_t k = strlen(key);
    if (memcmp(r->magic, MAGIC, sizeof r->magic) != 0 ||
        !memchr(r->validator, '\0', sizeof r->validator) ||
        !memchr(r->data_name, '\0', sizeof r->data_name) || strchr(r->data_name, '/') ||
        strncmp(r->data_name, key, k) != 0 || r->data_name[k] != '.') {
        return false;
    }
    uint64_t front = r->total ? r->total : PART_NO_END;
    for (size_t i = 0; i < PART_HOLES; i++) {
        const struct part_hole *h = &r->holes[i];
        bool end_ok = h->end == PART_NO_END ? r->total == 0 : h->end <= r->total;
        if (h->begin > h->end || (h->begin < h->end && !end_ok)) {
            return false;
        }
        front = h->begin < h->end && h->begin < front ? h->begin : front;
    }
    return front <= data_bytes;
}

static bool read_record(int fd, off_t at, struct part_record *r)
{
    return pread(fd, r, sizeof *r, at) == (ssize_t)sizeof *r;
}

uint64_t part_front(const struct part *p)
{
    uint64_t front = p->record.total ? p->record.total : PART_NO_END;
    for (size_t i = 0; i < PART_HOLES; i++) {
        const struct part_hole *h = &p->record.holes[i];
        front = h->begin < h->end && h->begin < front ? h->begin : front;
    }
    return front;
}

uint64_t part_done_bytes(const struct part *p)
{
    if (p->record.total == 0) {
        return part_front(p);
    }
    uint64_t done = p->record.total;
    for (size_t i = 0; i < PART_HOLES; i++) {
        done -= p->record.holes[i].end - p->record.holes[i].begin;
    }
    return done;
}

bool part_complete(const struct part *p)
{
    return p->record.total > 0 && part_front(p) == p->record.total;
}

/* ---- open ---- */

/* A data file and a record with one hole. */
static enum bnt_status make_data(struct part *p, uint64_t total, const char *validator,
                                 struct bnt_err *err)
{
    enum bnt_status st = bnt_path_format(p->file.path, err, "%s/%s.XXXXXX.data", p->dir, p->key);
    if (st != BNT_OK) {
        return st;
    }
    p->file.fd = mkostemps(p->file.path, 5, O_CLOEXEC);
    if (p->file.fd < 0) {
        st = bnt_err_errno(err, "cannot make a file in %s", p->dir);
        bnt_err_hint(err, "set BNT_CACHE_DIR to a folder that can be written");
        return st;
    }
    p->record = (struct part_record){.total = total};
    memcpy(p->record.magic, MAGIC, sizeof p->record.magic);
    snprintf(p->record.validator, sizeof p->record.validator, "%s", validator);
    snprintf(p->record.data_name, sizeof p->record.data_name, "%s", strrchr(p->file.path, '/') + 1);
    p->record.holes[0].end = total ? total : PART_NO_END;
    p->unsynced_bytes = 0;
    return BNT_OK;
}

static enum bnt_status make_state(struct part *p, struct bnt_err *err)
{
    p->state_fd = open(p->state_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (p->state_fd < 0) {
        return bnt_err_errno(err, "cannot make %s", p->state_path);
    }
    return part_save(p, err);
}

/* The bytes before the first hole, from a part that must be left alone, into a new one. */
static enum bnt_status copy_front(struct part *p, const struct part_record *from, int fd,
                                  struct bnt_err *err)
{
    enum bnt_status st = make_data(p, from->total, from->validator, err);
    char *block = malloc(COPY_BYTES);
    if (!block) {
        return bnt_err_nomem(err, "copy buffer", COPY_BYTES);
    }
    struct part source = {.record = *from};
    uint64_t front = part_front(&source), at = 0;
    while (st == BNT_OK && at < front) {
        size_t n = front - at < COPY_BYTES ? (size_t)(front - at) : COPY_BYTES;
        ssize_t got = pread(fd, block, n, (off_t)at);
        if (got <= 0) {
            break; /* what is missing is fetched */
        }
        st = bnt_write_all(p->file.fd, block, (size_t)got, p->file.path, err);
        at += (uint64_t)got;
    }
    free(block);
    p->record.holes[0].begin = at;
    return st;
}

/* The data file of a record, to go on with; -1 when that is not to be had. A death on the way into
 * the cache has left it read-only. */
static int open_data(const struct part *p)
{
    struct stat sb;
    int fd = open(p->file.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), writable = -1;
    if (fd >= 0 && fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) &&
        record_ok(&p->record, p->key, (uint64_t)sb.st_size)) {
        (void)(BNT_FAULT(part_sealed) ? 0 : fchmod(fd, 0600));
        writable = open(p->file.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    }
    if (fd >= 0) {
        close(fd);
    }
    return writable;
}

/* Take up the part of a dead owner in place. False: another process was faster, or it is damaged.
 */
static bool take(struct part *p, const char *state_name)
{
    char from[BNT_PATH_MAX];
    if (bnt_path_format(from, NULL, "%s/%s", p->dir, state_name) != BNT_OK ||
        bnt_file_rename(from, p->state_path) != 0) {
        return false;
    }
    p->state_fd = open(p->state_path, O_RDWR | O_CLOEXEC);
    bool ok = p->state_fd >= 0 && read_record(p->state_fd, 0, &p->record) &&
              memchr(p->record.data_name, '\0', sizeof p->record.data_name) &&
              bnt_path_format(p->file.path, NULL, "%s/%s", p->dir, p->record.data_name) == BNT_OK;
    p->file.fd = ok ? open_data(p) : -1;
    if (p->file.fd < 0) {
        part_drop(p);
    }
    return p->file.fd >= 0;
}

/* Copy what another boot or machine left. */
static enum bnt_status take_copy(struct part *p, const char *state_name, bool *taken,
                                 struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct part_record r;
    struct stat sb;
    enum bnt_status st = bnt_path_format(path, err, "%s/%s", p->dir, state_name);
    int state = st == BNT_OK ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1, data = -1;
    if (state >= 0 && read_record(state, DURABLE_AT, &r) && r.check == check_of(&r) &&
        memchr(r.data_name, '\0', sizeof r.data_name) &&
        bnt_path_format(path, NULL, "%s/%s", p->dir, r.data_name) == BNT_OK) {
        data = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (data >= 0 && fstat(data, &sb) == 0 && record_ok(&r, p->key, (uint64_t)sb.st_size)) {
        st = copy_front(p, &r, data, err);
        st = st == BNT_OK ? make_state(p, err) : st;
        *taken = st == BNT_OK;
    }
    if (data >= 0) {
        close(data);
    }
    if (state >= 0) {
        close(state);
    }
    return st;
}

/* Look for a state file of the key. */
static enum bnt_status look_around(struct part *p, bool may_resume, bool *taken,
                                   struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    size_t k = strlen(p->key);
    DIR *d = opendir(p->dir);
    if (!d) {
        return bnt_err_errno(err, "cannot list %s", p->dir);
    }
    for (struct dirent *e = readdir(d); st == BNT_OK && e; e = readdir(d)) {
        char owner[OWNER_MAX] = "";
        size_t n = strlen(e->d_name);
        if (*taken || !may_resume || BNT_FAULT(resume) || n <= k + 7 || n - k - 7 >= OWNER_MAX ||
            strncmp(e->d_name, p->key, k) != 0 || e->d_name[k] != '.' ||
            strcmp(e->d_name + n - 6, ".state") != 0) {
            continue;
        }
        memcpy(owner, e->d_name + k + 1, n - k - 7);
        enum owner state = owner_state(owner);
        if (state == OWNER_GONE) {
            *taken = take(p, e->d_name);
        } else if (state == OWNER_ELSEWHERE) {
            st = take_copy(p, e->d_name, taken, err);
        }
    }
    closedir(d);
    return st;
}

enum bnt_status part_open(const char *cache_dir, const char *key, bool may_resume, struct part *p,
                          struct bnt_err *err)
{
    char owner[OWNER_MAX];
    struct bnt_downloads swept;
    bool taken = false;
    *p = (struct part){.file = {.fd = -1}, .state_fd = -1};
    snprintf(p->key, sizeof p->key, "%s", key);
    own_name(owner);
    enum bnt_status st = make_folder(cache_dir, p->dir, err);
    if (st == BNT_OK) {
        st = bnt_path_format(p->state_path, err, "%s/%s.%s.state", p->dir, key, owner);
    }
    if (st == BNT_OK) {
        (void)part_sweep(cache_dir, true, &swept, NULL); /* a later one tries again */
        st = look_around(p, may_resume, &taken, err);
    }
    p->resumed = taken && part_done_bytes(p) > 0;
    if (st == BNT_OK && !taken) {
        st = make_data(p, 0, "", err);
        st = st == BNT_OK ? make_state(p, err) : st;
    }
    if (st != BNT_OK) {
        part_drop(p);
    }
    return st;
}

enum bnt_status part_restart(struct part *p, uint64_t total, const char *validator,
                             struct bnt_err *err)
{
    char kept[BNT_CACHE_TAG_MAX];
    snprintf(kept, sizeof kept, "%s", validator); /* it may lie in the record */
    bnt_cache_temp_release(&p->file);
    p->resumed = false;
    enum bnt_status st = make_data(p, total, kept, err);
    return st == BNT_OK ? part_save(p, err) : st;
}

/* Holes of the missing ranges, those that are at most gap_bytes apart as one; their number. With
 * NULL they are only counted. */
static size_t join_ranges(const struct bnt_cache_range *missing, size_t n, uint64_t gap_bytes,
                          struct part_hole *holes)
{
    size_t k = 0;
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        bool joined = i > 0 && missing[i].begin - end <= gap_bytes;
        end = missing[i].end;
        k += !joined;
        if (holes && joined) {
            holes[k - 1].end = end;
        } else if (holes) {
            holes[k - 1] = (struct part_hole){missing[i].begin, end};
        }
    }
    return k;
}

enum bnt_status part_seed(struct part *p, uint64_t total, const struct bnt_cache_range *missing,
                          size_t n, struct bnt_err *err)
{
    uint64_t gap_bytes = 0;
    while (join_ranges(missing, n, gap_bytes, NULL) > SEED_HOLES) {
        gap_bytes = gap_bytes ? gap_bytes * 2 : SEED_GAP_BYTES;
    }
    p->record.total = total;
    memset(p->record.holes, 0, sizeof p->record.holes);
    (void)join_ranges(missing, n, gap_bytes, p->record.holes);
    p->resumed = part_done_bytes(p) > 0;
    return part_save(p, err);
}

enum bnt_status part_write(struct part *p, size_t i, const void *bytes, size_t n,
                           struct bnt_err *err)
{
    struct part_hole *h = &p->record.holes[i];
    enum bnt_status st = bnt_pwrite_all(p->file.fd, bytes, n, h->begin, p->file.path, err);
    if (st == BNT_E_NO_SPACE) {
        bnt_err_hint(err, "free some space, or set BNT_CACHE_DIR to another disk");
    }
    if (st != BNT_OK && !BNT_FAULT(part_write_lost)) {
        return st;
    }
    h->begin += n;
    p->unsynced_bytes += n;
    st = save_hole(p, i, err);
    return st == BNT_OK && p->unsynced_bytes >= SYNC_BYTES ? sync_part(p, err) : st;
}

enum bnt_status part_cut(struct part *p, size_t i, size_t rest, uint64_t at, struct bnt_err *err)
{
    struct part_hole *h = p->record.holes;
    h[rest] = (struct part_hole){at, h[i].end};
    enum bnt_status st = save_hole(p, rest, err);
    h[i].end = at;
    return st == BNT_OK ? save_hole(p, i, err) : st;
}

/* ---- the end ---- */

void part_keep(struct part *p)
{
    char to[BNT_PATH_MAX];
    if (p->file.fd < 0 || p->state_fd < 0 || part_done_bytes(p) == 0) {
        part_drop(p);
        return;
    }
    /* What fails here costs a later transfer some bytes, nothing else. */
    (void)sync_part(p, NULL);
    p->file.path[0] = '\0'; /* it stays */
    bnt_cache_temp_release(&p->file);
    close(p->state_fd);
    p->state_fd = -1;
    if (bnt_path_format(to, NULL, "%s/%s." FREE_OWNER ".state", p->dir, p->key) == BNT_OK) {
        (void)bnt_file_rename(p->state_path, to);
    }
}

void part_drop(struct part *p)
{
    if (p->file.fd >= 0) {
        bnt_cache_temp_release(&p->file);
    }
    if (p->state_fd >= 0) {
        close(p->state_fd);
        p->state_fd = -1;
        (void)bnt_file_unlink(p->state_path);
    }
}

/* ---- all of them ---- */

/* The owner in the name of a state file; false when it is none. */
static bool owner_of_file(const char *name, char owner[OWNER_MAX])
{
    const char *dot = strchr(name, '.');
    size_t n = strlen(name);
    size_t begin = dot ? (size_t)(dot - name) + 1 : n;
    if (n < begin + 7 || strcmp(name + n - 6, ".state") != 0 || n - 6 - begin >= OWNER_MAX) {
        return false;
    }
    memcpy(owner, name + begin, n - 6 - begin);
    owner[n - 6 - begin] = '\0';
    return true;
}

/* Whether a live process has the lock. */
static bool is_locked(int dir_fd, const char *name)
{
    size_t n = strlen(name);
    int fd = n > 5 && strcmp(name + n - 5, ".lock") == 0
                 ? openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
                 : -1;
    bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0) {
        close(fd);
    }
    return locked;
}

/* The names of state and data files whose owner lives, a line each. */
static enum bnt_status list_live(DIR *d, struct bnt_buf *live, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (struct dirent *e = readdir(d); st == BNT_OK && e; e = readdir(d)) {
        char owner[OWNER_MAX];
        struct part_record r;
        if (!owner_of_file(e->d_name, owner) || owner_state(owner) != OWNER_ALIVE) {
            continue;
        }
        st = bnt_buf_printf(live, err, "\n%s\n", e->d_name);
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (st == BNT_OK && fd >= 0 && read_record(fd, 0, &r) &&
            memchr(r.data_name, '\0', sizeof r.data_name)) {
            st = bnt_buf_printf(live, err, "\n%s\n", r.data_name);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    rewinddir(d);
    return st;
}

static void count_file(DIR *d, const char *name, const struct bnt_buf *live, bool remove,
                       struct bnt_downloads *out)
{
    struct stat sb;
    char line[NAME_MAX + 3];
    if (fstatat(dirfd(d), name, &sb, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(sb.st_mode)) {
        return;
    }
    uint64_t bytes = (uint64_t)sb.st_blocks * 512;
    out->files++;
    out->bytes += bytes;
    snprintf(line, sizeof line, "\n%s\n", name);
    /* File times are real even where the clock is a fake. */
    if ((int64_t)time(NULL) - sb.st_mtime <= PART_AGE_S || strstr(bnt_buf_view(live), line) ||
        is_locked(dirfd(d), name)) {
        return;
    }
    if (!remove || unlinkat(dirfd(d), name, 0) == 0) {
        out->stale_files++;
        out->stale_bytes += bytes;
    }
}

enum bnt_status part_sweep(const char *cache_dir, bool remove, struct bnt_downloads *out,
                           struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf live = BNT_BUF(1 << 20);
    *out = (struct bnt_downloads){.files = 0};
    enum bnt_status st = bnt_path_format(path, err, "%s/part", cache_dir);
    DIR *d = st == BNT_OK ? opendir(path) : NULL;
    if (!d) {
        return st != BNT_OK || errno == ENOENT ? st : bnt_err_errno(err, "cannot list %s", path);
    }
    st = list_live(d, &live, err);
    for (struct dirent *e = readdir(d); st == BNT_OK && e; e = readdir(d)) {
        count_file(d, e->d_name, &live, remove, out);
    }
    closedir(d);
    bnt_buf_release(&live);
    return st;
}
