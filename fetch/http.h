/* One transfer over https or http. */
#ifndef BNT_FETCH_HTTP_H
#define BNT_FETCH_HTTP_H

#include "fetch/sink.h"
#include "fetch/source.h"

/* GET the source into the sink. `etag` receives the strong ETag of the answer, or "". Errors as
 * bnt_fetch says. */
enum bnt_status http_get(const struct source *source, struct sink *sink,
                         char etag[BNT_CACHE_TAG_MAX], struct bnt_err *err);

#endif
