/* Recognition of a Jinja chat template. What it prints decides (chat_prove.c), where it can be run.
 * For others, and for templates that are known to be wrong, the program is brought into one
 * spelling (chat_normalise), and a form is recognised by fragments of it that must and must not
 * occur. */
#include "engine/chat.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chat_impl.h"

#define MAX_FRAGMENTS 5
#define SHOWN_BYTES 120 /* of an unknown template */
#define MAX_LITERAL 4096

/* ---- One spelling. */

struct scanner {
    const char *p, *end;
    struct bnt_buf *out;
    bool after_block; /* the last tag was {% %} or {# #}: its newline is dropped (trim_blocks) */
    bool after_dash;  /* the last tag ended in -: white space after it is dropped */
};

static bool at(const struct scanner *s, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(s->end - s->p) >= n && memcmp(s->p, text, n) == 0;
}

/* The text up to the next tag, as Jinja would put it out. */
static enum bnt_status scan_text(struct scanner *s, struct bnt_err *err)
{
    const char *from = s->p;
    while (s->p < s->end && !at(s, "{{") && !at(s, "{%") && !at(s, "{#")) {
        s->p++;
    }
    const char *to = s->p;
    bool dash = s->end - s->p > 2 && s->p[2] == '-';
    bool block = s->p < s->end && s->p[1] != '{';
    if (s->after_block && !s->after_dash && from < to && *from == '\n') {
        from++;
    }
    while (s->after_dash && from < to && isspace((unsigned char)*from)) {
        from++;
    }
    if (dash) {
        while (to > from && isspace((unsigned char)to[-1])) {
            to--;
        }
    } else if (block) { /* lstrip_blocks: blanks between the beginning of the line and the block */
        const char *t = to;
        while (t > from && (t[-1] == ' ' || t[-1] == '\t')) {
            t--;
        }
        to = t == from || t[-1] == '\n' ? t : to;
    }
    return to > from ? bnt_buf_append(s->out, from, (size_t)(to - from), err) : BNT_OK;
}

/* A string literal, quotes made single, escapes of white space resolved. */
static enum bnt_status scan_literal(struct scanner *s, struct bnt_err *err)
{
    char quote = *s->p++;
    enum bnt_status st = bnt_buf_putc(s->out, '\'', err);
    while (st == BNT_OK && s->p < s->end && *s->p != quote) {
        char c = *s->p++;
        if (c == '\\' && s->p < s->end) {
            c = *s->p++;
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        }
        if (c == '\'' || c == '\\') {
            st = bnt_buf_putc(s->out, '\\', err);
        }
        st = st == BNT_OK ? bnt_buf_putc(s->out, c, err) : st;
    }
    s->p += s->p < s->end; /* the closing quote */
    return st == BNT_OK ? bnt_buf_putc(s->out, '\'', err) : st;
}

/* .name becomes ['name'], so that message.role and message['role'] read alike. */
static enum bnt_status scan_attribute(struct scanner *s, struct bnt_err *err)
{
    s->p++;
    enum bnt_status st = bnt_buf_puts(s->out, "['", err);
    while (st == BNT_OK && s->p < s->end && (isalnum((unsigned char)*s->p) || *s->p == '_')) {
        st = bnt_buf_putc(s->out, *s->p++, err);
    }
    return st == BNT_OK ? bnt_buf_puts(s->out, "']", err) : st;
}

/* {{ ... }} or {% ... %}. */
static enum bnt_status scan_tag(struct scanner *s, struct bnt_err *err)
{
    const char *close = s->p[1] == '{' ? "}}" : "%}";
    enum bnt_status st = bnt_buf_append(s->out, s->p, 2, err);
    s->p += 2;
    s->p += s->p < s->end && (*s->p == '-' || *s->p == '+');
    s->after_dash = false;
    while (st == BNT_OK && s->p < s->end && !at(s, close)) {
        if (*s->p == '-' && s->end - s->p > 2 && memcmp(s->p + 1, close, 2) == 0) {
            s->after_dash = true;
            s->p++;
        } else if (*s->p == '\'' || *s->p == '"') {
            st = scan_literal(s, err);
        } else if (*s->p == '.' && s->end - s->p > 1 && isalpha((unsigned char)s->p[1])) {
            st = scan_attribute(s, err);
        } else if (isspace((unsigned char)*s->p)) {
            s->p++;
        } else {
            st = bnt_buf_putc(s->out, *s->p++, err);
        }
    }
    s->after_block = close[0] == '%';
    s->p += s->p < s->end ? 2 : 0;
    return st == BNT_OK ? bnt_buf_append(s->out, close, 2, err) : st;
}

