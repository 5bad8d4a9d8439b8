/* bnt-suites --worker. See worker.h.
 *
 * The line from the runner is read by read(2) straight into the page that a fork empties, so that
 * no copy of the token lies in a buffer of stdio. */
#include "testkit/suites/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/suites/support.h"

enum { PAGE_BYTES = 4096, LINE_MAX_BYTES = 1024 };

/* In the page that a fork empties. */
struct worker_page {
    char line[LINE_MAX_BYTES];
    char head[LINE_MAX_BYTES];
};

static struct worker_page *map_worker_page(struct bnt_err *err)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, PAGE_BYTES, MADV_WIPEONFORK) != 0) {
        (void)bnt_err_errno(err, "memory that a fork empties");
        return NULL;
    }
    return page;
}

/* One line without its end; false at the end of input, or when it is no line. */
static bool read_request(char line[LINE_MAX_BYTES], const volatile sig_atomic_t *stop)
{
    size_t len = 0;
    while (!*stop && len < LINE_MAX_BYTES - 1) {
        ssize_t n = read(STDIN_FILENO, line + len, 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        if (line[len] == '\n') {
            line[len] = '\0';
            return true;
        }
        len++;
    }
    return false;
}

static enum bnt_status answer(struct worker_page *page, const char *token, const char *text,
                              size_t bytes, int exit_code, struct bnt_err *err)
{
    int len =
        snprintf(page->head, sizeof page->head, "record %s %d %zu\n", token, exit_code, bytes);
    enum bnt_status status = bnt_write_all(STDOUT_FILENO, page->head, (size_t)len, "a record", err);
    return status == BNT_OK ? bnt_write_all(STDOUT_FILENO, text, bytes, "a record", err) : status;
}

/* As `bnt-suites --run` does it, into memory. */
static enum bnt_status run_requested(const struct suite_test *test, const struct tap_tally *how,
                                     const volatile sig_atomic_t *stop, char **text, size_t *bytes)
{
    struct isolate_result r;
    struct tap_tally tally = *how;
    FILE *out = open_memstream(text, bytes);
    if (!out) {
        return BNT_E_MEMORY;
    }
    isolate_run(test, stop, &r);
    tap_write_result(out, test, &r, &tally);
    tap_write_end(out, &tally);
    isolate_release(&r);
    if (fclose(out) != 0) {
        return BNT_E_MEMORY;
    }
    return *stop ? BNT_E_INTERRUPTED : tally.failed ? BNT_E_FAILED : BNT_OK;
}

static enum bnt_status serve_one(worker_find_fn *find, const struct tap_tally *how,
                                 const volatile sig_atomic_t *stop, struct worker_page *page,
                                 struct bnt_err *err)
{
    char *rest = NULL;
    char *text = NULL;
    size_t bytes = 0;
    const char *verb = strtok_r(page->line, " ", &rest);
    const char *token = strtok_r(NULL, " ", &rest);
    const char *name = strtok_r(NULL, " ", &rest);
    const struct suite_test *test = name ? find(name, how->corpus) : NULL;
    if (!test || strcmp(verb, "run") != 0) {
        return bnt_err_set(err, BNT_E_USAGE, "not a request for a test: %s",
                           name ? name : "no name");
    }
    enum bnt_status ran = run_requested(test, how, stop, &text, &bytes);
    enum bnt_status status = ran == BNT_OK || ran == BNT_E_FAILED
                                 ? answer(page, token, text, bytes, (int)ran, err)
                                 : ran;
    free(text);
    return status;
}

enum bnt_status worker_serve(worker_find_fn *find, const struct tap_tally *how,
                             const volatile sig_atomic_t *stop, struct bnt_err *err)
{
    struct worker_page *page = map_worker_page(err);
    enum bnt_status status = page ? BNT_OK : BNT_E_FAILED;
    support_map_model();
    while (status == BNT_OK && read_request(page->line, stop)) {
        status = serve_one(find, how, stop, page, err);
    }
    if (page) {
        munmap(page, PAGE_BYTES);
    }
    return *stop ? BNT_E_INTERRUPTED : status;
}
