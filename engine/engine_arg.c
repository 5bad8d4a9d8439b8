/* What the option rows that set up the engine mean for an open. */
#include "engine/engine_arg.h"

#include <string.h>

#include "base/cache_dir.h"
#include "base/msg.h"
#include "base/packed_dir.h"

static bool is(const char *said, const char *word)
{
    return said && strcmp(said, word) == 0;
}

struct bnt_session_options bnt_engine_session(const struct bnt_engine_arg *a)
{
    return (struct bnt_session_options){.n_ctx = (uint32_t)a->ctx,
                                        .n_threads = (int)a->threads,
                                        .kv_type = is(a->kv_type, "f32") ? BNT_KV_F32 : BNT_KV_F16,
                                        .kernel = a->kernel,
                                        .device = a->device,
                                        .fallback = a->fallback,
                                        .device_memory = a->device_memory,
                                        .warn = bnt_msg_warn_fn};
}

static enum bnt_head_form head_of(const char *said)
{
    return is(said, "full")       ? BNT_HEAD_NARROW
           : is(said, "screened") ? BNT_HEAD_SCREENED
           : is(said, "auto")     ? BNT_HEAD_AUTO
                                  : BNT_HEAD_FULL;
}

struct bnt_model_options bnt_engine_model(const struct bnt_engine_arg *a)
{
    return (struct bnt_model_options){.i2s_layout = a->i2s_layout,
                                      .pre = a->pre,
                                      .memory_limit = a->memory_limit,
                                      .tl_look_up = is(a->tl, "tables"),
                                      .tl_tiles = a->tiles.at,
                                      .n_tl_tiles = a->tiles.n,
                                      .head = head_of(a->head),
                                      .warn = bnt_msg_warn_fn};
}

void bnt_engine_packed(const char *when, const char *digest, char dir[BNT_PATH_MAX],
                       struct bnt_model_options *mo)
{
    char cache[BNT_PATH_MAX];
    mo->packed_dir = NULL;
    if (is(when, "off") || bnt_cache_dir(cache, NULL) != BNT_OK ||
        bnt_path_format(dir, NULL, "%s/" BNT_PACKED_FOLDER, cache) != BNT_OK) {
        return;
    }
    mo->packed_dir = dir;
    mo->packed_min_bytes = is(when, "always") ? 1 : 0;
    mo->digest = digest;
}
