/* What the user reads: messages and progress on stderr. Only commands call this; libraries return a
 * bnt_err or call a bnt_warn_fn. Colour follows NO_COLOR, --color and whether stderr is a terminal.
 * Control characters in a message are shown as \xNN. */
#ifndef BNT_MSG_H
#define BNT_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum bnt_msg_level { BNT_MSG_QUIET = -1, BNT_MSG_NORMAL = 0, BNT_MSG_VERBOSE = 1 };
enum bnt_color { BNT_COLOR_AUTO, BNT_COLOR_ALWAYS, BNT_COLOR_NEVER };

void bnt_msg_setup(enum bnt_msg_level level, enum bnt_color color);
enum bnt_msg_level bnt_msg_level(void);

/* "error: <msg>" and, if there is one, "  hint: <hint>". Returns the status, which is the exit
 * code: INTERNAL when err holds no error. Without a message the meaning of the status is shown. */
enum bnt_status bnt_msg_error(const struct bnt_err *err);
/* "error: ..." for what a command finds itself. Returns status. */
enum bnt_status bnt_msg_fail(enum bnt_status status, const char *hint, const char *fmt, ...)
    BNT_PRINTF(3, 4);
void bnt_msg_warn(const char *hint, const char *fmt, ...) BNT_PRINTF(2, 3); /* hint may be NULL */
void bnt_msg_note(const char *fmt, ...) BNT_PRINTF(1, 2);    /* silenced by --quiet */
void bnt_msg_verbose(const char *fmt, ...) BNT_PRINTF(1, 2); /* shown by --verbose */
/* A bnt_warn_fn that calls bnt_msg_warn; ctx is ignored. */
void bnt_msg_warn_fn(void *ctx, const char *what, const char *hint);

/* Bytes to stdout, now. A reader that has gone is an error, about which bnt_msg_error is silent. */
enum bnt_status bnt_msg_write(const void *bytes, size_t n, struct bnt_err *err);
/* A whole text to stdout, behind what printf wrote; whether it arrives says the next function. */
void bnt_msg_puts(const char *text);
/* What went to stdout must arrive: flushes it. OK, or the status of what kept it from being
 * written, which is told once, unless it is a reader that has gone (`bnt ... | head`). */
enum bnt_status bnt_msg_flush(void);

/* One line on a terminal that redraws itself: how many bytes of it the terminal has room for, 0
 * where none is drawn: elsewhere, on a "dumb" terminal and under --quiet. */
size_t bnt_line_room(void);
void bnt_line_draw(const char *text);
void bnt_line_wipe(void);

/* What has been done of something, as such a line, at most 10 times a second. */
struct bnt_progress {
    const char *label; /* borrowed */
    uint64_t total;    /* units; 0: unknown */
    bool bytes;        /* show as MB and MB/s */
    uint64_t base;     /* units that were done before it began: no part of the rate */
    char from[96];     /* who they come from, or "" */
    uint64_t start_ns, last_ns, done;
    bool shown;
};
void bnt_progress_begin(struct bnt_progress *p, const char *label, uint64_t total, bool bytes);
void bnt_progress_update(struct bnt_progress *p, uint64_t done);
/* The same as a callback of who knows the total as well; progress is a struct bnt_progress. */
void bnt_progress_show(void *progress, uint64_t done, uint64_t total);
void bnt_progress_end(struct bnt_progress *p); /* wipes the line */

#endif
