/* The commands of cache/, for the table in bnt.c. */
#ifndef BNT_CACHE_COMMANDS_H
#define BNT_CACHE_COMMANDS_H

#include "base/opt.h"

extern const struct bnt_cmd bnt_cmd_cache;
extern const struct bnt_cmd bnt_cmd_path;

#endif
