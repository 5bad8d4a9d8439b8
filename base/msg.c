/* The one module that prints talk. */
#include "base/msg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define REDRAW_NS 100000000ull
enum { TEXT_BYTES = 8192 }; /* of a message; two paths fit */

static enum bnt_msg_level current_level = BNT_MSG_NORMAL;
static enum bnt_color color_mode = BNT_COLOR_AUTO;
/* Why stdout could not be written; 0: it could, or the cause is lost. Any thread may talk. */
static _Atomic int stdout_errno;

void bnt_msg_setup(enum bnt_msg_level level, enum bnt_color color)
{
    current_level = level;
    color_mode = color;
}

enum bnt_msg_level bnt_msg_level(void)
{
    return current_level;
}

/* False when what went to stdout did not arrive. */
static bool flush_stdout(void)
{
    errno = 0;
    bool ok = fflush(stdout) == 0;
    if (!ok && errno) {
        stdout_errno = errno;
    }
    return ok && !ferror(stdout);
}

/* Whether stderr may be coloured. */
static bool may_color(void)
{
    if (color_mode != BNT_COLOR_AUTO) {
        return color_mode == BNT_COLOR_ALWAYS;
    }
    const char *no_color = getenv("NO_COLOR"); /* https://no-color.org: any non-empty value */
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !(no_color && no_color[0]) &&
           !(term && strcmp(term, "dumb") == 0);
}

/* Text may quote what a hostile file says: nothing in it commands the terminal. */
static void put_harmless(const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < ' ' || c == 0x7f) {
            fprintf(stderr, "\\x%02x", c);
        } else {
            fputc(c, stderr);
        }
    }
}

__attribute__((format(printf, 4, 0))) static void
print(const char *word, const char *color, const char *hint, const char *fmt, va_list ap)
{
    char text[TEXT_BYTES];
    bool colored = may_color();
    vsnprintf(text, sizeof text, fmt, ap);
    (void)flush_stdout(); /* keep the order of what the user sees */
    flockfile(stderr);
    fprintf(stderr, "%s%s:%s ", colored ? color : "", word, colored ? "\033[0m" : "");
    put_harmless(text);
    fputc('\n', stderr);
    if (hint && hint[0]) {
        fputs("  hint: ", stderr);
        put_harmless(hint);
        fputc('\n', stderr);
    }
    funlockfile(stderr);
}

BNT_PRINTF(4, 5)
static void print_words(const char *word, const char *color, const char *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(word, color, hint, fmt, ap);
    va_end(ap);
}

#define RED "\033[1;31m"
#define YELLOW "\033[1;33m"
#define CYAN "\033[36m"

enum bnt_status bnt_msg_error(const struct bnt_err *err)
{
    const enum bnt_status st = err->status == BNT_OK ? BNT_E_INTERNAL : err->status;
    if (stdout_errno == EPIPE && err->foreign == EPIPE) {
        return st; /* whoever read has seen enough */
    }
    if (err->msg[0]) {
        print_words("error", RED, err->hint, "%s", err->msg);
    } else { /* whoever failed did not say why; the meaning of its status is better than nothing */
        print_words("error", RED, "this is a defect of bnt: please report the command line",
                    "%s, and no reason was given", bnt_status_meaning(st));
    }
    return st;
}

enum bnt_status bnt_msg_fail(enum bnt_status status, const char *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print("error", RED, hint, fmt, ap);
    va_end(ap);
    return status;
}

void bnt_msg_warn(const char *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print("warning", YELLOW, hint, fmt, ap);
    va_end(ap);
}

void bnt_msg_note(const char *fmt, ...)
{
    if (current_level >= BNT_MSG_NORMAL) {
        va_list ap;
        va_start(ap, fmt);
        print("note", CYAN, NULL, fmt, ap);
        va_end(ap);
    }
}

void bnt_msg_verbose(const char *fmt, ...)
{
    if (current_level >= BNT_MSG_VERBOSE) {
        va_list ap;
        va_start(ap, fmt);
        print("info", CYAN, NULL, fmt, ap);
        va_end(ap);
    }
}

void bnt_msg_warn_fn(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    bnt_msg_warn(hint, "%s", what);
}

