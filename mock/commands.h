/* The commands of mock/, for the table in bnt.c. */
#ifndef BNT_MOCK_COMMANDS_H
#define BNT_MOCK_COMMANDS_H

#include "base/opt.h"

extern const struct bnt_cmd bnt_cmd_mock;

#endif
