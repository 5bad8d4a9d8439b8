/* From a place and a digest to a source. */
#include "fetch/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/s3.h"
#include "fetch/serve.h"

enum bnt_status place_source(const char *place, const char *digest, struct source *out,
                             struct bnt_err *err)
{
    char text[BNT_CACHE_SOURCE_MAX];
    const char *token = getenv("BNT_CACHE_TOKEN");
    size_t n = strlen(place);
    while (n > 0 && place[n - 1] == '/') {
        n--;
    }
    bool fits = snprintf(text, sizeof text, "%.*s" SERVE_BLOBS "%s", (int)n, place, digest) <
                (int)sizeof text;
    bool known = strncmp(place, "http://", 7) == 0 || strncmp(place, "https://", 8) == 0 ||
                 strncmp(place, "s3://", 5) == 0;
    if (!fits || !known || strpbrk(place, "?#")) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_USAGE, "'%.200s' is no place that holds models", place);
        bnt_err_hint(err, "write http://HOST:PORT (what bnt cache serve prints), https://HOST/PATH "
                          "or s3://BUCKET/PREFIX");
        return st;
    }
    enum bnt_status st = source_parse(text, out, err);
    if (st == BNT_OK && out->s3) {
        return s3_settle(out, err);
    }
    if (st == BNT_OK && token && strlen(token) < sizeof out->token) {
        snprintf(out->token, sizeof out->token, "%s", token);
    }
    return st;
}
