/* bnt test lint: whether suites in YAML are right, without running them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/msg.h"
#include "testkit/commands.h"
#include "testkit/user_files.h"
#include "testkit/user_suite.h"

#define LIST_MAX_BYTES (1u << 20)

struct lint_opts {
    bool list;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "list",
     .help = "print the name of every test, parameters and models filled in",
     .offset = offsetof(struct lint_opts, list)},
    BNT_OPT_END,
};

struct lint {
    struct user_suite **suites; /* those that are right */
    size_t n, n_tests, n_files;
    enum bnt_status worst;
};

/* The first mistake of a file, or its tests. */
static void lint_file(struct lint *l, const char *path, const struct lint_opts *o)
{
    struct bnt_err err = {0};
    struct user_suite *suite = calloc(1, sizeof *suite);
    struct user_suite **more = realloc(l->suites, (l->n + 1) * sizeof *more);
    if (more) {
        l->suites = more;
    }
    l->n_files++;
    enum bnt_status st = suite && more ? user_suite_read(path, suite, &err)
                                       : bnt_err_nomem(&err, path, sizeof *suite);
    if (st != BNT_OK) {
        free(suite);
        l->worst = l->worst == BNT_OK ? st : l->worst;
        (void)bnt_msg_error(&err);
        return;
    }
    l->suites[l->n++] = suite;
    l->n_tests += suite->n;
    for (size_t i = 0; o->list && i < suite->n; i++) {
        printf("%s/%s\n", suite->name, suite->tests[i].name);
    }
}

static void lint_all(struct lint *l, char *paths, const struct lint_opts *o)
{
    struct bnt_err err = {0};
    char *rest = NULL;
    for (char *path = strtok_r(paths, ":", &rest); path; path = strtok_r(NULL, ":", &rest)) {
        lint_file(l, path, o);
    }
    if (l->worst == BNT_OK && user_files_distinct(l->suites, l->n, &err) != BNT_OK) {
        l->worst = bnt_msg_error(&err);
    }
    for (size_t i = 0; i < l->n; i++) {
        user_suite_release(l->suites[i]);
        free(l->suites[i]);
    }
    free(l->suites);
}

static enum bnt_status run_lint(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    struct bnt_err err = {0};
    struct bnt_buf files = BNT_BUF(LIST_MAX_BYTES);
    struct lint l = {.worst = BNT_OK};
    if (argc == 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt test lint FILE" USER_SUITE_ENDING,
                            "no suite is named");
    }
    if (user_files_list(argv, argc, &files, &err) != BNT_OK) {
        bnt_buf_release(&files);
        return bnt_msg_error(&err);
    }
    lint_all(&l, files.data, parsed);
    bnt_buf_release(&files);
    if (l.worst == BNT_OK) {
        bnt_msg_note("%zu test%s in %zu file%s, no mistake", l.n_tests, l.n_tests == 1 ? "" : "s",
                     l.n_files, l.n_files == 1 ? "" : "s");
    }
    return l.worst;
}

const struct bnt_cmd bnt_cmd_test_lint = {
    .name = "lint",
    .synopsis = "[--list] FILE...",
    .summary = "check suites in YAML without running them",
    .description = "FILE is NAME" USER_SUITE_ENDING
                   " or a folder of them. The first mistake of each file is told with its line "
                   "and column. docs/user-suites.md describes the keys.\n\n"
                   "Exit: 0 all are right; 5 a mistake; 8 no such file.",
    .examples = "  bnt test lint docs/examples        # every suite below the folder\n"
                "  bnt test lint --list my.bnt.yml    # and the names of its tests",
    .opts = options,
    .opts_size = sizeof(struct lint_opts),
    .run = run_lint,
};
