/* The commands of this folder, for the table in bnt.c. */
#ifndef TESTKIT_COMMANDS_H
#define TESTKIT_COMMANDS_H

#include "base/opt.h"

extern const struct bnt_cmd bnt_cmd_bench;
extern const struct bnt_cmd bnt_cmd_bisect;
extern const struct bnt_cmd bnt_cmd_crossval;
extern const struct bnt_cmd bnt_cmd_test;

/* Below `bnt test`. */
extern const struct bnt_cmd bnt_cmd_test_history, bnt_cmd_test_lint, bnt_cmd_test_merge,
    bnt_cmd_test_report, bnt_cmd_test_why;

#endif
