/* The subject behind a command: a program that reads one JSON object per line and answers with one,
 * or with several where the question says so. docs/crossval.md is the reference of the protocol.
 *
 * The program leads a process group of its own, which ends with the subject. Nothing that it says
 * is trusted: lines have a ceiling, ids a range, and an answer a time in which it must come. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/json_load.h"
#include "base/utf8.h"
#include "engine/quality.h"
#include "testkit/proc.h"
#include "testkit/subject.h"

#define LINE_MAX_BYTES (256u << 20) /* of an answer: logits of one position, with room to spare */
#define TIMEOUT_MS 600000
#define END_MS 3000 /* that it has to end once its input has */
#define LOOK_MS 200 /* at most, until an interruption is seen that came just before a wait */
#define READ_BYTES 65536

extern char **environ;

struct command_subject {
    struct bnt_subject base;
    char *command;
    char name[256];
    uint32_t n_vocab, n_ctx;
    unsigned can;
    pid_t pid;
    int to, from;       /* its standard input and output; -1: closed */
    struct bnt_buf got; /* read, but not yet taken */
    size_t taken;       /* bytes of it */
    uint32_t timeout_ms;
    const volatile sig_atomic_t *interrupted; /* may be NULL */
    bool stuck; /* it did not answer, or read, while somebody waited for it */
};

static struct command_subject *of(struct bnt_subject *s)
{
    return (struct command_subject *)s;
}

/* ---- lines ---- */

static enum bnt_status bad(const char *what, struct bnt_err *err)
{
    enum bnt_status st =
        bnt_err_set(err, BNT_E_INFERENCE, "the reference command's answer cannot be: %s", what);
    bnt_err_hint(err, "docs/crossval.md describes the protocol; try the command by hand");
    return st;
}

/* Wait a while for its descriptor. *ready is false when there is nothing yet; an error when the
 * time is over or the run is interrupted. */
static enum bnt_status wait_for(struct command_subject *s, struct pollfd p, uint64_t end_ns,
                                bool *ready, struct bnt_err *err)
{
    const uint64_t now = proc_now_ns();
    const uint64_t left_ms = now < end_ns ? (end_ns - now) / 1000000 + 1 : 0;
    enum bnt_status st = bnt_err_interrupted(s->interrupted, err);
    const int n = st == BNT_OK ? poll(&p, 1, left_ms < LOOK_MS ? (int)left_ms : LOOK_MS) : 0;
    *ready = n > 0;
    if (n < 0 && errno != EINTR) {
        return bnt_err_errno(err, "the reference command");
    }
    if (st == BNT_OK && n == 0 && left_ms == 0) {
        st = bnt_err_set(err, BNT_E_TIME, "the reference command did not answer in %u ms",
                         s->timeout_ms);
    }
    s->stuck |= st != BNT_OK;
    return st;
}

static uint64_t end_of_wait(const struct command_subject *s)
{
    return proc_now_ns() + (uint64_t)s->timeout_ms * 1000000;
}

/* A socket, because a program that has ended is an error here, and no signal. It need not read what
 * it is sent, so this has an end, too. */
