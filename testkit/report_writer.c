#include "testkit/report_writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void report_bytes(struct report_writer *w, const void *bytes, size_t n)
{
    if (w->status == BNT_OK) {
        w->status = bnt_buf_append(w->out, bytes, n, w->err);
    }
}

void report_printf(struct report_writer *w, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n >= 0) {
        report_bytes(w, text, (size_t)n);
        free(text);
    } else if (w->status == BNT_OK) {
        w->status = bnt_err_nomem(w->err, "a report", 0);
    }
}

bool report_first_of_suite(const struct bnt_test_run *run, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (strcmp(run->at[j].suite, run->at[i].suite) == 0) {
            return false;
        }
    }
    return true;
}

const char *report_text(const char *text)
{
    return text ? text : "";
}
