/* OpenSSL's libcrypto, loaded when the first digest is asked for: half of the time that a cache hit
 * takes would go into loading it. */
#ifndef BNT_CRYPTO_LIB_H
#define BNT_CRYPTO_LIB_H

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stddef.h>

#include "base/status.h"

/* SHA-256 by the functions below EVP: only they show the state between two blocks
 * (bnt_sha256_state). The code behind them is the same. */
struct crypto_lib {
    int (*sha256_init)(SHA256_CTX *c);
    int (*sha256_update)(SHA256_CTX *c, const void *bytes, size_t n);
    int (*sha256_final)(unsigned char *digest, SHA256_CTX *c);
    unsigned char *(*mac)(OSSL_LIB_CTX *lib, const char *name, const char *properties,
                          const char *sub, const OSSL_PARAM *params, const void *key, size_t n_key,
                          const unsigned char *bytes, size_t n, unsigned char *out, size_t out_size,
                          size_t *n_out); /* EVP_Q_mac */
    /* EVP_DecodeBlock */
    int (*decode_base64)(unsigned char *out, const unsigned char *text, int n);
    int (*compare)(const void *a, const void *b, size_t n); /* in constant time: CRYPTO_memcmp */
};

/* The table; thread-safe. Errors: UNSUPPORTED with the package to install. */
enum bnt_status crypto_lib_load(const struct crypto_lib **out, struct bnt_err *err);

#endif