static void skip_comment(struct scanner *s)
{
    while (s->p < s->end && !at(s, "#}")) {
        s->after_dash = *s->p == '-';
        s->p++;
    }
    s->after_block = true;
    s->p += s->p < s->end ? 2 : 0;
}

enum bnt_status chat_normalise(const char *jinja, size_t len, struct bnt_buf *out,
                               struct bnt_err *err)
{
    struct scanner s = {.p = jinja, .end = jinja + len, .out = out};
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && s.p < s.end) {
        st = scan_text(&s, err);
        if (st == BNT_OK && s.p < s.end) {
            if (s.p[1] == '#') {
                skip_comment(&s);
            } else {
                st = scan_tag(&s, err);
            }
        }
    }
    return st;
}

/* ---- Recognition. */

#define CONTENT "message['content']"
#define ROLE "message['role']"

struct pattern {
    enum bnt_chat_form form;
    bool trim, corrected;
    const char *note;
    const char *must[MAX_FRAGMENTS], *must_not[MAX_FRAGMENTS];
};

#define LLAMA3_HEAD "'<|start_header_id|>'+" ROLE "+'<|end_header_id|>\n\n'+" CONTENT
#define LLAMA3_PROMPT "'<|start_header_id|>assistant<|end_header_id|>\n\n'"
#define CHATML_HEAD "'<|im_start|>'+" ROLE "+'\n'+" CONTENT
#define CHATML_PROMPT "<|im_start|>assistant\n"

/* In order of trial. Several rows of a form are spellings that print the same. */
static const struct pattern patterns[] = {
    /* The converter of microsoft/BitNet writes this placeholder into every file it makes. */
    {.form = BNT_CHAT_BITNET,
     .trim = true,
     .corrected = true,
     .note = "the file's chat template (\"Human: ... BITNETAssistant: \") is known to be wrong; "
             "using the form that bitnet-b1.58-2B-4T was trained on",
     .must = {"'Human: '+" CONTENT, "BITNETAssistant: '"}},
    {.form = BNT_CHAT_BITNET,
     .trim = true,
     .must = {ROLE "|capitalize+': '+" CONTENT "|trim+'<|eot_id|>'", "'Assistant: '"}},
    {.form = BNT_CHAT_BITNET, .must = {"'User: '+" CONTENT "+'<|eot_id|>'", "'Assistant: '"}},
    {.form = BNT_CHAT_LLAMA3,
     .trim = true,
     .note = "the preamble of dates and tools of this LLaMA-3 template is left out",
     .must = {LLAMA3_HEAD "|trim+'<|eot_id|>'", LLAMA3_PROMPT, "Cutting Knowledge Date"}},
    {.form = BNT_CHAT_LLAMA3,
     .trim = true,
     .must = {LLAMA3_HEAD "|trim+'<|eot_id|>'", LLAMA3_PROMPT}},
    {.form = BNT_CHAT_LLAMA3, .must = {LLAMA3_HEAD "+'<|eot_id|>'", LLAMA3_PROMPT}},
    {.form = BNT_CHAT_CHATML,
     .trim = true,
     .must = {CHATML_HEAD "|trim+'<|im_end|>", CHATML_PROMPT},
     .must_not = {"</think>", "<|im_sep|>"}},
    {.form = BNT_CHAT_CHATML,
     .must = {CHATML_HEAD "+'<|im_end|>", CHATML_PROMPT},
     .must_not = {"</think>", "<|im_sep|>", "|trim"}},
    {.form = BNT_CHAT_CHATML,
     .must = {"<|im_start|>{{" ROLE "}}\n{{" CONTENT "}}<|im_end|>\n", CHATML_PROMPT},
     .must_not = {"</think>", "<|im_sep|>", "|trim"}},
    {.form = BNT_CHAT_CHATML,
     .must = {"'<|im_start|>user\n'+" CONTENT "+'<|im_end|>\n'", CHATML_PROMPT},
     .must_not = {"</think>", "<|im_sep|>", "|trim"}},
    {.form = BNT_CHAT_FALCON,
     .must = {"'<|user|>\n'+" CONTENT "+'\n'", "'<|assistant|>\n'+" CONTENT "+eos_token+'\n'",
              "{{'<|assistant|>\n'}}"},
     .must_not = {"<|end|>", "|trim"}},
    {.form = BNT_CHAT_ZEPHYR,
     .must = {"{{'<|user|>\n'+" CONTENT "+eos_token}}\n",
              "{{'<|assistant|>\n'+" CONTENT "+eos_token}}\n", "{{'<|assistant|>'}}\n"},
     .must_not = {"<|end|>", "|trim"}},
    {.form = BNT_CHAT_ZEPHYR,
     .must = {"'<|user|>\n'+" CONTENT "+eos_token+'\n'",
              "'<|assistant|>\n'+" CONTENT "+eos_token+'\n'", "{{'<|assistant|>\n'}}"},
     .must_not = {"<|end|>", "|trim"}},
};

