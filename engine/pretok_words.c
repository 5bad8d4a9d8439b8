/* Scanners for words: each decides by at most a look at the run it is in, and what it walks over it
 * takes, so a piece is scanned in linear time. */
#include "engine/pretok_scan.h"

#include <string.h>

#include "base/fault.h"

const struct pretok_words pretok_llama3 = {
    .word = pretok_word_plain,
    .letters = UNI_L,
    .max_digits = 3,
    .tail = "\r\n",
    .contraction_first = true,
};

static bool is_newline(uni_char c)
{
    return uni_cp(c) == '\r' || uni_cp(c) == '\n';
}

static uint32_t fold_ascii(uint32_t cp)
{
    return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
}

static bool is_one_of(uni_char c, const char *set)
{
    return uni_cp(c) != 0 && uni_cp(c) < 128 && strchr(set, (int)uni_cp(c)) != NULL;
}

static size_t run_of(const uni_char *c, size_t at, size_t end, uint32_t classes)
{
    while (at < end && uni_is(c[at], classes)) {
        at++;
    }
    return at;
}

static size_t run_without(const uni_char *c, size_t at, size_t end, uint32_t classes)
{
    while (at < end && !uni_is(c[at], classes)) {
        at++;
    }
    return at;
}

/* '(s|t|m|d|re|ve|ll) */
static size_t contraction(const uni_char *c, size_t at, size_t end, bool either_case)
{
    if (uni_cp(c[at]) != '\'' || end - at < 2) {
        return at;
    }
    uint32_t a = uni_cp(c[at + 1]);
    uint32_t b = end - at < 3 ? 0 : uni_cp(c[at + 2]);
    if (either_case) {
        a = fold_ascii(a);
        b = fold_ascii(b);
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return at + 2;
    }
    bool two = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
    return two ? at + 3 : at;
}

/* \s*[\r\n]+ if newlines, then \s+(?!\S)|\s+ */
static size_t spaces(const uni_char *c, size_t at, size_t end, bool newlines)
{
    size_t after_newline = at;
    size_t p = at;
    for (; p < end && uni_is(c[p], UNI_WS); p++) {
        if (is_newline(c[p])) {
            after_newline = p + 1;
        }
    }
    if (newlines && after_newline > at) {
        return after_newline;
    }
    return p - at > 1 && p < end ? p - 1 : p;
}

size_t pretok_match_gpt2(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    size_t p = contraction(c, at, end, false);
    if (p > at) {
        return p;
    }
    size_t word = uni_cp(c[at]) == ' ' && at + 1 < end ? at + 1 : at;
    uint32_t class = c[word] & (UNI_L | UNI_N | UNI_WS);
    if (class == 0) {
        return run_without(c, word, end, UNI_L | UNI_N | UNI_WS);
    }
    return class & UNI_WS ? spaces(c, at, end, false) : run_of(c, word, end, class);
}

/* [^\r\n\p{L}\p{N}] */
static bool may_lead(uni_char c)
{
    return !uni_is(c, UNI_L | UNI_N) && !is_newline(c);
}

size_t pretok_word_plain(const void *rule, const uni_char *c, size_t at, size_t end)
{
    const struct pretok_words *w = rule;
    size_t first = uni_is(c[at], w->letters) || !may_lead(c[at]) ? at : at + 1;
    size_t p = run_of(c, first, end, w->letters);
    return p > first ? p : at;
}

static bool is_upper(const struct pretok_words *w, uni_char c)
{
    return uni_is(c, w->letters) && !(w->cased && uni_cp(c) >= 'a' && uni_cp(c) <= 'z');
}

static bool is_lower(const struct pretok_words *w, uni_char c)
{
    return uni_is(c, w->letters) && !(w->cased && uni_cp(c) >= 'A' && uni_cp(c) <= 'Z');
}

/* U*V+: the longest U* that still leaves a V, as a backtracking matcher finds it. */
static size_t upper_then_lower(const struct pretok_words *w, const uni_char *c, size_t at,
                               size_t end)
{
    size_t p = at;
    while (p < end && is_upper(w, c[p])) {
        p++;
    }
    if (p < end && is_lower(w, c[p])) {
        while (p < end && is_lower(w, c[p])) {
            p++;
        }
        return p;
    }
    while (p > at && !is_lower(w, c[p - 1])) {
        p--;
    }
    return p;
}

/* U+V* where U*V+ has failed: then nothing follows the U+. */
static size_t upper_only(const struct pretok_words *w, const uni_char *c, size_t at, size_t end)
{
    while (at < end && is_upper(w, c[at])) {
        at++;
    }
    return at;
}

size_t pretok_word_cased(const void *rule, const uni_char *c, size_t at, size_t end)
{
    const struct pretok_words *w = rule;
    size_t (*const forms[])(const struct pretok_words *, const uni_char *, size_t,
                            size_t) = {upper_then_lower, upper_only};
    for (size_t i = 0; i < 2; i++) {
        for (int lead = may_lead(c[at]); lead >= 0; lead--) {
            size_t first = at + (size_t)lead;
            size_t p = forms[i](w, c, first, end);
            if (p > first) {
                return w->contraction_last && p < end ? contraction(c, p, end, true) : p;
            }
        }
    }
    return at;
}

