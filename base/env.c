#include "base/env.h"

#include <stdlib.h>

const char *bnt_env(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

const char *bnt_temp_dir(void)
{
    const char *dir = bnt_env("TMPDIR");
    return dir ? dir : "/tmp";
}
