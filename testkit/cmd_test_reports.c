/* What `bnt test` prints and writes at the end of a run, and with which exit code it ends. */
#include <stdio.h>

#include "base/file.h"
#include "base/msg.h"
#include "engine/model_arg.h"
#include "testkit/cmd_test_impl.h"
#include "testkit/commands.h"
#include "testkit/kills.h"
#include "testkit/report_writer.h"

typedef enum bnt_status report_fn(const struct bnt_test_run *run, int exit_code,
                                  struct bnt_buf *out, struct bnt_err *err);

enum bnt_status test_print(struct bnt_buf *out, enum bnt_status status, const struct bnt_err *err)
{
    if (status != BNT_OK) {
        status = bnt_msg_error(err);
    } else {
        bnt_msg_puts(bnt_buf_view(out));
        status = bnt_msg_flush();
    }
    bnt_buf_release(out);
    return status;
}

void test_put(const char *before, const char *text)
{
    struct bnt_buf line = BNT_BUF(TEST_REPORT_MAX_BYTES);
    struct report_writer w = {&line, NULL, BNT_OK};
    report_line(&w, text, SIZE_MAX);
    printf("%s%s", before, bnt_buf_view(&line));
    bnt_buf_release(&line);
}

/* path NULL: not asked for. */
static enum bnt_status write_report(const struct bnt_test_run *run, const char *path, int exit_code,
                                    report_fn *make)
{
    struct bnt_err err = {0};
    struct bnt_buf text = BNT_BUF(TEST_REPORT_MAX_BYTES);
    enum bnt_status status = path ? make(run, exit_code, &text, &err) : BNT_OK;
    if (path && status == BNT_OK) {
        status = bnt_file_write(path, bnt_buf_view(&text), text.len, &err);
    }
    bnt_buf_release(&text);
    return status == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static enum bnt_status make_junit(const struct bnt_test_run *run, int exit_code,
                                  struct bnt_buf *out, struct bnt_err *err)
{
    (void)exit_code;
    return bnt_test_report_junit(run, out, err);
}

static enum bnt_status make_tap(const struct bnt_test_run *run, int exit_code, struct bnt_buf *out,
                                struct bnt_err *err)
{
    (void)exit_code;
    return bnt_test_report_tap(run, out, err);
}

/* The page, with the kill matrix if one is given. */
static enum bnt_status write_page(const struct bnt_test_run *run,
                                  const struct test_reports *reports, int exit_code)
{
    struct bnt_err err = {0};
    struct kills kills = {0};
    struct bnt_buf text = BNT_BUF(TEST_REPORT_MAX_BYTES);
    enum bnt_status status = reports->kills ? kills_read(reports->kills, &kills, &err) : BNT_OK;
    if (status == BNT_OK && reports->html) {
        status = bnt_test_report_html(run, exit_code, &kills, &text, &err);
    }
    if (status == BNT_OK && reports->html) {
        status = bnt_file_write(reports->html, bnt_buf_view(&text), text.len, &err);
    }
    kills_release(&kills);
    bnt_buf_release(&text);
    return status == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

enum bnt_status test_reports_check(const struct test_reports *reports)
{
    const char *const paths[] = {reports->junit, reports->tap, reports->result, reports->html};
    struct bnt_err err = {0};
    struct kills kills = {0};
    if (reports->kills && !reports->html) {
        return bnt_msg_fail(BNT_E_USAGE, "give --html FILE too", "--kills is shown by the page");
    }
    enum bnt_status status = reports->kills ? kills_read(reports->kills, &kills, &err) : BNT_OK;
    kills_release(&kills);
    for (size_t i = 0; status == BNT_OK && i < sizeof paths / sizeof paths[0]; i++) {
        status = paths[i] ? bnt_file_may_write(paths[i], &err) : BNT_OK;
    }
    return status == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

/* Print the run and write the files; the first thing that went wrong in that. */
static enum bnt_status show_and_write(const struct bnt_test_run *run,
                                      const struct test_reports *reports, enum bnt_status exit_code)
{
    struct bnt_err err = {0};
    struct bnt_buf out = BNT_BUF(TEST_REPORT_MAX_BYTES);
    enum bnt_status made = reports->json ? bnt_test_report_json(run, (int)exit_code, &out, &err)
                                         : bnt_test_report_text(run, &out, &err);
    const enum bnt_status each[] = {
        test_print(&out, made, &err),
        write_report(run, reports->junit, (int)exit_code, make_junit),
        write_report(run, reports->tap, (int)exit_code, make_tap),
        write_report(run, reports->result, (int)exit_code, bnt_test_report_json),
        write_page(run, reports, (int)exit_code),
    };
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
        if (each[i] != BNT_OK) {
            return each[i];
        }
    }
    return BNT_OK;
}

enum bnt_status test_reports_write(const struct bnt_test_run *run,
                                   const struct test_reports *reports, enum bnt_status exit_code)
{
    return test_worse(exit_code, show_and_write(run, reports, exit_code));
}

enum bnt_status test_worse(enum bnt_status first, enum bnt_status then)
{
    bool takes = first == BNT_OK || (first == BNT_E_MOCK_USED && then != BNT_OK);
    return takes ? then : first;
}

bool test_nothing_ran(const struct bnt_test_run *run)
{
    return run->n > 0 && bnt_test_count(run, NULL).of[BNT_TEST_SKIPPED] == run->n;
}

enum bnt_status test_verdict(const struct bnt_test_run *run, bool strict, bool mock)
{
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    if (run->interrupted) {
        return BNT_E_INTERRUPTED;
    }
    if (c.of[BNT_TEST_FAILED] > 0) {
        return BNT_E_FAILED;
    }
    if (c.of[BNT_TEST_DISAGREED] > 0) {
        return BNT_E_RESULT_CACHE;
    }
    const bool whole = run->shard.total == 0; /* a shard may be all skips by chance */
    if (strict && (c.of[BNT_TEST_NOT_RUN] > 0 || (whole && test_nothing_ran(run)))) {
        return BNT_E_NOT_ALL_RAN;
    }
    return bnt_model_arg_exit(BNT_OK, mock);
}

/* ---- bnt test report ---- */

struct report_opts {
    struct test_reports reports;
};

static const struct bnt_opt report_options[] = {
    TEST_REPORT_ROWS(struct report_opts, reports),
    BNT_OPT_END,
};

static enum bnt_status run_report(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct report_opts *o = parsed;
    struct bnt_err err = {0};
    struct bnt_test_run run = {0};
    int exit_code = 0;
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt test --result FILE writes one",
                            "give one result file");
    }
    enum bnt_status st = test_reports_check(&o->reports);
    if (st != BNT_OK) {
        return st;
    }
    st = bnt_test_result_read(argv[0], &run, &exit_code, &err);
    st = st == BNT_OK ? show_and_write(&run, &o->reports, (enum bnt_status)exit_code)
                      : bnt_msg_error(&err);
    bnt_test_run_release(&run);
    return st;
}

const struct bnt_cmd bnt_cmd_test_report = {
    .name = "report",
    .synopsis = "RESULT [--html FILE] [--junit FILE] ...",
    .summary = "make any report of a result file",
    .description =
        "Prints the table of the run and writes the reports that are asked for. The exit "
        "code is about the reports: that of the run is in them.",
    .examples = "  bnt test report result.json --html run.html --kills build/fault/kills.tsv",
    .opts = report_options,
    .opts_size = sizeof(struct report_opts),
    .run = run_report,
};
