/* Slots for tests. See slots.h.
 *
 * Invariants: a slot with a test has a process that runs or has just ended; the token of a slot is
 * new for every test; a worker's stream holds nothing when a test is started, so what comes then is
 * the answer to it. */
#include "testkit/slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/env.h"
#include "base/file.h"
#include "testkit/proc.h"
#include "testkit/proc_tree.h"
#include "testkit/remove_tree.h"
#include "testkit/runner_tap.h"
#include "testkit/schedule.h"

enum {
    OUTPUT_MAX_BYTES = 1 << 20,
    RECORD_MAX_BYTES = 8 << 20,
    /* bnt-suites itself ends a test at its time; this much later it is the program that hangs. */
    PROGRAM_SLACK_MS = 30 * 1000,
    /* For a new worker to map the model, and to find the packing of one that is not known yet. */
    WORKER_START_MS = 180 * 1000,
    GRACE_MS = 2000,
    FAREWELL_MS = 3000, /* for idle workers to end by themselves */
    TOKEN_BYTES = 16,
};

struct slot {
    struct bnt_test *test;
    bool has_worker; /* its process is one */
    char token[2 * TOKEN_BYTES + 1];
    uint64_t start_ns;
};

struct slots {
    struct bnt_test_run *run;
    size_t n;
    struct proc procs[BNT_TEST_JOBS_MAX];
    struct slot at[BNT_TEST_JOBS_MAX];
    char places[BNT_PATH_MAX]; /* a folder for each worker's tests, ours to remove; "": none */
};

static enum bnt_status make_places(struct slots *s, struct bnt_err *err)
{
    enum bnt_status status = bnt_path_format(s->places, err, "%s/bnt-run-XXXXXX", bnt_temp_dir());
    if (status == BNT_OK && !mkdtemp(s->places)) {
        status = bnt_err_errno(err, "no folder for the tests can be made in %s", bnt_temp_dir());
        bnt_err_hint(err, "set TMPDIR to a folder that can be written");
        s->places[0] = '\0';
    }
    return status;
}

enum bnt_status slots_new(struct bnt_test_run *run, struct slots **out, struct bnt_err *err)
{
    struct slots *s = calloc(1, sizeof *s);
    if (!s) {
        return bnt_err_nomem(err, "the slots for tests", sizeof *s);
    }
    s->run = run;
    s->n = (size_t)run->n_jobs;
    proc_adopt_orphans();
    enum bnt_status status = run->has_workers ? make_places(s, err) : BNT_OK;
    if (status != BNT_OK) {
        free(s);
        return status;
    }
    *out = s;
    return BNT_OK;
}

struct bnt_test *slots_test(const struct slots *s, size_t i)
{
    return s->at[i].test;
}

/* ---- starting ---- */

/* 0: none, as of the test itself (BNT_TEST_NO_LIMIT). */
static unsigned limit_ms(const struct bnt_test *t, unsigned start_ms)
{
    return t->timeout_ms ? t->timeout_ms + PROGRAM_SLACK_MS + start_ms : 0;
}

static enum bnt_status start_program(struct slots *s, size_t i, const struct bnt_test *t,
                                     struct bnt_err *err)
{
    char flag[] = "--run";
    char *argv[] = {s->run->program, flag, t->name, NULL};
    const struct proc_spec spec = {
        .argv = argv,
        .timeout_ms = limit_ms(t, 0),
        .grace_ms = GRACE_MS,
        .keep_bytes = OUTPUT_MAX_BYTES,
    };
    return proc_start(&s->procs[i], &spec, err);
}

/* What a worker that died had left there goes first. */
static enum bnt_status clear_place(const struct slots *s, size_t i, char place[BNT_PATH_MAX],
                                   struct bnt_err *err)
{
    enum bnt_status status = bnt_path_format(place, err, "%s/%zu", s->places, i);
    if (status == BNT_OK) {
        remove_tree(place);
        status = bnt_mkdirs(place, err);
    }
    return status;
}

static enum bnt_status start_worker(struct slots *s, size_t i, struct bnt_err *err)
{
    char place[BNT_PATH_MAX];
    enum bnt_status status = clear_place(s, i, place, err);
    if (status != BNT_OK) {
        return status;
    }
    char flag[] = "--worker";
    char places_flag[] = "--places";
    char *argv[] = {s->run->program, flag, places_flag, place, NULL};
    const struct proc_spec spec = {
        .argv = argv, .input = true, .grace_ms = GRACE_MS, .keep_bytes = RECORD_MAX_BYTES};
    status = proc_start(&s->procs[i], &spec, err);
    s->at[i].has_worker = status == BNT_OK;
    return status;
}