const char *bnt_chat_bitnet_template(void)
{
    return "{% for message in messages %}{{ message['role'] | capitalize + ': ' + "
           "message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
           "{{ 'Assistant: ' }}{% endif %}";
}

static const char *find(const struct bnt_buf *text, const char *fragment)
{
    return text->len == 0 ? NULL : memmem(text->data, text->len, fragment, strlen(fragment));
}

static bool matches(const struct pattern *p, const struct bnt_buf *text)
{
    for (size_t i = 0; i < MAX_FRAGMENTS; i++) {
        if ((p->must[i] != NULL && find(text, p->must[i]) == NULL) ||
            (p->must_not[i] != NULL && find(text, p->must_not[i]) != NULL)) {
            return false;
        }
    }
    return true;
}

/* Copy the literal's rest from p up to its closing quote, escapes resolved. Returns its length, or
 * `room` when it does not fit. */
static size_t copy_literal(const char *p, const char *end, char *out, size_t room)
{
    size_t n = 0;
    while (p < end && *p != '\'' && n < room) {
        p += *p == '\\' && end - p > 1;
        out[n++] = *p++;
    }
    return n;
}

/* ChatML templates may say something for the system when the messages do not: it stands in one
 * literal. False when that cannot be kept: it is too long, or holds a NUL. */
static bool find_default_system(const struct bnt_buf *text, struct bnt_chat *out)
{
    static const char head[] = "'<|im_start|>system\n", tail[] = "<|im_end|>\n";
    char said[MAX_LITERAL];
    const char *p = text->data, *end = text->data + text->len;
    while ((p = memmem(p, (size_t)(end - p), head, sizeof(head) - 1)) != NULL) {
        p += sizeof(head) - 1;
        size_t n = copy_literal(p, end, said, sizeof(said)), cut = sizeof(tail) - 1;
        if (n < sizeof(said) && n > cut && memcmp(said + n - cut, tail, cut) == 0) {
            if (n - cut >= sizeof(out->default_system) || memchr(said, '\0', n - cut) != NULL) {
                return false;
            }
            memcpy(out->default_system, said, n - cut);
            out->default_system[n - cut] = '\0';
            return true;
        }
    }
    return true;
}

static enum bnt_status unknown(const char *jinja, size_t len, struct bnt_err *err)
{
    char line[SHOWN_BYTES + 1];
    size_t n = 0;
    while (n < len && n < SHOWN_BYTES && jinja[n] != '\n') {
        unsigned char c = (unsigned char)jinja[n];
        line[n++] =
            c >= 0x20 && c < 0x7f ? (char)c : '?'; /* a hostile file must not steer the terminal */
    }
    line[n] = '\0';
    bnt_err_set(err, BNT_E_UNSUPPORTED, "chat template not recognised (%zu bytes): %s%s", len, line,
                n < len ? " ..." : "");
    bnt_err_hint(err,
                 "give --chat-template " BNT_CHAT_FORMS " if you know the form, or --raw for none");
    return BNT_E_UNSUPPORTED;
}

