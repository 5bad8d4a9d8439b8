/* What a source means right now: the hub and registries are asked which content a name stands for,
 * a request to S3 is signed. */
#ifndef BNT_FETCH_SETTLE_H
#define BNT_FETCH_SETTLE_H

#include "fetch/bnt_fetch.h"
#include "fetch/source.h"

/* Whether a source, as it is written, is of those that say before a download what they have. */
bool settle_tells(const char *text);

/* Ask such a source; of another one nothing is said. Errors: as hub_ask and oci_ask. */
enum bnt_status settle_ask(struct source *s, const struct bnt_fetch_opts *opts,
                           struct source_facts *out, struct bnt_err *err);

/* Make the source ready for its transfer: it becomes the URL of one content, with the login or the
 * signature for it, or a file that another tool has downloaded. `expected` is the digest that the
 * content must have; when it is "" and the source says it, it is filled. Errors: as settle_ask;
 * OFFLINE; DIGEST when the source says that it has other content. */
enum bnt_status settle_source(struct source *s, const struct bnt_fetch_opts *opts,
                              char expected[BNT_SHA256_HEX], struct source_facts *facts,
                              struct bnt_err *err);

/* The same for a place of content whose digest is known, without a question. */
enum bnt_status settle_mirror(struct source *s, const char *digest, struct bnt_err *err);

/* The source as it is written when it is held to a revision, and (not NULL) to a file. */
enum bnt_status settle_pinned(const struct source *s, const char *revision, const char *file,
                              char out[BNT_CACHE_SOURCE_MAX], struct bnt_err *err);

/* What settling shares: the source is not the one that was meant; it is not to be asked. */
enum bnt_status settle_compare(const struct source *s, const struct source_facts *facts,
                               const char *expected, struct bnt_err *err);
enum bnt_status settle_offline(const char *shown, struct bnt_err *err);

#endif
