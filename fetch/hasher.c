/* The bytes are mapped from the file: they are in the page cache, so that costs next to nothing,
 * and the writer needs no queue and may fill the file in any order. The file is the writer's own
 * and does not shrink.
 *
 * Lock order: there is one lock. It guards the numbers; the digests belong to the thread while
 * `busy`, and to the caller when it is false. */
#include "fetch/hasher.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/thread.h"

enum {
    BLOCK_BYTES = 1 << 20,     /* mapped at once; fewer bytes are left until somebody waits */
    WRITE_BACK_BYTES = 8 << 20 /* written back at once */
};

struct hasher {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;   /* something to do; something was done */
    int fd;                      /* -1: none */
    uint64_t end, hashed, begun; /* bytes that are there, hashed, on their way to the disk */
    bool busy, hurry, quit;
    struct bnt_err failed; /* status OK while it did not */
    bool first_contact;
    struct bnt_chunk_tree *chain, *tree; /* the tree only on first contact */
    long page_bytes;
};

static enum bnt_status hash_block(struct hasher *h, int fd, size_t n, uint64_t at,
                                  struct bnt_err *err)
{
    size_t lead = (size_t)(at % (uint64_t)h->page_bytes);
    char *m = mmap(NULL, lead + n, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, (off_t)(at - lead));
    if (m == MAP_FAILED) {
        return bnt_err_errno(err, "cannot read back what was written");
    }
    enum bnt_status st = bnt_chunk_tree_update(h->chain, m + lead, n, err);
    if (st == BNT_OK && h->tree) {
        st = bnt_chunk_tree_update(h->tree, m + lead, n, err);
    }
    munmap(m, lead + n);
    if (st == BNT_OK && at + n - h->begun >= WRITE_BACK_BYTES) {
        /* A file system that has no such call writes back at the sync. */
        (void)sync_file_range(fd, (off_t)h->begun, (off_t)(at + n - h->begun),
                              SYNC_FILE_RANGE_WRITE);
        h->begun = at + n;
    }
    return st;
}

static bool has_work(const struct hasher *h)
{
    /* A file that was taken away while the thread hashed has its end before what is hashed. */
    uint64_t left = h->end > h->hashed ? h->end - h->hashed : 0;
    return h->failed.status == BNT_OK && left > 0 && (left >= BLOCK_BYTES || h->hurry);
}

static void *run(void *arg)
{
    struct hasher *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->quit) {
        if (!has_work(h)) {
            pthread_cond_wait(&h->work, &h->lock);
            continue;
        }
        struct bnt_err err = {0};
        uint64_t at = h->hashed, left = h->end - at;
        size_t n = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        int fd = h->fd;
        h->busy = true;
        pthread_mutex_unlock(&h->lock);
        (void)hash_block(h, fd, n, at, &err);
        pthread_mutex_lock(&h->lock);
        h->busy = false;
        h->failed = err;
        h->hashed += n;
        pthread_cond_signal(&h->idle);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

enum bnt_status hasher_new(bool first_contact, struct hasher **out, struct bnt_err *err)
{
    struct hasher *h = calloc(1, sizeof *h);
    if (!h) {
        return bnt_err_nomem(err, "the hash of a transfer", sizeof *h);
    }
    h->fd = -1;
    h->first_contact = first_contact;
    h->page_bytes = sysconf(_SC_PAGESIZE);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work, NULL);
    pthread_condattr_t monotonic; /* a wait does not end later when somebody sets the clock back */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&h->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int code = bnt_thread_start(&h->thread, run, h);
    if (code != 0) {
        free(h);
        errno = code;
        return bnt_err_errno(err, "cannot start a thread");
    }
    *out = h;
    return BNT_OK;
}

/* Take the file away from the thread. */
static void detach(struct hasher *h)
{
    pthread_mutex_lock(&h->lock);
    h->end = h->hashed;
    while (h->busy) {
        pthread_cond_wait(&h->idle, &h->lock);
    }
    h->fd = -1;
    h->end = h->hashed = h->begun = 0;
    h->failed = (struct bnt_err){0};
    pthread_mutex_unlock(&h->lock);
}

enum bnt_status hasher_begin(struct hasher *h, int fd, struct bnt_err *err)
{
    detach(h);
    bnt_chunk_tree_free(h->chain);
    bnt_chunk_tree_free(h->tree);
    h->chain = h->tree = NULL;
    enum bnt_status st = bnt_chunk_chain_new(&h->chain, err);
    if (st == BNT_OK && h->first_contact) {
        st = bnt_chunk_tree_new(&h->tree, err);
    }
    pthread_mutex_lock(&h->lock);
    h->fd = fd;
    h->hurry = false;
    pthread_mutex_unlock(&h->lock);
    return st;
}

void hasher_advance(struct hasher *h, uint64_t end)
{
    pthread_mutex_lock(&h->lock);
    h->end = end > h->end ? end : h->end;
    if (has_work(h) && !h->busy) {
        pthread_cond_signal(&h->work);
    }
    pthread_mutex_unlock(&h->lock);
}

bool hasher_wait(struct hasher *h, unsigned wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&h->lock);
    h->hurry = true;
    pthread_cond_signal(&h->work);
    int code = 0;
    while (code == 0 && (h->busy || has_work(h))) {
        code = pthread_cond_timedwait(&h->idle, &h->lock, &until);
    }
    bool done = !h->busy && !has_work(h);
    pthread_mutex_unlock(&h->lock);
    return done;
}

enum bnt_status hasher_finish(struct hasher *h, char hex[BNT_SHA256_HEX],
                              struct bnt_chunk_tree **tree, struct bnt_err *err)
{
    *tree = NULL;
    if (h->failed.status != BNT_OK) {
        return bnt_err_copy(err, &h->failed);
    }
    enum bnt_status st = bnt_chunk_chain_digest(h->chain, hex, err);
    struct bnt_chunk_tree **kept = h->tree ? &h->tree : &h->chain;
    if (st == BNT_OK) {
        *tree = *kept;
        *kept = NULL;
    }
    return st;
}

void hasher_free(struct hasher *h)
{
    if (!h) {
        return;
    }
    pthread_mutex_lock(&h->lock);
    h->quit = true;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->work);
    pthread_cond_destroy(&h->idle);
    bnt_chunk_tree_free(h->chain);
    bnt_chunk_tree_free(h->tree);
    free(h);
}
