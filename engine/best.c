#include "engine/best.h"

#include <math.h>

static bool ranks_before(const struct bnt_candidate *a, const struct bnt_candidate *b)
{
    return a->value > b->value || (a->value == b->value && a->id < b->id);
}

size_t best_insert(struct bnt_candidate *list, size_t len, size_t most, struct bnt_candidate entry)
{
    if (!isfinite(entry.value) ||
        (len == most && (most == 0 || !ranks_before(&entry, &list[len - 1])))) {
        return len;
    }
    size_t i = len < most ? len++ : len - 1;
    for (; i > 0 && ranks_before(&entry, &list[i - 1]); i--) {
        list[i] = list[i - 1];
    }
    list[i] = entry;
    return len;
}

size_t best_of_row(const float *row, size_t n, size_t most, struct bnt_candidate *list)
{
    size_t len = 0;
    for (size_t id = 0; id < n; id++) {
        len = best_insert(list, len, most, (struct bnt_candidate){(int32_t)id, row[id]});
    }
    return len;
}
