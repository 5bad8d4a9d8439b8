/* What a command may ask of the rest of the house without including it. bnt.c fills this table; it
 * is the only file that knows all folders. */
#ifndef BNT_APP_H
#define BNT_APP_H

#include <signal.h>
#include <stdbool.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/opt.h"
#include "base/status.h"

/* Which model a name led to. */
struct bnt_model_ref {
    char path[BNT_PATH_MAX];
    char digest[BNT_SHA256_HEX]; /* "" while unknown: the file came by path and nothing has hashed
                                    it yet */
    const char *kind;            /* "real", "tiny" or "scripted"; static */
};

struct bnt_app {
    const struct bnt_cmd *const
        *commands; /* NULL-terminated: for help, completion and the man page */
    const struct bnt_opt *globals;
    const volatile sig_atomic_t *interrupted; /* non-zero once SIGINT or SIGTERM came */

    /* A model from what a user typed after -m: a path (it contains '/' or ends in .gguf, or is an
     * existing file), the name of a cached model, "bundled:" or NULL (both the bundled model).
     * Never touches the network. Errors: NOT_FOUND with the nearest names and what to type. */
    enum bnt_status (*resolve_model)(const struct bnt_app *app, const char *name,
                                     struct bnt_model_ref *out, struct bnt_err *err);
};

/* Path of the bundled model: $BNT_MODELS_DIR, then beside the executable (build tree), then
 * <prefix>/share/bnt/models. */
enum bnt_status bnt_bundled_model(char out[BNT_PATH_MAX], struct bnt_err *err);

#endif
