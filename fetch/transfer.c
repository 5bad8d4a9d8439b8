/* From sources to a part without holes.
 *
 * Invariants:
 *   1. A connection fills one hole of the part from its beginning. It writes what lies in the hole
 *      when the bytes come, so a hole may shrink from either side meanwhile: its end when another
 *      connection takes half of it over, its beginning when two fill the same one.
 *   2. Bytes of two answers stand in one file only when they are of one content: the validator of
 *      the first was sent as If-Range with the request for the second, or the digest of the whole
 *      is known beforehand. Otherwise the part restarts.
 *   3. Every 206 says where its bytes belong, and is not believed unless that was asked for.
 *   4. Bytes are hashed in their order in the file, as far as they are there without a gap, by a
 *      thread of its own (hasher.c).
 *   5. A request that failed is repeated only when it may succeed later (http.c), not before the
 *      wait that its server is owed is over, and not for ever (MAX_ATTEMPTS in a row without
 *      progress, RETRIES_MAX in all, max_wait_s of waiting).
 *
 * A round: fill() gives every idle connection a mirror and a hole; pump() moves bytes and ends what
 * is done or broken; when no connection is left, wait() sleeps until the first mirror is due. */
#include "fetch/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "fetch/backoff.h"
#include "fetch/fetch_room.h"
#include "fetch/fetch_stop.h"
#include "fetch/transfer_impl.h"

#define MAX_ATTEMPTS 5
#define MAX_WAIT_S 300
#define RETRIES_MAX 64
#define PROGRESS_BYTES (1u << 20) /* a request that brought so much was no failure in a row */
#define POLL_MS 100
#define SLICE_NS 100000000u /* of a wait, after which an interrupt is seen */
#define CONNECTIONS 4
#define FIRST_BYTES (8u << 20) /* of the first request, when more connections are to follow it */

/* ---- the hash ---- */

/* Forget what has arrived. The hash lets go of the file before it is closed. */
static enum bnt_status begin_anew(struct transfer *t, uint64_t total, const char *validator,
                                  struct bnt_err *err)
{
    enum bnt_status st = hasher_begin(t->hasher, -1, err);
    if (st == BNT_OK) {
        st = part_restart(t->part, total, validator, err);
    }
    return st == BNT_OK ? hasher_begin(t->hasher, t->part->file.fd, err) : st;
}

/* Say what is there without a gap, and so may be hashed. */
static void tell_front(struct transfer *t)
{
    if (!t->spec->only_holes) {
        hasher_advance(t->hasher, part_front(t->part));
    }
}

/* ---- mirrors ---- */

static size_t usable_mirrors(const struct transfer *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_mirrors; i++) {
        n += !t->mirrors[i].dead;
    }
    return n;
}

static void give_up(struct transfer *t, struct mirror *m, const struct bnt_err *why)
{
    m->dead = true;
    t->last = *why;
    transfer_tell(t, why->status == BNT_E_CIRCUIT ? BNT_FETCH_CIRCUIT : BNT_FETCH_MIRROR_OUT, m,
                  why, 0);
}

static uint64_t wait_budget_ns(const struct transfer *t)
{
    uint32_t most_s = t->spec->opts->max_wait_s ? t->spec->opts->max_wait_s : MAX_WAIT_S;
    uint64_t most_ns = (uint64_t)most_s * NS_PER_S;
    uint64_t left_ns = most_ns > t->waited_ns ? most_ns - t->waited_ns : 0;
    uint64_t until_end_ns = fetch_left_ns(t->spec->opts); /* a longer wait would be for nothing */
    return left_ns < until_end_ns ? left_ns : until_end_ns;
}

/* A server that asks for a longer pause than there is time for is no failure of the network. */
static void refuse_pause(struct transfer *t, struct mirror *m, long code, int64_t wait_s)
{
    struct bnt_err why = {0};
    bnt_err_set(&why, BNT_E_RATE_LIMIT, "%.300s: the server answered %ld", m->source->shown, code);
    bnt_err_hint(&why, "the server asks to wait %lld s", (long long)wait_s);
    give_up(t, m, &why);
}

