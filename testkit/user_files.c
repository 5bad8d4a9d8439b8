/* Operands of `bnt test` as a list of suites. */
#include "testkit/user_files.h"

#include <errno.h>
#include <fts.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

#define LIST_MAX_BYTES (100u << 10) /* of an environment variable */

/* Whether a list has a path already: it was named twice, or with the folder that it is in. */
static bool is_listed(const char *list, const char *path)
{
    const size_t n = strlen(path);
    for (const char *at = list; at && *at; at = strchr(at, ':'), at += at != NULL) {
        if (strncmp(at, path, n) == 0 && (at[n] == ':' || at[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static enum bnt_status add_file(const char *path, struct bnt_buf *out, struct bnt_err *err)
{
    char absolute[BNT_PATH_MAX];
    if (!realpath(path, absolute)) {
        return bnt_err_errno(err, "%s", path);
    }
    if (strchr(absolute, ':')) {
        return bnt_err_set(err, BNT_E_USAGE, "%s: a suite's path may not hold ':'", absolute);
    }
    if (is_listed(bnt_buf_view(out), absolute)) {
        return BNT_OK;
    }
    return bnt_buf_printf(out, err, "%s%s", out->len ? ":" : "", absolute);
}

static bool is_suite(const char *name)
{
    size_t n = strlen(name), k = strlen(USER_SUITE_ENDING);
    return n > k && strcmp(name + n - k, USER_SUITE_ENDING) == 0;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static enum bnt_status add_folder(const char *path, struct bnt_buf *out, struct bnt_err *err)
{
    char *const roots[] = {(char *)(uintptr_t)path, NULL};
    size_t before = out->len;
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name);
    if (!walk) {
        return bnt_err_errno(err, "cannot list %s", path);
    }
    enum bnt_status st = BNT_OK;
    for (FTSENT *e = fts_read(walk); st == BNT_OK && e; e = fts_read(walk)) {
        if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR) {
            errno = e->fts_errno;
            st = bnt_err_errno(err, "cannot list %s", e->fts_path);
        } else if (e->fts_info != FTS_D && e->fts_info != FTS_DP && is_suite(e->fts_name)) {
            st = add_file(e->fts_path, out, err);
        }
    }
    fts_close(walk);
    if (st == BNT_OK && out->len == before) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "no file *%s in %s", USER_SUITE_ENDING, path);
    }
    return st;
}

enum bnt_status user_files_list(char *const *operands, int n, struct bnt_buf *out,
                                struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (int i = 0; st == BNT_OK && i < n; i++) {
        struct stat sb;
        if (stat(operands[i], &sb) != 0) {
            st = bnt_err_errno(err, "suite %s", operands[i]);
            bnt_err_hint(err, "a suite is a file NAME" USER_SUITE_ENDING
                              "; tests of this program are chosen with --filter");
        } else {
            st = S_ISDIR(sb.st_mode) ? add_folder(operands[i], out, err)
                                     : add_file(operands[i], out, err);
        }
    }
    return st;
}

static enum bnt_status set_variable(const char *name, const char *value, struct bnt_err *err)
{
    int rc = value ? setenv(name, value, 1) : unsetenv(name);
    return rc == 0 ? BNT_OK : bnt_err_errno(err, "%s", name);
}

static enum bnt_status export_subject(const char *subject, struct bnt_err *err)
{
    static const char scripted[] = "scripted:";
    const size_t prefix = sizeof scripted - 1;
    char absolute[BNT_PATH_MAX], spec[BNT_PATH_MAX + sizeof scripted];
    if (!subject || strncmp(subject, scripted, prefix) != 0) {
        return set_variable("BNT_TEST_SUBJECT", subject, err);
    }
    if (!realpath(subject + prefix, absolute)) {
        return bnt_err_errno(err, "%s", subject);
    }
    snprintf(spec, sizeof spec, "%s%s", scripted, absolute);
    return set_variable("BNT_TEST_SUBJECT", spec, err);
}

enum bnt_status user_files_export(char *const *operands, int n, const char *subject,
                                  struct bnt_err *err)
{
    struct bnt_buf list = BNT_BUF(LIST_MAX_BYTES);
    enum bnt_status st = user_files_list(operands, n, &list, err);
    if (st == BNT_OK) {
        st = set_variable("BNT_SUITE_FILES", n > 0 ? bnt_buf_view(&list) : NULL, err);
    }
    if (st == BNT_OK) {
        st = export_subject(n > 0 ? subject : NULL, err);
    }
    bnt_buf_release(&list);
    return st;
}

struct place {
    const struct user_test *test;
    const struct user_suite *suite;
};

static int by_test_name(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return strcmp(x->test->name, y->test->name);
}

enum bnt_status user_files_distinct(struct user_suite *const *suites, size_t n, struct bnt_err *err)
{
    size_t n_places = 0;
    for (size_t i = 0; i < n; i++) {
        n_places += suites[i]->n;
    }
    struct place *places = calloc(n_places + 1, sizeof *places), *next = places;
    if (!places) {
        return bnt_err_nomem(err, "the names of tests", n_places * sizeof *places);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < suites[i]->n; k++) {
            *next++ = (struct place){&suites[i]->tests[k], suites[i]};
        }
    }
    qsort(places, n_places, sizeof *places, by_test_name);
    enum bnt_status st = BNT_OK;
    for (size_t i = 1; st == BNT_OK && i < n_places; i++) {
        const struct place *a = &places[i - 1], *b = &places[i];
        if (strcmp(a->test->name, b->test->name) == 0) {
            bnt_err_hint(err, "tests are called as their suite and themselves, and a suite as its "
                              "file, unless the file says suite: NAME");
            st = bnt_err_set(err, BNT_E_FILE, "%s:%u and %s:%u: both tests are called %s",
                             a->suite->path, a->test->line, b->suite->path, b->test->line,
                             a->test->name);
        }
    }
    free(places);
    return st;
}