static enum bnt_status send_all(struct command_subject *s, const char *bytes, size_t n,
                                struct bnt_err *err)
{
    const uint64_t end_ns = end_of_wait(s);
    for (size_t sent = 0; sent < n;) {
        bool ready;
        enum bnt_status st =
            wait_for(s, (struct pollfd){.fd = s->to, .events = POLLOUT}, end_ns, &ready, err);
        if (st != BNT_OK) {
            return st;
        }
        const ssize_t k =
            ready ? send(s->to, bytes + sent, n - sent, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (k < 0 && errno != EINTR && errno != EAGAIN) {
            return bad("it ended without an answer", err);
        }
        sent += k > 0 ? (size_t)k : 0;
    }
    return BNT_OK;
}

static enum bnt_status say(struct command_subject *s, json_t *question, struct bnt_err *err)
{
    char *text = question ? bnt_json_dumps(question, JSON_COMPACT) : NULL;
    json_decref(question);
    if (!text) {
        return bnt_err_nomem(err, "a question", 0);
    }
    enum bnt_status st = send_all(s, text, strlen(text), err);
    if (st == BNT_OK) {
        st = send_all(s, "\n", 1, err);
    }
    free(text);
    return st;
}

/* More bytes, or an error when the time is over or none will come. */
static enum bnt_status read_more(struct command_subject *s, uint64_t end_ns, struct bnt_err *err)
{
    bool ready;
    enum bnt_status st =
        wait_for(s, (struct pollfd){.fd = s->from, .events = POLLIN}, end_ns, &ready, err);
    if (st != BNT_OK || !ready) {
        return st;
    }
    st = bnt_buf_reserve(&s->got, READ_BYTES, err);
    if (st != BNT_OK) {
        return st;
    }
    const ssize_t n = read(s->from, s->got.data + s->got.len, READ_BYTES);
    if (n <= 0) {
        return n < 0 && errno == EINTR ? BNT_OK : bad("it ended without an answer", err);
    }
    s->got.len += (size_t)n;
    s->got.data[s->got.len] = '\0';
    return BNT_OK;
}

static void forget_taken(struct command_subject *s)
{
    if (s->taken > 0) {
        s->got.len -= s->taken;
        memmove(s->got.data, s->got.data + s->taken, s->got.len + 1);
        s->taken = 0;
    }
}

/* The next line as an object, for the caller to release. */
static enum bnt_status hear(struct command_subject *s, json_t **out, struct bnt_err *err)
{
    const uint64_t end_ns = end_of_wait(s);
    enum bnt_status st = BNT_OK;
    const char *newline = NULL;
    size_t looked = 0;
    *out = NULL;
    forget_taken(s);
    while (st == BNT_OK && !newline) {
        newline =
            s->got.len > looked ? memchr(s->got.data + looked, '\n', s->got.len - looked) : NULL;
        looked = s->got.len;
        st = newline ? BNT_OK : read_more(s, end_ns, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    const size_t n = (size_t)(newline - s->got.data);
    *out = json_loadb(s->got.data, n, JSON_ALLOW_NUL, NULL);
    s->taken = n + 1;
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return bad("a line is no JSON object", err);
    }
    return BNT_OK;
}

/* An answer, or the error that it tells. */
static enum bnt_status hear_answer(struct command_subject *s, json_t **out, struct bnt_err *err)
{
    enum bnt_status st = hear(s, out, err);
    const char *words = json_string_value(json_object_get(*out, "error"));
    if (st == BNT_OK && words) {
        st = bnt_err_set(err, BNT_E_INFERENCE, "the reference command: %.300s", words);
        json_decref(*out);
        *out = NULL;
    }
    return st;
}

static enum bnt_status ask(struct command_subject *s, json_t *question, json_t **answer,
                           struct bnt_err *err)
{
    enum bnt_status st = say(s, question, err);
    *answer = NULL;
    return st == BNT_OK ? hear_answer(s, answer, err) : st;
}

/* ---- values ---- */

static enum bnt_status read_ids(const struct command_subject *s, const json_t *list,
                                struct bnt_ids *out, struct bnt_err *err)
{
    const json_int_t end = s->n_vocab ? (json_int_t)s->n_vocab : INT32_MAX;
    enum bnt_status st = json_is_array(list) ? BNT_OK : bad("it has no list \"ids\"", err);
    for (size_t i = 0; st == BNT_OK && i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        const json_int_t id = json_integer_value(value);
        st = json_is_integer(value) && id >= 0 && id < end
                 ? bnt_ids_push(out, (int32_t)id, err)
                 : bad("a token is no id of the vocabulary", err);
    }
    return st;
}

static enum bnt_status read_floats(const json_t *list, size_t n, float *out, struct bnt_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_number(value)) {
            return bad("a value is no number", err);
        }
        out[i] = (float)json_number_value(value);
    }
    return BNT_OK;
}

static uint32_t count_of(const json_t *value)
{
    const json_int_t n = json_integer_value(value);
    return n > 0 && n <= INT32_MAX ? (uint32_t)n : 0;
}

/* ---- the table ---- */