/* Leave a mirror alone for so long, or for good when that is more than the transfer may wait. */
static void postpone(struct transfer *t, struct mirror *m, uint64_t wait_ns,
                     const struct bnt_err *why)
{
    if (wait_ns > wait_budget_ns(t)) {
        give_up(t, m, why);
    } else {
        m->not_before_ns = bnt_clock_now_ns() + wait_ns;
        transfer_tell(t, BNT_FETCH_RETRY, m, why, wait_ns);
    }
}

/* Ask the breaker; false when the mirror must wait or is out. */
static bool permitted(struct transfer *t, struct mirror *m, struct bnt_err *err)
{
    struct breaker_permit permit;
    struct bnt_err why = {0};
    bool last = t->spec->n_sources > 1 && usable_mirrors(t) == 1;
    if (breaker_ask(t->breaker, m->origin, last, &permit, err) != BNT_OK || permit.go) {
        return permit.go;
    }
    if (permit.cooling) {
        bnt_err_set(&why, BNT_E_RATE_LIMIT, "%.300s: the server asked for a pause of %lld more s",
                    m->source->shown, (long long)permit.wait_s);
        bnt_err_hint(&why, "wait, or fetch from another place");
        postpone(t, m, (uint64_t)permit.wait_s * NS_PER_S, &why);
    } else if (transfer_active_on(t, m) > 0) { /* the probe is ours */
        m->not_before_ns = bnt_clock_now_ns() + NS_PER_S;
    } else {
        bnt_err_set(&why, BNT_E_CIRCUIT,
                    "%.300s: the server failed too often and is left alone for %lld more s",
                    m->source->shown, (long long)permit.wait_s);
        bnt_err_hint(&why, "see: bnt mirror status; fetch from another place, or wait");
        give_up(t, m, &why);
    }
    return false;
}

/* ---- answers ---- */

static void stop(struct conn *c)
{
    struct transfer *t = c->t;
    (void)t->lib->multi_remove_handle(t->multi, c->x.easy);
    http_release(&c->x);
    c->mirror = NULL;
    t->n_active--;
}

/* The content is another one than that of the part: begin anew with this answer. */
static enum bnt_status restart(struct conn *c, const struct http_head *head, struct bnt_err *err)
{
    struct transfer *t = c->t;
    for (size_t i = 0; i < t->n_conns; i++) {
        if (&t->conns[i] != c && t->conns[i].mirror) {
            t->conns[i].done = true; /* ended by pump(); not now, libcurl is in a callback */
            t->conns[i].hole = PART_HOLES;
            t->conns[i].n_held = 0;
        }
    }
    c->hole = 0;
    return begin_anew(t, head->total, head->validator, err);
}

/* An answer that its server should not have given; asked without ranges it may do better. */
static enum bnt_status disbelieve(struct conn *c, const char *what, struct bnt_err *err)
{
    c->refused = REFUSED_FOR_LATER;
    c->mirror->no_ranges = true;
    enum bnt_status st =
        bnt_err_set(err, BNT_E_NETWORK, "%.300s: %s", c->mirror->source->shown, what);
    bnt_err_hint(err, "the server is in trouble; fetch from another place");
    return st;
}

/* Whether the file there cannot be the one that holes are to be filled from. */
static bool is_another(const struct conn *c, const struct http_head *head)
{
    uint64_t total = c->t->part->record.total;
    return c->t->spec->only_holes && head->total > 0 && total > 0 && head->total != total;
}

static enum bnt_status refuse_other(const struct conn *c, struct bnt_err *err)
{
    return bnt_err_set(err, BNT_E_DIGEST, "%.300s has another size by now",
                       c->mirror->source->shown);
}

