/* From what a user typed after -m to a file: struct bnt_app's resolve_model. */
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cache/bnt_cache.h"
#include "cache/cold.h"
#include "cache/commands.h"

static bool ends_in_gguf(const char *name)
{
    size_t n = strlen(name);
    return n >= 5 && strcasecmp(name + n - 5, ".gguf") == 0;
}

static bool is_file(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode);
}

static enum bnt_status resolve_path(const char *path, struct bnt_model_ref *out,
                                    struct bnt_err *err)
{
    struct stat sb;
    if (stat(path, &sb) != 0) {
        enum bnt_status st = bnt_err_errno(err, "model %s", path);
        if (!strchr(path, '/')) {
            bnt_err_hint(
                err,
                "a name that ends in .gguf is a path; names of the cache do not: bnt cache ls");
        }
        return st;
    }
    if (S_ISDIR(sb.st_mode)) {
        bnt_err_set(err, BNT_E_NOT_FOUND, "model %s is a folder, not a file", path);
        bnt_err_hint(err, "name a GGUF file in it; of a checkpoint of Hugging Face one is made by: "
                          "bnt convert FOLDER OUT.gguf");
        return BNT_E_NOT_FOUND;
    }
    if (!S_ISREG(sb.st_mode)) { /* to open a pipe would wait for who writes it */
        return bnt_err_set(err, BNT_E_FILE, "%s is not a regular file", path);
    }
    return bnt_path_format(out->path, err, "%s", path);
}

static enum bnt_status resolve_cached(const struct bnt_app *app, const char *name,
                                      struct bnt_model_ref *out, struct bnt_err *err)
{
    struct bnt_cache *cache;
    struct bnt_cache_entry entry;
    struct bnt_cache_lease lease;
    enum bnt_status st = bnt_cache_open(NULL, &cache, err);
    if (st != BNT_OK) {
        return st;
    }
    bnt_cache_interrupt(cache, app ? app->interrupted : NULL);
    /* The lease is never released: the command works with the model until its process ends. */
    if (app && !bnt_app_offline()) {
        st = cold_bring(cache, name, app->network, err);
    }
    if (st == BNT_OK) {
        st = bnt_cache_use(cache, name, &entry, out->path, &lease, err);
    }
    if (st == BNT_OK) {
        memcpy(out->digest, entry.digest, sizeof out->digest);
    }
    bnt_cache_close(cache);
    return st;
}

enum bnt_status cache_resolve_model(const struct bnt_app *app, const char *name,
                                    struct bnt_model_ref *out, struct bnt_err *err)
{
    *out = (struct bnt_model_ref){.kind = "real"};
    if (!name || strcmp(name, "bundled:") == 0) {
        return bnt_bundled_model(out->path, err);
    }
    if (strchr(name, '/') || ends_in_gguf(name) || is_file(name)) {
        return resolve_path(name, out, err);
    }
    struct bnt_err why = {0};
    struct stat sb;
    enum bnt_status st = resolve_cached(app, name, out, &why);
    if (st == BNT_E_NOT_FOUND && stat(name, &sb) == 0) { /* a folder, a pipe */
        return resolve_path(name, out, err);
    }
    return st == BNT_OK ? st : bnt_err_copy(err, &why);
}
