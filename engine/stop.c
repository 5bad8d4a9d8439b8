/* Stop strings over a stream. Owns copies of the strings and the bytes held back.
 *
 * Invariant between pushes: held[0..n_held-1] is the longest suffix of the text so far that is a
 * proper prefix of a stop string. Since a stop string's bytes are all in held before its last one
 * arrives, one comparison per string and byte finds every match, whatever the pushes. */
#include "engine/stop.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

struct stop_string {
    char *text;
    size_t len; /* bytes */
};

struct bnt_stop {
    struct stop_string *strings;
    size_t n;
    char held[BNT_STOP_MAX_BYTES];
    size_t n_held;
};

/* Index of the longest stop string that held[] ends with, or -1. */
static int completed(const struct bnt_stop *s)
{
    int best = -1;
    for (size_t i = 0; i < s->n; i++) {
        const struct stop_string *str = &s->strings[i];
        if (str->len <= s->n_held &&
            memcmp(s->held + s->n_held - str->len, str->text, str->len) == 0 &&
            (best < 0 || str->len > s->strings[best].len)) {
            best = (int)i;
        }
    }
    return best;
}

/* True when the held bytes from `from` on could be the beginning of a stop string. */
static bool may_begin(const struct bnt_stop *s, size_t from)
{
    size_t len = s->n_held - from;
    for (size_t i = 0; i < s->n; i++) {
        if (len < s->strings[i].len && !BNT_FAULT(stop_across_tokens) &&
            memcmp(s->held + from, s->strings[i].text, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Pass on the first n held bytes. */
static enum bnt_status release_held(struct bnt_stop *s, size_t n, struct bnt_buf *out,
                                    struct bnt_err *err)
{
    enum bnt_status st = n > 0 ? bnt_buf_append(out, s->held, n, err) : BNT_OK;
    s->n_held -= n;
    memmove(s->held, s->held + n, s->n_held);
    return st;
}

enum bnt_status bnt_stop_new(const char *const *strings, size_t n, struct bnt_stop **out,
                             struct bnt_err *err)
{
    struct bnt_stop *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return bnt_err_nomem(err, "stop strings", sizeof(*s));
    }
    s->strings = calloc(n > 0 ? n : 1, sizeof(*s->strings));
    for (size_t i = 0; s->strings != NULL && i < n; i++) {
        size_t len = strlen(strings[i]);
        if (len == 0 || len > BNT_STOP_MAX_BYTES) {
            bnt_stop_free(s);
            return bnt_err_set(err, BNT_E_USAGE, "stop string %zu has %zu bytes: must be 1 to %d",
                               i + 1, len, BNT_STOP_MAX_BYTES);
        }
        s->strings[i] = (struct stop_string){strdup(strings[i]), len};
        s->n = i + 1;
        if (s->strings[i].text == NULL) {
            break;
        }
    }
    if (s->strings == NULL || s->n < n || (n > 0 && s->strings[n - 1].text == NULL)) {
        bnt_stop_free(s);
        return bnt_err_nomem(err, "stop strings", n * sizeof(*s->strings));
    }
    *out = s;
    return BNT_OK;
}

void bnt_stop_free(struct bnt_stop *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        free(s->strings[i].text);
    }
    free(s->strings);
    free(s);
}

enum bnt_status bnt_stop_push(struct bnt_stop *s, const char *bytes, size_t n, struct bnt_buf *out,
                              int *hit, struct bnt_err *err)
{
    *hit = -1;
    if (s->n == 0) {
        return n > 0 ? bnt_buf_append(out, bytes, n, err) : BNT_OK;
    }
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < n && st == BNT_OK; i++) {
        s->held[s->n_held++] = bytes[i];
        *hit = completed(s);
        if (*hit >= 0) {
            return release_held(s, s->n_held - s->strings[*hit].len, out, err);
        }
        size_t from = 0;
        while (from < s->n_held && !may_begin(s, from)) {
            from++;
        }
        st = release_held(s, from, out, err);
    }
    return st;
}

enum bnt_status bnt_stop_flush(struct bnt_stop *s, struct bnt_buf *out, struct bnt_err *err)
{
    return release_held(s, s->n_held, out, err);
}

void bnt_stop_reset(struct bnt_stop *s)
{
    s->n_held = 0;
}