size_t pretok_word_phrase(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    size_t first = may_lead(c[at]) ? at + 1 : at;
    if (first >= end || !uni_is(c[first], UNI_L)) {
        return at;
    }
    size_t p = first;
    while (p < end) {
        if (uni_is(c[p], UNI_L)) {
            p = run_of(c, p + 1, end, UNI_M);
        } else if (uni_cp(c[p]) == ' ' && p + 1 < end && uni_is(c[p + 1], UNI_L)) {
            p++;
        } else {
            break;
        }
    }
    return p;
}

static bool is_han(uni_char c)
{
    uint32_t cp = uni_cp(c);
    return (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0x3400 && cp <= 0x4dbf) ||
           (cp >= 0x20000 && cp <= 0x2a6df) || (cp >= 0x2a700 && cp <= 0x2ebef) ||
           (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0x2f800 && cp <= 0x2fa1f);
}

size_t pretok_word_han(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    size_t p = at;
    while (p < end && is_han(c[p])) {
        p++;
    }
    if (p > at) {
        return p;
    }
    size_t first = may_lead(c[at]) ? at + 1 : at;
    for (p = first; p < end && uni_is(c[p], UNI_L) && !is_han(c[p]);) {
        p++;
    }
    if (p == first) {
        return at;
    }
    return p < end ? contraction(c, p, end, true) : p;
}

/* Punctuation with what follows it: ` ?[^\s\p{L}\p{N}]+TAIL`. */
static size_t punctuation(const struct pretok_words *w, const uni_char *c, size_t at, size_t end)
{
    uint32_t others = UNI_WS | UNI_L | UNI_N | (w->marks_are_words ? UNI_M : 0);
    size_t first = uni_cp(c[at]) == ' ' && at + 1 < end ? at + 1 : at;
    size_t p = run_without(c, first, end, others);
    if (p == first) {
        return at;
    }
    while (p < end && is_one_of(c[p], w->tail)) {
        p++;
        if (w->tail_once) {
            break;
        }
    }
    return p;
}

size_t pretok_match_words(const void *rule, const uni_char *c, size_t at, size_t end)
{
    const struct pretok_words *w = rule;
    size_t p = w->contraction_first ? contraction(c, at, end, true) : at;
    if (p == at) {
        p = w->word(w, c, at, end);
    }
    if (p == at && uni_is(c[at], UNI_N)) {
        size_t most = w->max_digits + BNT_FAULT(pretok_digits);
        size_t limit = w->max_digits == 0 || end - at < most ? end : at + most;
        p = run_of(c, at, limit, UNI_N);
    }
    if (p == at) {
        p = punctuation(w, c, at, end);
    }
    return p > at ? p : spaces(c, at, end, true);
}

/* The run c[at..run-1] of white space without a newline: powers of two as long as more is left than
 * the last one, which may begin a word. Writes the ends and returns where the cuts stop. */
static size_t cut_powers(size_t at, size_t run, size_t end, uint32_t *out, size_t *n)
{
    for (size_t power = 512; power > 0; power /= 2) {
        while (run - at > power || (run - at == power && run == end)) {
            at += power;
            out[(*n)++] = (uint32_t)at;
        }
    }
    return at;
}

size_t pretok_cut_space_powers(const uni_char *c, size_t begin, size_t end, uint32_t *out)
{
    size_t n = 0;
    for (size_t at = begin; at < end;) {
        size_t run = run_of(c, at, end, UNI_WS);
        bool blank_run = run - at > 1 || (run > at && run == end);
        for (size_t i = at; i < run && blank_run; i++) {
            blank_run = !is_newline(c[i]);
        }
        if (blank_run) {
            at = cut_powers(at, run, end, out, &n);
        } else {
            at = pretok_match_words(&pretok_llama3, c, at, end);
            out[n++] = (uint32_t)at;
        }
    }
    return n;
}

size_t pretok_match_deepseek(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    size_t p = at + 1;
    if (uni_cp(c[at]) < 128 && uni_is(c[at], UNI_P | UNI_S)) {
        while (p < end && uni_cp(c[p]) < 128 && uni_is(c[p], UNI_L)) {
            p++;
        }
        if (p > at + 1) {
            return p;
        }
    }
    bool lead = !uni_is(c[at], UNI_L | UNI_P | UNI_S) && !is_newline(c[at]);
    size_t first = lead && at + 1 < end && uni_is(c[at + 1], UNI_L | UNI_M) ? at + 1 : at;
    p = run_of(c, first, end, UNI_L | UNI_M);
    if (p > first) {
        return p;
    }
    first = uni_cp(c[at]) == ' ' ? at + 1 : at;
    p = run_of(c, first, end, UNI_P | UNI_S);
    if (p > first) {
        while (p < end && is_newline(c[p])) {
            p++;
        }
        return p;
    }
    return spaces(c, at, end, true);
}
