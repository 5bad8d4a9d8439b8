#include "testkit/live_line.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/msg.h"

enum { BAR_CELLS = 20, REDRAW_NS = 100 * 1000 * 1000 };

void live_line_text(const struct bnt_test_run *run, const char *running, uint64_t elapsed_ms,
                    char *out, size_t size)
{
    char bar[BAR_CELLS + 1];
    uint64_t cells = run->budget_ms ? elapsed_ms * BAR_CELLS / run->budget_ms : 0;
    for (unsigned i = 0; i < BAR_CELLS; i++) {
        bar[i] = i < cells ? '#' : '.';
    }
    bar[BAR_CELLS] = '\0';
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    snprintf(out, size, "%s [%s] %llu of %llu s  %zu/%zu  %zu failed  %s",
             bnt_test_tier_name(run->tier), bar, (unsigned long long)(elapsed_ms / 1000),
             (unsigned long long)(run->budget_ms / 1000), c.n - c.of[BNT_TEST_PENDING], c.n,
             c.of[BNT_TEST_FAILED], running ? running : "");
}

void live_line_tick(void *ctx, const struct bnt_test_run *run, const char *running,
                    uint64_t elapsed_ms)
{
    struct live_line *line = ctx;
    uint64_t now = bnt_clock_now_ns();
    const size_t room = line->shown && now - line->last_ns < REDRAW_NS ? 0 : bnt_line_room();
    if (room > 0) {
        char text[512];
        live_line_text(run, running, elapsed_ms, text,
                       room + 1 < sizeof text ? room + 1 : sizeof text);
        bnt_line_draw(text);
        line->last_ns = now;
        line->shown = true;
    }
}

void live_line_end(struct live_line *line)
{
    if (line->shown) {
        bnt_line_wipe();
        line->shown = false;
    }
}
