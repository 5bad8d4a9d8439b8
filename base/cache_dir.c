/* Folder of the cache: own variable, then the XDG base directory specification. */
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

enum bnt_status bnt_cache_dir(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    const char *own = bnt_env("BNT_CACHE_DIR");
    if (own) {
        return absolute(own, out, err);
    }
    /* The XDG base directory specification: a relative path in the variable is to be ignored. */
    const char *xdg = bnt_env("XDG_CACHE_HOME");
    if (xdg && xdg[0] == '/') {
        return bnt_path_format(out, err, "%s/bnt", xdg);
    }
    const char *home = bnt_env("HOME");
    if (!home) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_FAILED, "no place for the cache: HOME is not set");
        bnt_err_hint(err, "set BNT_CACHE_DIR to a folder");
        return st;
    }
    return bnt_path_format(out, err, "%s/.cache/bnt", home);
}
