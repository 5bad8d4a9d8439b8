/* What is known about servers, shared by all processes of a cache: <cache>/net.db. A server that
 * fails is left alone for a while, one that asks for a pause gets it. breaker.c begins with the
 * invariants and the states. */
#ifndef BNT_FETCH_BREAKER_H
#define BNT_FETCH_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"

#define BREAKER_ORIGIN_MAX 300    /* "https://example.org:443", bytes */
#define BREAKER_WINDOW_S 300      /* outcomes of so long count... */
#define BREAKER_BUCKET_S 30       /* ...in steps of this */
#define BREAKER_CALLS_MIN 10      /* fewer say nothing */
#define BREAKER_FAILED_PERCENT 50 /* at least so many failed: it opens */
#define BREAKER_SLOW_PERCENT 80   /* at least so many were slow: it opens */
#define BREAKER_OPEN_S 30         /* first time open; doubles with every time */
#define BREAKER_OPEN_MAX_S 3600
#define BREAKER_PROBE_S 60     /* a probe that says nothing for so long is taken for dead */
#define BREAKER_FORGIVE_S 3600 /* closed for so long: the next time open is a first one */

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
enum breaker_outcome { BREAKER_GOOD, BREAKER_SLOW, BREAKER_FAILED };

struct breaker;

/* Scheme, host and port of a URL, in lower case. */
enum bnt_status breaker_origin(const char *url, char out[BREAKER_ORIGIN_MAX], struct bnt_err *err);

/* A damaged net.db is replaced by an empty one: nothing in it is worth an error. */
enum bnt_status breaker_open(const char *cache_dir, struct breaker **out, struct bnt_err *err);
void breaker_close(struct breaker *b); /* NULL is fine */

struct breaker_permit {
    bool go;
    int64_t wait_s; /* when not: how long the server is left alone yet */
    bool cooling;   /* because it asked for that; else because it failed */
};
/* May a request be sent now? When half open, one caller gets a yes, and owes a report.
 * `last`: there is no other mirror left, so an open circuit does not refuse. */
enum bnt_status breaker_ask(struct breaker *b, const char *origin, bool last,
                            struct breaker_permit *out, struct bnt_err *err);
/* How it went. rate_bytes_s: 0 when too little came to tell. */
enum bnt_status breaker_report(struct breaker *b, const char *origin, enum breaker_outcome outcome,
                               uint64_t rate_bytes_s, struct bnt_err *err);
/* The server asks for a pause of so many seconds from now. */
enum bnt_status breaker_cool(struct breaker *b, const char *origin, int64_t wait_s,
                             struct bnt_err *err);

/* The retry budget of a server, shared by all processes: a full one is BREAKER_RETRIES retries; one
 * comes back every BREAKER_RETRY_EVERY_S, and one with every BREAKER_RETRY_PER requests that went
 * well. So many processes that fail together do not multiply what a server in trouble gets. */
#define BREAKER_RETRIES 20
#define BREAKER_RETRY_EVERY_S 10
#define BREAKER_RETRY_PER 5
/* Take a retry; *granted says whether there was one. */
enum bnt_status breaker_retry(struct breaker *b, const char *origin, bool *granted,
                              struct bnt_err *err);
/* A request went well. */
enum bnt_status breaker_earn(struct breaker *b, const char *origin, struct bnt_err *err);

struct breaker_row {
    char origin[BREAKER_ORIGIN_MAX];
    enum breaker_state state;
    int64_t calls, failed, slow; /* within the window */
    int64_t ejections;           /* times open in a row */
    int64_t open_s, cool_s;      /* seconds until it may be asked again; 0: now */
    uint64_t rate_bytes_s;       /* mean, the latest counting most; 0: unknown */
};
/* One server; a row of zeros for an unknown one. */
enum bnt_status breaker_look(struct breaker *b, const char *origin, struct breaker_row *out,
                             struct bnt_err *err);
/* All of them in order of their names; the caller frees *rows. */
enum bnt_status breaker_list(struct breaker *b, struct breaker_row **rows, size_t *n,
                             struct bnt_err *err);
/* Forget one server, or all with NULL. */
enum bnt_status breaker_reset(struct breaker *b, const char *origin, struct bnt_err *err);

#endif