enum bnt_status bnt_msg_write(const void *bytes, size_t n, struct bnt_err *err)
{
    enum bnt_status st = bnt_write_all(STDOUT_FILENO, bytes, n, "standard output", err);
    if (st != BNT_OK) {
        stdout_errno = errno;
    }
    return st;
}

void bnt_msg_puts(const char *text)
{
    if (fputs(text, stdout) == EOF) {
        stdout_errno = errno;
    }
}

enum bnt_status bnt_msg_flush(void)
{
    static enum bnt_status told;
    struct bnt_err err = {0};
    if (flush_stdout() || told != BNT_OK) {
        return told;
    }
    /* printf keeps the cause to itself; a byte more meets it again. */
    if (!stdout_errno && write(STDOUT_FILENO, "\n", 1) < 0) {
        stdout_errno = errno;
    }
    if (!stdout_errno) {
        return told = bnt_msg_fail(BNT_E_FAILED, NULL, "cannot write standard output");
    }
    errno = stdout_errno;
    (void)bnt_err_errno(&err, "cannot write standard output");
    return told = bnt_msg_error(&err);
}

void bnt_progress_begin(struct bnt_progress *p, const char *label, uint64_t total, bool bytes)
{
    *p = (struct bnt_progress){
        .label = label, .total = total, .bytes = bytes, .start_ns = bnt_clock_now_ns()};
}

/* Append to a line of `size` bytes; what does not fit is cut off. */
BNT_PRINTF(3, 4)
static void add(char *line, size_t size, const char *fmt, ...)
{
    size_t n = strlen(line);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + n, size - n, fmt, ap);
    va_end(ap);
}

/* Columns of the terminal less one, so that the cursor stays in the line and can wipe it. */
size_t bnt_line_room(void)
{
    struct winsize w;
    const char *term = getenv("TERM");
    if (current_level < BNT_MSG_NORMAL || !isatty(STDERR_FILENO) ||
        (term && strcmp(term, "dumb") == 0)) {
        return 0;
    }
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1;
    return known ? w.ws_col - 1u : 79;
}

void bnt_line_draw(const char *text)
{
    fprintf(stderr, "\r\033[K%s", text);
    fflush(stderr);
}

void bnt_line_wipe(void)
{
    bnt_line_draw("");
}

static void draw(const struct bnt_progress *p, uint64_t now_ns, size_t room)
{
    char line[400] = "";
    const size_t size = room + 1 < sizeof line ? room + 1 : sizeof line;
    const double s = (double)(now_ns - p->start_ns) / 1e9;
    const double rate = s > 0 && p->done > p->base ? (double)(p->done - p->base) / s : 0;
    const double unit = p->bytes ? 1e6 : 1;
    const int digits = p->bytes ? 1 : 0;
    const char *name = p->bytes ? " MB" : "";
    add(line, size, "%s  %.*f%s", p->label, digits, (double)p->done / unit, name);
    if (p->total) {
        add(line, size, " of %.*f%s  %3.0f %%", digits, (double)p->total / unit, name,
            100.0 * (double)p->done / (double)p->total);
    }
    add(line, size, "  %.1f%s/s", rate / unit, name);
    if (p->total > p->done && rate > 0) {
        add(line, size, "  %.0f s left", (double)(p->total - p->done) / rate);
    }
    add(line, size, "%s%s", p->from[0] ? "  from " : "", p->from);
    bnt_line_draw(line);
}

void bnt_progress_update(struct bnt_progress *p, uint64_t done)
{
    p->done = done;
    uint64_t now = bnt_clock_now_ns();
    const size_t room = now - p->last_ns < REDRAW_NS ? 0 : bnt_line_room();
    if (room > 0) {
        p->last_ns = now;
        p->shown = true;
        draw(p, now, room);
    }
}

void bnt_progress_show(void *progress, uint64_t done, uint64_t total)
{
    struct bnt_progress *p = progress;
    p->total = total;
    bnt_progress_update(p, done);
}

void bnt_progress_end(struct bnt_progress *p)
{
    if (p->shown) {
        bnt_line_wipe();
        p->shown = false;
    }
}
