/* Shared by the files of `bnt cache`. */
#ifndef BNT_CACHE_CMD_IMPL_H
#define BNT_CACHE_CMD_IMPL_H

#include <jansson.h>

#include "base/app.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/digest_list.h"

extern const struct bnt_cmd cmd_cache_rm, cmd_cache_pin, cmd_cache_unpin, cmd_cache_gc,
    cmd_cache_stats, cmd_cache_key, cmd_cache_verify, cmd_cache_demote, cmd_cache_export,
    cmd_cache_import, cmd_cache_serve, cmd_cache_tree, cmd_cache_push, cmd_cache_pull;

/* What the lock file names: that of the option, else bnt.lock of this folder, when there is one.
 * cmd_cache_is_listed is for `keep`, with the list as its context. */
#define CMD_CACHE_LOCK_FILE "bnt.lock"
enum bnt_status cmd_cache_read_lock(const char *option, struct digest_list *listed,
                                    struct bnt_err *err);
bool cmd_cache_is_listed(void *ctx, const char *digest);

/* `bnt cache stats --advise`. */
struct cmd_cache_advise_opts {
    const char *prices, *lock; /* files; NULL: no prices, bnt.lock when it is there */
    bool json;
};
enum bnt_status cmd_cache_advise(const struct cmd_cache_advise_opts *o);
/* Print a JSON value (NULL: it could not be made) and drop it. */
enum bnt_status cmd_cache_print_json(json_t *value);
/* The text, or JSON null for "". */
json_t *cmd_cache_text_or_null(const char *text);
/* The entries that n > 0 keys lead to, in their order; released in any case. */
enum bnt_status cmd_cache_find_all(struct bnt_cache *cache, int n, char **keys,
                                   struct bnt_cache_list *out, struct bnt_err *err);
/* Open the cache for a command that takes keys; USAGE, told, when there is none. */
enum bnt_status cmd_cache_open_for_names(const struct bnt_app *app, int argc,
                                         struct bnt_cache **cache);
/* The cold tier that an option names, or BNT_COLD; USAGE, told, when there is none. */
enum bnt_status cmd_cache_cold_place(const struct bnt_app *app, const char *option,
                                     struct bnt_cache_push_opts *out);
/* The name, or "-". */
const char *cmd_cache_shown_name(const struct bnt_cache_entry *e);
/* "2026-11-23", UTC, into `out`, which is given back; "-" for 0. */
enum { CMD_CACHE_DAY_MAX = 16 };
const char *cmd_cache_day(int64_t unix_s, char out[CMD_CACHE_DAY_MAX]);

#endif
