/* Runs a chat template as Jinja would (trim_blocks and lstrip_blocks on, as chat templates are
 * run), on one conversation and without tools: enough of the language to tell what a template
 * prints, not to make prompts with. What is not known here ends the run with a word of its own, so
 * that nobody takes the text for complete. */
#ifndef BNT_JINJA_H
#define BNT_JINJA_H

#include "base/buf.h"
#include "engine/chat.h"

/* Ceilings on hostile templates. */
#define JINJA_MAX_WORK (8u << 20)   /* bytes of tags and texts, each as often as it is run */
#define JINJA_MAX_ROOM (256u << 10) /* bytes of the texts that expressions make */
#define JINJA_MAX_TEXT (64u << 10)  /* bytes that are printed */

enum jinja_end {
    JINJA_DONE,
    JINJA_RAISED,  /* raise_exception was called: the template does not take this conversation */
    JINJA_UNKNOWN, /* a construct that is not known here, or a ceiling */
    JINJA_NO_MEMORY
};

struct jinja_input {
    const struct bnt_chat_message *messages;
    size_t n;
    const char *bos, *eos; /* bos_token, eos_token */
};

/* Append to out what the template prints for a conversation whose answer comes next
 * (add_generation_prompt). What is in out counts only after JINJA_DONE. */
enum jinja_end jinja_run(const char *jinja, size_t len, const struct jinja_input *in,
                         struct bnt_buf *out);

#endif
