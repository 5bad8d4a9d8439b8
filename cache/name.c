/* What may be a name in the cache. */
#include "cache/bnt_cache.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

bool bnt_cache_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n >= BNT_CACHE_NAME_MAX || name[0] == '.' || name[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c >= 0x80 || (!isalnum(c) && !strchr("._+-", c))) {
            return false;
        }
    }
    return n < 5 || strcasecmp(name + n - 5, ".gguf") != 0;
}
