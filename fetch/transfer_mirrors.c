/* In which order the mirrors of a transfer are asked, with which login, and what is told of them
 * while it runs. */
#include "fetch/transfer_impl.h"

#include "fetch/oci.h"

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
