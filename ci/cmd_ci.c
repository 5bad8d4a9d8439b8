/* bnt ci: what a CI job needs around `bnt fetch` and `bnt test`. A workflow holds no logic: it
 * calls these, which run the same on any machine. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/msg.h"
#include "ci/cmd_ci_impl.h"
#include "ci/commands.h"
#include "testkit/bnt_test.h"

/* Add text to the end of a file, which need not exist. */
static enum bnt_status append(const char *path, const struct bnt_buf *text, struct bnt_err *err)
{
    enum bnt_status st = bnt_file_is_named(path, err);
    if (st != BNT_OK) {
        return st;
    }
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return bnt_err_errno(err, "cannot open %s", path);
    }
    st = bnt_write_all(fd, bnt_buf_view(text), text->len, path, err);
    if (close(fd) != 0 && st == BNT_OK) {
        st = bnt_err_errno(err, "cannot write %s", path);
    }
    return st;
}

static bool is_output_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return name[0] && strspn(name, letters) == strlen(name);
}

enum bnt_status ci_tell(const char *value, const char *output)
{
    struct bnt_err err = {0};
    struct bnt_buf line = BNT_BUF(1 << 20);
    const char *file = getenv("GITHUB_OUTPUT");
    if (output && !is_output_name(output)) {
        return bnt_msg_fail(BNT_E_USAGE, "letters, digits, '_' and '-' make one",
                            "--output '%s' is no name of an output", output);
    }
    if (output && (!file || !file[0])) {
        return bnt_msg_fail(BNT_E_USAGE, "leave --output out where there are no steps",
                            "--output %s: GITHUB_OUTPUT names no file", output);
    }
    enum bnt_status st = BNT_OK;
    if (output) {
        st = bnt_buf_printf(&line, &err, "%s=%s\n", output, value);
    }
    if (output && st == BNT_OK) {
        st = append(file, &line, &err);
    }
    bnt_buf_release(&line);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    printf("%s\n", value);
    return BNT_OK;
}

/* ---- bnt ci summary ---- */

struct summary_opts {
    const char *out;
};

static const struct bnt_opt summary_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "out",
     .arg = "FILE",
     .help = "add it to FILE, whose present size counts against the limit; in a step: "
             "\"$GITHUB_STEP_SUMMARY\"",
     .offset = offsetof(struct summary_opts, out)},
    BNT_OPT_END,
};

/* What is left of the limit of a step's summary. */
static size_t room_in(const char *path)
{
    struct stat st;
    size_t used = path && stat(path, &st) == 0 && st.st_size > 0 ? (size_t)st.st_size : 0;
    return used < TEST_SUMMARY_MAX_BYTES ? TEST_SUMMARY_MAX_BYTES - used : 0;
}

/* Print text or add it to a file; prints what went wrong, here or in the making. */
static enum bnt_status deliver(struct bnt_buf *text, const char *out, enum bnt_status made,
                               struct bnt_err *err)
{
    enum bnt_status st = made;
    if (st == BNT_OK && out) {
        st = append(out, text, err);
    } else if (st == BNT_OK) {
        fputs(bnt_buf_view(text), stdout);
    }
    bnt_buf_release(text);
    return st == BNT_OK ? BNT_OK : bnt_msg_error(err);
}

static enum bnt_status run_summary(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct summary_opts *o = parsed;
    struct bnt_err err = {0};
    struct bnt_test_run run = {0};
    int exit_code = 0;
    struct bnt_buf text = BNT_BUF(TEST_SUMMARY_MAX_BYTES);
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt test --result FILE writes one",
                            "give one result file");
    }
    enum bnt_status st = bnt_test_result_read(argv[0], &run, &exit_code, &err);
    if (st == BNT_OK) {
        st = bnt_test_report_markdown(&run, exit_code, room_in(o->out), &text, &err);
    }
    bnt_test_run_release(&run);
    return deliver(&text, o->out, st, &err);
}

static const struct bnt_cmd cmd_summary = {
    .name = "summary",
    .synopsis = "RESULT [--out FILE]",
    .summary = "a result file as Markdown for the summary of a job",
    .description = "Never more than the 1 MiB that a step may write: failures that find no room "
                   "are counted in a line that says so.",
    .examples = "  bnt ci summary result.json --out \"$GITHUB_STEP_SUMMARY\"",
    .opts = summary_options,
    .opts_size = sizeof(struct summary_opts),
    .run = run_summary,
};

/* ---- bnt ci annotate ---- */

static enum bnt_status run_annotate(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    (void)parsed;
    struct bnt_err err = {0};
    struct bnt_test_run run = {0};
    int exit_code = 0;
    struct bnt_buf text = BNT_BUF(TEST_SUMMARY_MAX_BYTES);
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt test --result FILE writes one",
                            "give one result file");
    }
    enum bnt_status st = bnt_test_result_read(argv[0], &run, &exit_code, &err);
    if (st == BNT_OK) {
        st = bnt_test_report_annotations(&run, &text, &err);
    }
    bnt_test_run_release(&run);
    return deliver(&text, NULL, st, &err);
}

static const struct bnt_cmd cmd_annotate = {
    .name = "annotate",
    .synopsis = "RESULT",
    .summary = "a result file as annotations of the changed lines",
    .description = "Prints workflow commands: an error per failure, at the file and line that its "
                   "output names; a warning per flaky or quarantined test, and one for what did "
                   "not run; a notice per need that is not met. At most ten of each, which is "
                   "what a page shows of a step; the tenth counts the rest.",
    .examples = "  bnt ci annotate result.json",
    .run = run_annotate,
};

static const struct bnt_cmd *const subs[] = {&cmd_summary,        &cmd_annotate,    &bnt_cmd_ci_key,
                                             &bnt_cmd_ci_outcome, &bnt_cmd_ci_plan, NULL};

const struct bnt_cmd bnt_cmd_ci = {
    .name = "ci",
    .synopsis = "summary|annotate|key|plan|outcome ...",
    .summary = "what a CI job needs around fetch and test",
    .description = "docs/ci.md has workflows that use it.",
    .subs = subs,
};
