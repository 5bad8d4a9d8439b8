/* The cache: models by content, found by name.
 *
 * A folder holds the bytes, each file named by its own SHA-256; a SQLite index holds what the bytes
 * cannot say: names, where they came from, when. Bytes enter whole and verified or not at all, so
 * whoever finds a path here may map it at once. docs/cache.md describes the layout and the
 * invariants.
 *
 *     struct bnt_cache *cache;
 *     struct bnt_cache_entry entry;
 *     char path[BNT_PATH_MAX];
 *     if (bnt_cache_open(NULL, &cache, &err) == BNT_OK) {
 *         if (bnt_cache_lookup(cache, "bitnet-2b", &entry, path, &err) == BNT_OK) { ... }
 *         bnt_cache_close(cache);
 *     }
 *
 * A handle is single-threaded and must not cross fork(); any number of processes may have the same
 * cache open. Nothing here touches the network. */
#ifndef BNT_CACHE_H
#define BNT_CACHE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cache_dir.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/status.h"

#define BNT_CACHE_NAME_MAX 129 /* bytes with the terminator, for all four */
#define BNT_CACHE_SOURCE_MAX 2048
#define BNT_CACHE_TAG_MAX 256
#define BNT_CACHE_FILE_MAX 256
#define BNT_CACHE_PREFIX_MIN 8 /* digits of a digest that may stand for it */
#define BNT_CACHE_USE_STEP_S                                                                       \
    3600 /* a use is noted when the last note is older, so that hits rarely write */

struct bnt_cache;

/* Where the bytes of an addition come from. */
enum bnt_cache_origin {
    BNT_CACHE_FROM_SOURCE, /* the source of its name, or a mirror of it */
    BNT_CACHE_FROM_COLD,
    BNT_CACHE_FROM_WARM,
    BNT_CACHE_FROM_HAND, /* an import, a repair, an upload: not counted */
};

/* What is counted of a blob. No look-up writes for it more than used_s does, so a use is an hour in
 * which there was at least one. */
struct bnt_cache_counts {
    int64_t since_s;                            /* Unix time at which counting began */
    uint64_t use_hours;                         /* hours with a use, the addition among them */
    uint64_t from_source, from_cold, from_warm; /* how often the whole came from there */
    uint64_t warm_bytes; /* what it took when it was last compressed; 0: it never was */
};

/* One name of one blob. A blob without a name (its name was moved on, or the index was rebuilt) has
 * name, source, source_tag and file_name "". */
struct bnt_cache_entry {
    char name[BNT_CACHE_NAME_MAX];
    char digest[BNT_SHA256_HEX];
    uint64_t size;                      /* bytes */
    char source[BNT_CACHE_SOURCE_MAX];  /* "https://...", "file:///...", "bundled:"; no secrets */
    char source_tag[BNT_CACHE_TAG_MAX]; /* tells states of the source apart: ETag, size and time */
    char file_name[BNT_CACHE_FILE_MAX]; /* what the file was called there */
    int64_t fetched_s;  /* Unix time at which the name was given; 0 without a name */
    int64_t verified_s; /* Unix time at which the content was last hashed */
    int64_t used_s;     /* Unix time of the last look-up, at most BNT_CACHE_USE_STEP_S behind it */
    bool pinned;        /* never removed by a collection */
    struct bnt_cache_counts counts;
};

/* Open the cache in `dir` (NULL: bnt_cache_dir). A folder that does not exist is an empty cache and
 * is only made when something is added. When the index is missing, blobs that lie in the store are
 * listed in a new one, with their names. Errors: FILE when the index is damaged, UNSUPPORTED when a
 * newer bnt wrote it. */
enum bnt_status bnt_cache_open(const char *dir, struct bnt_cache **out, struct bnt_err *err);
void bnt_cache_close(struct bnt_cache *c);               /* NULL is fine */
const char *bnt_cache_folder(const struct bnt_cache *c); /* valid until close */
/* From now on everything that takes long ends with INTERRUPTED once *interrupted is non-zero;
 * NULL: never. c may be NULL. */
void bnt_cache_interrupt(struct bnt_cache *c, const volatile sig_atomic_t *interrupted);

/* Set a damaged index aside (index.db.damaged) and list the blobs of the store in a new one, and
 * their names. Pins, times and counts of use are lost. `blobs` counts what was found. */
enum bnt_status bnt_cache_rebuild(const char *dir, uint64_t *blobs, struct bnt_err *err);

