/* What the halves of `bnt validate` share. */
#ifndef BNT_CMD_VALIDATE_IMPL_H
#define BNT_CMD_VALIDATE_IMPL_H

#include "base/app.h"
#include "engine/validate.h"

/* One JSON value, or a SARIF log, on standard output. */
enum bnt_status validate_print_json(const struct validate_report *r,
                                    const struct bnt_model_ref *ref, struct bnt_err *err);
enum bnt_status validate_print_sarif(const struct validate_report *r, const char *path,
                                     struct bnt_err *err);
/* A log of a run that came to nothing. */
void validate_print_failure_sarif(const struct bnt_err *failure);

#endif
