/* Places that hold blobs by their digest: other machines' caches (bnt cache serve), and whatever a
 * cold tier is kept on. A blob is at <place>/v1/blobs/sha256/<hex>, whoever serves it. */
#ifndef BNT_FETCH_PLACE_H
#define BNT_FETCH_PLACE_H

#include "fetch/source.h"

/* Where a place has a blob: signed when it is in S3, and with the token of BNT_CACHE_TOKEN when it
 * is a server. Errors: USAGE when the place is none. */
enum bnt_status place_source(const char *place, const char *digest, struct source *out,
                             struct bnt_err *err);

#endif
