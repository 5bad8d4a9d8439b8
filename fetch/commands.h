/* The commands of fetch/, for the table in bnt.c. */
#ifndef BNT_FETCH_COMMANDS_H
#define BNT_FETCH_COMMANDS_H

#include "base/app.h"
#include "base/opt.h"

extern const struct bnt_cmd bnt_cmd_fetch, bnt_cmd_mirror;

/* bnt_app's source: ranges of the places that a model came from. */
extern const struct bnt_source fetch_source;
/* bnt_app's network. */
extern const struct bnt_network fetch_network;
extern const struct bnt_cmd bnt_cmd_lock;
extern const struct bnt_cmd bnt_cmd_update;

#endif
