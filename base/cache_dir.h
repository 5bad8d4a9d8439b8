/* Where everything that bnt keeps for later lies. */
#ifndef BNT_CACHE_DIR_H
#define BNT_CACHE_DIR_H

#include "base/file.h"
#include "base/status.h"

/* bnt/ in the folder that the variable xdg_name names, else in $HOME with below_home ("/.cache")
 * behind it. A value that is no absolute path counts as none. Need not exist. Errors: USAGE when
 * neither says where. */
enum bnt_status bnt_user_dir(const char *xdg_name, const char *below_home, char out[BNT_PATH_MAX],
                             struct bnt_err *err);

/* $BNT_CACHE_DIR, else $XDG_CACHE_HOME/bnt, else ~/.cache/bnt; absolute. Need not exist. Errors: as
 * bnt_user_dir. */
enum bnt_status bnt_cache_dir(char out[BNT_PATH_MAX], struct bnt_err *err);

#endif
