#include "testkit/live_line.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

enum { BAR_CELLS = 20, DEFAULT_COLUMNS = 80, REDRAW_NS = 100 * 1000 * 1000 };

static unsigned terminal_columns(int fd)
{
    struct winsize size;
    bool known = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : DEFAULT_COLUMNS;
}

void live_line_text(const struct bnt_test_run *run, const char *running, uint64_t elapsed_ms,
                    unsigned columns, char *out, size_t size)
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
    if (columns > 0 && strlen(out) >= columns) { /* a wrapped line could not be wiped */
        out[columns - 1] = '\0';
    }
}

void live_line_begin(struct live_line *line, int fd)
{
    *line = (struct live_line){.fd = isatty(fd) ? fd : -1};
}

void live_line_tick(void *ctx, const struct bnt_test_run *run, const char *running,
                    uint64_t elapsed_ms)
{
    struct live_line *line = ctx;
    uint64_t now = bnt_clock_now_ns();
    if (line->fd < 0 || (line->shown && now - line->last_ns < REDRAW_NS)) {
        return;
    }
    char text[512];
    live_line_text(run, running, elapsed_ms, terminal_columns(line->fd), text, sizeof text);
    dprintf(line->fd, "\r\033[K%s", text);
    line->last_ns = now;
    line->shown = true;
}

void live_line_end(struct live_line *line)
{
    if (line->shown) {
        dprintf(line->fd, "\r\033[K");
        line->shown = false;
    }
}