/* What a name, a whole digest or at least BNT_CACHE_PREFIX_MIN digits of one lead to, and the
 * blob's path. Names win. Errors: NOT_FOUND with the nearest names, also when the store has lost
 * the blob; USAGE for an ambiguous prefix; DIGEST when the blob has not the size it entered with;
 * OFFLINE when its only copy is far away. A compressed blob is expanded first. */
enum bnt_status bnt_cache_lookup(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                                 char path[BNT_PATH_MAX], struct bnt_err *err);
/* The same from the index alone, without a look at the store. */
enum bnt_status bnt_cache_find(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                               struct bnt_err *err);
/* The row of exactly this name; *found says whether there is one. */
enum bnt_status bnt_cache_find_name(struct bnt_cache *c, const char *name,
                                    struct bnt_cache_entry *out, bool *found, struct bnt_err *err);
/* Whether the store holds the blob in its full size. */
enum bnt_status bnt_cache_has(struct bnt_cache *c, const char *digest, bool *has,
                              struct bnt_err *err);
enum bnt_status bnt_cache_blob_path(const struct bnt_cache *c, const char *digest,
                                    char out[BNT_PATH_MAX], struct bnt_err *err);

/* 1 to 128 of [A-Za-z0-9._+-], not beginning with '.' or '-', not ending in ".gguf": what cannot be
 * mistaken for a path or an option. */
bool bnt_cache_name_ok(const char *name);

/* Where new bytes go until they are verified: write to fd, then bnt_cache_add or release. A
 * temporary whose process died is removed by a later one. */
struct bnt_cache_temp {
    int fd;                  /* -1 when closed */
    char path[BNT_PATH_MAX]; /* "" when it has become a blob */
    /* NULL, or a tree or chain that the writer feeds with every byte in order; it
     * belongs to the temporary. Without one, bnt_cache_add reads the file again to make it. */
    struct bnt_chunk_tree *tree;
    enum bnt_cache_origin origin; /* for the index; FROM_SOURCE unless it is set */
};
enum bnt_status bnt_cache_temp_open(struct bnt_cache *c, struct bnt_cache_temp *t,
                                    struct bnt_err *err);
void bnt_cache_temp_release(struct bnt_cache_temp *t);

/* Make the temporary the blob of `entry->digest`, which the caller has computed over exactly the
 * bytes in it, and give it entry->name (which may be ""), source, source_tag and file_name. size
 * and times are filled in. A blob of that digest that is already there is replaced, so that adding
 * heals it. On success the temporary is closed and gone. */
enum bnt_status bnt_cache_add(struct bnt_cache *c, struct bnt_cache_temp *t,
                              struct bnt_cache_entry *entry, struct bnt_err *err);
/* The same for a blob that is already in the store. */
enum bnt_status bnt_cache_set_name(struct bnt_cache *c, struct bnt_cache_entry *entry,
                                   struct bnt_err *err);

/* List blobs that are in the store and not in the index: a process died between the two, or
 * somebody copied them in. */
enum bnt_status bnt_cache_adopt(struct bnt_cache *c, struct bnt_err *err);

/* Every name, in order, then the blobs without one. */
struct bnt_cache_list {
    struct bnt_cache_entry *at;
    size_t n;
};
enum bnt_status bnt_cache_list(struct bnt_cache *c, struct bnt_cache_list *out,
                               struct bnt_err *err);
void bnt_cache_list_release(struct bnt_cache_list *l);

enum bnt_cache_health {
    BNT_CACHE_OK,
    BNT_CACHE_MISSING,
    BNT_CACHE_SIZE_DIFFERS,
    BNT_CACHE_CORRUPT,
    BNT_CACHE_COLD /* far away: nothing is here to be hashed */
};

/* Hash the blob of an entry. A finding is not an error: it is in *health, and a good one is noted
 * in the index. progress may be NULL. */
enum bnt_status bnt_cache_verify(struct bnt_cache *c, struct bnt_cache_entry *entry,
                                 bnt_digest_progress_fn *progress, void *ctx,
                                 enum bnt_cache_health *health, struct bnt_err *err);

/* Digests of the 4 MiB chunks of a blob, kept beside the store: damage is told by offset and healed
 * by chunks. The root is one digest for all of them (cache/tree.c). */
#define BNT_CACHE_CHUNK_BYTES ((size_t)4 << 20)
struct bnt_chunk_tree;
enum bnt_status bnt_chunk_tree_new(struct bnt_chunk_tree **out, struct bnt_err *err);
/* A chain in its place: one hash for the digest of the whole and for damage by chunk, but without
 * leaves (cache/tree.c). Fed in the same way; bnt_chunk_tree_root and _encode are not for it. */
