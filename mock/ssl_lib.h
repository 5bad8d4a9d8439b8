/* libssl and what it needs of libcrypto, loaded when the first server with a certificate starts and
 * not before: `bnt` carries the mock server along, and no other command should wait for them. */
#ifndef BNT_MOCK_SSL_LIB_H
#define BNT_MOCK_SSL_LIB_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/status.h"

/* clang-format off */
#define SSL_LIB_FUNCTIONS(X) \
    X(TLS_server_method) X(SSL_CTX_new) X(SSL_CTX_free) X(SSL_CTX_use_certificate) \
    X(SSL_CTX_use_PrivateKey) X(SSL_new) X(SSL_free) X(SSL_set_fd) X(SSL_accept) X(SSL_read) \
    X(SSL_write) X(SSL_shutdown) X(X509_new) X(X509_free) X(X509_get_subject_name) \
    X(X509_set_version) X(X509_get_serialNumber) X(X509_getm_notBefore) X(X509_getm_notAfter) \
    X(X509_gmtime_adj) X(X509_NAME_add_entry_by_txt) X(X509_set_issuer_name) X(X509_set_pubkey) \
    X(X509_sign) X(X509_add_ext) X(X509_EXTENSION_free) X(X509V3_set_ctx) X(X509V3_EXT_conf_nid) \
    X(ASN1_INTEGER_set) X(PEM_write_X509) X(EVP_PKEY_Q_keygen) X(EVP_PKEY_free) X(EVP_sha256)
/* clang-format on */

/* Each under the name that OpenSSL gives it and an underscore: in C++ a member cannot have the name
 * of its type. */
struct ssl_lib {
#define SSL_LIB_MEMBER(function) __typeof__(function) *function##_;
    SSL_LIB_FUNCTIONS(SSL_LIB_MEMBER)
#undef SSL_LIB_MEMBER
};

/* The table; the library stays loaded until the process ends. Not thread-safe: call first from the
 * main thread. Errors: UNSUPPORTED with the package to install. */
enum bnt_status ssl_lib_load(const struct ssl_lib **out, struct bnt_err *err);

#endif
