/* Shared by chat.c (forms, rendering), chat_detect.c (recognition) and chat_prove.c (by what a
 * template prints). */
#ifndef BNT_CHAT_IMPL_H
#define BNT_CHAT_IMPL_H

#include "engine/chat.h"

/* Fill out with the form's constants. */
void chat_set_form(enum bnt_chat_form form, struct bnt_chat *out);
/* BNT_CHAT_UNKNOWN for a name that is none. */
enum bnt_chat_form chat_form_named(const char *name);

enum chat_proof {
    CHAT_PROVEN,
    CHAT_OTHER, /* it prints something else than any form */
    CHAT_OPEN   /* it cannot be run here */
};
/* Run the template and find the form that prints the same; *out is set when there is one. Errors:
 * MEMORY alone. */
enum bnt_status chat_prove(const char *jinja, size_t len, struct bnt_chat *out,
                           enum chat_proof *proof, struct bnt_err *err);

/* A Jinja program in one spelling: white space outside of string literals and text dropped, quotes
 * single, escapes in literals resolved (but for \' and \\), x.name written x['name'], comments and
 * whitespace-control dashes gone, text between tags as Jinja with trim_blocks and lstrip_blocks
 * would put it out (that is how chat templates are run). */
enum bnt_status chat_normalise(const char *jinja, size_t len, struct bnt_buf *out,
                               struct bnt_err *err);

#endif
