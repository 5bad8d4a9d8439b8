/* Where everything that bnt keeps for later lies. */
#ifndef BNT_CACHE_DIR_H
#define BNT_CACHE_DIR_H

#include "base/file.h"
#include "base/status.h"

/* $BNT_CACHE_DIR, else $XDG_CACHE_HOME/bnt, else ~/.cache/bnt; absolute. Need not exist. */
enum bnt_status bnt_cache_dir(char out[BNT_PATH_MAX], struct bnt_err *err);

#endif
