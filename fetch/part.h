/* The part of a file that has arrived so far: kept over failures and kills, and taken up by whoever
 * wants the same file next. part.c begins with the invariants and the life of a part. */
#ifndef BNT_FETCH_PART_H
#define BNT_FETCH_PART_H

#include "base/app.h"
#include "fetch/bnt_fetch.h"

#define PART_HOLES 1024
#define PART_KEY_MAX 33
#define PART_AGE_S (7 * 24 * 3600) /* a part that nobody wrote for so long is removed */
#define PART_NO_END UINT64_MAX     /* end of the last hole while the size is unknown */

/* Bytes [begin, end) are missing; unused when begin == end. */
struct part_hole {
    uint64_t begin, end;
};

/* What the state file holds. */
struct part_record {
    char magic[8];
    uint64_t total;                    /* bytes of the whole file; 0 while unknown */
    char validator[BNT_CACHE_TAG_MAX]; /* of the answer that the bytes are from; "" when none */
    char data_name[64];                /* file beside this one */
    struct part_hole holes[PART_HOLES];
    uint64_t check; /* of what is before it; only in the copy that survives a power cut */
};

struct part {
    struct bnt_cache_temp file; /* the bytes; ready for bnt_cache_add once no hole is left */
    int state_fd;
    char dir[BNT_PATH_MAX], state_path[BNT_PATH_MAX];
    char key[PART_KEY_MAX];
    struct part_record record;
    uint64_t unsynced_bytes;
    bool resumed; /* holds bytes from an earlier transfer */
};

/* Held by the process that transfers one file, so that others wait for it instead of asking the
 * server again. It only saves traffic: a part is safe without it. */
struct part_lock {
    int fd;
    char path[BNT_PATH_MAX];
};

/* The key of what is wanted: the digest when it is known beforehand, else the source. */
enum bnt_status part_key(const char *digest, const char *source, char key[PART_KEY_MAX],
                         struct bnt_err *err);

/* Wait until no other process transfers this; look into the cache afterwards. Errors: INTERRUPTED,
 * TIME. */
enum bnt_status part_lock_wait(const char *cache_dir, const char *key,
                               const struct bnt_fetch_opts *opts, struct part_lock *lock,
                               struct bnt_err *err);
void part_lock_release(struct part_lock *lock);

/* Take up what a dead or failed transfer left, or begin anew with one hole from 0. `may_resume`:
 * false begins anew in any case. */
enum bnt_status part_open(const char *cache_dir, const char *key, bool may_resume, struct part *p,
                          struct bnt_err *err);
/* Forget all bytes: a new file with one hole of `total` bytes (0: unknown). */
enum bnt_status part_restart(struct part *p, uint64_t total, const char *validator,
                             struct bnt_err *err);
/* All bytes of a fresh part but the missing ranges were written into its file: its size is `total`,
 * its holes are those ranges, ascending and apart. Where they are too many, neighbours become one
 * hole, and what is between them is fetched, too. */
enum bnt_status part_seed(struct part *p, uint64_t total, const struct bnt_cache_range *missing,
                          size_t n, struct bnt_err *err);
/* Write at the beginning of hole `i`, which shrinks. */
enum bnt_status part_write(struct part *p, size_t i, const void *bytes, size_t n,
                           struct bnt_err *err);
/* Cut hole `i` in two at `at`: hole `rest`, which is unused, becomes the second half. */
enum bnt_status part_cut(struct part *p, size_t i, size_t rest, uint64_t at, struct bnt_err *err);
/* Write the record, after a change of total or validator. */
enum bnt_status part_save(struct part *p, struct bnt_err *err);
/* The end of what is there without a gap from 0. */
uint64_t part_front(const struct part *p);
/* Bytes that are there. */
uint64_t part_done_bytes(const struct part *p);
bool part_complete(const struct part *p);
/* Let go of it, for the next transfer to take up. */
void part_keep(struct part *p);
/* Remove what is left of it. */
void part_drop(struct part *p);

/* bnt_network's downloads: what lies in part/. Stale is what nobody wrote for PART_AGE_S, unless
 * its owner or the holder of its lock lives. */
enum bnt_status part_sweep(const char *cache_dir, bool remove, struct bnt_downloads *out,
                           struct bnt_err *err);

#endif
