/* Scanners for runs of one set of characters, and a few fixed forms. */
#include "engine/pretok_scan.h"

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SET(name, table, ...)                                                                      \
    const struct pretok_set name = {.ranges = table, .n = COUNT(table), __VA_ARGS__}

/* Letters that have case, and a few more. */
static const struct pretok_range western[] = {
    {0x41, 0x5a},       {0x61, 0x7a},       {0xb5, 0xb5},       {0xc0, 0xd6},
    {0xd8, 0xf6},       {0xf8, 0x1ba},      {0x1bc, 0x1bf},     {0x1c4, 0x293},
    {0x295, 0x2af},     {0x370, 0x373},     {0x376, 0x377},     {0x37b, 0x37d},
    {0x37f, 0x37f},     {0x386, 0x386},     {0x388, 0x38a},     {0x38c, 0x38c},
    {0x38e, 0x3a1},     {0x3a3, 0x3f5},     {0x3f7, 0x481},     {0x48a, 0x52f},
    {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},   {0x13f8, 0x13fd},
    {0x1c90, 0x1cba},   {0x1cbd, 0x1cbf},   {0x1d00, 0x1d2b},   {0x1d6b, 0x1d77},
    {0x1d79, 0x1d9a},   {0x1e00, 0x1f15},   {0x1f18, 0x1f1d},   {0x1f20, 0x1f45},
    {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},   {0x1f5b, 0x1f5b},
    {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},   {0x1f80, 0x1fb4},   {0x1fb6, 0x1fbc},
    {0x1fbe, 0x1fbe},   {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},   {0x1fd0, 0x1fd3},
    {0x1fd6, 0x1fdb},   {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},   {0x1ff6, 0x1ffc},
    {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210a, 0x2113},   {0x2115, 0x2115},
    {0x2119, 0x211d},   {0x2124, 0x2124},   {0x2126, 0x2126},   {0x2128, 0x2128},
    {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},   {0x213c, 0x213f},
    {0x2145, 0x2149},   {0x214e, 0x214e},   {0x2183, 0x2184},   {0x2c00, 0x2c7b},
    {0x2c7e, 0x2ce4},   {0x2ceb, 0x2cee},   {0x2cf2, 0x2cf3},   {0xa640, 0xa66d},
    {0xa680, 0xa69b},   {0xa722, 0xa76f},   {0xa771, 0xa787},   {0xa78b, 0xa78e},
    {0xab70, 0xabbf},   {0xfb00, 0xfb06},   {0xfb13, 0xfb17},   {0xff21, 0xff3a},
    {0xff41, 0xff5a},   {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb},
    {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943},
};
/* The second range reaches from the colon to the tilde, letters included, as trained. */
static const struct pretok_range marks[] = {
    {0x21, 0x2f},     {0x3a, 0x7e},     {0x2018, 0x201f},
    {0x3000, 0x3002}, {0xff01, 0xff0f}, {0xff1a, 0xff5e},
};
static const struct pretok_range cjk_wide[] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}};
static const struct pretok_range cjk_kana[] = {{0x3040, 0x30ff}, {0x4e00, 0x9fa5}};
static const struct pretok_range asian[] = {
    {0xe40, 0xeff},   {0x1000, 0x109f}, {0x1100, 0x11ff}, {0x1780, 0x17ff}, {0x2f00, 0x2fdf},
    {0x3040, 0x30ff}, {0x3400, 0x4dbf}, {0x4e00, 0xfaff}, {0xff65, 0xff9f},
};
static const struct pretok_range stops[] = {
    {'!', '!'},     {'(', ')'},       {',', ','},       {'.', '.'},
    {'?', '?'},     {'|', '|'},       {0x60c, 0x60c},   {0x6d4, 0x6d4},
    {0x964, 0x964}, {0x2026, 0x2026}, {0x3001, 0x3002}, {0xff0c, 0xff0c},
};
static const struct pretok_range hangul[] = {{0x3131, 0x318e}, {0xac00, 0xd7a3}};
static const struct pretok_range cjk_marks[] = {
    {0x2014, 0x2014}, {0x2018, 0x2019}, {0x201c, 0x201d}, {0x2026, 0x2026}, {0x3001, 0x303f},
    {0xfe30, 0xfe4f}, {0xff01, 0xff01}, {0xff0c, 0xff0c}, {0xff1a, 0xff1b},
};
static const struct pretok_range bopomofo[] = {{0x3105, 0x312f}};

SET(pretok_set_western, western, .lead = PRETOK_LEAD_SPACE);
SET(pretok_set_marks, marks, .lead = PRETOK_LEAD_SPACE);
SET(pretok_set_cjk_wide, cjk_wide, .lead = PRETOK_LEAD_NONE);
SET(pretok_set_cjk_kana, cjk_kana, .lead = PRETOK_LEAD_NONE);
SET(pretok_set_asian, asian, .lead = PRETOK_LEAD_NONE);
SET(pretok_set_not_stops, stops, .lead = PRETOK_LEAD_BLANK, .negated = true);

/* Tried in this order; they have no character in common. */
static const struct pretok_set youtu_sets[] = {
    {.ranges = hangul, .n = COUNT(hangul)},
    {.ranges = cjk_marks, .n = COUNT(cjk_marks)},
    {.ranges = bopomofo, .n = COUNT(bopomofo)},
    {.ranges = cjk_kana, .n = COUNT(cjk_kana)},
};

