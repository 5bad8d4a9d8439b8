/* Variables of the environment. `bnt env` lists those that are honoured (ci/cmd_env.c). */
#ifndef BNT_ENV_H
#define BNT_ENV_H

/* NULL when it is not set, or set to nothing. The text is the environment's. */
const char *bnt_env(const char *name);
/* 1 when it says 1, true, yes or on, in any case; 0 when it is not set or says 0, false, no or off;
 * -1 for another word. */
int bnt_env_switch(const char *name);
/* The folder for what is gone when the program ends: $TMPDIR, else /tmp. */
const char *bnt_temp_dir(void);

#endif
