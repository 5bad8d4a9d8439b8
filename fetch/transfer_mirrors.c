/* The mirrors of a transfer: in which order they are asked and with which login, which one is
 * left, and what is told of them while it runs.
 *
 * Connections are spread over the mirrors that are ready. One that is several times slower than
 * another one is left, with the rest of its hole, and asked again only when no better one is ready:
 * a server that gives each connection so much would keep the place of a faster one. */
#include <stdint.h>

#include "base/clock.h"
#include "base/fault.h"
#include "fetch/oci.h"
#include "fetch/transfer_impl.h"

#define SLOW_TIMES 4 /* slow is who gives a connection so many times less than another mirror */
#define MEASURE_S 1  /* a rate says something only after so long */

/* How unhealthy: 0 is best. A rate counts only by factors of four, so that chance does not sort. */
static int64_t illness(const struct breaker_row *r)
{
    int64_t failed = r->calls ? r->failed * 100 / r->calls : 0, slowness = 0;
    for (uint64_t rate = r->rate_bytes_s; rate > 0 && rate < UINT64_C(1) << 40; rate *= 4) {
        slowness++;
    }
    bool away = r->state == BREAKER_OPEN || r->cool_s > 0;
    return (away ? 10000 : 0) + (failed >= 20 ? failed * 10 : 0) + slowness;
}

enum bnt_status transfer_set_mirrors(struct transfer *t, struct bnt_err *err)
{
    int64_t ill[TRANSFER_SOURCES_MAX];
    for (size_t i = 0; i < t->spec->n_sources; i++) {
        struct breaker_row row;
        struct mirror m = {.source = &t->spec->sources[i]};
        enum bnt_status st = breaker_origin(m.source->url, m.origin, err);
        if (st == BNT_OK) {
            st = breaker_look(t->breaker, m.origin, &row, err);
        }
        if (st != BNT_OK) {
            return st;
        }
        size_t at = i;
        for (; at > 0 && ill[at - 1] > illness(&row); at--) {
            t->mirrors[at] = t->mirrors[at - 1];
            ill[at] = ill[at - 1];
        }
        t->mirrors[at] = m;
        ill[at] = illness(&row);
        t->n_mirrors++;
    }
    return BNT_OK;
}

bool transfer_renew_login(const struct conn *c, const struct http_outcome *o)
{
    struct mirror *m = c->mirror;
    struct bnt_err why = {0};
    if (o->status != BNT_E_AUTH || o->redirected || !m->source->oci.repo[0]) {
        return false;
    }
    if (c->n_login != m->n_logins) {
        return true; /* another connection has renewed it meanwhile */
    }
    if (m->n_logins > 0 && !m->login_good) {
        return false;
    }
    m->n_logins++;
    m->login_good = false;
    return oci_renew(m->source, c->t->spec->opts, &why) == BNT_OK;
}

bool transfer_may_retry(struct transfer *t, const struct mirror *m, struct bnt_err *why)
{
    bool granted = false;
    if (breaker_retry(t->breaker, m->origin, &granted, &t->fatal) != BNT_OK || granted) {
        return granted;
    }
    why->hint[0] = '\0';
    bnt_err_hint(why, "so many requests to this server had to be repeated lately that there are no "
                      "more retries for now; wait some minutes, or fetch from another place");
    return false;
}

void transfer_tell(const struct transfer *t, enum bnt_fetch_event_kind kind, const struct mirror *m,
                   const struct bnt_err *why, uint64_t wait_ns)
{
    const struct bnt_fetch_opts *o = t->spec->opts;
    if (!o->event) {
        return;
    }
    const struct bnt_fetch_event e = {
        .kind = kind,
        .server = m->origin,
        .why = why ? why->msg : "",
        .status = why ? why->status : BNT_OK,
        .wait_ms = wait_ns / 1000000,
        .done_bytes = part_done_bytes(t->part),
        .total_bytes = t->part->record.total,
    };
    o->event(o->ctx, &e);
}

/* ---- who is asked next ---- */

size_t transfer_active_on(const struct transfer *t, const struct mirror *m)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_conns; i++) {
        n += t->conns[i].mirror == m;
    }
    return n;
}

bool transfer_other_has_ranges(const struct transfer *t, const struct mirror *m)
{
    for (size_t i = 0; i < t->n_mirrors; i++) {
        const struct mirror *o = &t->mirrors[i];
        if (o != m && !o->dead && !o->no_ranges) {
            return true;
        }
    }
    return false;
}

/* By the rates that were measured last. */
static bool is_slow(const struct transfer *t, const struct mirror *m)
{
    uint64_t now_ns = bnt_clock_now_ns();
    for (size_t i = 0; m->rate_bytes_s > 0 && i < t->n_mirrors; i++) {
        const struct mirror *o = &t->mirrors[i];
        if (!o->dead && !o->no_ranges && o->not_before_ns <= now_ns &&
            o->rate_bytes_s > SLOW_TIMES * m->rate_bytes_s) {
            return true;
        }
    }
    return false;
}

/* Whether `m` is a better choice than `than`. */
static bool is_better(const struct transfer *t, const struct mirror *m, const struct mirror *than,
                      const struct mirror *avoid)
{
    bool slow = is_slow(t, m);
    if (m == avoid || than == avoid) {
        return than == avoid;
    }
    return slow != is_slow(t, than) ? !slow
                                    : transfer_active_on(t, m) < transfer_active_on(t, than);
}

/* The one with the fewest connections, the healthier first. A mirror without ranges could only
 * begin anew, so it is left alone as long as others are better. */
struct mirror *transfer_pick_mirror(struct transfer *t, const struct mirror *avoid)
{
    struct mirror *best = NULL;
    uint64_t now_ns = bnt_clock_now_ns();
    for (size_t i = 0; i < t->n_mirrors; i++) {
        struct mirror *m = &t->mirrors[i];
        bool ready = !m->dead && m->not_before_ns <= now_ns;
        bool whole =
            m->no_ranges &&
            (t->n_active > 0 || (part_done_bytes(t->part) > 0 && transfer_other_has_ranges(t, m)));
        if (ready && !whole && (!best || is_better(t, m, best, avoid))) {
            best = m;
        }
    }
    return best;
}

bool transfer_should_leave(struct conn *c)
{
    uint64_t took_ns = bnt_clock_now_ns() - c->began_ns;
    if (c->done || took_ns < MEASURE_S * (uint64_t)NS_PER_S) {
        return false;
    }
    c->mirror->rate_bytes_s = (double)c->got_bytes * 1e9 / (double)took_ns;
    return transfer_may_split(c->t) && transfer_seconds_left(c) > MEASURE_S &&
           is_slow(c->t, c->mirror) && !BNT_FAULT(keep_slow);
}
