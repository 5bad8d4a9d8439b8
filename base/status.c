/* Error values: formatting, precedence and the conversion of errno. */
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void set_text(char *dst, size_t size, const char *fmt,
                                                           va_list ap)
{
    vsnprintf(dst, size, fmt, ap);
}

enum bnt_status bnt_err_set(struct bnt_err *err, enum bnt_status status, const char *fmt, ...)
{
    if (err && err->status == BNT_OK) {
        va_list ap;
        va_start(ap, fmt);
        set_text(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        err->status = status;
    }
    return status;
}

enum bnt_status bnt_err_copy(struct bnt_err *err, const struct bnt_err *from)
{
    if (err && err->status == BNT_OK) {
        *err = *from;
    }
    return from->status;
}

void bnt_err_hint(struct bnt_err *err, const char *fmt, ...)
{
    if (err && err->hint[0] == '\0') {
        va_list ap;
        va_start(ap, fmt);
        set_text(err->hint, sizeof err->hint, fmt, ap);
        va_end(ap);
    }
}

enum bnt_status bnt_err_context(struct bnt_err *err, const char *fmt, ...)
{
    if (!err) {
        return BNT_E_FAILED;
    }
    char context[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    set_text(context, sizeof context, fmt, ap);
    va_end(ap);

    size_t n = strlen(context);
    size_t room = sizeof err->msg - 1;
    if (n + 2 < room) {
        size_t keep = strlen(err->msg);
        if (keep > room - n - 2) {
            keep = room - n - 2;
        }
        memmove(err->msg + n + 2, err->msg, keep);
        err->msg[n + 2 + keep] = '\0';
        memcpy(err->msg, context, n);
        memcpy(err->msg + n, ": ", 2);
    }
    return err->status;
}

enum bnt_status bnt_status_of_errno(int code)
{
    switch (code) {
    case ENOENT:
        return BNT_E_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: /* a limit of the process (ulimit -f) or of the file system */
        return BNT_E_NO_SPACE;
    case ENOMEM:
        return BNT_E_MEMORY;
    default:
        return BNT_E_FAILED;
    }
}

enum bnt_status bnt_err_errno(struct bnt_err *err, const char *fmt, ...)
{
    int code = errno;
    enum bnt_status status = bnt_status_of_errno(code);
    if (err && err->status == BNT_OK) {
        va_list ap;
        va_start(ap, fmt);
        set_text(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        size_t n = strlen(err->msg);
        snprintf(err->msg + n, sizeof err->msg - n, ": %s", strerror(code));
        err->status = status;
        err->domain = "errno";
        err->foreign = code;
    }
    return status;
}

enum bnt_status bnt_err_nomem(struct bnt_err *err, const char *what, unsigned long long bytes)
{
    return bytes ? bnt_err_set(err, BNT_E_MEMORY, "out of memory: %s needs %llu bytes", what, bytes)
                 : bnt_err_set(err, BNT_E_MEMORY, "out of memory: %s", what);
}

enum bnt_status bnt_err_interrupted(const volatile sig_atomic_t *interrupted, struct bnt_err *err)
{
    /* Threads ask for what the main thread's signal handler says. */
    return interrupted && __atomic_load_n(interrupted, __ATOMIC_RELAXED)
               ? bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted")
               : BNT_OK;
}

const char *bnt_status_meaning(int status)
{
    switch (status) {
#define MEANING_ROW(number, identifier, meaning)                                                   \
    case number:                                                                                   \
        return meaning;
        BNT_EXIT_TABLE(MEANING_ROW)
#undef MEANING_ROW
    default:
        return "unknown status";
    }
}
