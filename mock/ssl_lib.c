/* The table of libssl's functions. */
#include "mock/ssl_lib.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libssl.so.3"

static struct ssl_lib lib;
static bool loaded;

static enum bnt_status no_library(const char *what, struct bnt_err *err)
{
    bnt_err_hint(err, "install it: apt-get install libssl3");
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "a server with a certificate needs libssl: %s",
                       what);
}

/* Fill every slot of the table; the name of what is missing, or NULL. dlsym gives an object
 * pointer; copying its bytes is how POSIX makes it a function. */
static const char *fill(void *handle)
{
    const struct {
        const char *name;
        void *slot;
    } symbols[] = {
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
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *address = dlsym(handle, symbols[i].name);
        if (!address) {
            return symbols[i].name;
        }
        memcpy(symbols[i].slot, &address, sizeof address);
    }
    return NULL;
}

enum bnt_status ssl_lib_load(const struct ssl_lib **out, struct bnt_err *err)
{
    if (!loaded) {
        void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            return no_library(dlerror(), err);
        }
        const char *missing = fill(handle);
        if (missing) {
            return no_library(missing, err);
        }
        loaded = true;
    }
    *out = &lib;
    return BNT_OK;
}