static void describe(const struct bnt_subject *s, struct bnt_subject_facts *out)
{
    const struct command_subject *c = (const struct command_subject *)s;
    out->kind = "command";
    out->name = c->name;
    out->place = c->command;
    out->n_vocab = c->n_vocab;
    out->n_ctx = c->n_ctx;
    out->can = c->can;
    out->remote = true;
}

static enum bnt_status tokenize(struct bnt_subject *s, const char *text, size_t len, unsigned flags,
                                struct bnt_ids *out, struct bnt_err *err)
{
    json_t *answer = NULL;
    const size_t valid = bnt_utf8_valid(text, len);
    if (valid != len) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "byte %zu of the text is no UTF-8: a command cannot be asked", valid);
    }
    enum bnt_status st = ask(of(s),
                             json_pack("{s:s, s:s%, s:b, s:b}", "ask", "tokenize", "text", text,
                                       len, "add_special", (flags & BNT_ENCODE_ADD_SPECIAL) != 0,
                                       "parse_special", (flags & BNT_ENCODE_PARSE_SPECIAL) != 0),
                             &answer, err);
    if (st == BNT_OK) {
        st = read_ids(of(s), json_object_get(answer, "ids"), out, err);
    }
    json_decref(answer);
    return st;
}

/* One line of logits, which must be that of place i. */
static enum bnt_status hear_logits(struct command_subject *s, size_t i, float *row,
                                   struct bnt_err *err)
{
    json_t *answer = NULL;
    enum bnt_status st = hear_answer(s, &answer, err);
    const json_t *list = json_object_get(answer, "logits");
    if (st == BNT_OK && (json_integer_value(json_object_get(answer, "index")) != (json_int_t)i ||
                         json_array_size(list) != s->n_vocab)) {
        st = bad("logits of another place, or not one for each token of the vocabulary", err);
    }
    if (st == BNT_OK) {
        st = read_floats(list, s->n_vocab, row, err);
    }
    json_decref(answer);
    return st;
}

static enum bnt_status evaluate(struct bnt_subject *s, const int32_t *ids, size_t n,
                                bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    struct command_subject *c = of(s);
    float *row = malloc(((size_t)c->n_vocab + 1) * sizeof *row);
    if (!row) {
        return bnt_err_nomem(err, "logits", c->n_vocab);
    }
    enum bnt_status st =
        say(c, json_pack("{s:s, s:o}", "ask", "logits", "ids", bnt_json_ids(ids, n)), err);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = hear_logits(c, i, row, err);
        if (st == BNT_OK) {
            st = fn(ctx, i, row, err);
        }
    }
    free(row);
    return st;
}

static uint64_t ns_of(const json_t *answer, const char *key)
{
    const double s = json_number_value(json_object_get(answer, key));
    return s > 0 && s < 1e6 ? (uint64_t)(s * 1e9) : 0;
}

static enum bnt_status read_made(struct command_subject *s, const json_t *answer,
                                 struct bnt_generation *g, struct bnt_err *err)
{
    const json_t *text = json_object_get(answer, "text");
    const char *finish = json_string_value(json_object_get(answer, "finish"));
    enum bnt_status st = read_ids(s, json_object_get(answer, "ids"), &g->ids, err);
    if (st == BNT_OK && !json_is_string(text)) {
        st = bad("it has no \"text\"", err);
    }
    if (st == BNT_OK) {
        st = bnt_buf_append(&g->text, json_string_value(text), json_string_length(text), err);
    }
    g->finish = finish && strcmp(finish, "length") == 0 ? BNT_FINISH_LENGTH : BNT_FINISH_STOP;
    g->times.prefill_ns = g->times.first_token_ns = ns_of(answer, "prefill_seconds");
    g->times.decode_ns = ns_of(answer, "decode_seconds");
    g->times.total_ns = g->times.decode_ns ? g->times.prefill_ns + g->times.decode_ns : 0;
    return st;
}

