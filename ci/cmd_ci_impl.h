/* What the commands below `bnt ci` share. */
#ifndef BNT_CMD_CI_IMPL_H
#define BNT_CMD_CI_IMPL_H

#include "base/buf.h"
#include "base/opt.h"
#include "base/status.h"

extern const struct bnt_cmd bnt_cmd_ci_key, bnt_cmd_ci_outcome, bnt_cmd_ci_plan;

/* The value of a command on a line of its own: on standard output and, when `output` is given, as
 * that output of the step (NAME=VALUE in the file $GITHUB_OUTPUT). Prints what goes wrong. */
enum bnt_status ci_tell(const char *value, const char *output);

#define CI_OUTPUT_ROW(type)                                                                        \
    {                                                                                              \
        .kind = BNT_OPT_STR, .long_name = "output", .arg = "NAME",                                 \
        .help = "also set output NAME of the step: a line NAME=VALUE in the file $GITHUB_OUTPUT",  \
        .offset = offsetof(type, output)                                                           \
    }

#endif
