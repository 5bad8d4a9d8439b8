/* The sub-commands of `bnt mock`, for its table in cmd_mock.c. */
#ifndef BNT_CMD_MOCK_IMPL_H
#define BNT_CMD_MOCK_IMPL_H

#include "base/opt.h"

extern const struct bnt_cmd mock_cmd_contract;
extern const struct bnt_cmd mock_cmd_faults;
extern const struct bnt_cmd mock_cmd_make;
extern const struct bnt_cmd mock_cmd_server;

#endif
