/* Servers of others for the suites that hold `bnt` against them: a program started by the test on
 * loopback, which never outlives the test, and requests to it. A step that fails fails the test. */
#ifndef SUITES_SERVER_FIXTURE_H
#define SUITES_SERVER_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "fetch/bnt_fetch.h"
#include "testkit/proc.h"

struct server {
    struct proc proc;
    int stop_fd; /* the program's standard input */
};

/* Take `n` neighbouring ports of this machine that nobody listens at, the first of them. */
int server_free_ports(int n);
/* Start a program (found in PATH), and wait until something listens at `port`. It is killed when
 * this process ends. */
void server_start(struct server *s, const char *const *argv, int port);
/* The same for one that says when it is ready: a line "ready" on standard output. */
void server_start_ready(struct server *s, const char *const *argv);
/* Its standard input ends; what is still there after a while is killed. */
void server_stop(struct server *s);

/* Run `bnt` with these words until so many bytes of a transfer are in the cache, then kill it. */
void server_kill_fetch(const char *const *words, uint64_t bytes);
/* Fetch with the cache of this test. *resumed_bytes: what was there when the transfer began. */
enum bnt_status server_fetch(const char *source, const struct bnt_fetch_opts *opts,
                             struct bnt_fetch_result *r, uint64_t *resumed_bytes,
                             struct bnt_err *err);

/* A request with a body that is kept in memory. */
struct server_request {
    const char *method, *url;
    const char *login;          /* NULL, or USER:PASSWORD */
    const char *const *headers; /* NULL, or lines, the last one NULL */
    const void *body;
    size_t body_bytes;
    char location[2048]; /* of the answer, "" without */
};
/* The code of the answer. */
long server_send(struct server_request *r);

#endif
