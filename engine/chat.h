/* Chat templates. A GGUF carries a Jinja program. It is one of the known forms, written here in C,
 * if it prints what the form does: it is run on a few conversations, and compared. One that cannot
 * be run here is told by fragments of its text, with a note. An unrecognised one is named and
 * refused, never guessed. */
#ifndef BNT_CHAT_H
#define BNT_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"

#define BNT_CHAT_MAX_TEMPLATE (1u << 20) /* bytes of a template that is looked at */
#define BNT_CHAT_MAX_TEXT (64u << 20)    /* bytes of a rendered conversation */

enum bnt_chat_form {
    BNT_CHAT_UNKNOWN,
    BNT_CHAT_LLAMA3,
    BNT_CHAT_BITNET,
    BNT_CHAT_CHATML,
    BNT_CHAT_FALCON,
    BNT_CHAT_ZEPHYR
};

struct bnt_chat_message {
    const char *role;    /* "system", "user" or "assistant" */
    const char *content; /* UTF-8 */
};

struct bnt_chat {
    enum bnt_chat_form form;
    const char *name; /* "bitnet" */
    bool corrected;   /* the file's template is known to be wrong; note says what was done */
    const char *note; /* static or NULL */
    /* Texts that end an answer, NULL-terminated: tokens of the vocabulary where it has them
     * (bnt_tokenizer_find), else stop strings. Static, besides the model's own end tokens
     * (bnt_tokenizer_is_eog). */
    const char *stop[4];
    bool no_system;   /* the template has another place for a system message, or none */
    bool bos;         /* the form itself begins with BOS; else the tokenizer's add_bos decides */
    bool trim;        /* the form strips white space around content */
    bool no_thoughts; /* of earlier answers only what follows "</think>" and its newlines is kept */
    char bos_text[64]; /* text of the BOS and EOS tokens, "" when the file has none */
    char eos_text[64];
    char default_system[256]; /* what the template says for the system when messages do not; "" if
                                 nothing */
};

/* Recognise the template of g, or take the form of that name ("llama3", "bitnet", "chatml",
 * "falcon", "zephyr") when `override` is not NULL. Errors: NOT_FOUND (the file has none),
 * UNSUPPORTED (unknown form; the first line of it is shown), USAGE (no such name). */
enum bnt_status bnt_chat_detect(const struct gguf *g, const char *override, struct bnt_chat *out,
                                struct bnt_err *err);

/* The same from the text of a template, without the texts of BOS and EOS. Errors: UNSUPPORTED. */
enum bnt_status bnt_chat_recognise(const char *jinja, size_t len, struct bnt_chat *out,
                                   struct bnt_err *err);

/* A template of the form "bitnet", for files whose own is known to be wrong. */
const char *bnt_chat_bitnet_template(void);

/* Names of the forms, for option tables and messages: "llama3|bitnet|chatml|falcon|zephyr". */
#define BNT_CHAT_FORMS "llama3|bitnet|chatml|falcon|zephyr"

/* Append the prompt for messages as text, ending where the assistant's answer begins. This is for
 * showing and testing: a model is fed by bnt_chat_encode, which knows template from content.
 * Errors: USAGE (no messages, an unknown role, the last message is the assistant's); UNSUPPORTED (a
 * system message, where no_system). */
enum bnt_status bnt_chat_render(const struct bnt_chat *chat,
                                const struct bnt_chat_message *messages, size_t n,
                                struct bnt_buf *out, struct bnt_err *err);

/* Ids of the rendered messages: control tokens come from the template alone, content is never
 * parsed for them, so that a user cannot inject one. Plain text of the template and the content
 * beside it are encoded together, as the text of training was. Errors: those of render; UNSUPPORTED
 * when the vocabulary lacks a control token of the form. */
enum bnt_status bnt_chat_encode(const struct bnt_chat *chat, const struct bnt_tokenizer *t,
                                const struct bnt_chat_message *messages, size_t n,
                                struct bnt_ids *out, struct bnt_err *err);

/* Ids that continue a conversation whose last answer stands in the context: the end of that answer,
 * the user's next message, the beginning of the next answer. The text is what bnt_chat_encode of
 * the whole would add, provided that bnt_chat_keeps(answer). */
enum bnt_status bnt_chat_encode_next(const struct bnt_chat *chat, const struct bnt_tokenizer *t,
                                     const char *user, struct bnt_ids *out, struct bnt_err *err);

/* True when the form renders this content unchanged (some forms strip white space around it). */
bool bnt_chat_keeps(const struct bnt_chat *chat, const char *content);

#endif
