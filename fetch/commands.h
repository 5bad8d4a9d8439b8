/* The commands of fetch/, for the table in bnt.c. */
#ifndef BNT_FETCH_COMMANDS_H
#define BNT_FETCH_COMMANDS_H

#include "base/opt.h"

extern const struct bnt_cmd bnt_cmd_fetch;
extern const struct bnt_cmd bnt_cmd_lock;
extern const struct bnt_cmd bnt_cmd_update;

#endif
