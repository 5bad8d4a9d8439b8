/* The known chat forms, as one table of pieces, and what is made of them: text, and ids.
 *
 * A message is   open role mark  after  CONTENT  close  end
 * and a prompt is the messages followed by what opens the assistant's message. `open`, `mark` and
 * `close` are control tokens; `after` and `end` are plain text. Rendering hands the pieces one by
 * one to a sink; the text sink concatenates them, the id sink looks control tokens up and encodes
 * each run of plain text between them in one go.
 *
 * Sources: the chat_template of the published tokenizer_config.json of Meta-Llama-3-8B-Instruct,
 * bitnet-b1.58-2B-4T, Qwen2.5, Falcon3 and zephyr-7b-beta. */
#include "engine/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/chat_impl.h"

enum role_style {
    ROLE_PLAIN,   /* user */
    ROLE_CAPITAL, /* User */
    ROLE_BRACKET, /* <|user|>: one token where the vocabulary has it, else text */
};

struct form {
    enum bnt_chat_form form;
    const char *name;
    bool bos, trim;
    const char *open; /* control token before the role; NULL: none */
    enum role_style role;
    const char *mark;  /* control token after the role; NULL: none */
    const char *after; /* plain text after that */
    const char *close; /* control token after content; "" stands for the model's EOS; NULL: none */
    bool close_assistant_only;
    const char *end; /* plain text after that */
    const char *stop[4];
};

static const struct form forms[] = {
    {.form = BNT_CHAT_LLAMA3,
     .name = "llama3",
     .bos = true,
     .trim = true,
     .open = "<|start_header_id|>",
     .role = ROLE_PLAIN,
     .mark = "<|end_header_id|>",
     .after = "\n\n",
     .close = "<|eot_id|>",
     .end = "",
     .stop = {"<|eot_id|>", "<|end_of_text|>"}},
    {.form = BNT_CHAT_BITNET,
     .name = "bitnet",
     .bos = true,
     .trim = true,
     .role = ROLE_CAPITAL,
     .after = ": ",
     .close = "<|eot_id|>",
     .end = "",
     .stop = {"<|eot_id|>", "<|end_of_text|>"}},
    {.form = BNT_CHAT_CHATML,
     .name = "chatml",
     .open = "<|im_start|>",
     .role = ROLE_PLAIN,
     .after = "\n",
     .close = "<|im_end|>",
     .end = "\n",
     .stop = {"<|im_end|>"}},
    {.form = BNT_CHAT_FALCON,
     .name = "falcon",
     .role = ROLE_BRACKET,
     .after = "\n",
     .close = "",
     .close_assistant_only = true,
     .end = "\n",
     .stop = {"<|endoftext|>", "<|user|>"}},
    {.form = BNT_CHAT_ZEPHYR,
     .name = "zephyr",
     .role = ROLE_BRACKET,
     .after = "\n",
     .close = "",
     .end = "\n",
     .stop = {"</s>", "<|user|>"}},
};

enum piece_kind {
    PIECE_TEXT,    /* plain text of the template, or content */
    PIECE_CONTROL, /* a control token, which the vocabulary must have */
    PIECE_MARKER,  /* a control token where the vocabulary has it, else plain text */
};

struct sink {
    enum bnt_status (*put)(struct sink *s, enum piece_kind kind, const char *text, size_t len,
                           struct bnt_err *err);
    /* The text sink's buffer; the id sink's run of plain text that is not encoded yet. */
    struct bnt_buf *text;
    const struct bnt_tokenizer *t;
    struct bnt_ids *ids;
    const char *form_name;
};

/* ---- Forms. */

static const struct form *form_row(enum bnt_chat_form form)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        if (forms[i].form == form) {
            return &forms[i];
        }
    }
    return NULL;
}

void chat_set_form(enum bnt_chat_form form, struct bnt_chat *out)
{
    const struct form *f = form_row(form);
    *out = (struct bnt_chat){.form = form, .name = f->name, .bos = f->bos, .trim = f->trim};
    memcpy(out->stop, f->stop, sizeof(out->stop));
}

enum bnt_chat_form chat_form_named(const char *name)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        if (strcmp(forms[i].name, name) == 0) {
            return forms[i].form;
        }
    }
    return BNT_CHAT_UNKNOWN;
}

/* ---- Pieces. */

static enum bnt_status put_text(struct sink *s, const char *text, struct bnt_err *err)
{
    return s->put(s, PIECE_TEXT, text, strlen(text), err);
}

