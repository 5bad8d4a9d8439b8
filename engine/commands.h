/* The commands of this folder, for the table in bnt.c. */
#ifndef BNT_ENGINE_COMMANDS_H
#define BNT_ENGINE_COMMANDS_H

#include "base/opt.h"

/* bnt_app's cpu_has. */
int engine_cpu_has(const char *feature);

extern const struct bnt_cmd bnt_cmd_convert;
extern const struct bnt_cmd bnt_cmd_devices;
extern const struct bnt_cmd bnt_cmd_diff;
extern const struct bnt_cmd bnt_cmd_fix;
extern const struct bnt_cmd bnt_cmd_infer;
extern const struct bnt_cmd bnt_cmd_inspect;
extern const struct bnt_cmd bnt_cmd_quantize;
extern const struct bnt_cmd bnt_cmd_perplexity;
extern const struct bnt_cmd bnt_cmd_tokenize;
extern const struct bnt_cmd bnt_cmd_validate;
extern const struct bnt_cmd bnt_cmd_trace;

#endif
