/* Which form a template is, told by what it prints: it is run on a few conversations, and each form
 * is rendered for the same ones. The first conversation has no system message, so what stands there
 * before the user's is the template's own; the last one has, and decides about system messages
 * alone, since many a template is for conversations without. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/chat_impl.h"
#include "engine/jinja.h"

/* No template spells these. */
#define BOS "<|the start|>"
#define EOS "<|the end|>"
#define MARK "\1"

enum { MAX_PROBE = 5, N_PROBES = 3, SYSTEM_PROBE = 2 };

/* White space around contents tells who strips it; a thought's end, who drops thoughts and what
 * stands behind them. */
static const struct probe {
    struct bnt_chat_message messages[MAX_PROBE];
    size_t n;
} probes[N_PROBES] = {
    {{{"user", " Who? "}}, 1},
    {{{"user", "a"},
      {"assistant", "\n b</think>\n c "},
      {"user", "d\n"},
      {"assistant", "<e>"},
      {"user", "f"}},
     5},
    {{{"system", " Be brief.\n"}, {"user", "a "}, {"assistant", " b"}, {"user", "c"}}, 4},
};

struct printed {
    struct bnt_buf text;
    enum jinja_end end;
    bool bos; /* it began with BOS, which is left out of what is compared */
};

/* A template may begin by the name of the start token of LLaMA 3 as well as by bos_token. */
static void cut_bos(struct printed *p)
{
    static const char *const names[] = {BOS, "<|begin_of_text|>"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && p->text.len > 0 && !p->bos; i++) {
        size_t n = strlen(names[i]);
        if (p->text.len >= n && memcmp(p->text.data, names[i], n) == 0) {
            memmove(p->text.data, p->text.data + n, p->text.len - n + 1);
            p->text.len -= n;
            p->bos = true;
        }
    }
}

static enum bnt_status run_all(const char *jinja, size_t len, struct printed *p,
                               struct bnt_err *err)
{
    for (size_t i = 0; i < N_PROBES; i++) {
        const struct jinja_input in = {
            .messages = probes[i].messages, .n = probes[i].n, .bos = BOS, .eos = EOS};
        p[i].end = jinja_run(jinja, len, &in, &p[i].text);
        if (p[i].end == JINJA_NO_MEMORY) {
            return bnt_err_nomem(err, "a chat template", len);
        }
        cut_bos(&p[i]);
    }
    return BNT_OK;
}

static enum bnt_status prints_same(const struct bnt_chat *chat, const struct probe *probe,
                                   const struct printed *p, bool *yes, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(JINJA_MAX_TEXT);
    enum bnt_status st = bnt_chat_render(chat, probe->messages, probe->n, &text, err);
    *yes = st == BNT_OK && p->end == JINJA_DONE && text.len == p->text.len &&
           memcmp(bnt_buf_view(&text), bnt_buf_view(&p->text), text.len) == 0;
    bnt_buf_release(&text);
    return st;
}

/* What the template says for the system where messages do not: the form's own message around a mark
 * tells where it stands. */
static enum bnt_status take_default_system(const struct printed *p, struct bnt_chat *chat,
                                           struct bnt_err *err)
{
    const struct bnt_chat_message marked[] = {{"system", MARK}, probes[0].messages[0]};
    struct bnt_buf text = BNT_BUF(JINJA_MAX_TEXT);
    enum bnt_status st = bnt_chat_render(chat, marked, 2, &text, err);
    const char *mark = st == BNT_OK ? memchr(text.data, MARK[0], text.len) : NULL;
    size_t head = mark != NULL ? (size_t)(mark - text.data) : 0, tail = text.len - head - 1;
    if (mark != NULL && p->text.len > text.len - 1 &&
        p->text.len - head - tail < sizeof(chat->default_system)) {
        size_t n = p->text.len - head - tail;
        memcpy(chat->default_system, p->text.data + head, n);
        chat->default_system[n] = '\0';
    }
    bnt_buf_release(&text);
    return st;
}

/* The form, as its options are, prints what the template does. */
static enum bnt_status try_form(const struct printed *p, struct bnt_chat *chat, bool *yes,
                                struct bnt_err *err)
{
    chat->bos = false;
    memcpy(chat->eos_text, EOS, sizeof(EOS));
    enum bnt_status st = take_default_system(&p[0], chat, err);
    *yes = true;
    for (size_t i = 0; i < SYSTEM_PROBE && st == BNT_OK && *yes; i++) {
        st = prints_same(chat, &probes[i], &p[i], yes, err);
    }
    if (st == BNT_OK && *yes) {
        bool system;
        st = prints_same(chat, &probes[SYSTEM_PROBE], &p[SYSTEM_PROBE], &system, err);
        chat->no_system = !system;
    }
    chat->eos_text[0] = '\0';
    return st;
}

static enum bnt_status find_form(const struct printed *p, struct bnt_chat *out, bool *found,
                                 struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    *found = false;
    for (int form = BNT_CHAT_LLAMA3; form <= BNT_CHAT_ZEPHYR && !*found; form++) {
        for (int how = 0; how < 4 && st == BNT_OK && !*found; how++) {
            struct bnt_chat chat;
            chat_set_form((enum bnt_chat_form)form, &chat);
            bool bos = chat.bos;
            chat.trim = how % 2 != 0;
            chat.no_thoughts = how / 2 != 0;
            st = try_form(p, &chat, found, err);
            if (st == BNT_OK && *found) {
                *out = chat;
                out->bos = bos || p[0].bos;
            }
        }
    }
    return st;
}

enum bnt_status chat_prove(const char *jinja, size_t len, struct bnt_chat *out,
                           enum chat_proof *proof, struct bnt_err *err)
{
    struct printed p[N_PROBES];
    bool found = false, open = false;
    for (size_t i = 0; i < N_PROBES; i++) {
        p[i] = (struct printed){.text = BNT_BUF(JINJA_MAX_TEXT + 16)};
    }
    enum bnt_status st = run_all(jinja, len, p, err);
    for (size_t i = 0; i < N_PROBES; i++) {
        open = open || p[i].end == JINJA_UNKNOWN;
    }
    if (st == BNT_OK && !open) {
        st = find_form(p, out, &found, err);
    }
    *proof = open || BNT_FAULT(chat_unproven) ? CHAT_OPEN : found ? CHAT_PROVEN : CHAT_OTHER;
    for (size_t i = 0; i < N_PROBES; i++) {
        bnt_buf_release(&p[i].text);
    }
    return st;
}
