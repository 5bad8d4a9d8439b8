/* Bring the bytes of one file over the network into a part. transfer.c begins with how. */
#ifndef BNT_FETCH_TRANSFER_H
#define BNT_FETCH_TRANSFER_H

#include "fetch/bnt_fetch.h"
#include "fetch/part.h"
#include "fetch/source.h"

#define TRANSFER_SOURCES_MAX 16
#define TRANSFER_CONNECTIONS_MAX 16

struct transfer_spec {
    const char *cache_dir;
    struct source
        *sources;       /* logins of them are renewed; the first is the one that was asked for */
    size_t n_sources;   /* more than one only with a digest */
    const char *digest; /* that the bytes must have, or "" */
    const char *known;  /* validator of the content that is here already; NULL or "" */
    /* Only what fills the holes matters: the rest of the part may be anything, nothing is hashed,
     * and a server whose file has another size than the part is an error. Needs a digest. */
    bool only_holes;
    const struct bnt_fetch_opts *opts;
};

struct transfer_result {
    char digest[BNT_SHA256_HEX];  /* of what is in the part now; says nothing under only_holes */
    char etag[BNT_CACHE_TAG_MAX]; /* the strong ETag of the first source, or "" */
    char validator[BNT_CACHE_TAG_MAX]; /* the same, or a Last-Modified that can be trusted */
    uint64_t received_bytes;           /* of bodies, also of those that were of no use */
    unsigned requests;
    bool unchanged; /* the source has what `known` is of: nothing is in the part */
};

/* Fill the holes of the part. Errors as bnt_fetch says; then the part holds what came. */
enum bnt_status transfer_run(const struct transfer_spec *spec, struct part *part,
                             struct transfer_result *out, struct bnt_err *err);

#endif
