/* POSIX extended regular expressions that somebody else wrote. */
#ifndef BNT_PATTERN_H
#define BNT_PATTERN_H

#include <regex.h>

#include "base/status.h"

/* As regcomp, without places of matches; released by regfree when it is OK. Errors: FILE, with what
 * regcomp says; also when its repetitions, written out as regcomp does it, are more than
 * BNT_PATTERN_MAX_ATOMS: a few nested {1,255} would take all memory. */
#define BNT_PATTERN_MAX_ATOMS 50000
enum bnt_status bnt_pattern_compile(regex_t *regex, const char *pattern, struct bnt_err *err);

#endif