enum bnt_status bnt_chunk_chain_new(struct bnt_chunk_tree **out, struct bnt_err *err);
/* After the last update: the digest of the whole. */
enum bnt_status bnt_chunk_chain_digest(struct bnt_chunk_tree *t, char hex[BNT_SHA256_HEX],
                                       struct bnt_err *err);
enum bnt_status bnt_chunk_tree_update(struct bnt_chunk_tree *t, const void *bytes, size_t n,
                                      struct bnt_err *err);
/* Only after the last update. */
enum bnt_status bnt_chunk_tree_root(struct bnt_chunk_tree *t, char hex[BNT_SHA256_HEX],
                                    struct bnt_err *err);
void bnt_chunk_tree_free(struct bnt_chunk_tree *t);           /* NULL is fine */
uint64_t bnt_chunk_tree_size(const struct bnt_chunk_tree *t); /* bytes of the content */
/* The tree of a file. interrupted: NULL, or non-zero stops. */
enum bnt_status bnt_chunk_tree_of_file(const char *path, const volatile sig_atomic_t *interrupted,
                                       struct bnt_chunk_tree **out, struct bnt_err *err);
/* The form in which trees lie in the cache and travel: append it to a buffer of at most
 * BNT_CHUNK_TREE_MAX_BYTES, and read it. A server has the tree of FILE as FILE with this suffix.
 * Errors of reading: FILE, when it is not whole. */
#define BNT_CHUNK_TREE_SUFFIX ".bnttree"
#define BNT_CHUNK_TREE_MAX_BYTES ((size_t)48 + ((size_t)1 << 18) * BNT_SHA256_BYTES) /* 1 TiB */
enum bnt_status bnt_chunk_tree_encode(struct bnt_chunk_tree *t, struct bnt_buf *out,
                                      struct bnt_err *err);
enum bnt_status bnt_chunk_tree_decode(const void *bytes, size_t n, struct bnt_chunk_tree **out,
                                      struct bnt_err *err);
/* The tree of a blob that is in the cache; NULL in *out when it is not known. */
enum bnt_status bnt_cache_tree_load(struct bnt_cache *c, const char *digest,
                                    struct bnt_chunk_tree **out, struct bnt_err *err);
/* The same, and when it is not known it is made of the hot blob, which costs two hashes, and kept.
 * NULL in *out when there is no sound hot blob. */
enum bnt_status bnt_cache_tree_make(struct bnt_cache *c, const char *digest,
                                    struct bnt_chunk_tree **out, struct bnt_err *err);
/* Its root; `make` as above. hex is "" when it is not known. */
enum bnt_status bnt_cache_tree_root(struct bnt_cache *c, const char *digest, bool make,
                                    char hex[BNT_SHA256_HEX], struct bnt_err *err);

/* Build a file from the chunks that the cache has: every chunk of the wanted tree that some hot
 * blob has, wherever in it, is compared with its leaf and put where it belongs in `fd` (blocks are
 * shared where the file system can). What is missing is told by ranges, ascending and apart. */
struct bnt_cache_range {
    uint64_t begin, end; /* bytes; end is not part of it */
};
struct bnt_cache_reuse {
    struct bnt_cache_range *missing;
    size_t n_missing;
    uint64_t reused_bytes;
};
enum bnt_status bnt_cache_reuse_chunks(struct bnt_cache *c, const struct bnt_chunk_tree *want,
                                       int fd, struct bnt_cache_reuse *out, struct bnt_err *err);
void bnt_cache_reuse_release(struct bnt_cache_reuse *r);
/* The file of the tree of a blob, open for reading. Errors: NOT_FOUND when there is none that is
 * whole. */
enum bnt_status bnt_cache_tree_open(struct bnt_cache *c, const char *digest, int *fd,
                                    struct bnt_err *err);

/* Which chunks of a blob are not what they were. */
struct bnt_cache_damage {
    bool has_tree; /* false: the chunks are not known one by one, and the rest says nothing */
    uint64_t *bad; /* offsets of bad chunks, ascending */
    size_t n_bad, n_chunks;
    uint64_t bad_bytes; /* what a repair has to read from the source */
};
enum bnt_status bnt_cache_damage_find(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                                      struct bnt_cache_damage *out, struct bnt_err *err);
void bnt_cache_damage_release(struct bnt_cache_damage *d);
/* Replace the blob of an entry, reading only its bad chunks, from the sources of its names and what
 * else the source knows. Mappings of the damaged file keep its bytes. Errors: DIGEST when all
 * places have other content by now, UNSUPPORTED without a tree or a place, and those of the source.
 */
