/* The table of verdicts. See verdict.h. */
#include "testkit/verdict.h"

#include <string.h>

static const char *const words[VERDICTS] = {
#define VERDICT_ROW(identifier, word, meaning) [VERDICT_##identifier] = word,
    VERDICT_TABLE(VERDICT_ROW)
#undef VERDICT_ROW
};

const char *verdict_word(enum verdict v)
{
    return words[v];
}

bool verdict_from_word(const char *word, enum verdict *out)
{
    for (int i = 0; i < VERDICTS; i++) {
        if (strcmp(words[i], word) == 0) {
            *out = (enum verdict)i;
            return true;
        }
    }
    return false;
}

bool verdict_is_skip(enum verdict v)
{
    return v == VERDICT_SKIPPED || v == VERDICT_SKIPPED_WITHIN;
}

bool verdict_is_good(enum verdict v)
{
    return v == VERDICT_PASSED || verdict_is_skip(v);
}
