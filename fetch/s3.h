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

/* Sign the source's URL for a GET from now on with the credentials of the environment; without them
 * it stays as it is. Errors: USAGE too long; AUTH a key without its secret. */
enum bnt_status s3_settle(struct source *s, struct bnt_err *err);

struct s3_key {
    const char *access, *secret;
    const char *session; /* NULL: none */
    const char *region;
};

/* The signed form of an https or http URL without a query. */
enum bnt_status s3_sign(const char *url, const struct s3_key *key, int64_t now_s,
                        char out[SOURCE_URL_MAX], struct bnt_err *err);

#endif
