/* When a source was last asked what it has, and what that was: so that it need not be asked again
 * for a day, and that the question can be "anything newer than this?". Kept in net.db. */
#ifndef BNT_FETCH_ASKED_H
#define BNT_FETCH_ASKED_H

#include "cache/bnt_cache.h"

#define ASKED_KEEP_S (90 * 24 * 3600) /* an answer that is older is forgotten */

struct asked {
    int64_t at_s;                      /* Unix time; 0: never */
    char validator[BNT_CACHE_TAG_MAX]; /* strong ETag or Last-Modified of the answer, or "" */
    char digest[BNT_SHA256_HEX];       /* of the content; "" when only the time is known */
};

/* Zeroes when nothing is known, or net.db cannot be read. `source` as messages show it. */
void asked_look(const char *cache_dir, const char *source, struct asked *out);
/* Remember; what cannot be written is asked again. */
void asked_note(const char *cache_dir, const char *source, const struct asked *a);

/* Whether the answer is less than a day old. */
bool asked_today(const struct asked *a);

#endif
