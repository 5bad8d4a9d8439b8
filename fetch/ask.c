/* One request by libcurl's easy interface into memory. */
#include "fetch/ask.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "fetch/backoff.h"
#include "fetch/breaker.h"
#include "fetch/curl_lib.h"
#include "fetch/http.h"
#include "fetch/fetch_stop.h"

#define CONNECT_TIMEOUT_MS 20000
#define TOTAL_TIMEOUT_MS 60000
#define MAX_ATTEMPTS 5
#define MAX_WAIT_S 300
#define SLICE_NS 100000000u

struct asking {
    struct ask *a;
    const struct curl_lib *lib;
    CURL *easy;
    struct curl_slist *lines; /* headers of the request */
    struct bnt_err failed;    /* from within a callback */
    struct http_times times;
    char text[CURL_ERROR_SIZE];
};

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
    struct asking *q = ctx;
    (void)one; /* always 1 */
    return bnt_buf_append(&q->a->body, bytes, n, &q->failed) == BNT_OK ? n : 0;
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    struct asking *q = ctx;
    (void)one;
    http_times_line(&q->times, line, n);
    for (size_t i = 0; i < q->a->n_headers; i++) {
        struct ask_header *h = &q->a->headers[i];
        (void)http_header_value(line, n, h->name, h->value, sizeof h->value);
    }
    return n;
}

static int on_tick(void *ctx, curl_off_t total, curl_off_t done, curl_off_t up_total, curl_off_t up)
{
    const struct asking *q = ctx;
    (void)total, (void)done, (void)up_total, (void)up;
    return fetch_stop(q->a->opts, "", NULL) != BNT_OK;
}

static CURLcode add_line(struct asking *q, const char *name, const char *value)
{
    char line[512];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *more = q->lib->slist_append(q->lines, line);
    q->lines = more ? more : q->lines;
    return more ? q->lib->easy_setopt(q->easy, CURLOPT_HTTPHEADER, q->lines) : CURLE_OUT_OF_MEMORY;
}

/* The body is borrowed: it outlives the request. */
static CURLcode set_body(struct asking *q)
{
    if (!q->a->json) {
        return CURLE_OK;
    }
    CURLcode rc = q->lib->easy_setopt(q->easy, CURLOPT_POSTFIELDS, q->a->json);
    if (rc == CURLE_OK) {
        rc = q->lib->easy_setopt(q->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                 (curl_off_t)strlen(q->a->json));
    }
    return rc == CURLE_OK ? add_line(q, "Content-Type", "application/json") : rc;
}

static CURLcode set_values(struct asking *q)
{
    const struct bnt_fetch_opts *o = q->a->opts;
    const bool token = q->a->token && q->a->token[0];
    const struct {
        CURLoption option;
        long value;
    } longs[] = {
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_NOBODY, q->a->head},
        {CURLOPT_CONNECTTIMEOUT_MS,
         o->connect_timeout_ms ? (long)o->connect_timeout_ms : CONNECT_TIMEOUT_MS},
        {CURLOPT_TIMEOUT_MS, q->a->timeout_ms ? (long)q->a->timeout_ms : TOTAL_TIMEOUT_MS},
        {CURLOPT_NOPROGRESS, 0},
        {CURLOPT_NETRC, token ? CURL_NETRC_IGNORED : CURL_NETRC_OPTIONAL},
    };
    const struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        {CURLOPT_URL, q->a->url},       {CURLOPT_USERAGENT, "bnt/" BNT_VERSION},
        {CURLOPT_ERRORBUFFER, q->text}, {CURLOPT_WRITEDATA, q},
        {CURLOPT_HEADERDATA, q},        {CURLOPT_XFERINFODATA, q},
    };
    CURLcode rc = curl_lib_set_certificates(q->lib, q->easy);
    for (size_t i = 0; rc == CURLE_OK && i < sizeof longs / sizeof longs[0]; i++) {
        rc = q->lib->easy_setopt(q->easy, longs[i].option, longs[i].value);
    }
    for (size_t i = 0; rc == CURLE_OK && i < sizeof pointers / sizeof pointers[0]; i++) {
        rc = q->lib->easy_setopt(q->easy, pointers[i].option, pointers[i].value);
    }
    if (rc == CURLE_OK && token) {
        rc = curl_lib_set_token(q->lib, q->easy, q->a->token, q->a->basic);
    }
    if (rc == CURLE_OK && q->a->accept) {
        rc = add_line(q, "Accept", q->a->accept);
    }
    return rc == CURLE_OK ? set_body(q) : rc;
}

