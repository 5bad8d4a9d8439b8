/* Lines of a stream, one at a time. */
#ifndef BNT_LINES_H
#define BNT_LINES_H

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"

/* The next line of f without its end, in place of what line held (whose max bounds it); a last one
 * without an end counts. A line that is longer fails, with its rest unread. */
enum bnt_status bnt_read_line(FILE *f, struct bnt_buf *line, bool *end, struct bnt_err *err);

#endif
