/* The difference of two texts, line by line, as patch(1) reads it. */
#ifndef BNT_MOCK_LINE_DIFF_H
#define BNT_MOCK_LINE_DIFF_H

#include <stdbool.h>

#include "base/buf.h"

/* Append a unified diff that turns `from` into `to`; nothing when they are the same. Lines that
 * differ at more than LINE_DIFF_MAX places in a row are shown as replaced. */
#define LINE_DIFF_MAX 4000
enum bnt_status line_diff(const char *from_name, const char *from, const char *to_name,
                          const char *to, struct bnt_buf *out, struct bnt_err *err);

#endif
