/* A self-signed certificate and the few functions of libssl that a server needs. */
#include "mock/tls_server.h"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libssl.so.3"
#define VALID_S (24 * 3600L)

/* The functions of libssl in use, by their own names. */
struct ssl_lib {
    const SSL_METHOD *(*TLS_server_method)(void);
    SSL_CTX *(*SSL_CTX_new)(const SSL_METHOD *method);
    void (*SSL_CTX_free)(SSL_CTX *ctx);
    int (*SSL_CTX_use_certificate)(SSL_CTX *ctx, X509 *x);
    int (*SSL_CTX_use_PrivateKey)(SSL_CTX *ctx, EVP_PKEY *key);
    SSL *(*SSL_new)(SSL_CTX *ctx);
    void (*SSL_free)(SSL *ssl);
    int (*SSL_set_fd)(SSL *ssl, int fd);
    int (*SSL_accept)(SSL *ssl);
    int (*SSL_read)(SSL *ssl, void *bytes, int n);
    int (*SSL_write)(SSL *ssl, const void *bytes, int n);
    int (*SSL_shutdown)(SSL *ssl);
};

struct tls_server {
    void *handle;
    struct ssl_lib lib;
    SSL_CTX *ctx;
};

struct tls_conn {
    const struct ssl_lib *lib;
    SSL *ssl;
};

static enum bnt_status load(struct tls_server *t, struct bnt_err *err)
{
    struct ssl_lib *lib = &t->lib;
#define SYMBOL(name)                                                                               \
    {                                                                                              \
#name, &lib->name                                                                          \
    }
    const struct {
        const char *name;
        void *slot;
    } symbols[] = {
        SYMBOL(TLS_server_method),
        SYMBOL(SSL_CTX_new),
        SYMBOL(SSL_CTX_free),
        SYMBOL(SSL_CTX_use_certificate),
        SYMBOL(SSL_CTX_use_PrivateKey),
        SYMBOL(SSL_new),
        SYMBOL(SSL_free),
        SYMBOL(SSL_set_fd),
        SYMBOL(SSL_accept),
        SYMBOL(SSL_read),
        SYMBOL(SSL_write),
        SYMBOL(SSL_shutdown),
    };
#undef SYMBOL
    t->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!t->handle) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "mock server: %s", dlerror());
    }
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *address = dlsym(t->handle, symbols[i].name);
        if (!address) {
            return bnt_err_set(err, BNT_E_UNSUPPORTED, "mock server: " LIBRARY " has no %s",
                               symbols[i].name);
        }
        memcpy(symbols[i].slot, &address, sizeof address); /* POSIX's way to a function pointer */
    }
    return BNT_OK;
}

static int add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    int ok = e && X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    return ok;
}

/* A certificate that is its own authority, for this machine's loopback names. NULL: out of memory.
 */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *x = X509_new();
    X509_NAME *name = x ? X509_get_subject_name(x) : NULL;
    static const unsigned char common_name[] = "bnt mock server";
    int ok = x && X509_set_version(x, X509_VERSION_3) &&
             ASN1_INTEGER_set(X509_get_serialNumber(x), 1) &&
             X509_gmtime_adj(X509_getm_notBefore(x), -VALID_S) &&
             X509_gmtime_adj(X509_getm_notAfter(x), VALID_S) &&
             X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0) &&
             X509_set_issuer_name(x, name) && X509_set_pubkey(x, key) &&
             add_extension(x, NID_basic_constraints, "critical,CA:TRUE") &&
             add_extension(x, NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost") &&
             X509_sign(x, key, EVP_sha256()) > 0;
    if (!ok) {
        X509_free(x);
        return NULL;
    }
    return x;
}

static enum bnt_status write_certificate(const char *path, X509 *x, struct bnt_err *err)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        return bnt_err_errno(err, "cannot write %s", path);
    }
    int ok = PEM_write_X509(f, x);
    return fclose(f) == 0 && ok
               ? BNT_OK
               : bnt_err_set(err, BNT_E_FAILED, "cannot write the certificate to %s", path);
}

enum bnt_status tls_server_new(const char *certificate_path, struct tls_server **out,
                               struct bnt_err *err)
{
    *out = NULL;
    struct tls_server *t = calloc(1, sizeof *t);
    if (!t) {
        return bnt_err_nomem(err, "mock server", sizeof *t);
    }
    enum bnt_status st = load(t, err);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? make_certificate(key) : NULL;
    if (st == BNT_OK) {
        t->ctx = t->lib.SSL_CTX_new(t->lib.TLS_server_method());
    }
    if (st == BNT_OK && (!x || !t->ctx || t->lib.SSL_CTX_use_certificate(t->ctx, x) != 1 ||
                         t->lib.SSL_CTX_use_PrivateKey(t->ctx, key) != 1)) {
        st = bnt_err_set(err, BNT_E_FAILED, "mock server: no certificate could be made");
    }
    if (st == BNT_OK) {
        st = write_certificate(certificate_path, x, err);
    }
    X509_free(x);
    EVP_PKEY_free(key);
    if (st != BNT_OK) {
        tls_server_free(t);
        return st;
    }
    *out = t;
    return BNT_OK;
}

void tls_server_free(struct tls_server *t)
{
    if (t && t->ctx) {
        t->lib.SSL_CTX_free(t->ctx);
    }
    free(t); /* the library stays loaded: its exit handlers must find it */
}

struct tls_conn *tls_accept(const struct tls_server *t, int fd)
{
    struct tls_conn *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->lib = &t->lib;
    c->ssl = t->lib.SSL_new(t->ctx);
    if (!c->ssl || t->lib.SSL_set_fd(c->ssl, fd) != 1 || t->lib.SSL_accept(c->ssl) != 1) {
        tls_close(c, 0);
        return NULL;
    }
    return c;
}

ssize_t tls_read(struct tls_conn *c, void *bytes, size_t n)
{
    return c->lib->SSL_read(c->ssl, bytes, n < 16384 ? (int)n : 16384);
}

ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t n)
{
    return c->lib->SSL_write(c->ssl, bytes, n < 16384 ? (int)n : 16384);
}

void tls_close(struct tls_conn *c, int clean)
{
    if (c->ssl) {
        if (clean) {
            (void)c->lib->SSL_shutdown(c->ssl);
        }
        c->lib->SSL_free(c->ssl);
    }
    free(c);
}
