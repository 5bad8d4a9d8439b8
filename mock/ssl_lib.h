/* libssl, loaded when the first server with a certificate starts and not before: `bnt` carries the
 * mock server along, and no other command should wait for it. libcrypto is linked. */
#ifndef BNT_MOCK_SSL_LIB_H
#define BNT_MOCK_SSL_LIB_H

#include <openssl/ssl.h>

#include "base/status.h"

struct ssl_lib {
    const SSL_METHOD *(*server_method)(void);
    SSL_CTX *(*ctx_new)(const SSL_METHOD *method);
    void (*ctx_free)(SSL_CTX *ctx);
    int (*ctx_use_certificate)(SSL_CTX *ctx, X509 *x);
    int (*ctx_use_key)(SSL_CTX *ctx, EVP_PKEY *key);
    SSL *(*ssl_new)(SSL_CTX *ctx);
    void (*ssl_free)(SSL *ssl);
    int (*set_fd)(SSL *ssl, int fd);
    int (*accept)(SSL *ssl);
    int (*read)(SSL *ssl, void *bytes, int n);
    int (*write)(SSL *ssl, const void *bytes, int n);
    int (*shutdown)(SSL *ssl);
};

/* The table; the library stays loaded until the process ends. Not thread-safe: call first from the
 * main thread. Errors: UNSUPPORTED with the package to install. */
enum bnt_status ssl_lib_load(const struct ssl_lib **out, struct bnt_err *err);

#endif