struct bnt_source;
enum bnt_status bnt_cache_repair(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                                 const struct bnt_cache_damage *damage,
                                 const struct bnt_source *source, struct bnt_err *err);

/* Say that this process uses a blob: until release, or the end of the process, no collection or
 * removal takes it. Also across exec and threads, but not for a child after its parent has
 * released. Locks are advice: cache/lease.c says what happens where they do not work (nothing bad).
 * Errors: NOT_FOUND. */
struct bnt_cache_lease {
    int fd; /* -1 when none */
};
enum bnt_status bnt_cache_lease_take(struct bnt_cache *c, const char *digest,
                                     struct bnt_cache_lease *l, struct bnt_err *err);
void bnt_cache_lease_release(struct bnt_cache_lease *l);
/* bnt_cache_lookup and a lease on what it finds, whatever a collection does meanwhile. */
enum bnt_status bnt_cache_use(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                              char path[BNT_PATH_MAX], struct bnt_cache_lease *l,
                              struct bnt_err *err);

/* Keep a blob from collections, or let it go again; *out is its entry. */
enum bnt_status bnt_cache_pin(struct bnt_cache *c, const char *key, bool pinned,
                              struct bnt_cache_entry *out, struct bnt_err *err);
/* Remove a name, and its blob when that was the last one; a digest removes the blob with all its
 * names. *out is what the key led to. Errors: NOT_FOUND; FAILED when the blob is pinned or leased.
 */
enum bnt_status bnt_cache_remove(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                                 bool *blob_removed, struct bnt_err *err);

/* Compress a blob that nobody uses: its hot file goes when the compressed copy was proven to become
 * the same bytes. The next look-up makes it hot again, as fast as the disk takes it. */
struct bnt_cache_demotion {
    uint64_t before_bytes, after_bytes; /* on disk; after_bytes 0: nothing was tried */
    bool moved; /* false: in use, compressed already, or less than a twentieth would be saved */
    bool in_use;
};
enum bnt_status bnt_cache_demote(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                                 struct bnt_cache_demotion *out, struct bnt_err *err);
/* Where a blob is and what it takes on disk; stored 0: it is gone. */
enum bnt_status bnt_cache_tier(struct bnt_cache *c, const char *digest, bool *warm,
                               uint64_t *stored_bytes, struct bnt_err *err);

/* The cold tier: a copy far away that was read back and hashed. A blob whose only copy that is has
 * its row and its names; looking it up is OFFLINE, and bnt_cache_pull brings it back. */
struct bnt_cache_cold {
    char place[BNT_CACHE_SOURCE_MAX]; /* "http://HOST:PORT", "s3://BUCKET/PREFIX"... */
    uint64_t size;
    int64_t proven_s; /* Unix time at which it was read back */
};
/* Where a blob lies far away, whatever is here of it. */
enum bnt_status bnt_cache_cold(struct bnt_cache *c, const char *digest, struct bnt_cache_cold *out,
                               bool *found, struct bnt_err *err);

struct bnt_network;
struct bnt_cache_push_opts {
    const struct bnt_network *network;
    const char *place;
    bool move; /* drop the local copy, unless a process uses it */
};
struct bnt_cache_pushed {
    uint64_t sent_bytes; /* 0: the place had it */
    bool moved, in_use;
};
/* Copy a blob to a place and prove it there. Errors: DIGEST when the place does not give the same
 * bytes back, and those of the network; then all that was here is here. */
enum bnt_status bnt_cache_push(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                               const struct bnt_cache_push_opts *opts, struct bnt_cache_pushed *out,
                               struct bnt_err *err);
/* Bring the blob of an entry back from where it lies. Errors: NOT_FOUND when it lies nowhere;
 * OFFLINE when it is not here, and there is no network (NULL). */
enum bnt_status bnt_cache_pull(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                               const struct bnt_network *network, struct bnt_err *err);

/* The blobs of entries and their names as a tar archive that appears whole or not at all; the same
 * content gives the same bytes. */
enum bnt_status bnt_cache_export(struct bnt_cache *c, const struct bnt_cache_list *entries,
                                 const char *path, struct bnt_err *err);
/* Bring an export in. Only bytes that have the digest they are named by enter, and a name that has
 * other content stays as it is (n_taken). Errors: FILE no export, cut off, or with links in it;
 * DIGEST; what was whole before an error stays. */
