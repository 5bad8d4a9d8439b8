/* What the files of a transfer share: transfer.c (rounds, answers, failures), transfer_holes.c
 * (who fills what) and transfer_mirrors.c (their order, what is told of them). */
#ifndef BNT_FETCH_TRANSFER_IMPL_H
#define BNT_FETCH_TRANSFER_IMPL_H

#include "fetch/breaker.h"
#include "fetch/hasher.h"
#include "fetch/http.h"
#include "fetch/transfer.h"

#define NS_PER_S 1000000000u
#define TRANSFER_SIZE_MAX (UINT64_C(1) << 50)   /* bytes of a file that a server may say */
#define TRANSFER_HELD_BYTES ((size_t)512 << 10) /* written at once */

struct mirror {
    struct source *source;
    char origin[BREAKER_ORIGIN_MAX];
    char validator[BNT_CACHE_TAG_MAX], etag[BNT_CACHE_TAG_MAX]; /* of its latest answer, or "" */
    unsigned failures;                                          /* in a row */
    uint64_t not_before_ns;
    double rate_bytes_s; /* of one connection, when last measured; 0: not yet */
    bool dead;           /* not asked again in this transfer */
    bool no_ranges;      /* it ignores ranges, or answers them wrongly */
    bool changed;        /* its file became another one during this transfer, once */
    bool ranges_seen;    /* it answered one rightly */
    bool told;           /* that bytes of it came */
    bool resolved_again; /* a redirect led to a place that refused, once */
    unsigned n_logins;   /* how often the login was renewed */
    bool login_good;     /* the latest one was accepted */
};

enum refusal { NOT_REFUSED, REFUSED_FOR_LATER, REFUSED_FOR_GOOD };

struct conn {
    struct transfer *t;
    struct http_exchange x;
    struct mirror *mirror; /* NULL while idle */
    size_t hole;
    uint64_t pos;      /* of the next byte that comes */
    uint64_t want_end; /* of the request; the hole may be longer while its end is unknown */
    uint64_t got_bytes, began_ns;
    unsigned n_login;     /* which login the request has */
    char *held;           /* the n_held bytes before pos, not written yet */
    size_t n_held;        /* 0 between two rounds */
    bool done;            /* the hole is full: what still comes is not wanted */
    enum refusal refused; /* the head was not believed; the same mirror may do better */
    char if_range[BNT_CACHE_TAG_MAX];
};

struct transfer {
    const struct transfer_spec *spec;
    const struct curl_lib *lib;
    CURLM *multi;
    struct part *part;
    struct breaker *breaker;
    struct transfer_result *result;
    struct hasher *hasher;
    char *held; /* TRANSFER_HELD_BYTES of each connection */
    struct mirror mirrors[TRANSFER_SOURCES_MAX];
    struct conn conns[TRANSFER_CONNECTIONS_MAX];
    size_t n_mirrors, n_conns, n_active;
    unsigned retries;
    uint64_t began_ns, waited_ns;
    struct bnt_err last;  /* why the mirror that died last did */
    struct bnt_err fatal; /* what no other mirror can help */
};

/* The mirrors in order of health, equal ones as they were given. */
enum bnt_status transfer_set_mirrors(struct transfer *t, struct bnt_err *err);
/* Whether a request that was refused may be repeated with another login, which is got here. Logins
 * of registries hold for minutes; one that was never accepted is not asked for twice. */
bool transfer_renew_login(const struct conn *c, const struct http_outcome *o);
/* Whether a server that failed may be asked again by the budget that all processes share; when not,
 * the hint of `why` says so. */
bool transfer_may_retry(struct transfer *t, const struct mirror *m, struct bnt_err *why);
/* Tell who listens (opts->event) what happens with a server; why may be NULL. */
void transfer_tell(const struct transfer *t, enum bnt_fetch_event_kind kind, const struct mirror *m,
                   const struct bnt_err *why, uint64_t wait_ns);

/* Whether several connections may fill the part: its size is known, and what they bring belongs
 * together. */
bool transfer_may_split(const struct transfer *t);
/* Cut a hole in two at `at`; the number of the second half, or PART_HOLES when there is no room. */
size_t transfer_cut(struct transfer *t, size_t hole, uint64_t at, struct bnt_err *err);
/* What an idle connection should fill; PART_HOLES: nothing. *avoid: the mirror that is too slow at
 * it, or NULL. */
size_t transfer_next_hole(struct transfer *t, const struct mirror **avoid, struct bnt_err *err);
/* Seconds that a connection still needs for its hole, at the rate of so far. */
double transfer_seconds_left(const struct conn *c);

/* Connections to a mirror. */
size_t transfer_active_on(const struct transfer *t, const struct mirror *m);
/* Whether another mirror than `m` is left that answers ranges. */
bool transfer_other_has_ranges(const struct transfer *t, const struct mirror *m);
/* The mirror for the next connection, not `avoid` when there is another one; NULL: none is ready.
 */
struct mirror *transfer_pick_mirror(struct transfer *t, const struct mirror *avoid);
/* Whether a connection should leave the rest of its hole to a faster mirror. */
bool transfer_should_leave(struct conn *c);

#endif
