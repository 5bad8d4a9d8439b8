/* Checks of a produced answer. Pure functions over ids and text. */
#include "engine/quality.h"

#include <math.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/utf8.h"
#include "engine/unicode.h"

/* True when the 1 to 3 bytes at text are a proper prefix of some valid sequence. */
static bool utf8_incomplete(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    if (len == 0 || len > 3 || s[0] < 0xc2 || s[0] > 0xf4) {
        return false;
    }
    size_t need = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (len >= need) {
        return false;
    }
    /* The second byte's range is narrower after these leads: no overlong forms, surrogates or code
     * points past the end. */
    unsigned low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    return (len < 2 || (s[1] >= low && s[1] <= high)) && (len < 3 || (s[2] & 0xc0) == 0x80);
}

static bool is_blank(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r' && c != '\0') {
            return false;
        }
    }
    return true;
}

static enum bnt_status check_utf8(const char *text, size_t len, bool cut, struct bnt_err *err)
{
    size_t valid = bnt_utf8_valid(text, len);
    if (valid == len || (cut && utf8_incomplete(text + valid, len - valid))) {
        return BNT_OK;
    }
    return bnt_err_set(err, BNT_E_QUALITY, "output: invalid UTF-8 at byte %zu of %zu (0x%02x)",
                       valid, len, (unsigned)(unsigned char)text[valid]);
}

/* A block of `period` ids stands k times in a row exactly where ids[i] == ids[i - period] for (k -
 * 1) * period ids. */
static enum bnt_status check_repetition(const int32_t *ids, size_t n, struct bnt_err *err)
{
    for (size_t period = 1; period <= BNT_QUALITY_BLOCK; period++) {
        size_t run = 0;
        for (size_t i = period; i < n; i++) {
            run = ids[i] == ids[i - period] ? run + 1 : 0;
            size_t span = run + period;
            if (!BNT_FAULT(repetition) && span >= BNT_QUALITY_SPAN &&
                span >= BNT_QUALITY_REPEATS * period) {
                return bnt_err_set(err, BNT_E_QUALITY,
                                   "output: degenerate repetition: a block of %zu token%s stands "
                                   "%zu times in a row "
                                   "from token %zu on",
                                   period, period == 1 ? "" : "s", span / period, i + 1 - span);
            }
        }
    }
    return BNT_OK;
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static size_t count_distinct(const int32_t *window)
{
    int32_t sorted[BNT_QUALITY_WINDOW];
    size_t distinct = 0;
    for (size_t i = 0; i < BNT_QUALITY_WINDOW; i++) {
        sorted[i] = window[i];
    }
    qsort(sorted, BNT_QUALITY_WINDOW, sizeof(*sorted), compare_ids);
    for (size_t i = 0; i < BNT_QUALITY_WINDOW; i++) {
        distinct += i == 0 || sorted[i] != sorted[i - 1];
    }
    return distinct;
}

static enum bnt_status check_variety(const int32_t *ids, size_t n, struct bnt_err *err)
{
    for (size_t at = 0; at + BNT_QUALITY_WINDOW <= n; at += BNT_QUALITY_WINDOW / 2) {
        size_t distinct = count_distinct(ids + at);
        if (distinct * BNT_QUALITY_DISTINCT < BNT_QUALITY_WINDOW) {
            return bnt_err_set(
                err, BNT_E_QUALITY,
                "output: degenerate: only %zu different tokens among %d from token %zu on",
                distinct, BNT_QUALITY_WINDOW, at);
        }
    }
    return BNT_OK;
}

enum bnt_status bnt_quality_answer(const int32_t *ids, size_t n_ids, const char *text, size_t len,
                                   bool cut, struct bnt_err *err)
{
    if (is_blank(text, len)) {
        return bnt_err_set(err, BNT_E_QUALITY,
                           "output: the answer is empty (%zu tokens, no visible text)", n_ids);
    }
    enum bnt_status st = check_utf8(text, len, cut, err);
    if (st == BNT_OK) {
        st = check_repetition(ids, n_ids, err);
    }
    return st == BNT_OK ? check_variety(ids, n_ids, err) : st;
}

enum bnt_status bnt_quality_logits(const float *logits, int32_t n_vocab, struct bnt_err *err)
{
    for (int32_t i = 0; i < n_vocab; i++) {
        if (!BNT_FAULT(nan_logits) && (isnan(logits[i]) || logits[i] == INFINITY)) {
            bnt_err_set(err, BNT_E_INFERENCE, "output: the logit of id %d is %s", i,
                        isnan(logits[i]) ? "not a number" : "infinite");
            bnt_err_hint(err, "the weights or their format are broken; try: bnt inspect FILE");
            return BNT_E_INFERENCE;
        }
    }
    return BNT_OK;
}