/* The form by fragments of the text: *found and *out, or NULL. */
static enum bnt_status match_text(const char *jinja, size_t len, const struct pattern **found,
                                  struct bnt_chat *out, struct bnt_err *err)
{
    /* The longest growth is that of attributes: ".a" becomes "['a']". */
    struct bnt_buf text = BNT_BUF(3 * BNT_CHAT_MAX_TEMPLATE + 16);
    enum bnt_status st = chat_normalise(jinja, len, &text, err);
    for (size_t i = 0; st == BNT_OK && *found == NULL && i < sizeof(patterns) / sizeof(*patterns);
         i++) {
        *found = matches(&patterns[i], &text) ? &patterns[i] : NULL;
    }
    if (*found != NULL) {
        chat_set_form((*found)->form, out);
        out->trim = (*found)->trim;
        out->corrected = (*found)->corrected;
        out->note = (*found)->note;
        out->bos = out->bos || find(&text, "{{bos_token") != NULL;
        if (out->form == BNT_CHAT_CHATML && !find_default_system(&text, out)) {
            *found = NULL;
        }
    }
    bnt_buf_release(&text);
    return st;
}

enum bnt_status bnt_chat_recognise(const char *jinja, size_t len, struct bnt_chat *out,
                                   struct bnt_err *err)
{
    if (len > BNT_CHAT_MAX_TEMPLATE) {
        return unknown(jinja, len, err);
    }
    const struct pattern *found = NULL;
    struct bnt_chat own = {0};
    enum chat_proof proof;
    enum bnt_status st = match_text(jinja, len, &found, &own, err);
    if (st != BNT_OK || (found != NULL && found->note != NULL)) {
        *out = own; /* a difference that is known, and told */
        return st;
    }
    st = chat_prove(jinja, len, out, &proof, err);
    if (st == BNT_OK && proof == CHAT_OPEN && found != NULL) {
        *out = own;
        out->note = "the chat template has parts that are not known here; told by the others it is "
                    "of the form that is used";
    }
    bool known = proof == CHAT_PROVEN || (proof == CHAT_OPEN && found != NULL);
    return st != BNT_OK || known ? st : unknown(jinja, len, err);
}

/* ---- The file. */

/* Text of the token that a key names, "" without one or when it is longer than any end token. */
static void token_text(const struct gguf *g, const char *key, char out[64])
{
    uint64_t id;
    struct gguf_iter it;
    struct gguf_str text = {NULL, 0};
    out[0] = '\0';
    if (!gguf_get_u64(g, key, &id) || !gguf_iter_begin(g, "tokenizer.ggml.tokens", GGUF_STR, &it)) {
        return;
    }
    for (uint64_t i = 0; i <= id; i++) {
        if (!gguf_iter_str(&it, &text)) {
            return;
        }
    }
    if (text.len > 0 && text.len < 64 && memchr(text.data, '\0', text.len) == NULL) {
        memcpy(out, text.data, text.len);
        out[text.len] = '\0';
    }
}

enum bnt_status bnt_chat_detect(const struct gguf *g, const char *override, struct bnt_chat *out,
                                struct bnt_err *err)
{
    struct gguf_str jinja;
    enum bnt_status st = BNT_OK;
    if (override != NULL) {
        enum bnt_chat_form form = chat_form_named(override);
        if (form == BNT_CHAT_UNKNOWN) {
            return bnt_err_set(err, BNT_E_USAGE,
                               "chat: unknown form '%s': must be one of " BNT_CHAT_FORMS, override);
        }
        chat_set_form(form, out);
    } else if (!gguf_get_str(g, "tokenizer.chat_template", &jinja)) {
        bnt_err_set(err, BNT_E_NOT_FOUND, "%s: the file has no chat template", g->path);
        bnt_err_hint(err, "give --chat-template " BNT_CHAT_FORMS
                          " if you know the form, or --raw for none");
        return BNT_E_NOT_FOUND;
    } else {
        st = bnt_chat_recognise(jinja.data, jinja.len, out, err);
    }
    if (st != BNT_OK) {
        return bnt_err_context(err, "%s", g->path);
    }
    token_text(g, "tokenizer.ggml.bos_token_id", out->bos_text);
    token_text(g, "tokenizer.ggml.eos_token_id", out->eos_text);
    return BNT_OK;
}