static enum bnt_status make_token(struct slot *slot, struct bnt_err *err)
{
    unsigned char bytes[TOKEN_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return bnt_err_errno(err, "random bytes for a worker");
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        snprintf(slot->token + 2 * i, 3, "%02x", bytes[i]);
    }
    return BNT_OK;
}

static enum bnt_status ask_worker(struct slots *s, size_t i, const struct bnt_test *t,
                                  unsigned start_ms, struct bnt_err *err)
{
    char line[1024];
    struct slot *slot = &s->at[i];
    enum bnt_status status = make_token(slot, err);
    if (status != BNT_OK) {
        return status;
    }
    int len = snprintf(line, sizeof line, "run %s %s\n", slot->token, t->name);
    proc_forget(&s->procs[i], PROC_OUT);
    proc_give_time(&s->procs[i], limit_ms(t, start_ms));
    if (len >= (int)sizeof line ||
        send(s->procs[i].in, line, (size_t)len, MSG_NOSIGNAL) != (ssize_t)len) {
        return bnt_err_errno(err, "a worker");
    }
    return BNT_OK;
}

static enum bnt_status start(struct slots *s, size_t i, const struct bnt_test *t,
                             struct bnt_err *err)
{
    if (!s->run->has_workers) {
        return start_program(s, i, t, err);
    }
    bool there = s->at[i].has_worker && !proc_done(&s->procs[i]);
    if (there && ask_worker(s, i, t, 0, NULL) == BNT_OK) {
        return BNT_OK;
    }
    if (s->at[i].has_worker) { /* it went away between two tests */
        proc_release(&s->procs[i]);
        s->at[i].has_worker = false;
    }
    enum bnt_status status = start_worker(s, i, err);
    return status == BNT_OK ? ask_worker(s, i, t, WORKER_START_MS, err) : status;
}

void slots_start(struct slots *s, size_t i, struct bnt_test *t)
{
    struct bnt_err err = {0};
    s->at[i].start_ns = proc_now_ns();
    if (start(s, i, t, &err) != BNT_OK) {
        schedule_conclude(t, BNT_TEST_FAILED, err.msg);
        t->verdict = VERDICT_NOT_STARTED;
        return;
    }
    s->at[i].test = t;
}

/* ---- answers ---- */

static void conclude_stopped(const struct slots *s, struct bnt_test *t)
{
    schedule_conclude(t, BNT_TEST_NOT_RUN,
                      s->run->interrupted ? "interrupted" : "budget: stopped after the grace");
}

/* Fill reason and output of a test whose process gave no verdict that can be trusted. */
static void conclude_without_verdict(struct bnt_test *t, const struct proc *p, const char *what)
{
    char how[160];
    char reason[256];
    proc_describe(p, how, sizeof how);
    snprintf(reason, sizeof reason, "no verdict: %s %s", what, how);
    schedule_conclude(t, BNT_TEST_FAILED, reason);
    t->verdict = VERDICT_WORKER_DIED;
    char *out = proc_output(p, PROC_OUT);
    char *said = proc_output(p, PROC_ERR);
    struct bnt_buf both = BNT_BUF(2 * RECORD_MAX_BYTES + 256);
    (void)bnt_buf_printf(&both, NULL, "%s%s", said ? said : "", out ? out : "");
    free(t->output);
    t->output = bnt_buf_take(&both);
    bnt_buf_release(&both);
    free(out);
    free(said);
}

static void finish_program(struct slots *s, size_t i)
{
    struct proc *p = &s->procs[i];
    struct bnt_test *t = s->at[i].test;
    char *tap = proc_output(p, PROC_OUT);
    if (p->end == PROC_STOPPED) {
        conclude_stopped(s, t);
    } else if (p->end != PROC_EXITED || !tap || !runner_tap_read(tap, p->code, t)) {
        conclude_without_verdict(t, p, "the suites program");
    }
    free(tap);
    proc_release(p);
}

/* A worker's end in the middle of a test; what the test had started runs on without it. */
static void finish_dead_worker(struct slots *s, size_t i)
{
    struct proc *p = &s->procs[i];
    if (p->end == PROC_STOPPED) {
        conclude_stopped(s, s->at[i].test);
    } else {
        conclude_without_verdict(s->at[i].test, p, "the worker that ran it");
    }
    proc_release(p);
    s->at[i].has_worker = false;
    proc_end_strays(s->procs, s->n);
}

/* The head of a record. */
struct record {
    int exit_code;
    size_t head_bytes, bytes;
};

enum record_state { RECORD_PART, RECORD_WHOLE, RECORD_FALSE };