static enum bnt_status generate(struct bnt_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err)
{
    json_t *answer = NULL;
    enum bnt_status st = BNT_OK;
    if (r->n_stop > 0 || r->ignore_eos || r->max_tokens == 0) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "the command protocol has no word for stop strings, ignore_eos or an "
                           "answer without a limit");
    }
    if (r->prompt) {
        st = tokenize(s, r->prompt, r->prompt_len,
                      BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL, &out->prompt_ids, err);
    }
    for (size_t i = 0; st == BNT_OK && i < r->n_ids; i++) {
        st = bnt_ids_push(&out->prompt_ids, r->ids[i], err);
    }
    if (st == BNT_OK) {
        json_t *ids = bnt_json_ids(out->prompt_ids.at, out->prompt_ids.n);
        st = ask(of(s),
                 json_pack("{s:s, s:o, s:I}", "ask", "generate", "ids", ids, "max_tokens",
                           (json_int_t)r->max_tokens),
                 &answer, err);
    }
    if (st == BNT_OK) {
        st = read_made(of(s), answer, &out->made, err);
    }
    json_decref(answer);
    return st;
}

/* A row of an op that is known; others are passed over. */
static enum bnt_status pass_row(const json_t *answer, const struct bnt_tap *tap,
                                struct bnt_err *err)
{
    const json_t *list = json_object_get(answer, "values");
    const json_t *layer = json_object_get(answer, "layer");
    const char *name = json_string_value(json_object_get(answer, "tap"));
    const size_t n = json_array_size(list);
    struct bnt_tap_row row = {.op = name ? bnt_tap_find(name) : BNT_TAP_N_OPS,
                              .layer =
                                  json_is_integer(layer) ? (int32_t)json_integer_value(layer) : -1,
                              .position = count_of(json_object_get(answer, "position")),
                              .n = (uint32_t)n};
    if (!name || n == 0 || n > INT32_MAX) {
        return bad("a row of a tap has no name or no values", err);
    }
    float *values = malloc(n * sizeof *values);
    if (!values) {
        return bnt_err_nomem(err, "a row of a tap", n);
    }
    enum bnt_status st = read_floats(list, n, values, err);
    row.values = values;
    if (st == BNT_OK && row.op != BNT_TAP_N_OPS) {
        tap->row(tap->ctx, &row);
    }
    free(values);
    return st;
}

static enum bnt_status taps(struct bnt_subject *s, const int32_t *ids, size_t n,
                            const struct bnt_tap *tap, struct bnt_err *err)
{
    enum bnt_status st =
        say(of(s), json_pack("{s:s, s:o}", "ask", "taps", "ids", bnt_json_ids(ids, n)), err);
    bool done = false;
    while (st == BNT_OK && !done) {
        json_t *answer = NULL;
        st = hear_answer(of(s), &answer, err);
        done = json_is_true(json_object_get(answer, "done"));
        if (st == BNT_OK && !done) {
            st = pass_row(answer, tap, err);
        }
        json_decref(answer);
    }
    return st;
}

static enum bnt_status score(struct bnt_subject *s, const int32_t *ids, size_t n, double *sum,
                             struct bnt_err *err)
{
    json_t *answer = NULL;
    enum bnt_status st = ask(
        of(s), json_pack("{s:s, s:o}", "ask", "score", "ids", bnt_json_ids(ids, n)), &answer, err);
    const json_t *value = json_object_get(answer, "sum");
    if (st == BNT_OK && !json_is_number(value)) {
        st = bad("it has no \"sum\"", err);
    }
    *sum = json_number_value(value);
    json_decref(answer);
    return st;
}

