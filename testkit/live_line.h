/* One line on a terminal while tests run: the budget as a bar, what is done, what runs. Silent
 * elsewhere. */
#ifndef TESTKIT_LIVE_LINE_H
#define TESTKIT_LIVE_LINE_H

#include "testkit/bnt_test.h"

struct live_line {
    int fd; /* -1: no terminal, nothing is drawn */
    uint64_t last_ns;
    bool shown;
};

/* fd: where to draw if it is a terminal, e.g. 2. */
void live_line_begin(struct live_line *line, int fd);
/* A bnt_test_options.tick; ctx is the live_line. Draws at most 10 times a second. */
void live_line_tick(void *ctx, const struct bnt_test_run *run, const char *running,
                    uint64_t elapsed_ms);
void live_line_end(struct live_line *line); /* wipes it */

/* The line's text, cut to `columns`; for live_line_tick and its tests. */
void live_line_text(const struct bnt_test_run *run, const char *running, uint64_t elapsed_ms,
                    unsigned columns, char *out, size_t size);

#endif
