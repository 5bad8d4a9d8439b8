/* Status and error text. Every fallible function returns `enum bnt_status` (0 is success) and takes
 * a `struct bnt_err *` as its last argument, which may be NULL when the caller only wants the
 * status.
 *
 * Rules: untouched on success; the first error wins (a second bnt_err_set is ignored); callers add
 * context in front with bnt_err_context. Libraries never print: commands show an error with
 * bnt_msg_error (msg.h).
 *
 *     struct bnt_err err = {0};
 *     if (bnt_file_read(path, max, &buf, &err) != BNT_OK) { return bnt_msg_error(&err); }
 */
#ifndef BNT_STATUS_H
#define BNT_STATUS_H

#include <signal.h>
#include <stdarg.h>

#include "base/exit.h"

enum bnt_status {
#define BNT_EXIT_ROW(number, identifier, meaning) identifier = number,
    BNT_EXIT_TABLE(BNT_EXIT_ROW)
#undef BNT_EXIT_ROW
};

struct bnt_err {
    enum bnt_status status; /* BNT_OK while unset */
    const char *domain; /* whose code `foreign` is: "errno", "curl", "sqlite", "gguf"...; static;
                           NULL: none */
    int foreign;        /* code in that domain, converted once at the border */
    char msg[640];      /* what and where: "model.gguf: tensor blk.0.attn_q.weight: ..." */
    char hint[320];     /* what to do next; "" if there is nothing to say */
};

/* A library's way to speak without printing: commands pass a function that shows it. `hint` may be
 * NULL. */
typedef void bnt_warn_fn(void *ctx, const char *what, const char *hint);

#define BNT_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Set the error if it is unset; returns `status` so that `return bnt_err_set(...)` reads well. err
 * may be NULL. */
enum bnt_status bnt_err_set(struct bnt_err *err, enum bnt_status status, const char *fmt, ...)
    BNT_PRINTF(3, 4);

/* Take over an error that was kept elsewhere meanwhile, if err is unset. Returns its status. */
enum bnt_status bnt_err_copy(struct bnt_err *err, const struct bnt_err *from);

/* Set the hint if it is unset. */
void bnt_err_hint(struct bnt_err *err, const char *fmt, ...) BNT_PRINTF(2, 3);

/* Put "context: " in front of the message. Returns err's status (BNT_E_FAILED for NULL), for
 * `return`. */
enum bnt_status bnt_err_context(struct bnt_err *err, const char *fmt, ...) BNT_PRINTF(2, 3);

/* ENOENT is NOT_FOUND; ENOSPC, EDQUOT and EFBIG are NO_SPACE; ENOMEM is MEMORY; all else FAILED. */
enum bnt_status bnt_status_of_errno(int code);

/* Set from errno (taken first thing), with that status: "<fmt>: <strerror>". */
enum bnt_status bnt_err_errno(struct bnt_err *err, const char *fmt, ...) BNT_PRINTF(2, 3);

/* Out of memory while making `what` of `bytes`, or of nobody knows how many: 0. */
enum bnt_status bnt_err_nomem(struct bnt_err *err, const char *what, unsigned long long bytes);

/* INTERRUPTED once *interrupted is non-zero; before, and for NULL, OK. */
enum bnt_status bnt_err_interrupted(const volatile sig_atomic_t *interrupted, struct bnt_err *err);

/* Meaning of a status from the table; "unknown status" for a number outside it. */
const char *bnt_status_meaning(int status);

#endif