static CURLcode set_callbacks(struct asking *q)
{
    CURLcode rc = q->lib->easy_setopt(q->easy, CURLOPT_WRITEFUNCTION, on_body);
    if (rc == CURLE_OK) {
        rc = q->lib->easy_setopt(q->easy, CURLOPT_HEADERFUNCTION, on_header);
    }
    if (rc == CURLE_OK && q->a->first_byte) {
        rc = q->lib->easy_setopt(q->easy, CURLOPT_RANGE, "0-0");
    }
    return rc == CURLE_OK ? q->lib->easy_setopt(q->easy, CURLOPT_XFERINFOFUNCTION, on_tick) : rc;
}

static enum bnt_status no_answer(const struct asking *q, CURLcode rc, struct bnt_err *err)
{
    if (rc == CURLE_ABORTED_BY_CALLBACK) {
        return fetch_stop(q->a->opts, "while a server was asked", err);
    }
    if (q->failed.status != BNT_OK) {
        return bnt_err_set(err, BNT_E_NETWORK, "%.300s: the answer is too large", q->a->shown);
    }
    if (err && err->status == BNT_OK) {
        err->domain = "curl";
        err->foreign = (int)rc;
    }
    enum bnt_status st = bnt_err_set(err, BNT_E_NETWORK, "%.300s: %s", q->a->shown,
                                     q->text[0] ? q->text : q->lib->easy_strerror(rc));
    bnt_err_hint(err, q->a->json ? "is the server up, and fast enough? its own log says more"
                                 : "the network or the server failed; try again, or fetch from "
                                   "another place");
    return st;
}

/* What one attempt says of the next. */
struct attempt {
    int64_t wait_s; /* that the server asks for; -1: none */
    bool again;     /* another one may end otherwise */
};

static enum bnt_status ask_once(struct ask *a, struct attempt *out, struct bnt_err *err)
{
    struct asking q = {.a = a};
    *out = (struct attempt){.wait_s = -1};
    a->pause_s = 0;
    bnt_buf_init(&a->body, a->body_max_bytes ? a->body_max_bytes : ASK_BODY_MAX_BYTES);
    for (size_t i = 0; i < a->n_headers; i++) {
        a->headers[i].value[0] = '\0';
    }
    enum bnt_status st = curl_lib_load(&q.lib, err);
    if (st != BNT_OK) {
        return st;
    }
    q.easy = q.lib->easy_init();
    if (!q.easy) {
        return bnt_err_nomem(err, "the request", 0);
    }
    CURLcode rc = set_values(&q);
    rc = rc == CURLE_OK ? set_callbacks(&q) : rc;
    rc = rc == CURLE_OK ? q.lib->easy_perform(q.easy) : rc;
    if (rc == CURLE_OK) {
        (void)q.lib->easy_getinfo(q.easy, CURLINFO_RESPONSE_CODE, &a->code);
        out->again = http_code_is_transient(a->code);
        out->wait_s = http_times_wait_s(&q.times, a->code);
    } else {
        bool again = q.failed.status == BNT_OK && http_curl_is_transient(rc);
        st = http_proxy_error(q.lib, q.easy, a->shown, &again, err);
        st = st == BNT_OK ? no_answer(&q, rc, err) : st;
        out->again = a->persists && again;
    }
    q.lib->easy_cleanup(q.easy);
    if (q.lines) {
        q.lib->slist_free_all(q.lines);
    }
    return st;
}

/* Sleep, and see meanwhile that an end is wanted. */
static enum bnt_status wait_ns(const struct bnt_fetch_opts *opts, uint64_t ns, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && ns > 0) {
        const uint64_t slice = ns < SLICE_NS ? ns : SLICE_NS;
        bnt_clock_sleep_ns(slice);
        ns -= slice;
        st = fetch_stop(opts, "while a server was asked", err);
    }
    return st;
}

/* ---- what is known of the server ---- */

/* net.db is advice: where it cannot be had, the question is asked nevertheless. */
struct server {
    struct breaker *breaker; /* NULL: nothing is known, nor noted */
    char origin[BREAKER_ORIGIN_MAX];
};

static void open_server(const struct ask *a, struct server *s)
{
    s->breaker = NULL;
    if (!a->opts->net_dir || BNT_FAULT(ask_unbounded) ||
        breaker_origin(a->url, s->origin, NULL) != BNT_OK || access(a->opts->net_dir, F_OK) != 0) {
        return;
    }
    (void)breaker_open(a->opts->net_dir, &s->breaker, NULL);
}

