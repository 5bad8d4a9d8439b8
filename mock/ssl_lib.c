/* The table of OpenSSL's functions. */
#include "mock/ssl_lib.h"

#include <stdbool.h>

#include "base/dyn_lib.h"

#define LIBRARY "libssl.so.3"

static struct ssl_lib lib;
static bool loaded;

static enum bnt_status no_library(const char *what, struct bnt_err *err)
{
    bnt_err_hint(err, "install it: apt-get install libssl3");
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "a server with a certificate needs libssl: %s",
                       what);
}

enum bnt_status ssl_lib_load(const struct ssl_lib **out, struct bnt_err *err)
{
#define SSL_LIB_SYMBOL(function) {#function, &lib.function##_},
    const struct bnt_dyn_symbol symbols[] = {SSL_LIB_FUNCTIONS(SSL_LIB_SYMBOL)};
#undef SSL_LIB_SYMBOL
    if (!loaded) {
        const char *missing =
            bnt_dyn_lib_load(LIBRARY, symbols, sizeof symbols / sizeof symbols[0]);
        if (missing) {
            return no_library(missing, err);
        }
        loaded = true;
    }
    *out = &lib;
    return BNT_OK;
}
