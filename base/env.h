/* Variables of the environment. `bnt env` lists those that are honoured (ci/cmd_env.c). */
#ifndef BNT_ENV_H
#define BNT_ENV_H

#include <stdbool.h>

/* NULL when it is not set, or set to nothing. The text is the environment's. */
const char *bnt_env(const char *name);
/* Whether it says yes: 1, true, yes or on, in any case. */
bool bnt_env_is_on(const char *name);
/* The folder for what is gone when the program ends: $TMPDIR, else /tmp. */
const char *bnt_temp_dir(void);

#endif
