/* `bnt infer --chat` without a prompt: a conversation, line by line. The history lives in the
 * session's KV cache, and a turn evaluates only what is new: the end of the last answer, the user's
 * line, the beginning of the next answer.
 *
 * Invariant between turns: `held` are the ids of the conversation so far, and the session has
 * evaluated a prefix of them (the last generated id may be missing). Where a template would render
 * the last answer otherwise than it was generated (some strip white space), the whole conversation
 * is encoded anew, and evaluation restarts where the ids first differ. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/msg.h"
#include "engine/cmd_infer_impl.h"
#include "engine/quality.h"

enum { MAX_LINE_BYTES = 1 << 20 };

struct history {
    struct infer *in;
    struct bnt_chat_message *messages; /* contents are owned, roles static */
    size_t n, cap;
    struct bnt_ids held;
    bool keeps; /* the last answer stands in held as the template would render it */
};

static bool interrupted(const struct history *h)
{
    return h->in->app->interrupted != NULL && *h->in->app->interrupted != 0;
}

static enum bnt_status add_message(struct history *h, const char *role, const char *content,
                                   struct bnt_err *err)
{
    if (h->n == h->cap) {
        size_t cap = h->cap * 2 + 8;
        struct bnt_chat_message *m = realloc(h->messages, cap * sizeof(*m));
        if (m == NULL) {
            return bnt_err_nomem(err, "the history", cap * sizeof(*m));
        }
        h->messages = m;
        h->cap = cap;
    }
    char *copy = strdup(content);
    if (copy == NULL) {
        return bnt_err_nomem(err, "a message", strlen(content));
    }
    h->messages[h->n++] = (struct bnt_chat_message){role, copy};
    return BNT_OK;
}

static void drop_messages(struct history *h, size_t keep)
{
    while (h->n > keep) {
        free((void *)(uintptr_t)h->messages[--h->n].content);
    }
}

static enum bnt_status begin(struct history *h, struct bnt_err *err)
{
    drop_messages(h, 0);
    h->held.n = 0;
    h->keeps = true;
    enum bnt_status st = BNT_OK; /* what the session holds is forgotten by the first turn */
    if (h->in->o->system != NULL) {
        st = add_message(h, "system", h->in->o->system, err);
    }
    return st;
}

/* ---- Ids of a turn. */

static enum bnt_status push_all(struct bnt_ids *to, const struct bnt_ids *from, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < from->n && st == BNT_OK; i++) {
        st = bnt_ids_push(to, from->at[i], err);
    }
    return st;
}

/* Without a template the line goes on where the text ended. */
static enum bnt_status encode_raw(struct history *h, const char *line, struct bnt_ids *out,
                                  struct bnt_err *err)
{
    unsigned flags = (h->held.n == 0 ? BNT_ENCODE_ADD_SPECIAL : 0) |
                     (h->in->o->no_special ? 0 : BNT_ENCODE_PARSE_SPECIAL);
    return bnt_tokenizer_encode(h->in->t, line, strlen(line), flags, out, err);
}

/* The whole conversation into `all`; its last message is the user's. */
static enum bnt_status encode_turn(struct history *h, const char *line, struct bnt_ids *all,
                                   struct bnt_err *err)
{
    const struct infer *in = h->in;
    bool raw = in->chat.form == BNT_CHAT_UNKNOWN;
    if (!raw && (h->held.n == 0 || !h->keeps)) {
        return bnt_chat_encode(&in->chat, in->t, h->messages, h->n, all, err);
    }
    enum bnt_status st = push_all(all, &h->held, err);
    if (st == BNT_OK) {
        st = raw ? encode_raw(h, line, all, err)
                 : bnt_chat_encode_next(&in->chat, in->t, line, all, err);
    }
    return st;
}

/* ---- Turns. */

static enum bnt_status check_answer(const struct history *h, const struct bnt_generation *g,
                                    struct bnt_err *err)
{
    if (!h->in->o->validate || g->finish == BNT_FINISH_INTERRUPTED) {
        return BNT_OK;
    }
    return bnt_quality_answer(g->ids.at, g->ids.n, bnt_buf_view(&g->text), g->text.len,
                              g->finish != BNT_FINISH_STOP, err);
}

static enum bnt_status generate(struct history *h, const struct bnt_ids *all,
                                struct bnt_generation *g, struct bnt_err *err)
{
    struct infer *in = h->in;
    struct bnt_generate_params p = infer_params(in);
    p.on_text = infer_write_stdout;
    p.whole = false; /* of the answers before, the sampler has seen all */
    uint32_t common;
    enum bnt_status st = bnt_session_reuse(in->session, all->at, all->n, &common, err);
    if (st == BNT_OK) {
        st = bnt_generate(in->session, in->t, in->sampler, all->at + common, all->n - common, &p, g,
                          err);
    }
    if (st == BNT_OK) {
        st = infer_write_stdout(NULL, "\n", 1, err);
    }
    return st;
}

