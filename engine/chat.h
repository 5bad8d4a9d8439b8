/* Chat templates. A GGUF carries a Jinja program; its text is recognised as one of the known forms, which are written
 * here in C. An unrecognised one is named and refused, never guessed. */
#ifndef BNT_CHAT_H
#define BNT_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"

enum bnt_chat_form {
    BNT_CHAT_UNKNOWN, BNT_CHAT_LLAMA3, BNT_CHAT_BITNET, BNT_CHAT_CHATML, BNT_CHAT_FALCON, BNT_CHAT_ZEPHYR
};

struct bnt_chat_message {
    const char *role;    /* "system", "user" or "assistant" */
    const char *content; /* UTF-8 */
};

struct bnt_chat {
    enum bnt_chat_form form;
    const char *name;    /* "bitnet" */
    bool corrected;      /* the file's template is known to be wrong; note says what was done */
    const char *note;    /* static or NULL */
    const char *stop[4]; /* texts of the tokens that end an answer, NULL-terminated */
};

/* Recognise the template of g, or `override` ("llama3", "bitnet", "chatml", "falcon", "zephyr") when not NULL.
 * Errors: NOT_FOUND (the file has none), UNSUPPORTED (unknown form; the first line of it is shown). */
enum bnt_status bnt_chat_detect(const struct gguf *g, const char *override, struct bnt_chat *out, struct bnt_err *err);

/* Append the prompt for messages, ending where the assistant's answer begins. Contains the text of control tokens:
 * encode it with BNT_ENCODE_PARSE_SPECIAL and without ADD_SPECIAL when it starts with BOS (all forms here say whether
 * they do: see chat.c). User text can hold the text of control tokens too; content_special = false makes the renderer
 * mark content with bnt_chat_segments instead. */
enum bnt_status bnt_chat_render(const struct bnt_chat *chat, const struct bnt_chat_message *messages, size_t n,
                                struct bnt_buf *out, struct bnt_err *err);

/* Ids of the rendered messages: template text is parsed for control tokens, content never is, so that a user cannot
 * inject a control token. */
enum bnt_status bnt_chat_encode(const struct bnt_chat *chat, const struct bnt_tokenizer *t,
                                const struct bnt_chat_message *messages, size_t n, struct bnt_ids *out,
                                struct bnt_err *err);

#endif
