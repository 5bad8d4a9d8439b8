/* The server's side of TLS, for http_server.c. */
#ifndef BNT_MOCK_TLS_SERVER_H
#define BNT_MOCK_TLS_SERVER_H

#include <stddef.h>
#include <sys/types.h>

#include "base/status.h"

struct tls_server;
struct tls_conn;

/* A fresh P-256 key and a certificate for it, valid for a day, written to certificate_path. */
enum bnt_status tls_server_new(const char *certificate_path, struct tls_server **out,
                               struct bnt_err *err);
void tls_server_free(struct tls_server *t); /* NULL is fine */

/* Handshake on a connected socket (borrowed); NULL when it fails. Safe from many threads. */
struct tls_conn *tls_accept(const struct tls_server *t, int fd);
ssize_t tls_read(struct tls_conn *c, void *bytes, size_t n);
ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t n);
/* `clean`: say goodbye first, so that the client knows that nothing is missing. */
void tls_close(struct tls_conn *c, int clean);

#endif
