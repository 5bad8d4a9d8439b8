/* One line on a terminal while tests run (base/msg.h): the budget as a bar, what is done, what
 * runs.
 */
#ifndef TESTKIT_LIVE_LINE_H
#define TESTKIT_LIVE_LINE_H

#include "testkit/bnt_test.h"

/* Zeroed at first. */
struct live_line {
    uint64_t last_ns;
    bool shown;
};

/* A bnt_test_options.tick; ctx is the live_line. Draws at most 10 times a second. */
void live_line_tick(void *ctx, const struct bnt_test_run *run, const char *running,
                    uint64_t elapsed_ms);
void live_line_end(struct live_line *line); /* wipes it */

/* The line's text; for live_line_tick and its tests. */
void live_line_text(const struct bnt_test_run *run, const char *running, uint64_t elapsed_ms,
                    char *out, size_t size);

#endif
