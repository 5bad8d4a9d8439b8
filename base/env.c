#include "base/env.h"

#include <stdlib.h>
#include <strings.h>

const char *bnt_env(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

bool bnt_env_is_on(const char *name)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    const char *value = bnt_env(name);
    for (size_t i = 0; value && i < sizeof yes / sizeof yes[0]; i++) {
        if (strcasecmp(value, yes[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *bnt_temp_dir(void)
{
    const char *dir = bnt_env("TMPDIR");
    return dir ? dir : "/tmp";
}