static enum bnt_status refuse_packed(struct conn *c, const struct http_head *head,
                                     struct bnt_err *err)
{
    c->refused = REFUSED_FOR_GOOD;
    enum bnt_status st = bnt_err_set(err, BNT_E_UNSUPPORTED,
                                     "%.300s: the server sends it packed, with Content-Encoding %s",
                                     c->mirror->source->shown, head->encoding);
    bnt_err_hint(err, "it was asked not to; ask who runs it, or fetch from another place");
    return st;
}

static enum bnt_status refuse_size(struct conn *c, const struct http_head *head,
                                   struct bnt_err *err)
{
    c->refused = REFUSED_FOR_GOOD;
    enum bnt_status st = bnt_err_set(err, BNT_E_NETWORK,
                                     "%.300s: the server says %llu bytes, more than any model has",
                                     c->mirror->source->shown, (unsigned long long)head->total);
    bnt_err_hint(err, "the server is in trouble; fetch from another place");
    return st;
}

/* Note what the whole file is, at the first answer. */
static enum bnt_status learn(struct conn *c, const struct http_head *head, struct bnt_err *err)
{
    struct part_record *r = &c->t->part->record;
    if (r->total == 0 && head->total > 0) {
        r->total = head->total;
        for (size_t i = 0; i < PART_HOLES; i++) {
            r->holes[i].end = r->holes[i].end == PART_NO_END ? head->total : r->holes[i].end;
        }
    }
    enum bnt_status st =
        fetch_room(c->t->spec->opts, c->t->part->file.fd, c->mirror->source->shown, r->total, err);
    if (st != BNT_OK) {
        return st;
    }
    memcpy(r->validator, head->validator, sizeof r->validator);
    return part_save(c->t->part, err);
}

static enum bnt_status partial_head(struct conn *c, const struct http_head *head,
                                    struct bnt_err *err)
{
    const struct part_record *r = &c->t->part->record;
    if (head->range_begin != c->pos && !BNT_FAULT(content_range)) {
        return disbelieve(c, "the answer to a range is for another range", err);
    }
    if ((r->total > 0 && head->total != r->total) || head->total < r->holes[c->hole].begin) {
        return disbelieve(c, "the size of the file changed during the transfer", err);
    }
    if (c->if_range[0] && head->validator[0] && strcmp(c->if_range, head->validator) != 0) {
        return disbelieve(c, "the file changed, and the server sent a range of the new one", err);
    }
    enum bnt_status st = learn(c, head, err);
    c->mirror->ranges_seen = true;
    if (!c->t->spec->digest[0] && !head->validator[0]) {
        c->mirror->no_ranges = true; /* nothing would say that the next range belongs to this one */
    }
    if (st == BNT_OK && c->want_end < r->holes[c->hole].end) {
        (void)transfer_cut(c->t, c->hole, c->want_end, &c->t->fatal);
    }
    return st;
}

static enum bnt_status whole_head(struct conn *c, const struct http_head *head, struct bnt_err *err)
{
    struct transfer *t = c->t;
    const struct part_record *r = &t->part->record;
    bool fresh = part_done_bytes(t->part) == 0 && t->n_active == 1 &&
                 (r->total == 0 || head->total == 0 || r->total == head->total);
    bool changed = c->if_range[0] && head->validator[0] && strcmp(c->if_range, head->validator);
    if (!fresh && c->x.range[0] &&
        (t->n_mirrors > 1 ? transfer_other_has_ranges(t, c->mirror)
                          : t->n_active > 1 && !changed)) {
        return disbelieve(c, "the server ignored a range", err);
    }
    /* A second change is none: machines behind one name that tag the same file each in its own way
     * would have every answer throw away the one before it, for ever. */
    c->mirror->no_ranges |= c->x.range[0] && (!changed || c->mirror->changed);
    c->mirror->changed |= changed;
    c->pos = 0;
    if (fresh) {
        return learn(c, head, err);
    }
    return restart(c, head, err);
}