/* "record TOKEN EXIT BYTES\n" and as many bytes. */
static enum record_state look_for_record(const struct slot *slot, const struct proc_capture *c,
                                         struct record *out)
{
    char head[128];
    char word[128];
    const char *end = c->len > 0 ? memchr(c->data, '\n', c->len) : NULL;
    if (c->total > c->len || (!end && c->len >= sizeof head)) {
        return RECORD_FALSE;
    }
    if (!end) {
        return RECORD_PART;
    }
    out->head_bytes = (size_t)(end - c->data) + 1;
    int expected = snprintf(word, sizeof word, "record %s ", slot->token);
    if (out->head_bytes > sizeof head || strncmp(c->data, word, (size_t)expected) != 0) {
        return RECORD_FALSE;
    }
    snprintf(head, sizeof head, "%.*s", (int)out->head_bytes - 1 - expected, c->data + expected);
    char *rest = NULL;
    out->exit_code = (int)strtol(head, &rest, 10);
    out->bytes = strtoull(rest, NULL, 10);
    size_t whole = out->head_bytes + out->bytes;
    return c->len == whole ? RECORD_WHOLE : c->len < whole ? RECORD_PART : RECORD_FALSE;
}

static bool read_record(struct slots *s, size_t i, const struct record *r)
{
    const char *from = s->procs[i].capture[PROC_OUT].data + r->head_bytes;
    char *tap = strndup(from, r->bytes);
    bool read = tap && runner_tap_read(tap, r->exit_code, s->at[i].test);
    free(tap);
    return read;
}

/* True when the worker has answered; a false answer ends it. */
static bool finish_record(struct slots *s, size_t i)
{
    struct record r;
    struct proc *p = &s->procs[i];
    enum record_state state = look_for_record(&s->at[i], &p->capture[PROC_OUT], &r);
    if (state == RECORD_PART) {
        return false;
    }
    if (state == RECORD_WHOLE && read_record(s, i, &r)) {
        proc_forget(p, PROC_OUT);
        proc_give_time(p, 0);
        return true;
    }
    conclude_without_verdict(s->at[i].test, p, "the worker answered out of turn and is");
    proc_release(p);
    s->at[i].has_worker = false;
    proc_end_strays(s->procs, s->n);
    return true;
}

struct bnt_test *slots_take_ended(struct slots *s, size_t i)
{
    struct slot *slot = &s->at[i];
    struct bnt_test *t = slot->test;
    bool process_ended = proc_done(&s->procs[i]);
    if (!t) {
        return NULL;
    }
    if (slot->has_worker && finish_record(s, i)) {
        /* it has a verdict, and the worker, if it is still there, waits for the next test */
    } else if (!process_ended) {
        return NULL;
    } else if (slot->has_worker) {
        finish_dead_worker(s, i);
    } else {
        finish_program(s, i);
    }
    t->wall_ns = proc_now_ns() - slot->start_ns;
    slot->test = NULL;
    return t;
}

/* As soon as a record may be whole: what proc_serve waits for is the end of a process. */
void slots_serve(struct slots *s, unsigned wait_ms)
{
    proc_serve(s->procs, s->n, wait_ms);
}

void slots_stop(struct slots *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].test) {
            proc_stop(&s->procs[i]);
        }
    }
}

/* ---- the end ---- */

static void note_end(struct slots *s, const struct proc *p)
{
    char how[160];
    if ((p->end == PROC_EXITED && p->code == 0) || s->run->worker_note[0]) {
        return;
    }
    proc_describe(p, how, sizeof how);
    char *said = proc_output(p, PROC_ERR);
    snprintf(s->run->worker_note, sizeof s->run->worker_note, "an idle worker %s: %.200s", how,
             said ? said : "");
    free(said);
}

/* What left its group and outlived its test, whose program was no bnt-suites: that would have ended
 * it. */
static void end_strays(struct slots *s)
{
    char *note = s->run->worker_note, what[160];
    if (!proc_tree_reap(NULL, 0) && proc_tree_describe(NULL, 0, what, sizeof what) && !note[0]) {
        snprintf(note, sizeof s->run->worker_note, "what outlived its test was ended: %s", what);
    }
    proc_end_strays(s->procs, s->n);
}

void slots_free(struct slots *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].has_worker && !proc_done(&s->procs[i])) {
            shutdown(s->procs[i].in, SHUT_WR);
            proc_give_time(&s->procs[i], FAREWELL_MS);
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        while (s->at[i].has_worker && !proc_done(&s->procs[i])) {
            proc_serve(s->procs, s->n, FAREWELL_MS);
        }
        if (s->at[i].has_worker) {
            note_end(s, &s->procs[i]);
            proc_release(&s->procs[i]);
        }
    }
    end_strays(s);
    if (s->places[0]) {
        remove_tree(s->places);
    }
    free(s);
}
