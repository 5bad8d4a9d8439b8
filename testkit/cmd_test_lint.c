/* bnt test lint: whether suites in YAML are right, without running them. */
#include <stdio.h>
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

/* The first mistake of a file, or its tests. */
static enum bnt_status lint_file(const char *path, const struct lint_opts *o, size_t *n_tests)
{
    struct user_suite suite;
    struct bnt_err err = {0};
    if (user_suite_read(path, &suite, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    *n_tests += suite.n;
    for (size_t i = 0; o->list && i < suite.n; i++) {
        printf("%s/%s\n", suite.name, suite.tests[i].name);
    }
    user_suite_release(&suite);
    return BNT_OK;
}

static enum bnt_status run_lint(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    struct bnt_err err = {0};
    struct bnt_buf files = BNT_BUF(LIST_MAX_BYTES);
    enum bnt_status worst = BNT_OK;
    size_t n_files = 0, n_tests = 0;
    if (argc == 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt test lint FILE" USER_SUITE_ENDING,
                            "no suite is named");
    }
    if (user_files_list(argv, argc, &files, &err) != BNT_OK) {
        bnt_buf_release(&files);
        return bnt_msg_error(&err);
    }
    char *rest = NULL;
    for (char *path = strtok_r(files.data, ":", &rest); path; path = strtok_r(NULL, ":", &rest)) {
        enum bnt_status st = lint_file(path, parsed, &n_tests);
        worst = worst == BNT_OK ? st : worst;
        n_files++;
    }
    bnt_buf_release(&files);
    if (worst == BNT_OK) {
        bnt_msg_note("%zu test%s in %zu file%s, no mistake", n_tests, n_tests == 1 ? "" : "s",
                     n_files, n_files == 1 ? "" : "s");
    }
    return worst;
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
