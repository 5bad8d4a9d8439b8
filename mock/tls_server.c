/* A self-signed certificate, and connections of libssl. */
#include "mock/tls_server.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

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
    enum bnt_status st = ssl_lib_load(&t->lib, err);
    if (st != BNT_OK) {
        free(t);
        return st;
    }
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? make_certificate(key) : NULL;
    t->ctx = t->lib->ctx_new(t->lib->server_method());
    if (!x || !t->ctx || t->lib->ctx_use_certificate(t->ctx, x) != 1 ||
        t->lib->ctx_use_key(t->ctx, key) != 1) {
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
        t->lib->ctx_free(t->ctx);
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
    c->ssl = c->lib->ssl_new(t->ctx);
    if (!c->ssl || c->lib->set_fd(c->ssl, fd) != 1 || c->lib->accept(c->ssl) != 1) {
        tls_close(c, 0);
        return NULL;
    }
    return c;
}

ssize_t tls_read(struct tls_conn *c, void *bytes, size_t n)
{
    return c->lib->read(c->ssl, bytes, n < 16384 ? (int)n : 16384);
}

ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t n)
{
    return c->lib->write(c->ssl, bytes, n < 16384 ? (int)n : 16384);
}

void tls_close(struct tls_conn *c, int clean)
{
    if (c->ssl) {
        if (clean) {
            (void)c->lib->shutdown(c->ssl);
        }
        c->lib->ssl_free(c->ssl);
    }
    free(c);
}
