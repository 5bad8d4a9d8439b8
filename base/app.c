/* What commands need of the table, and where the bundled model lies. */
#include "base/app.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"

bool bnt_app_offline(void)
{
    return bnt_env_switch("BNT_OFFLINE") == 1;
}

enum bnt_status bnt_bundled_model(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    /* Relative to the executable: build/<config>/bnt in the source tree, <prefix>/bin/bnt,
     * <prefix>/libexec/bnt/. */
    static const char *const places[] = {"../../engine/models", "../share/bnt/models",
                                         "../../share/bnt/models"};
    const char *dir = bnt_env("BNT_MODELS_DIR");
    enum bnt_status st;
    if (dir) {
        st = bnt_path_format(out, err, "%s/%s", dir, BNT_BUNDLED_NAME);
        if (st == BNT_OK && access(out, R_OK) != 0) {
            st = bnt_err_errno(err, "bundled model: %s", out);
            bnt_err_hint(err, "unset BNT_MODELS_DIR, or point it to the folder that holds %s",
                         BNT_BUNDLED_NAME);
        }
        return st;
    }
    char exe[BNT_PATH_MAX];
    st = bnt_exe_dir(exe, err);
    for (size_t i = 0; st == BNT_OK && i < sizeof places / sizeof places[0]; i++) {
        char place[BNT_PATH_MAX];
        st = bnt_path_format(place, err, "%s/%s/%s", exe, places[i], BNT_BUNDLED_NAME);
        if (st == BNT_OK && access(place, R_OK) == 0 && realpath(place, out)) {
            return BNT_OK;
        }
    }
    if (st == BNT_OK) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND,
                         "the bundled model %s is not beside this program (%s)", BNT_BUNDLED_NAME,
                         exe);
        bnt_err_hint(err, "run: make install, or set BNT_MODELS_DIR to its folder");
    }
    return st;
}
