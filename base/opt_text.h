/* Shared by the generators that read the option tables (opt_completion.c, opt_man.c). */
#ifndef BNT_OPT_TEXT_H
#define BNT_OPT_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "base/opt.h"

enum { OPT_PATH_MAX = 128 }; /* "bnt cache ls" with its terminator, bytes */

/* Text under way. The first failure sticks in `st` and later writes do nothing, so that it is
 * checked once at the end. */
struct opt_text {
    struct bnt_buf *out;
    struct bnt_err *err;
    enum bnt_status st;
};

#define OPT_TEXT(t, ...)                                                                           \
    ((void)((t)->st =                                                                              \
                (t)->st == BNT_OK ? bnt_buf_printf((t)->out, (t)->err, __VA_ARGS__) : (t)->st))

/* A row that a user may type: not a heading. */
static inline bool opt_is_option(const struct bnt_opt *o)
{
    return o->kind != BNT_OPT_HEADING && o->long_name;
}

/* The words of a command, its name last. */
static inline void opt_path(struct opt_text *t, char out[OPT_PATH_MAX], const char *prefix,
                            char separator, const char *name)
{
    int n = snprintf(out, OPT_PATH_MAX, "%s%c%s", prefix, separator, name);
    if (n >= OPT_PATH_MAX && t->st == BNT_OK) {
        t->st = bnt_err_set(t->err, BNT_E_INTERNAL, "%s %s: the name of the command is too long",
                            prefix, name);
    }
}

/* Another row of a table, which may be NULL. */
static inline bool opt_more(const struct bnt_opt *o)
{
    return o && o->kind != BNT_OPT_KIND_END;
}

#endif