static enum bnt_status on_head(void *ctx, const struct http_head *head, struct bnt_err *err)
{
    struct conn *c = ctx;
    struct mirror *m = c->mirror;
    struct transfer *t = c->t;
    if (c->done) {
        return BNT_OK;
    }
    if (is_another(c, head)) {
        return refuse_other(c, err);
    }
    if (head->encoding[0]) {
        return refuse_packed(c, head, err);
    }
    if (head->total > TRANSFER_SIZE_MAX) {
        return refuse_size(c, head, err);
    }
    memcpy(m->validator, head->validator, sizeof m->validator);
    memcpy(m->etag, head->etag, sizeof m->etag);
    if (head->etag[0] && t->spec->known && strcmp(t->spec->known, head->etag) == 0 &&
        part_done_bytes(t->part) == 0) { /* a server that does not know If-None-Match */
        t->result->unchanged = c->done = true;
        return BNT_OK;
    }
    return head->code == 206 ? partial_head(c, head, err) : whole_head(c, head, err);
}

/* Write what of the held bytes lies in the hole. */
static enum bnt_status write_held(struct conn *c, struct bnt_err *err)
{
    struct transfer *t = c->t;
    if (c->hole == PART_HOLES || c->n_held == 0) {
        return BNT_OK; /* of a content that is not wanted any more, or nothing */
    }
    const struct part_hole *h = &t->part->record.holes[c->hole];
    uint64_t begin = c->pos - c->n_held, high = c->pos < h->end ? c->pos : h->end;
    if (begin > h->begin) {
        return bnt_err_set(err, BNT_E_INTERNAL, "a range would leave a gap before it");
    }
    uint64_t low = h->begin;
    enum bnt_status st = BNT_OK;
    c->n_held = 0;
    if (low < high) {
        st = part_write(t->part, c->hole, c->held + (low - begin), (size_t)(high - low), err);
        tell_front(t);
    }
    c->done = st == BNT_OK && h->begin >= h->end;
    return st;
}

/* Hold the bytes until there are enough for one write; libcurl hands out 16 KiB at a time. */
static enum bnt_status on_body(void *ctx, const char *bytes, size_t n, struct bnt_err *err)
{
    struct conn *c = ctx;
    c->t->result->received_bytes += n;
    c->got_bytes += n;
    if (!c->mirror->told) {
        c->mirror->told = true;
        transfer_tell(c->t, BNT_FETCH_MIRROR_IN, c->mirror, NULL, 0);
    }
    if (c->done) {
        return BNT_E_INTERRUPTED; /* ends the request; finish() sees that it is done */
    }
    enum bnt_status st =
        fetch_room_memory(c->t->spec->opts, c->mirror->source->shown, c->pos + n, err);
    const struct part_hole *h = &c->t->part->record.holes[c->hole];
    while (st == BNT_OK && n > 0 && !c->done) {
        size_t room = TRANSFER_HELD_BYTES - c->n_held, k = n < room ? n : room;
        memcpy(c->held + c->n_held, bytes, k);
        c->n_held += k;
        c->pos += k;
        bytes += k;
        n -= k;
        if (k == room || c->pos >= h->end) {
            st = write_held(c, err);
        }
    }
    return st;
}

/* ---- connections ---- */

/* Whether the part may go on from where it is, with this mirror. */
static bool may_go_on(const struct transfer *t, const struct mirror *m)
{
    return !m->no_ranges && (t->spec->digest[0] || t->part->record.validator[0]);
}