static uint64_t most_wait_ns(const struct bnt_fetch_opts *o)
{
    const uint64_t most_ns = (o->max_wait_s ? o->max_wait_s : MAX_WAIT_S) * UINT64_C(1000000000);
    const uint64_t left_ns = fetch_left_ns(o);
    return most_ns < left_ns ? most_ns : left_ns;
}

/* A server that asked for a pause gets it; one that failed too often is left alone. */
static enum bnt_status permitted(const struct ask *a, const struct server *s, struct bnt_err *err)
{
    struct breaker_permit permit = {.go = true};
    enum bnt_status st = BNT_OK;
    while (s->breaker && st == BNT_OK) {
        if (breaker_ask(s->breaker, s->origin, false, &permit, NULL) != BNT_OK || permit.go) {
            return BNT_OK;
        }
        const uint64_t ns = (uint64_t)permit.wait_s * UINT64_C(1000000000);
        if (permit.cooling && ns <= most_wait_ns(a->opts)) {
            st = wait_ns(a->opts, ns ? ns : SLICE_NS, err);
        } else if (permit.cooling) {
            st = bnt_err_set(err, BNT_E_RATE_LIMIT,
                             "%.300s: the server asked for a pause of %lld more s", a->shown,
                             (long long)permit.wait_s);
            bnt_err_hint(err, "wait, or fetch from another place");
        } else {
            st = bnt_err_set(err, BNT_E_CIRCUIT,
                             "%.300s: the server failed too often and is left alone for %lld more "
                             "s",
                             a->shown, (long long)permit.wait_s);
            bnt_err_hint(err, "see: bnt mirror status; fetch from another place, or wait");
        }
    }
    return st;
}

/* How an attempt went: what this side did to it counts for nothing. */
static void note_attempt(const struct ask *a, const struct server *s, enum bnt_status st,
                         int64_t wait_s)
{
    const bool answered = st == BNT_OK, again = answered && http_code_is_transient(a->code);
    if (!s->breaker || (!answered && st != BNT_E_NETWORK)) {
        return;
    }
    const bool failed = !answered || a->code >= 500 || a->code == 408;
    (void)breaker_report(s->breaker, s->origin, failed ? BREAKER_FAILED : BREAKER_GOOD, 0, NULL);
    if (again && wait_s > 0) {
        (void)breaker_cool(s->breaker, s->origin, wait_s, NULL);
    }
    if (answered && !again) {
        (void)breaker_earn(s->breaker, s->origin, NULL);
    }
}

static bool may_retry(const struct server *s)
{
    bool granted = true;
    return !s->breaker || breaker_retry(s->breaker, s->origin, &granted, NULL) != BNT_OK || granted;
}

enum bnt_status ask(struct ask *a, struct bnt_err *err)
{
    const struct bnt_fetch_opts *o = a->opts;
    const unsigned attempts = o->max_attempts ? o->max_attempts : MAX_ATTEMPTS;
    struct server s;
    open_server(a, &s);
    enum bnt_status st = permitted(a, &s, err);
    for (unsigned i = 1; st == BNT_OK; i++) {
        struct bnt_err why = {0};
        struct attempt tried;
        st = ask_once(a, &tried, &why);
        note_attempt(a, &s, st, tried.wait_s);
        const uint64_t ns = tried.wait_s > 0 ? (uint64_t)tried.wait_s * UINT64_C(1000000000)
                                             : backoff_wait_ns(i, backoff_random());
        if (st == BNT_OK && tried.again && tried.wait_s > 0 && ns > most_wait_ns(o)) {
            a->pause_s = tried.wait_s;
        }
        if (!tried.again || i >= attempts || ns > most_wait_ns(o) || !may_retry(&s)) {
            st = st == BNT_OK ? st : bnt_err_copy(err, &why);
            break;
        }
        bnt_buf_release(&a->body);
        st = wait_ns(o, ns, err);
    }
    breaker_close(s.breaker);
    return st;
}

enum bnt_status ask_refused(const struct ask *a, struct bnt_err *err)
{
    enum bnt_status st = a->pause_s > 0 ? BNT_E_RATE_LIMIT : http_status_of_code(a->code);
    bnt_err_set(err, st, "%.300s: the server answered %ld", a->shown, a->code);
    if (a->pause_s > 0) {
        bnt_err_hint(err, "the server asks to wait %lld s", (long long)a->pause_s);
    } else if (a->code == 407) {
        http_proxy_hint(a->code, err);
    } else if (st == BNT_E_RATE_LIMIT) {
        bnt_err_hint(err, "too many requests; wait, then try again");
    } else if (st == BNT_E_NETWORK) {
        bnt_err_hint(err, "the server is in trouble; try again later");
    }
    return st;
}
