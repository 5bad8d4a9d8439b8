#include "engine/best.h"

#include <math.h>
#include <stdbool.h>

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

/* Most stretches of a row hold nothing that ranks, which is seen without a look at each entry. */
enum { STRETCH = 16 };

static bool any_above(const float row[STRETCH], float least)
{
    int above = 0;
    for (int i = 0; i < STRETCH; i++) {
        above += row[i] > least;
    }
    return above > 0;
}

size_t best_of_row(const float *row, size_t n, size_t most, struct bnt_candidate *list)
{
    size_t len = 0;
    for (size_t id = 0; id < n;) {
        size_t end = n - id < STRETCH ? n : id + STRETCH;
        if (len == most && end == id + STRETCH && most > 0 &&
            !any_above(row + id, list[len - 1].value)) {
            id = end;
        }
        for (; id < end; id++) {
            len = best_insert(list, len, most, (struct bnt_candidate){(int32_t)id, row[id]});
        }
    }
    return len;
}

void near_of_row(float *row, size_t n, struct bnt_near *near)
{
    for (size_t i = 0; i < near->n_also; i++) {
        near->also_logits[i] = row[near->also[i]];
        row[near->also[i]] = -INFINITY;
    }
    near->n_best = (uint32_t)best_of_row(row, n, near->k, near->best);
}
