/* The table of libcrypto's functions. */
#include "base/crypto_lib.h"

#include <pthread.h>

#include "base/dyn_lib.h"

#define LIBRARY "libcrypto.so.3"

static struct crypto_lib lib;
static const char *missing;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    const struct bnt_dyn_symbol symbols[] = {
        {"SHA256_Init", &lib.sha256_init},       {"SHA256_Update", &lib.sha256_update},
        {"SHA256_Final", &lib.sha256_final},     {"EVP_Q_mac", &lib.mac},
        {"EVP_DecodeBlock", &lib.decode_base64}, {"CRYPTO_memcmp", &lib.compare},
    };
    missing = bnt_dyn_lib_load(LIBRARY, symbols, sizeof symbols / sizeof symbols[0]);
}

enum bnt_status crypto_lib_load(const struct crypto_lib **out, struct bnt_err *err)
{
    pthread_once(&once, load);
    if (missing) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_UNSUPPORTED, "digests need OpenSSL 3: %s", missing);
        bnt_err_hint(err, "install it: apt-get install libssl3");
        return st;
    }
    *out = &lib;
    return BNT_OK;
}
