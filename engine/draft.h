/* Drafts by look-up: what followed the last few ids when they stood in the text before. For texts
 * that repeat themselves (code, quotations, an answer about the prompt) that is often what follows
 * again; whether it does is for the model to say. */
#ifndef BNT_DRAFT_H
#define BNT_DRAFT_H

#include <stddef.h>
#include <stdint.h>

enum {
    DRAFT_MATCH_MIN = 2,
    DRAFT_MATCH_MAX = 8
}; /* ids that must be equal; more are not counted */

/* A draft of what follows text[n]: at most `most` ids into out, and how many. It is taken from
 * behind the longest match of the text's end, of equal ones from the latest. */
size_t draft_look_up(const int32_t *text, size_t n, size_t most, int32_t *out);

#endif
