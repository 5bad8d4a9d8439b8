/* Three figures about an English text, from its words alone: they need no model, so that they serve
 * for the answer of any subject. docs/quality.md defines them, and says how well they separate good
 * text from bad. They find broken text, text in disorder and text about something else; not dull
 * prose, and not falsehoods. */
#ifndef BNT_TEXT_QUALITY_H
#define BNT_TEXT_QUALITY_H

#include <stddef.h>

#include "base/status.h"

/* What sound text keeps. */
#define BNT_COHERENCE_MIN 0.7
#define BNT_RELEVANCE_MIN 0.6
#define BNT_REPETITION_MAX 0.3

struct bnt_text_quality {
    size_t n_words;
    double coherence;  /* 0 to 1 */
    double repetition; /* share of the four-word windows that stood before; 0 of fewer words */
    double relevance;  /* 0 to 1; of a prompt without words of content 1 */
};

/* Errors: MEMORY. */
enum bnt_status bnt_text_quality(const char *text, size_t len, const char *prompt,
                                 size_t prompt_len, struct bnt_text_quality *out,
                                 struct bnt_err *err);

#endif