/* Its input ends; what is still there after a while is killed with its group. */
static void end_program(struct command_subject *s)
{
    if (s->to >= 0) {
        close(s->to);
    }
    if (s->pid > 0) {
        struct pollfd p = {.fd = s->from, .events = 0};
        (void)poll(&p, 1, s->stuck ? 0 : END_MS); /* it hangs up when the program ends */
        (void)kill(-s->pid, SIGKILL);
        while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (s->from >= 0) {
        close(s->from);
    }
}

static void close_command(struct bnt_subject *s)
{
    end_program(of(s));
    bnt_buf_release(&of(s)->got);
    free(of(s)->command);
    free(s);
}

static const struct bnt_subject_ops ops = {
    .describe = describe,
    .tokenize = tokenize,
    .evaluate = evaluate,
    .generate = generate,
    .taps = taps,
    .score = score,
    .close = close_command,
};

/* ---- opening ---- */

/* Socket and pipe close in programs that others start; its own ends are put in place for it. */
static enum bnt_status spawn(struct command_subject *s, const int in[2], const int out[2],
                             struct bnt_err *err)
{
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, s->command, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    posix_spawnattr_setsigdefault(&attr, &pipe_signal);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    const int failed = posix_spawn(&s->pid, "/bin/sh", &files, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (failed) {
        s->pid = 0;
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "the reference command cannot be started: %s",
                           strerror(failed));
    }
    return BNT_OK;
}

static enum bnt_status start(struct command_subject *s, struct bnt_err *err)
{
    int in[2], out[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) != 0) {
        return bnt_err_errno(err, "a socket");
    }
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(in[0]);
        close(in[1]);
        return bnt_err_errno(err, "a pipe");
    }
    s->to = in[1];
    s->from = out[0];
    enum bnt_status st = spawn(s, in, out, err);
    close(in[0]);
    close(out[1]);
    return st;
}

static unsigned abilities(const json_t *answer)
{
    static const struct {
        const char *word;
        unsigned can;
    } words[] = {{"tokenize", BNT_CAN_TOKENIZE},
                 {"logits", BNT_CAN_EVALUATE},
                 {"generate", BNT_CAN_GENERATE | BNT_CAN_IDS},
                 {"taps", BNT_CAN_TAPS},
                 {"score", BNT_CAN_SCORE}};
    const json_t *list = json_object_get(answer, "can");
    unsigned can = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        for (size_t k = 0; word && k < sizeof words / sizeof words[0]; k++) {
            can |= strcmp(word, words[k].word) == 0 ? words[k].can : 0;
        }
    }
    return can;
}

static enum bnt_status introduce(struct command_subject *s, struct bnt_err *err)
{
    json_t *answer = NULL;
    struct bnt_err why = {0};
    enum bnt_status st = ask(s, json_pack("{s:s}", "ask", "describe"), &answer, &why);
    if (st == BNT_E_INTERRUPTED) {
        return bnt_err_copy(err, &why);
    }
    if (st != BNT_OK) {
        st = bnt_err_set(err, st == BNT_E_TIME ? st : BNT_E_UNSUPPORTED,
                         "%.200s: it does not describe itself: %.300s", s->command, why.msg);
        bnt_err_hint(err, "docs/crossval.md describes the protocol; try the command by hand");
        return st;
    }
    const char *name = json_string_value(json_object_get(answer, "name"));
    snprintf(s->name, sizeof s->name, "%s", name ? name : "");
    s->n_vocab = count_of(json_object_get(answer, "n_vocab"));
    s->n_ctx = count_of(json_object_get(answer, "n_ctx"));
    s->can = abilities(answer);
    s->can &= s->n_vocab ? ~0u : ~(unsigned)BNT_CAN_EVALUATE;
    json_decref(answer);
    return s->can ? BNT_OK : bad("it can do nothing that is known here", err);
}

enum bnt_status bnt_subject_open_command(const char *command,
                                         const struct bnt_subject_options *opts,
                                         struct bnt_subject **out, struct bnt_err *err)
{
    struct command_subject *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s || !(s->command = strdup(command))) {
        free(s);
        return bnt_err_nomem(err, "a subject", sizeof *s);
    }
    s->base.ops = &ops;
    s->to = s->from = -1;
    s->timeout_ms = opts && opts->http_timeout_ms ? opts->http_timeout_ms : TIMEOUT_MS;
    s->interrupted = opts ? opts->session.interrupted : NULL;
    bnt_buf_init(&s->got, LINE_MAX_BYTES);
    enum bnt_status st = start(s, err);
    if (st == BNT_OK) {
        st = introduce(s, err);
    }
    if (st != BNT_OK) {
        close_command(&s->base);
        return st;
    }
    *out = &s->base;
    return BNT_OK;
}