/* Answer one line. On failure the conversation is as it was before. */
static enum bnt_status turn(struct history *h, const char *line, struct bnt_err *err)
{
    size_t n_before = h->n;
    struct bnt_ids all = {0};
    struct bnt_generation g;
    bnt_generation_init(&g);
    enum bnt_status st = add_message(h, "user", line, err);
    if (st == BNT_OK) {
        st = encode_turn(h, line, &all, err);
    }
    if (st == BNT_OK) {
        st = generate(h, &all, &g, err);
    }
    if (st == BNT_OK) {
        st = add_message(h, "assistant", bnt_buf_view(&g.text), err);
    }
    if (st == BNT_OK) {
        st = push_all(&all, &g.ids, err);
    }
    if (st == BNT_OK) {
        bnt_ids_release(&h->held);
        h->held = all;
        all = (struct bnt_ids){0};
        h->keeps = g.stop_string < 0 && bnt_chat_keeps(&h->in->chat, bnt_buf_view(&g.text));
        if (g.finish == BNT_FINISH_CONTEXT) {
            bnt_msg_warn("/reset begins anew; --ctx gives more room",
                         "the context of %u positions is full", bnt_session_n_ctx(h->in->session));
        }
        st = check_answer(h, &g, err);
    } else {
        drop_messages(h, n_before);
    }
    bnt_ids_release(&all);
    bnt_generation_release(&g);
    return st;
}

/* ---- Lines. */

static void help(void)
{
    fputs("Each line is a message. /reset forgets the conversation, /exit or Ctrl-D ends it, "
          "Ctrl-C stops the program.\n",
          stderr);
}

/* A line without its end. Of one that is too long the rest is passed over, with a word; it counts
 * as empty. */
static enum bnt_status read_line(struct bnt_buf *line, bool *end, struct bnt_err *err)
{
    if (isatty(STDIN_FILENO)) {
        fputs("> ", stderr);
        fflush(stderr);
    }
    struct bnt_err why = {0};
    enum bnt_status st = bnt_read_line(stdin, line, end, &why);
    if (st == BNT_E_FILE) {
        for (int c = getchar(); c != EOF && c != '\n'; c = getchar()) {
        }
        bnt_buf_reset(line);
        return bnt_err_set(err, BNT_E_USAGE, "%s", why.msg);
    }
    if (st != BNT_OK) {
        return bnt_err_copy(err, &why);
    }
    while (line->len > 0 && line->data[line->len - 1] == '\r') {
        line->data[--line->len] = '\0';
    }
    return st;
}

/* A failure that ends only the turn: it comes before anything is evaluated (bnt_generate). */
static bool turn_may_fail(enum bnt_status st)
{
    return st == BNT_E_USAGE;
}

static enum bnt_status handle_line(struct history *h, const char *line, bool *done,
                                   struct bnt_err *err)
{
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) {
        *done = true;
    } else if (strcmp(line, "/help") == 0) {
        help();
    } else if (strcmp(line, "/reset") == 0) {
        return begin(h, err);
    } else if (line[0] != '\0') {
        return turn(h, line, err);
    }
    return BNT_OK;
}

/* Read a line and do what it says. */
static enum bnt_status next_line(struct history *h, struct bnt_buf *line, bool *done)
{
    struct bnt_err err = {0};
    enum bnt_status st = read_line(line, done, &err);
    if (interrupted(h)) {
        return BNT_OK; /* the caller says so */
    }
    if (st == BNT_OK && !*done) {
        st = handle_line(h, bnt_buf_view(line), done, &err);
    }
    if (st != BNT_OK) {
        bnt_msg_error(&err);
        st = turn_may_fail(st) ? BNT_OK : st;
    }
    return st;
}

enum bnt_status infer_converse(struct infer *in)
{
    struct history h = {.in = in};
    struct bnt_err err = {0};
    struct bnt_buf line = BNT_BUF(MAX_LINE_BYTES);
    bool done = false;
    enum bnt_status st = begin(&h, &err);
    if (st != BNT_OK) {
        bnt_msg_error(&err);
    }
    if (isatty(STDIN_FILENO)) {
        help();
    }
    while (st == BNT_OK && !done && !interrupted(&h)) {
        st = next_line(&h, &line, &done);
    }
    if (st == BNT_OK && interrupted(&h)) {
        st = BNT_E_INTERRUPTED;
    }
    bnt_buf_release(&line);
    drop_messages(&h, 0);
    free(h.messages);
    bnt_ids_release(&h.held);
    return st;
}
