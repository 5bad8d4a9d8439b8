/* What cache/ gives to bnt.c: its commands, and its part of struct bnt_app. */
#ifndef BNT_CACHE_COMMANDS_H
#define BNT_CACHE_COMMANDS_H

#include "base/app.h"
#include "base/opt.h"

extern const struct bnt_cmd bnt_cmd_cache;
extern const struct bnt_cmd bnt_cmd_path;

/* bnt_app's resolve_model. */
enum bnt_status cache_resolve_model(const struct bnt_app *app, const char *name,
                                    struct bnt_model_ref *out, struct bnt_err *err);

#endif
