/* A question to a server that is not a download: what is behind this URL, what is in this folder?
 * The answer is small and kept in memory. Redirects are not followed: the caller looks. With a body
 * it is a POST of JSON. Any http: or https: address goes: who asks decides what he believes. */
#ifndef BNT_FETCH_ASK_H
#define BNT_FETCH_ASK_H

#include "base/buf.h"
#include "fetch/bnt_fetch.h"

#define ASK_BODY_MAX_BYTES (8u << 20)
#define ASK_VALUE_MAX 2048 /* of a header */

/* A header of the answer that is wanted: lower-case name, and where the value goes; "" when it does
 * not come. */
struct ask_header {
    const char *name;
    char value[ASK_VALUE_MAX];
};

struct ask {
    const char *url;
    const char *shown;     /* what errors call it: no secrets */
    const char *token;     /* NULL or "", or sent as Authorization */
    bool basic;            /* the token is USER:PASSWORD; else a bearer's */
    bool head;             /* HEAD: no body */
    bool persists;         /* is repeated without an answer, too, as a transfer is */
    bool first_byte;       /* GET of one byte, of servers that do not know HEAD */
    const char *json;      /* NULL, or the body of a POST, whole UTF-8 */
    uint32_t timeout_ms;   /* of one request; 0: 60 s */
    const char *accept;    /* NULL, or the kinds of answers that are wanted */
    size_t body_max_bytes; /* 0: ASK_BODY_MAX_BYTES */
    const struct bnt_fetch_opts *opts;
    struct ask_header *headers; /* n_headers of them */
    size_t n_headers;
    struct bnt_buf body; /* of the answer; the caller releases it */
    long code;           /* of the answer */
    int64_t pause_s;     /* that the server asked for, when there is no time for it; else 0 */
};

/* OK whenever there is an answer, whatever its code; one that may be another one later is asked for
 * again, after the wait that the server wants. Errors: as bnt_fetch says of the network. */
enum bnt_status ask(struct ask *a, struct bnt_err *err);
/* The status that a code other than a success stands for, as an error with a hint. */
enum bnt_status ask_refused(const struct ask *a, struct bnt_err *err);

#endif
