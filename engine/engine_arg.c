/* What the option rows that set up the engine mean for an open. */
#include "engine/engine_arg.h"

#include <string.h>

#include "base/cache_dir.h"
#include "base/packed_dir.h"

void bnt_engine_packed(const char *when, const char *digest, char dir[BNT_PATH_MAX],
                       struct bnt_model_options *mo)
{
    char cache[BNT_PATH_MAX];
    mo->packed_dir = NULL;
    if ((when && strcmp(when, "off") == 0) || bnt_cache_dir(cache, NULL) != BNT_OK ||
        bnt_path_format(dir, NULL, "%s/" BNT_PACKED_FOLDER, cache) != BNT_OK) {
        return;
    }
    mo->packed_dir = dir;
    mo->packed_min_bytes = when && strcmp(when, "always") == 0 ? 1 : 0;
    mo->digest = digest;
}

enum bnt_head_form bnt_engine_head(const char *word)
{
    return strcmp(word, "full") == 0       ? BNT_HEAD_NARROW
           : strcmp(word, "screened") == 0 ? BNT_HEAD_SCREENED
                                           : BNT_HEAD_AUTO;
}