static void fill_request(struct conn *c, struct http_request *r)
{
    struct transfer *t = c->t;
    const struct part_hole *h = &t->part->record.holes[c->hole];
    const char *known = t->spec->digest[0] ? c->mirror->validator : t->part->record.validator;
    snprintf(c->if_range, sizeof c->if_range, "%s", known);
    uint64_t end = h->end == t->part->record.total ? HTTP_TO_THE_END : h->end;
    c->want_end = h->end;
    if (h->end == PART_NO_END && h->begin == 0 && t->n_conns > 1 && !c->mirror->no_ranges) {
        end = c->want_end = FIRST_BYTES;
    }
    *r = (struct http_request){
        .source = c->mirror->source,
        .begin = h->begin,
        .end = end,
        .if_range = c->if_range,
        .unless = part_done_bytes(t->part) == 0 ? t->spec->known : NULL,
        .opts = t->spec->opts,
        .on_head = on_head,
        .on_body = on_body,
        .ctx = c,
    };
}

static enum bnt_status start(struct conn *c, struct mirror *m, size_t hole, struct bnt_err *err)
{
    struct transfer *t = c->t;
    struct http_request request;
    enum bnt_status st = BNT_OK;
    if (part_done_bytes(t->part) > 0 && !may_go_on(t, m)) {
        st = begin_anew(t, 0, "", err);
        hole = 0;
    }
    *c = (struct conn){
        .t = t, .mirror = m, .hole = hole, .began_ns = bnt_clock_now_ns(), .held = c->held};
    c->pos = t->part->record.holes[hole].begin;
    c->n_login = m->n_logins;
    fill_request(c, &request);
    if (st == BNT_OK) {
        st = http_begin(&c->x, t->lib, &request, err);
    }
    if (st == BNT_OK && t->lib->multi_add_handle(t->multi, c->x.easy) != CURLM_OK) {
        st = bnt_err_nomem(err, "the transfer", 0);
    }
    if (st != BNT_OK) {
        http_release(&c->x);
        c->mirror = NULL;
        return st;
    }
    t->n_active++;
    t->result->requests++;
    return BNT_OK;
}

/* Give idle connections something to do. */
static enum bnt_status fill(struct transfer *t, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < t->n_conns; i++) {
        const struct mirror *avoid = NULL;
        if (t->conns[i].mirror || !transfer_pick_mirror(t, NULL)) {
            continue;
        }
        size_t hole = transfer_next_hole(t, &avoid, &t->fatal);
        struct mirror *m = hole < PART_HOLES ? transfer_pick_mirror(t, avoid) : NULL;
        if (m && permitted(t, m, &t->fatal)) {
            st = start(&t->conns[i], m, hole, err);
            if (avoid) {
                transfer_tell(t, BNT_FETCH_HEDGE, m, NULL, 0);
            }
        }
    }
    return st;
}

/* ---- ends ---- */

static void report(struct transfer *t, const struct conn *c, enum breaker_outcome outcome)
{
    uint64_t took_ns = bnt_clock_now_ns() - c->began_ns, rate = 0;
    if (c->got_bytes >= PROGRESS_BYTES && took_ns > 0) {
        rate = (uint64_t)((double)c->got_bytes * 1e9 / (double)took_ns);
    }
    c->mirror->rate_bytes_s = rate ? (double)rate : c->mirror->rate_bytes_s;
    (void)breaker_report(t->breaker, c->mirror->origin, outcome, rate, &t->fatal);
}

