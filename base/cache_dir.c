/* Folders of the user: own variable, then the XDG base directory specification. */
#include "base/cache_dir.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"

/* The path from `dir`, relative to the working folder when it does not begin with '/'. */
static enum bnt_status absolute(const char *dir, char out[BNT_PATH_MAX], struct bnt_err *err)
{
    char cwd[BNT_PATH_MAX];
    if (dir[0] == '/') {
        return bnt_path_format(out, err, "%s", dir);
    }
    if (!getcwd(cwd, sizeof cwd)) {
        return bnt_err_errno(err, "cannot tell the working folder");
    }
    return bnt_path_format(out, err, "%s/%s", cwd, dir);
}

/* The value of a variable; NULL for a relative path, which the specification says to ignore. */
static const char *absolute_env(const char *name)
{
    const char *value = bnt_env(name);
    return value && value[0] == '/' ? value : NULL;
}

enum bnt_status bnt_user_dir(const char *xdg_name, const char *below_home, char out[BNT_PATH_MAX],
                             struct bnt_err *err)
{
    const char *xdg = absolute_env(xdg_name), *home = absolute_env("HOME");
    if (!xdg && !home) {
        return bnt_err_set(err, BNT_E_USAGE, "neither HOME nor %s is set to an absolute path",
                           xdg_name);
    }
    return bnt_path_format(out, err, "%s%s/bnt", xdg ? xdg : home, xdg ? "" : below_home);
}

enum bnt_status bnt_cache_dir(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    const char *own = bnt_env("BNT_CACHE_DIR");
    if (own) {
        return absolute(own, out, err);
    }
    struct bnt_err why = {0};
    enum bnt_status st = bnt_user_dir("XDG_CACHE_HOME", "/.cache", out, &why);
    if (st != BNT_OK) {
        (void)bnt_err_context(&why, "no place for the cache");
        bnt_err_hint(&why, "set HOME, or BNT_CACHE_DIR to a folder");
    }
    return st == BNT_OK ? st : bnt_err_copy(err, &why);
}
