#include "base/env.h"

#include <stdlib.h>
#include <strings.h>

const char *bnt_env(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

int bnt_env_switch(const char *name)
{
    static const char *const words[][2] = {
        {"0", "1"}, {"false", "true"}, {"no", "yes"}, {"off", "on"}};
    const char *value = bnt_env(name);
    for (size_t i = 0; value && i < sizeof words / sizeof words[0]; i++) {
        for (int on = 0; on < 2; on++) {
            if (strcasecmp(value, words[i][on]) == 0) {
                return on;
            }
        }
    }
    return value ? -1 : 0;
}

const char *bnt_temp_dir(void)
{
    const char *dir = bnt_env("TMPDIR");
    return dir ? dir : "/tmp";
}