/* What a failure means for its mirror. */
static void count_failure(struct conn *c, struct http_outcome o, struct bnt_err *why)
{
    struct transfer *t = c->t;
    struct mirror *m = c->mirror;
    const struct http_head *head = &c->x.head;
    uint32_t most = t->spec->opts->max_attempts ? t->spec->opts->max_attempts : MAX_ATTEMPTS;
    bool transient = o.transient || c->refused == REFUSED_FOR_LATER;
    bool expired = o.status == BNT_E_AUTH && o.redirected && !m->resolved_again;
    m->resolved_again = m->resolved_again || expired;
    if (head->code == 416) { /* the file is shorter now than it was */
        m->no_ranges = transient = true;
    }
    m->failures = c->got_bytes >= PROGRESS_BYTES ? 1 : m->failures + 1;
    t->retries++;
    bool asked = head->wait_s > 0;
    if (asked) {
        (void)breaker_cool(t->breaker, m->origin, head->wait_s, &t->fatal);
    }
    if (asked && (uint64_t)head->wait_s * NS_PER_S > wait_budget_ns(t)) {
        refuse_pause(t, m, head->code, head->wait_s);
    } else if ((!transient && !expired) || m->failures >= most || t->retries >= RETRIES_MAX ||
               !transfer_may_retry(t, m, why)) {
        give_up(t, m, why);
    } else if (asked) {
        postpone(t, m, (uint64_t)head->wait_s * NS_PER_S, why);
    } else if (expired) {
        transfer_tell(t, BNT_FETCH_RETRY, m, why, 0);
    } else {
        postpone(t, m, backoff_wait_ns(m->failures, backoff_random()), why);
    }
}

/* A file of unknown length ends where its answer does. */
static void end_of_file(struct conn *c)
{
    struct transfer *t = c->t;
    struct part_record *r = &t->part->record;
    struct part_hole *h = &r->holes[c->hole];
    if (h->begin == 0) {
        bnt_err_set(&t->fatal, BNT_E_FILE, "%.300s is empty", c->mirror->source->shown);
        bnt_err_hint(&t->fatal, "the server has no bytes for it; check the URL, or fetch from "
                                "another place");
        return;
    }
    r->total = h->end = h->begin;
    if (part_save(t->part, &t->fatal) == BNT_OK) {
        c->done = true;
    }
}

/* A request ended, well or not. */
static void finish(struct conn *c, CURLcode rc)
{
    struct transfer *t = c->t;
    struct bnt_err why = {0};
    struct http_outcome o = {.status = BNT_OK};
    if (!c->done) {
        o = http_end(&c->x, rc, &why);
        if (c->x.head.code == 304 && t->spec->known) {
            t->result->unchanged = c->done = true;
        }
        if (o.status == BNT_OK && t->part->record.total == 0) {
            end_of_file(c);
        }
    }
    if (c->done || o.status == BNT_OK) {
        /* Fewer bytes than the hole has are fine, as long as there were some. */
        report(t, c, o.slow ? BREAKER_SLOW : BREAKER_GOOD);
        (void)breaker_earn(t->breaker, c->mirror->origin, &t->fatal);
        c->mirror->failures = c->got_bytes > 0 ? 0 : c->mirror->failures;
        c->mirror->login_good |= c->n_login == c->mirror->n_logins;
    } else if (c->x.failed.status != BNT_OK && c->refused == NOT_REFUSED) {
        t->fatal = t->fatal.status == BNT_OK ? why : t->fatal; /* ours: a full disk... */
    } else if (transfer_renew_login(c, &o)) {
        report(t, c, BREAKER_GOOD);
    } else {
        bool server = o.transient && o.status != BNT_E_RATE_LIMIT;
        report(t, c, server ? BREAKER_FAILED : BREAKER_GOOD);
        count_failure(c, o, &why);
    }
    stop(c);
}

/* ---- rounds ---- */

static void show_progress(const struct transfer *t)
{
    const struct bnt_fetch_opts *o = t->spec->opts;
    if (o->progress && (t->n_active > 0 || part_complete(t->part))) {
        uint64_t done = part_done_bytes(t->part);
        if (done > 0) {
            o->progress(o->ctx, done, t->part->record.total);
        }
    }
}

/* When the bytes of so far came faster than they may, wait a little: what is not read fills the
 * sockets, and the servers wait, too. libcurl's own limit is per connection. */
