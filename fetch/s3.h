/* Objects of S3 and of servers that speak its protocol: s3://bucket/key.
 *
 *     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN   without them a bucket is public
 *     AWS_REGION, AWS_DEFAULT_REGION                                [us-east-1]
 *     AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL                         another server; the bucket is
 *                                                                   the first part of its paths
 *
 * A request is signed in its URL (Signature Version 4, query form), so that no key and no header is
 * there for a redirect to carry elsewhere. The signature is good for a day and for this object. */
#ifndef BNT_FETCH_S3_H
#define BNT_FETCH_S3_H

#include "fetch/source.h"

#define S3_SIGNED_FOR_S 86400

/* What follows s3://: fills kind, url (not signed), shown and s3. Errors: USAGE. */
enum bnt_status s3_parse(const char *rest, struct source *out, struct bnt_err *err);

/* The URL of the source's object, signed from now on for requests of one method ("GET", "HEAD",
 * "PUT", "DELETE") with the credentials of the environment; as it is without them. The body of a
 * PUT is not signed, its length is not bound. Not of a source that was settled: a URL is signed for
 * one method. Errors: USAGE too long; AUTH a key without its secret. */
enum bnt_status s3_url(const struct source *s, const char *method, char out[SOURCE_URL_MAX],
                       struct bnt_err *err);
/* Make the source's URL that of a GET. Errors: as s3_url. */
enum bnt_status s3_settle(struct source *s, struct bnt_err *err);

struct s3_key {
    const char *access, *secret;
    const char *session; /* NULL: none */
    const char *region;
};

struct s3_request {
    const char *method; /* upper case */
    const char *url;    /* https or http, without a query */
    int64_t now_s;      /* of the epoch */
};

/* The signed form of the request's URL. */
enum bnt_status s3_sign(const struct s3_request *request, const struct s3_key *key,
                        char out[SOURCE_URL_MAX], struct bnt_err *err);

#endif
