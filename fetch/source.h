/* What a source means. */
#ifndef BNT_FETCH_SOURCE_H
#define BNT_FETCH_SOURCE_H

#include "fetch/bnt_fetch.h"

#define SOURCE_URL_MAX 8192    /* a signed URL may hold a session token */
#define SOURCE_TOKEN_MAX 8192  /* registries give long ones */
#define SOURCE_REVISION_MAX 72 /* a commit of the hub, or sha256: and a digest */

/* How the bytes come. */
enum source_kind { SOURCE_BUNDLED, SOURCE_FILE, SOURCE_HTTPS, SOURCE_HTTP };

/* A file, or files to choose from, of a repository of the model hub: fetch/hub.h. */
struct hub_ref {
    char repo[200]; /* "org/name"; "" when the source is none */
    char rev[128];  /* branch, tag or commit, decoded; "" is the main branch */
    char file[512]; /* path in the repository, decoded; "" while it is to be chosen */
    char quant[64]; /* word of the name of the file to choose; "" */
};

/* A layer, or layers to choose from, of an artifact in a registry: fetch/oci.h. */
struct oci_ref {
    char registry[256];               /* host[:port]; "" when the source is none */
    char repo[256];                   /* path of the repository */
    char tag[129];                    /* "" is latest, without a digest */
    char digest[SOURCE_REVISION_MAX]; /* of the manifest, with sha256: before it; "" */
    char file[512];                   /* title or digest of the layer; "" while to be chosen */
};

/* What the hub or a registry says of a file before it is downloaded. */
struct source_facts {
    char file[512];                     /* path in the repository, or title */
    char revision[SOURCE_REVISION_MAX]; /* commit, or digest of the manifest; "": not said */
    char sha256[BNT_SHA256_HEX]; /* "" for small files of the hub, which keeps another digest */
    uint64_t size;               /* bytes; 0 when it is not said */
};

struct source {
    enum source_kind kind;
    /* How the index records it and messages show it. A query string, which may hold a signature, is
     * replaced by the first digits of its digest, so that equal sources are equal and no secret is
     * kept. */
    char shown[BNT_CACHE_SOURCE_MAX];
    char url[SOURCE_URL_MAX];           /* https and http: what is asked for */
    char path[BNT_PATH_MAX];            /* bundled and file: absolute, without symbolic links */
    char file_name[BNT_CACHE_FILE_MAX]; /* last part of the path, decoded */
    char name[BNT_CACHE_NAME_MAX];      /* name made from it; "" when none can be */
    char token[SOURCE_TOKEN_MAX];       /* for the origin of url alone; "": none */
    bool basic;                         /* the token is USER:PASSWORD, else a bearer's */
    struct hub_ref hub;
    struct oci_ref oci;
    bool s3; /* the URL is signed before a transfer */
};

/* Parse; of a file it must exist. Errors: USAGE, UNSUPPORTED for an unknown scheme, NOT_FOUND. */
enum bnt_status source_parse(const char *text, struct source *out, struct bnt_err *err);

/* The policy of a word of BNT_FETCH_UPDATE_WORDS; false for another one. */
bool source_update(const char *word, enum bnt_fetch_update *out);

static inline bool source_is_remote(const struct source *s)
{
    return s->kind == SOURCE_HTTPS || s->kind == SOURCE_HTTP;
}

#endif
