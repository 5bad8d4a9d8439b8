/* The commands of ci/, for the table in bnt.c. */
#ifndef BNT_CI_COMMANDS_H
#define BNT_CI_COMMANDS_H

#include "base/opt.h"

extern const struct bnt_cmd bnt_cmd_ci, bnt_cmd_doctor, bnt_cmd_env;

#endif
