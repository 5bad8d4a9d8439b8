/* What `bnt test` prints and writes at the end of a run, and with which exit code it ends. */
#include <stdio.h>

#include "base/file.h"
#include "base/msg.h"
#include "engine/model_arg.h"
#include "testkit/cmd_test_impl.h"

typedef enum bnt_status report_fn(const struct bnt_test_run *run, int exit_code,
                                  struct bnt_buf *out, struct bnt_err *err);

enum bnt_status test_print(struct bnt_buf *out, enum bnt_status status, const struct bnt_err *err)
{
    if (status != BNT_OK) {
        status = bnt_msg_error(err);
    } else if (fputs(bnt_buf_view(out), stdout) < 0 || fflush(stdout) != 0) {
        status = bnt_msg_fail(BNT_E_FAILED, NULL, "cannot write to standard output");
    }
    bnt_buf_release(out);
    return status;
}

static enum bnt_status write_file(const char *path, const struct bnt_buf *text, struct bnt_err *err)
{
    struct bnt_durable file = {.fd = -1};
    enum bnt_status status = bnt_durable_open(&file, path, err);
    if (status == BNT_OK) {
        status = bnt_durable_write(&file, bnt_buf_view(text), text->len, err);
    }
    if (status == BNT_OK) {
        status = bnt_durable_commit(&file, 0644, err);
    }
    bnt_durable_release(&file);
    return status;
}

/* path NULL: not asked for. */
static enum bnt_status write_report(const struct bnt_test_run *run, const char *path, int exit_code,
                                    report_fn *make)
{
    struct bnt_err err = {0};
    struct bnt_buf text = BNT_BUF(TEST_REPORT_MAX_BYTES);
    enum bnt_status status = path ? make(run, exit_code, &text, &err) : BNT_OK;
    if (path && status == BNT_OK) {
        status = write_file(path, &text, &err);
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

enum bnt_status test_reports_write(const struct bnt_test_run *run,
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
    };
    for (size_t i = 0; i < sizeof each / sizeof each[0] && exit_code == BNT_OK; i++) {
        exit_code = each[i];
    }
    return exit_code;
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
    if (strict && c.of[BNT_TEST_NOT_RUN] > 0) {
        return BNT_E_NOT_ALL_RAN;
    }
    return bnt_model_arg_exit(BNT_OK, mock);
}
