/* The table of libssl's functions. */
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
    const struct bnt_dyn_symbol symbols[] = {
        {"TLS_server_method", &lib.server_method},
        {"SSL_CTX_new", &lib.ctx_new},
        {"SSL_CTX_free", &lib.ctx_free},
        {"SSL_CTX_use_certificate", &lib.ctx_use_certificate},
        {"SSL_CTX_use_PrivateKey", &lib.ctx_use_key},
        {"SSL_new", &lib.ssl_new},
        {"SSL_free", &lib.ssl_free},
        {"SSL_set_fd", &lib.set_fd},
        {"SSL_accept", &lib.accept},
        {"SSL_read", &lib.read},
        {"SSL_write", &lib.write},
        {"SSL_shutdown", &lib.shutdown},
    };
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