static bool too_fast(const struct transfer *t)
{
    uint64_t limit = t->spec->opts->limit_bytes_s;
    if (limit == 0) {
        return false;
    }
    double due_s = (double)t->result->received_bytes / (double)limit;
    double ahead_s = due_s - (double)(bnt_clock_now_ns() - t->began_ns) * 1e-9;
    if (ahead_s > 0) {
        bnt_clock_sleep_ns(ahead_s < 0.1 ? (uint64_t)(ahead_s * 1e9) + 1 : SLICE_NS);
    }
    return ahead_s > 0.1;
}

/* Move bytes, and end the requests that are over. */
static enum bnt_status pump(struct transfer *t, struct bnt_err *err)
{
    int running = 0, left = 0;
    if (too_fast(t)) {
        return BNT_OK;
    }
    if (t->lib->multi_perform(t->multi, &running) != CURLM_OK) {
        return bnt_err_nomem(err, "the transfer", 0);
    }
    for (size_t i = 0; i < t->n_conns; i++) {
        enum bnt_status st = t->conns[i].mirror ? write_held(&t->conns[i], err) : BNT_OK;
        if (st != BNT_OK) {
            return st;
        }
    }
    for (CURLMsg *m; (m = t->lib->multi_info_read(t->multi, &left));) {
        char *private = NULL;
        CURLcode rc = m->data.result;
        (void)t->lib->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
        for (size_t i = 0; i < t->n_conns; i++) {
            if (t->conns[i].mirror && (char *)&t->conns[i].x == private) {
                finish(&t->conns[i], rc);
            }
        }
    }
    for (size_t i = 0; i < t->n_conns; i++) {
        struct conn *c = &t->conns[i];
        const struct part_hole *h = c->hole < PART_HOLES ? &t->part->record.holes[c->hole] : NULL;
        c->done = c->done || (c->mirror && h && h->begin >= h->end); /* another one was faster */
        c->done = c->done || (c->mirror && transfer_should_leave(c));
        if (c->mirror && c->done) {
            finish(&t->conns[i], CURLE_OK);
        }
    }
    show_progress(t);
    if (t->n_active > 0) {
        (void)t->lib->multi_poll(t->multi, NULL, 0, POLL_MS, NULL);
    }
    return BNT_OK;
}

static enum bnt_status check_interrupt(const struct transfer *t, struct bnt_err *err)
{
    char doing[64];
    snprintf(doing, sizeof doing, "after %llu bytes", (unsigned long long)part_done_bytes(t->part));
    return fetch_stop(t->spec->opts, doing, err);
}

/* Sleep until a mirror is due. */
static enum bnt_status wait_for_mirror(struct transfer *t, struct bnt_err *err)
{
    uint64_t due_ns = UINT64_MAX, now_ns = bnt_clock_now_ns();
    for (size_t i = 0; i < t->n_mirrors; i++) {
        const struct mirror *m = &t->mirrors[i];
        due_ns = !m->dead && m->not_before_ns < due_ns ? m->not_before_ns : due_ns;
    }
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && now_ns < due_ns) {
        uint64_t slice_ns = due_ns - now_ns < SLICE_NS ? due_ns - now_ns : SLICE_NS;
        bnt_clock_sleep_ns(slice_ns);
        t->waited_ns += slice_ns;
        now_ns = bnt_clock_now_ns();
        st = check_interrupt(t, err);
    }
    return st;
}

static enum bnt_status out_of_mirrors(const struct transfer *t, struct bnt_err *err)
{
    return bnt_err_copy(err, &t->last);
}

static enum bnt_status drive(struct transfer *t, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && !part_complete(t->part) && !t->result->unchanged) {
        st = check_interrupt(t, err);
        if (st == BNT_OK) {
            st = fill(t, err);
        }
        if (st != BNT_OK) {
            break;
        }
        if (t->n_active > 0) {
            st = pump(t, err);
        } else if (usable_mirrors(t) > 0) {
            st = wait_for_mirror(t, err);
        } else {
            st = out_of_mirrors(t, err);
        }
        if (st == BNT_OK && t->fatal.status != BNT_OK) {
            st = t->fatal.status;
            if (err) {
                *err = t->fatal;
            }
        }
    }
    if (t->result->unchanged) {
        return st;
    }
    tell_front(t);
    while (st == BNT_OK && !hasher_wait(t->hasher, POLL_MS)) {
        st = check_interrupt(t, err);
    }
    return st;
}