static enum bnt_status put_token(struct sink *s, enum piece_kind kind, const char *text,
                                 struct bnt_err *err)
{
    return text == NULL || text[0] == '\0' ? BNT_OK : s->put(s, kind, text, strlen(text), err);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Where an answer begins behind its thoughts; 0 without. */
static size_t behind_thoughts(const char *text)
{
    static const char end[] = "</think>";
    const char *answer = text;
    for (const char *at = text; (at = strstr(at, end)) != NULL; answer = at) {
        at += sizeof(end) - 1;
    }
    return answer == text ? 0 : (size_t)(answer - text) + strspn(answer, "\n");
}

static enum bnt_status put_content(struct sink *s, const struct bnt_chat *chat, const char *text,
                                   bool answer, struct bnt_err *err)
{
    size_t begin = 0, end = strlen(text);
    if (answer && chat->no_thoughts && !BNT_FAULT(chat_thoughts)) {
        begin = behind_thoughts(text);
    }
    while (chat->trim && begin < end && is_space(text[begin])) {
        begin++;
    }
    while (chat->trim && !BNT_FAULT(chat_trim) && end > begin && is_space(text[end - 1])) {
        end--;
    }
    return s->put(s, PIECE_TEXT, text + begin, end - begin, err);
}

static enum bnt_status put_role(struct sink *s, enum role_style style, const char *role,
                                struct bnt_err *err)
{
    static const char *const names[][3] = {{"system", "System", "<|system|>"},
                                           {"user", "User", "<|user|>"},
                                           {"assistant", "Assistant", "<|assistant|>"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(role, names[i][0]) == 0) {
            return style == ROLE_BRACKET ? put_token(s, PIECE_MARKER, names[i][2], err)
                                         : put_text(s, names[i][style], err);
        }
    }
    return bnt_err_set(err, BNT_E_USAGE,
                       "chat: unknown role '%s': must be system, user or assistant", role);
}

static enum bnt_status put_open(struct sink *s, const struct form *f, const char *role,
                                struct bnt_err *err)
{
    enum bnt_status st = put_token(s, PIECE_CONTROL, f->open, err);
    if (st == BNT_OK) {
        st = put_role(s, f->role, role, err);
    }
    if (st == BNT_OK) {
        st = put_token(s, PIECE_CONTROL, f->mark, err);
    }
    return st == BNT_OK ? put_text(s, f->after, err) : st;
}

static enum bnt_status put_close(struct sink *s, const struct bnt_chat *chat, const struct form *f,
                                 const char *role, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (!f->close_assistant_only || strcmp(role, "assistant") == 0) {
        const char *close = f->close;
        if (close != NULL && close[0] == '\0') {
            close = chat->eos_text[0] != '\0' ? chat->eos_text : f->stop[0];
        }
        st = put_token(s, PIECE_CONTROL, close, err);
    }
    return st == BNT_OK ? put_text(s, f->end, err) : st;
}

static enum bnt_status put_message(struct sink *s, const struct bnt_chat *chat,
                                   const struct form *f, const struct bnt_chat_message *m,
                                   struct bnt_err *err)
{
    enum bnt_status st = put_open(s, f, m->role, err);
    if (st == BNT_OK) {
        st = put_content(s, chat, m->content, strcmp(m->role, "assistant") == 0, err);
    }
    return st == BNT_OK ? put_close(s, chat, f, m->role, err) : st;
}

static enum bnt_status put_conversation(struct sink *s, const struct bnt_chat *chat,
                                        const struct bnt_chat_message *messages, size_t n,
                                        struct bnt_err *err)
{
    const struct form *f = form_row(chat->form);
    if (f == NULL || n == 0 || strcmp(messages[n - 1].role, "assistant") == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "chat: %s",
                           f == NULL ? "no form"
                           : n == 0  ? "no messages"
                                     : "the last message must be the user's");
    }
    if (chat->no_system && strcmp(messages[0].role, "system") == 0) {
        bnt_err_hint(err, "put it in front of the first message of the user, or give "
                          "--chat-template " BNT_CHAT_FORMS);
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "chat: the model's template has no system message of the form %s",
                           chat->name);
    }
    enum bnt_status st = chat->bos ? put_token(s, PIECE_CONTROL, chat->bos_text, err) : BNT_OK;
    if (st == BNT_OK && chat->default_system[0] != '\0' &&
        strcmp(messages[0].role, "system") != 0) {
        st = put_message(s, chat, f, &(struct bnt_chat_message){"system", chat->default_system},
                         err);
    }
    for (size_t i = 0; i < n && st == BNT_OK; i++) {
        st = put_message(s, chat, f, &messages[i], err);
    }
    return st == BNT_OK && !BNT_FAULT(chat_opening) ? put_open(s, f, "assistant", err) : st;
}

