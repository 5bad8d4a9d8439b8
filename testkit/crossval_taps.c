/* The rung of the layers: what both compute on the way from ids to logits, row by row. The rows of
 * the reference come in its own order; the first difference is that which is computed first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/crossval_impl.h"

#define IDS_MAX 64 /* of a prompt whose layers are looked at */

struct kept_row {
    enum bnt_tap_op op;
    int32_t layer;
    uint32_t position, n;
    float *values;
};

/* Our rows, in the order of computation. */
struct kept {
    struct kept_row *at;
    size_t n, cap;
    bool out_of_memory;
};

struct matching {
    const struct kept *kept;
    double bound;
    size_t first; /* of kept: the first one that differs; kept->n while none does */
    double error, worst;
    size_t n;
};

static void keep(void *ctx, const struct bnt_tap_row *row)
{
    struct kept *k = ctx;
    if (k->n == k->cap && !k->out_of_memory) {
        const size_t cap = k->cap ? 2 * k->cap : 256;
        struct kept_row *more = realloc(k->at, cap * sizeof *more);
        if (more) {
            k->at = more;
            k->cap = cap;
        }
        k->out_of_memory = !more;
    }
    float *values = k->out_of_memory ? NULL : malloc(row->n * sizeof *values + 1);
    k->out_of_memory = !values;
    if (values) {
        memcpy(values, row->values, row->n * sizeof *values);
        k->at[k->n++] = (struct kept_row){row->op, row->layer, row->position, row->n, values};
    }
}

static void release(struct kept *k)
{
    for (size_t i = 0; i < k->n; i++) {
        free(k->at[i].values);
    }
    free(k->at);
}

/* Size of the difference by the size of our row, both as roots of sums of squares. */
static double error_of(const struct kept_row *ours, const struct bnt_tap_row *theirs)
{
    double difference = 0, size = 0;
    for (uint32_t i = 0; i < ours->n; i++) {
        const double d = (double)ours->values[i] - (double)theirs->values[i];
        difference += d * d;
        size += (double)ours->values[i] * (double)ours->values[i];
    }
    return difference == 0 ? 0 : sqrt(difference / size);
}

static void match(void *ctx, const struct bnt_tap_row *row)
{
    struct matching *m = ctx;
    for (size_t i = 0; i < m->kept->n; i++) {
        const struct kept_row *k = &m->kept->at[i];
        if (k->op != row->op || k->layer != row->layer || k->position != row->position) {
            continue;
        }
        const double e = k->n == row->n ? error_of(k, row) : INFINITY;
        m->n++;
        m->worst = e > m->worst || isnan(e) ? e : m->worst;
        if (!(e <= m->bound) && i < m->first && !BNT_FAULT(crossval_blind)) {
            m->first = i;
            m->error = e;
        }
        return;
    }
}

enum bnt_status crossval_find_tap(struct ladder *l, const int32_t *ids, size_t n,
                                  struct crossval_tap_place *out, struct bnt_err *err)
{
    struct kept kept = {0};
    struct matching m = {.kept = &kept, .bound = l->tol->tap_error};
    n = n < IDS_MAX ? n : IDS_MAX;
    *out = (struct crossval_tap_place){0};
    enum bnt_status st = bnt_subject_taps(l->ours, ids, n, &(struct bnt_tap){keep, &kept}, err);
    if (st == BNT_OK && kept.out_of_memory) {
        st = bnt_err_nomem(err, "rows of taps", 0);
    }
    m.first = kept.n;
    if (st == BNT_OK) {
        st = bnt_subject_taps(l->reference, ids, n, &(struct bnt_tap){match, &m}, err);
    }
    if (st == BNT_OK && m.first < kept.n) {
        const struct kept_row *k = &kept.at[m.first];
        char layer[32] = "";
        if (k->layer >= 0) {
            snprintf(layer, sizeof layer, "layer %d ", (int)k->layer);
        }
        snprintf(out->name, sizeof out->name, "%s%s of token %u", layer, bnt_tap_name(k->op),
                 k->position);
        out->error = m.error;
    }
    out->worst = m.worst;
    out->n = m.n;
    release(&kept);
    return st;
}

enum bnt_status crossval_taps(struct ladder *l, struct bnt_err *err)
{
    const enum crossval_rung rung = CROSSVAL_TAPS;
    double worst = 0;
    size_t n = 0;
    enum bnt_status st = BNT_OK;
    if (!crossval_can(&l->their_facts, BNT_CAN_TAPS)) {
        crossval_skip(l, rung, "the reference does not show its layers");
        return BNT_OK;
    }
    for (size_t i = 0; st == BNT_OK && i < l->plan->n_prompts; i++) {
        struct crossval_tap_place place;
        st = crossval_find_tap(l, l->cases[i].ids.at, l->cases[i].ids.n, &place, err);
        n += st == BNT_OK ? place.n : 0;
        worst = st == BNT_OK && place.worst > worst ? place.worst : worst;
        if (st == BNT_OK && place.name[0]) {
            crossval_differs(l, rung,
                             "%s differs by %.3g of its size, should by at most %.3g: prompt %zu "
                             "(\"%.40s\")",
                             place.name, place.error, l->tol->tap_error, i + 1, l->cases[i].prompt);
        }
    }
    if (st == BNT_OK && n == 0) {
        crossval_skip(l, rung, "the reference shows no op that has a name here");
        return BNT_OK;
    }
    crossval_figure(l, rung, "rows", (double)n);
    crossval_figure(l, rung, "worst_error", worst);
    return st;
}
