/* What a command may ask of the rest of the house without including it. bnt.c fills this table; it
 * is the only file that knows all folders. */
#ifndef BNT_APP_H
#define BNT_APP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/opt.h"
#include "base/status.h"

/* Which model a name led to. */
struct bnt_model_ref {
    char path[BNT_PATH_MAX];
    char digest[BNT_SHA256_HEX]; /* "" while unknown: the file came by path and nothing has hashed
                                    it yet */
    const char *kind;            /* "real", "tiny" or "scripted"; static */
};

/* A file of which single ranges are wanted: its digest and size are known, and so is what every
 * range of it must be. All texts are borrowed while the reader is open. */
struct bnt_source_want {
    const char *digest;        /* sha256 of the whole */
    uint64_t size;             /* bytes of the whole */
    const char *const *places; /* where it came from, spelled as the index records it */
    size_t n_places;
    const char *cache_dir; /* for what is under way */
    /* Whether n bytes from offset on are the right ones. */
    bool (*right)(void *ctx, uint64_t offset, const void *bytes, size_t n);
    void *ctx;
    const volatile sig_atomic_t *interrupted; /* NULL, or non-zero stops with INTERRUPTED */
};

/* Ranges of the bytes that a model came from: how cache/ reaches sources and the network without
 * knowing either. fetch/ fills it. */
struct bnt_source {
    /* Begin to read a file, from the places that are named and those that the project of the
     * working folder knows. Errors: UNSUPPORTED when there is no place; those of a place when none
     * can be used. */
    enum bnt_status (*open)(const struct bnt_source_want *want, void **reader, struct bnt_err *err);
    /* Exactly n bytes that are right, from whichever place has them; one that cannot be had counts
     * as gone only after the attempts that a download makes. Errors: DIGEST when all places have
     * others by now; those of bnt_fetch. */
    enum bnt_status (*read)(void *reader, uint64_t offset, void *out, size_t n,
                            struct bnt_err *err);
    void (*close)(void *reader); /* NULL is fine */
};

/* A server of the cache for other machines. */
struct bnt_serve_opts {
    const char *listen;        /* "ADDRESS:PORT"; port 0: a free one */
    const char *const *tokens; /* n_tokens of them: who knows one may write */
    size_t n_tokens;
    bool writable;        /* take blobs by PUT; needs a token */
    bool is_private;      /* who reads needs a token, too */
    unsigned connections; /* at a time */
    unsigned timeout_s;   /* a connection that is silent for so long is closed */
    unsigned grace_s;     /* for the transfers that run when the end is asked for */
    const volatile sig_atomic_t *interrupted; /* non-zero: end */
    /* Nobody can ask a server whose address was not told: an error ends it. */
    enum bnt_status (*ready)(void *ctx, const char *url, struct bnt_err *err);
    void (*served)(void *ctx, const char *line); /* a request is over; from several threads */
    void *ctx;
};

#define BNT_PLACE_MAX 2048

/* A blob in a place far away, as it was given by bnt_network's place(). */
struct bnt_far_blob {
    const char *place;
    const char *digest;
    uint64_t size; /* bytes */
    const char *cache_dir;
    const volatile sig_atomic_t *interrupted; /* NULL, or non-zero stops with INTERRUPTED */
};

struct bnt_cache;

/* Files of unfinished downloads beside the store. */
struct bnt_downloads {
    uint64_t files, bytes;             /* on disk */
    uint64_t stale_files, stale_bytes; /* of those: nobody wrote them for long, nobody owns them */
};

/* What cache/ asks of the network without knowing it. fetch/ fills it. */
struct bnt_network {
    /* Whether a user's text is a place that can hold blobs ("http://HOST:PORT", "https://...",
     * "s3://BUCKET/PREFIX"), and how it is remembered; no secret is in it. Errors: USAGE. */
    enum bnt_status (*place)(const char *text, char out[BNT_PLACE_MAX], struct bnt_err *err);
    /* Send the file at `path` to where the blob shall lie. Says nothing of what is there then.
     * Errors: as bnt_fetch; NO_SPACE also when the place has none. */
    enum bnt_status (*put)(const struct bnt_far_blob *blob, const char *path, struct bnt_err *err);
    /* Read all of the blob back and hash it. *same is false when it is not there or has other
     * bytes. */
    enum bnt_status (*prove)(const struct bnt_far_blob *blob, bool *same, struct bnt_err *err);
    /* Count the unfinished downloads of a cache, and remove the stale ones when that is wanted. */
    enum bnt_status (*downloads)(const char *cache_dir, bool remove, struct bnt_downloads *out,
                                 struct bnt_err *err);
    /* Bring it back into the cache, under its digest and without a name. */
    enum bnt_status (*recall)(struct bnt_cache *cache, const struct bnt_far_blob *blob,
                              struct bnt_err *err);
    /* Serve the cache of this user until `interrupted`. OK when all transfers came to their end,
     * INTERRUPTED when some were cut. Errors: USAGE an address that cannot be; FAILED a port that
     * is taken; UNSUPPORTED without the library. */
    enum bnt_status (*serve)(const struct bnt_serve_opts *opts, struct bnt_err *err);
};

#define BNT_CPU_FEATURES                                                                           \
    "avx2, f16c, avx512f, avx512bw, avx512vl, avx512vnni, avx512vbmi, avxvnni, neon, dotprod, "    \
    "i8mm"

struct bnt_app {
    const struct bnt_cmd *const
        *commands; /* NULL-terminated: for help, completion and the man page */
    const struct bnt_opt *globals;
    const volatile sig_atomic_t *interrupted; /* non-zero once SIGINT, SIGTERM or SIGHUP came */

    /* A model from what a user typed after -m: a path (it contains '/' or ends in .gguf, or is an
     * existing file), the name of a cached model, "bundled:" or NULL (both the bundled model).
     * Touches the network only for a model that lies in the cold tier alone, unless BNT_OFFLINE=1.
     * Errors: NOT_FOUND with the nearest names and what to type. */
    enum bnt_status (*resolve_model)(const struct bnt_app *app, const char *name,
                                     struct bnt_model_ref *out, struct bnt_err *err);

    const struct bnt_source *source; /* for repairs */

    /* Whether this processor has a feature of BNT_CPU_FEATURES: 1, 0, or -1 for another word. */
    int (*cpu_has)(const char *feature);
    const struct bnt_network *network;
};

/* BNT_OFFLINE is on: no command uses the network by itself. What says neither yes nor no was
 * refused before any command. */
bool bnt_app_offline(void);

/* All files of a model that is to run in wasm32, together. */
#define BNT_WASM32_MAX_BYTES 100000000

#define BNT_BUNDLED_NAME "tinystories-bitnet.gguf"

/* Path of the bundled model: $BNT_MODELS_DIR, then beside the executable (build tree), then
 * <prefix>/share/bnt/models. */
enum bnt_status bnt_bundled_model(char out[BNT_PATH_MAX], struct bnt_err *err);

#endif