/* ---- Sinks. */

static enum bnt_status text_put(struct sink *s, enum piece_kind kind, const char *text, size_t len,
                                struct bnt_err *err)
{
    (void)kind;
    return len > 0 ? bnt_buf_append(s->text, text, len, err) : BNT_OK;
}

static enum bnt_status flush_run(struct sink *s, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (s->text->len > 0) {
        st = bnt_tokenizer_encode(s->t, s->text->data, s->text->len, 0, s->ids, err);
        bnt_buf_reset(s->text);
    }
    return st;
}

static enum bnt_status id_put(struct sink *s, enum piece_kind kind, const char *text, size_t len,
                              struct bnt_err *err)
{
    int32_t id = kind == PIECE_TEXT ? -1 : bnt_tokenizer_find(s->t, text);
    if (kind == PIECE_CONTROL && id < 0) {
        bnt_err_set(err, BNT_E_UNSUPPORTED,
                    "chat form %s needs the token %s, which this vocabulary lacks", s->form_name,
                    text);
        bnt_err_hint(err, "give another --chat-template (" BNT_CHAT_FORMS "), or --raw");
        return BNT_E_UNSUPPORTED;
    }
    if (id < 0) {
        return text_put(s, kind, text, len, err);
    }
    enum bnt_status st = flush_run(s, err);
    return st == BNT_OK ? bnt_ids_push(s->ids, id, err) : st;
}

/* ---- Public. */

enum bnt_status bnt_chat_render(const struct bnt_chat *chat,
                                const struct bnt_chat_message *messages, size_t n,
                                struct bnt_buf *out, struct bnt_err *err)
{
    struct sink s = {.put = text_put, .text = out};
    return put_conversation(&s, chat, messages, n, err);
}

enum bnt_status bnt_chat_encode(const struct bnt_chat *chat, const struct bnt_tokenizer *t,
                                const struct bnt_chat_message *messages, size_t n,
                                struct bnt_ids *out, struct bnt_err *err)
{
    struct bnt_buf run = BNT_BUF(BNT_CHAT_MAX_TEXT);
    struct sink s = {.put = id_put, .text = &run, .t = t, .ids = out, .form_name = chat->name};
    enum bnt_status st = BNT_OK;
    bool form_adds_bos = chat->bos && chat->bos_text[0] != '\0';
    if ((!form_adds_bos || BNT_FAULT(chat_bos)) && bnt_tokenizer_add_bos(t) &&
        bnt_tokenizer_bos(t) >= 0) {
        st = bnt_ids_push(out, bnt_tokenizer_bos(t), err);
    }
    if (st == BNT_OK) {
        st = put_conversation(&s, chat, messages, n, err);
    }
    if (st == BNT_OK) {
        st = flush_run(&s, err);
    }
    bnt_buf_release(&run);
    return st;
}

enum bnt_status bnt_chat_encode_next(const struct bnt_chat *chat, const struct bnt_tokenizer *t,
                                     const char *user, struct bnt_ids *out, struct bnt_err *err)
{
    const struct form *f = form_row(chat->form);
    struct bnt_buf run = BNT_BUF(BNT_CHAT_MAX_TEXT);
    struct sink s = {.put = id_put, .text = &run, .t = t, .ids = out, .form_name = chat->name};
    enum bnt_status st = BNT_FAULT(chat_close) ? BNT_OK : put_close(&s, chat, f, "assistant", err);
    if (st == BNT_OK) {
        st = put_message(&s, chat, f, &(struct bnt_chat_message){"user", user}, err);
    }
    if (st == BNT_OK) {
        st = put_open(&s, f, "assistant", err);
    }
    if (st == BNT_OK) {
        st = flush_run(&s, err);
    }
    bnt_buf_release(&run);
    return st;
}

bool bnt_chat_keeps(const struct bnt_chat *chat, const char *content)
{
    size_t n = strlen(content);
    if (chat->no_thoughts && behind_thoughts(content) > 0) {
        return false;
    }
    return !chat->trim || n == 0 || (!is_space(content[0]) && !is_space(content[n - 1]));
}