/* ---- begin and end ---- */

static enum bnt_status begin(struct transfer *t, struct bnt_err *err)
{
    enum bnt_status st = curl_lib_load(&t->lib, err);
    if (st == BNT_OK) {
        st = breaker_open(t->spec->cache_dir, &t->breaker, err);
    }
    if (st == BNT_OK) {
        st = transfer_set_mirrors(t, err);
    }
    if (st == BNT_OK) {
        st = hasher_new(!t->spec->digest[0], &t->hasher, err);
    }
    if (st == BNT_OK) {
        st = hasher_begin(t->hasher, t->part->file.fd, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    tell_front(t);
    t->multi = t->lib->multi_init();
    t->began_ns = bnt_clock_now_ns();
    t->n_conns = t->spec->opts->connections ? t->spec->opts->connections : CONNECTIONS;
    t->n_conns = t->n_conns < TRANSFER_CONNECTIONS_MAX ? t->n_conns : TRANSFER_CONNECTIONS_MAX;
    t->held = malloc(t->n_conns * TRANSFER_HELD_BYTES);
    if (!t->multi || !t->held) {
        return bnt_err_nomem(err, "the transfer", t->n_conns * TRANSFER_HELD_BYTES);
    }
    for (size_t i = 0; i < t->n_conns; i++) {
        t->conns[i] = (struct conn){.t = t, .held = t->held + i * TRANSFER_HELD_BYTES};
    }
    return BNT_OK;
}

static void release(struct transfer *t)
{
    for (size_t i = 0; i < t->n_conns; i++) {
        if (t->conns[i].mirror) {
            stop(&t->conns[i]);
        }
    }
    if (t->multi) {
        (void)t->lib->multi_cleanup(t->multi);
    }
    breaker_close(t->breaker);
    hasher_free(t->hasher);
    free(t->held);
    free(t);
}

/* The strong ETag of what the first source has. */
static void set_etag(const struct transfer *t, char etag[BNT_CACHE_TAG_MAX])
{
    const char *validator = t->part->record.validator;
    etag[0] = '\0';
    for (size_t i = 0; i < t->n_mirrors; i++) {
        if (t->mirrors[i].source == t->spec->sources) {
            memcpy(etag, t->mirrors[i].etag, BNT_CACHE_TAG_MAX);
        }
    }
    if (t->result->requests == 0 && !t->spec->digest[0] && validator[0] == '"') {
        memcpy(etag, validator, BNT_CACHE_TAG_MAX); /* all of it was there already */
    }
}

enum bnt_status transfer_run(const struct transfer_spec *spec, struct part *part,
                             struct transfer_result *out, struct bnt_err *err)
{
    *out = (struct transfer_result){.requests = 0};
    struct transfer *t = calloc(1, sizeof *t); /* too large for a stack */
    if (!t) {
        return bnt_err_nomem(err, "the transfer", sizeof *t);
    }
    t->spec = spec;
    t->part = part;
    t->result = out;
    enum bnt_status st = begin(t, err);
    if (st == BNT_OK) {
        st = drive(t, err);
    }
    if (st == BNT_OK) {
        set_etag(t, out->etag);
        memcpy(out->validator, part->record.validator, sizeof out->validator);
    }
    if (st == BNT_OK && !spec->only_holes && !out->unchanged) {
        bnt_chunk_tree_free(part->file.tree);
        st = hasher_finish(t->hasher, out->digest, &part->file.tree, err);
    }
    release(t);
    return st;
}
