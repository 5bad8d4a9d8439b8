/* A running `bnt cache serve`, and plain requests to it: what a client library would tidy up goes
 * over the wire as it is. */
#ifndef SUITES_SERVE_FIXTURE_H
#define SUITES_SERVE_FIXTURE_H

#include "base/file.h"
#include "testkit/proc.h"

#define SERVE_TOKEN "0123456789abcdef-of-the-tests"

struct served {
    struct proc proc;
    char url[128];
    unsigned port;
};

/* Serve the cache in <scratch>/<cache> on a free port, with more options (NULL-terminated, or NULL)
 * and BNT_CACHE_TOKEN=SERVE_TOKEN. */
void served_start(struct served *s, const char *cache, const char *const *options);
/* Signal it and wait for its end; the exit code. *log: what it wrote on standard error, or NULL. */
int served_stop(struct served *s, int signal_number, char **log);

/* One request on a connection of its own. `head`: request line and headers, without the empty line;
 * body may be NULL. */
struct served_answer {
    int code; /* 0: the connection ended without an answer */
    char head[4096];
    char *body; /* n bytes and a terminator; heap */
    size_t n;
};
void served_ask(const struct served *s, const char *head, const void *body, size_t n,
                struct served_answer *out);
/* The same for "METHOD path" with one more header line or NULL. */
void served_get(const struct served *s, const char *method, const char *path, const char *header,
                struct served_answer *out);
/* Whether the head has this line. */
bool served_has(const struct served_answer *a, const char *line);
void served_release(struct served_answer *a);

#endif
