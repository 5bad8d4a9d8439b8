/* How large a pattern becomes is counted before it is compiled. The count need not be exact, and of
 * what is no pattern it means nothing: regcomp has the last word on that. */
#include "base/pattern.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };
#define COUNT_MAX (UINT64_C(1) << 40) /* beyond any limit, and a product of it and a count fits */

/* The end of [...], whose first character may be ']' itself, and has classes like [:alpha:]. */
static const char *bracket_end(const char *c)
{
    c += c[1] == '^' ? 2 : 1;
    for (bool first = true; *c && (first || *c != ']'); c++, first = false) {
        if (c[0] == '[' && c[1] && strchr(":.=", c[1])) {
            const char close[] = {c[1], ']', '\0'};
            const char *end = strstr(c + 2, close);
            c = end ? end + 1 : c;
        }
    }
    return c;
}

/* The copies that {m,n} makes of what is before it. */
static uint64_t copies(const char *c)
{
    char *end;
    const unsigned long least = strtoul(c + 1, &end, 10);
    const unsigned long most = *end == ',' ? strtoul(end + 1, NULL, 10) : least;
    const uint64_t n = most > least ? most : least;
    return n < 1 ? 1 : n > 65536 ? 65536 : n;
}

static uint64_t count_atoms(const char *pattern)
{
    uint64_t sum[MAX_DEPTH + 1] = {0}; /* of each open group, without its last atom */
    uint64_t last = 0;
    int depth = 0;
    for (const char *c = pattern; *c; c++) {
        if (*c == '{') {
            last *= copies(c);
            c += strcspn(c, "}");
        } else if (*c == '(') {
            sum[depth] += last;
            last = 0;
            if (++depth > MAX_DEPTH) {
                return COUNT_MAX;
            }
            sum[depth] = 0;
        } else if (*c == ')' && depth > 0) {
            last += sum[depth--] + 1;
        } else if (!strchr("*+?|", *c)) {
            sum[depth] += last;
            last = 1;
            c = *c == '[' ? bracket_end(c) : *c == '\\' && c[1] ? c + 1 : c;
        }
        if (last > COUNT_MAX || sum[depth] > COUNT_MAX || !*c) {
            return last > COUNT_MAX ? last : sum[depth] + last;
        }
    }
    while (depth > 0) {
        last += sum[depth--];
    }
    return sum[0] + last;
}

enum bnt_status bnt_pattern_compile(regex_t *regex, const char *pattern, struct bnt_err *err)
{
    if (count_atoms(pattern) > BNT_PATTERN_MAX_ATOMS) {
        return bnt_err_set(err, BNT_E_FILE, "its repetitions make more than %d characters of it",
                           BNT_PATTERN_MAX_ATOMS);
    }
    const int rc = regcomp(regex, pattern, REG_EXTENDED | REG_NOSUB);
    if (rc != 0) {
        char why[120];
        regerror(rc, regex, why, sizeof why);
        return bnt_err_set(err, BNT_E_FILE, "%s", why);
    }
    return BNT_OK;
}
