/* A self-signed certificate, and connections of libssl. */
#include "mock/tls_server.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "mock/ssl_lib.h"

#define VALID_S (24 * 3600L)

struct tls_server {
    const struct ssl_lib *lib;
    SSL_CTX *ctx;
};

struct tls_conn {
    const struct ssl_lib *lib;
    SSL *ssl;
};

static int add_extension(const struct ssl_lib *lib, X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    lib->X509V3_set_ctx_(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = lib->X509V3_EXT_conf_nid_(NULL, &ctx, nid, value);
    int ok = e && lib->X509_add_ext_(x, e, -1);
    lib->X509_EXTENSION_free_(e);
    return ok;
}

/* A certificate that is its own authority, for this machine's loopback names. NULL: out of memory.
 */
static X509 *make_certificate(const struct ssl_lib *lib, EVP_PKEY *key)
{
    X509 *x = lib->X509_new_();
    X509_NAME *name = x ? lib->X509_get_subject_name_(x) : NULL;
    static const unsigned char common_name[] = "bnt mock server";
    int ok = x && lib->X509_set_version_(x, X509_VERSION_3) &&
             lib->ASN1_INTEGER_set_(lib->X509_get_serialNumber_(x), 1) &&
             lib->X509_gmtime_adj_(lib->X509_getm_notBefore_(x), -VALID_S) &&
             lib->X509_gmtime_adj_(lib->X509_getm_notAfter_(x), VALID_S) &&
             lib->X509_NAME_add_entry_by_txt_(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0) &&
             lib->X509_set_issuer_name_(x, name) && lib->X509_set_pubkey_(x, key) &&
             add_extension(lib, x, NID_basic_constraints, "critical,CA:TRUE") &&
             add_extension(lib, x, NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost") &&
             lib->X509_sign_(x, key, lib->EVP_sha256_()) > 0;
    if (!ok) {
        lib->X509_free_(x);
        return NULL;
    }
    return x;
}

static enum bnt_status write_certificate(const struct ssl_lib *lib, const char *path, X509 *x,
                                         struct bnt_err *err)
{
    enum bnt_status st = bnt_file_is_named(path, err);
    if (st != BNT_OK) {
        return st;
    }
    FILE *f = fopen(path, "w");
    if (!f) {
        return bnt_err_errno(err, "cannot write %s", path);
    }
    int ok = lib->PEM_write_X509_(f, x);
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
    enum bnt_status st = ssl_lib_load(&t->lib, err);
    if (st != BNT_OK) {
        free(t);
        return st;
    }
    EVP_PKEY *key = t->lib->EVP_PKEY_Q_keygen_(NULL, NULL, "EC", "P-256");
    X509 *x = key ? make_certificate(t->lib, key) : NULL;
    t->ctx = t->lib->SSL_CTX_new_(t->lib->TLS_server_method_());
    if (!x || !t->ctx || t->lib->SSL_CTX_use_certificate_(t->ctx, x) != 1 ||
        t->lib->SSL_CTX_use_PrivateKey_(t->ctx, key) != 1) {
        st = bnt_err_set(err, BNT_E_FAILED, "mock server: no certificate could be made");
    }
    if (st == BNT_OK) {
        st = write_certificate(t->lib, certificate_path, x, err);
    }
    t->lib->X509_free_(x);
    t->lib->EVP_PKEY_free_(key);
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
        t->lib->SSL_CTX_free_(t->ctx);
    }
    free(t);
}

struct tls_conn *tls_accept(const struct tls_server *t, int fd)
{
    struct tls_conn *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->lib = t->lib;
    c->ssl = c->lib->SSL_new_(t->ctx);
    if (!c->ssl || c->lib->SSL_set_fd_(c->ssl, fd) != 1 || c->lib->SSL_accept_(c->ssl) != 1) {
        tls_close(c, 0);
        return NULL;
    }
    return c;
}

ssize_t tls_read(struct tls_conn *c, void *bytes, size_t n)
{
    return c->lib->SSL_read_(c->ssl, bytes, n < 16384 ? (int)n : 16384);
}

ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t n)
{
    return c->lib->SSL_write_(c->ssl, bytes, n < 16384 ? (int)n : 16384);
}

void tls_close(struct tls_conn *c, int clean)
{
    if (c->ssl) {
        if (clean) {
            (void)c->lib->SSL_shutdown_(c->ssl);
        }
        c->lib->SSL_free_(c->ssl);
    }
    free(c);
}
