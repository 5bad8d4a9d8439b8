/* One answer of the HTTP server, for http_server.c. */
#ifndef BNT_MOCK_HTTP_REPLY_H
#define BNT_MOCK_HTTP_REPLY_H

#include <stdbool.h>
#include <sys/types.h>

#include "mock/bnt_mock.h"
#include "mock/tls_server.h"

struct reply_conn {
    int fd;
    struct tls_conn *tls; /* NULL: plain */
    uint64_t body_bytes;  /* handed to the network */
    int status;           /* of the answer, once it is known */
};

ssize_t reply_read(struct reply_conn *c, void *bytes, size_t n);
/* Answer the request in `head` as the step says. Returns whether the connection should end with
 * TLS's goodbye. */
bool reply_send(struct reply_conn *c, const struct bnt_mock_route *r,
                const struct bnt_mock_step *step, const char *head);

#endif