struct bnt_cache_import {
    uint64_t n_models, n_names, n_taken, bytes; /* what was not here before */
};
enum bnt_status bnt_cache_import_file(struct bnt_cache *c, const char *path,
                                      struct bnt_cache_import *out, struct bnt_err *err);

/* Collection: remove what is not needed any more, least recently used first. gc.c has the order of
 * the rules. */
struct bnt_cache_gc_opts {
    uint64_t max_bytes;      /* of all blobs together; 0: no limit */
    uint64_t min_free_bytes; /* of the disk; 0: no limit */
    int64_t demote_after_s;  /* compress what was not used for this long and stays; 0: nothing */
    /* Move to `cold` what was not used for so long and stays; 0: nothing. */
    int64_t cold_after_s;
    struct bnt_cache_push_opts cold; /* `move` is set */
    int64_t max_age_s;               /* since the last use; 0: no limit */
    int64_t unnamed_age_s; /* the same for blobs without a name; 0: BNT_CACHE_UNNAMED_AGE_S */
    uint64_t keep_latest;  /* blobs used last that stay in any case */
    bool dry_run;          /* only tell */
    /* Whether a digest must stay, for instance since a lock file names it; NULL: none. */
    bool (*keep)(void *ctx, const char *digest);
    void *ctx;
};
#define BNT_CACHE_UNNAMED_AGE_S (7 * 24 * 3600)

#define BNT_CACHE_GC_TABLE(X)                                                                      \
    X(BNT_GC_KEPT, false, "kept")                                                                  \
    X(BNT_GC_KEPT_PINNED, false, "pinned")                                                         \
    X(BNT_GC_KEPT_LEASED, false, "in use")                                                         \
    X(BNT_GC_KEPT_LISTED, false, "lock file")                                                      \
    X(BNT_GC_KEPT_LATEST, false, "latest")                                                         \
    X(BNT_GC_KEPT_WARM, false, "compressed")                                                       \
    X(BNT_GC_KEPT_COLD, false, "cold")                                                             \
    X(BNT_GC_UNNAMED, true, "no name")                                                             \
    X(BNT_GC_AGE, true, "age")                                                                     \
    X(BNT_GC_SIZE, true, "size")                                                                   \
    X(BNT_GC_FREE, true, "free space")
enum bnt_cache_gc_verdict {
#define BNT_CACHE_GC_ROW(identifier, removes, words) identifier,
    BNT_CACHE_GC_TABLE(BNT_CACHE_GC_ROW)
#undef BNT_CACHE_GC_ROW
};
bool bnt_cache_gc_removes(enum bnt_cache_gc_verdict v);
const char *bnt_cache_gc_words(enum bnt_cache_gc_verdict v); /* static */

struct bnt_cache_gc_row {
    struct bnt_cache_entry entry; /* of the blob's first name */
    uint64_t n_names;
    uint64_t stored; /* bytes on disk before the collection; 0 when the file is gone */
    bool warm;       /* compressed before or by the collection */
    bool cold;       /* far away alone, before or by the collection */
    enum bnt_cache_gc_verdict verdict;
};
struct bnt_cache_gc_report {
    struct bnt_cache_gc_row *at; /* one per blob, least recently used first */
    size_t n;
    uint64_t bytes_before, bytes_removed, n_removed;
    uint64_t n_demoted, bytes_saved; /* compressed by this collection */
    uint64_t n_cold, bytes_cold;     /* moved away by this collection */
    /* Packed weights that the engine keeps: there before, and of those what this collection has
     * removed. They count for the limits, and go before any model. */
    uint64_t n_packed, packed_bytes, n_packed_removed, packed_bytes_removed;
    bool unmet; /* what must stay is more than a limit allows */
};
/* Errors leave a report of what was done so far. */
enum bnt_status bnt_cache_gc(struct bnt_cache *c, const struct bnt_cache_gc_opts *opts,
                             struct bnt_cache_gc_report *out, struct bnt_err *err);
void bnt_cache_gc_report_release(struct bnt_cache_gc_report *r);
/* What the engine keeps of one model (digest), or of all (NULL): bytes of packed weights. */
uint64_t bnt_cache_packed_bytes(const struct bnt_cache *c, const char *digest);
/* Bytes that this user can still write on the disk of the cache, which may not be there yet. */
enum bnt_status bnt_cache_free_bytes(const struct bnt_cache *c, uint64_t *bytes,
                                     struct bnt_err *err);

#endif
