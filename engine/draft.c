/* Drafts by look-up. */
#include "engine/draft.h"

/* How many ids before `end` equal the last ones of the text, up to DRAFT_MATCH_MAX. */
static size_t match_length(const int32_t *text, size_t n, size_t end)
{
    size_t k = 0;
    while (k < DRAFT_MATCH_MAX && k < end && text[end - 1 - k] == text[n - 1 - k]) {
        k++;
    }
    return k;
}

size_t draft_look_up(const int32_t *text, size_t n, size_t most, int32_t *out)
{
    size_t best = DRAFT_MATCH_MIN - 1, from = n;
    for (size_t end = n > 0 ? n - 1 : 0; end > 0 && best < DRAFT_MATCH_MAX; end--) {
        size_t k = match_length(text, n, end);
        if (k > best) {
            best = k;
            from = end;
        }
    }
    size_t made = 0;
    while (made < most && from + made < n) {
        out[made] = text[from + made];
        made++;
    }
    return made;
}