static bool in_run(const struct pretok_run *r, uni_char c)
{
    uint32_t cp = uni_cp(c);
    return uni_is(c, r->classes) ||
           (r->ascii != NULL && cp != 0 && cp < 128 && strchr(r->ascii, (int)cp) != NULL);
}

size_t pretok_match_run(const void *rule, const uni_char *c, size_t at, size_t end)
{
    const struct pretok_run *r = rule;
    size_t first = r->space && uni_is(c[at], UNI_WS) ? at + 1 : at;
    size_t limit = r->max == 0 || end - first < r->max ? end : first + r->max;
    size_t p = first;
    while (p < limit && in_run(r, c[p])) {
        p++;
    }
    return p - first < r->min ? at : p;
}

static bool in_set(const struct pretok_set *s, uni_char c)
{
    uint32_t cp = uni_cp(c);
    if (uni_is(c, UNI_WS)) {
        return false;
    }
    size_t lo = 0;
    for (size_t hi = s->n; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        if (s->ranges[mid].hi < cp) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return (lo < s->n && s->ranges[lo].lo <= cp) != s->negated;
}

size_t pretok_match_set(const void *rule, const uni_char *c, size_t at, size_t end)
{
    const struct pretok_set *s = rule;
    bool lead = (s->lead == PRETOK_LEAD_BLANK && uni_cp(c[at]) == ' ') ||
                (s->lead == PRETOK_LEAD_SPACE && uni_is(c[at], UNI_WS));
    size_t first = lead ? at + 1 : at;
    size_t p = first;
    while (p < end && in_set(s, c[p])) {
        p++;
    }
    return p > first ? p : at;
}

size_t pretok_match_youtu_sets(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    size_t p = at;
    for (size_t i = 0; i < COUNT(youtu_sets) && p == at; i++) {
        p = pretok_match_set(&youtu_sets[i], c, at, end);
    }
    return p;
}

/* End of `word` at c[at], or at. */
static size_t literal(const uni_char *c, size_t at, size_t end, const char *word)
{
    size_t p = at;
    for (; *word != '\0'; word++, p++) {
        if (p == end || uni_cp(c[p]) != (unsigned char)*word) {
            return at;
        }
    }
    return p;
}

static size_t run_between(const uni_char *c, size_t at, size_t end, uint32_t lo, uint32_t hi)
{
    while (at < end && uni_cp(c[at]) >= lo && uni_cp(c[at]) <= hi) {
        at++;
    }
    return at;
}

size_t pretok_match_sentinel(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    size_t first = literal(c, at, end, "<sentinel:");
    size_t p = first > at ? run_between(c, first, end, '0', '9') : at;
    return p > first && p < end && uni_cp(c[p]) == '>' ? p + 1 : at;
}

size_t pretok_match_image(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    size_t first = literal(c, at, end, "IMGIMG");
    if (first == at) {
        return at;
    }
    size_t p = run_between(c, first, end - first > 4 ? first + 4 : end, 'A', 'I');
    return p > first && p < end && uni_cp(c[p]) == 'Z' ? p + 1 : at;
}

size_t pretok_match_blanks(const void *rule, const uni_char *c, size_t at, size_t end)
{
    (void)rule;
    if (uni_cp(c[at]) == '\t' || uni_cp(c[at]) == '\n') {
        return at + 1;
    }
    size_t p = literal(c, at, end, "    ");
    return p > at ? p : literal(c, at, end, "  ");
}

size_t pretok_cut_trailing_space(const uni_char *c, size_t begin, size_t end, uint32_t *out)
{
    size_t n = 0;
    size_t p = end;
    while (p > begin && uni_is(c[p - 1], UNI_WS)) {
        p--;
    }
    if (p > begin) {
        out[n++] = (uint32_t)p;
    }
    if (p < end) {
        out[n++] = (uint32_t)end;
    }
    return n;
}

size_t pretok_cut_lines(const uni_char *c, size_t begin, size_t end, uint32_t *out)
{
    size_t n = 0;
    for (size_t p = begin + 1; p <= end; p++) {
        if (p == end || (uni_cp(c[p]) == '\n') != (uni_cp(c[p - 1]) == '\n')) {
            out[n++] = (uint32_t)p;
        }
    }
    return n;
}

size_t pretok_cut_thousands(const uni_char *c, size_t begin, size_t end, uint32_t *out)
{
    size_t n = 0;
    for (size_t p = begin; p < end;) {
        size_t run = run_between(c, p, end, '0', '9');
        for (size_t cut = p + (run - p) % 3; cut < run; cut += 3) {
            if (cut > begin) {
                out[n++] = (uint32_t)cut;
            }
        }
        p = run + 1;
    }
    out[n++] = (uint32_t)end;
    return n;
}

size_t pretok_cut_numbers_right(const uni_char *c, size_t begin, size_t end, uint32_t *out)
{
    size_t n = 0;
    for (size_t p = begin; p < end;) {
        size_t run = p;
        while (run < end && uni_is(c[run], UNI_N)) {
            run++;
        }
        size_t cut = (run - p) % 3 == 0 ? p + 3 : p + (run - p) % 3;
        for (; cut <= run && run > p; cut += 3) {
            out[n++] = (uint32_t)cut;
        }
        p = run + 1;
    }
    if (n == 0 || out[n - 1] < end) {
        out[n++] = (uint32_t)end;
    }
    return n;
}
