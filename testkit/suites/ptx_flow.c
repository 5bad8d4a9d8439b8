/* Where the sides of a branch meet: its immediate postdominator, by Cooper, Harvey and Kennedy, "A
 * Simple, Fast Dominance Algorithm" (2001), on the graph turned round, an instruction a node. */
#include <stdio.h>
#include <stdlib.h>

#include "testkit/suites/ptx_module.h"

struct flow {
    const struct ptx_kernel *k;
    uint32_t n;     /* nodes: instructions, and the end */
    uint32_t *from; /* the instructions that lead to node i: from[first[i]..first[i + 1]] */
    uint32_t *first;
    uint32_t *order;  /* nodes in postorder from the end, against the arrows */
    uint32_t *number; /* of a node in order, or PTX_NONE: no way leads from it to the end */
    uint32_t *up;     /* immediate postdominators */
    uint32_t n_ordered;
};

static uint32_t *numbers(uint32_t n)
{
    uint32_t *p = malloc(n * sizeof *p);
    if (!p) {
        fputs("ptx: out of memory\n", stderr);
        abort();
    }
    for (uint32_t i = 0; i < n; i++) {
        p[i] = PTX_NONE;
    }
    return p;
}

/* What may come after instruction i. */
static uint32_t ways(const struct ptx_kernel *k, uint32_t i, uint32_t to[2])
{
    const struct ptx_instruction *in = &k->code[i];
    uint32_t n = 0;
    if (in->op == PTX_BRA) {
        to[n++] = in->target;
    } else if (in->op == PTX_RET) {
        to[n++] = k->n;
    }
    if (n == 0 || in->guard != PTX_NONE) {
        to[n++] = i + 1;
    }
    return n;
}

static void turn_round(struct flow *f)
{
    uint32_t to[2];
    for (uint32_t i = 0; i <= f->n; i++) {
        f->first[i] = 0;
    }
    for (uint32_t i = 0; i < f->k->n; i++) {
        for (uint32_t j = ways(f->k, i, to); j-- > 0;) {
            f->first[to[j] + 1]++;
        }
    }
    for (uint32_t i = 0; i < f->n; i++) {
        f->first[i + 1] += f->first[i];
    }
    uint32_t *filled = numbers(f->n);
    for (uint32_t i = 0; i < f->k->n; i++) {
        for (uint32_t j = ways(f->k, i, to); j-- > 0;) {
            uint32_t at = ++filled[to[j]]; /* from PTX_NONE on: 0 */
            f->from[f->first[to[j]] + at] = i;
        }
    }
    free(filled);
}

static void put_in_order(struct flow *f)
{
    uint32_t *stack = numbers(f->n), *next = numbers(f->n), depth = 0;
    stack[depth++] = f->k->n;
    next[f->k->n] = 0;
    while (depth > 0) {
        uint32_t node = stack[depth - 1];
        if (f->first[node] + next[node] == f->first[node + 1]) {
            f->number[node] = f->n_ordered;
            f->order[f->n_ordered++] = node;
            depth--;
            continue;
        }
        uint32_t to = f->from[f->first[node] + next[node]++];
        if (next[to] == PTX_NONE) {
            next[to] = 0;
            stack[depth++] = to;
        }
    }
    free(stack);
    free(next);
}

static uint32_t common(const struct flow *f, uint32_t a, uint32_t b)
{
    while (a != b) {
        if (f->number[a] < f->number[b]) {
            a = f->up[a];
        } else {
            b = f->up[b];
        }
    }
    return a;
}

static bool go_up(struct flow *f)
{
    bool changed = false;
    for (uint32_t i = f->n_ordered - 1; i-- > 0;) {
        uint32_t node = f->order[i], to[2], up = PTX_NONE;
        for (uint32_t j = ways(f->k, node, to); j-- > 0;) {
            if (f->number[to[j]] != PTX_NONE && f->up[to[j]] != PTX_NONE) {
                up = up == PTX_NONE ? to[j] : common(f, to[j], up);
            }
        }
        changed |= up != f->up[node];
        f->up[node] = up;
    }
    return changed;
}

void ptx_find_meetings(struct ptx_kernel *k)
{
    uint32_t n = k->n + 1;
    struct flow f = {.k = k,
                     .n = n,
                     .from = numbers(2 * n),
                     .first = numbers(n + 1),
                     .order = numbers(n),
                     .number = numbers(n),
                     .up = numbers(n)};
    turn_round(&f);
    put_in_order(&f);
    f.up[k->n] = k->n;
    while (go_up(&f)) {
    }
    for (uint32_t i = 0; i < k->n; i++) {
        k->code[i].meet = f.up[i] == PTX_NONE ? k->n : f.up[i];
    }
    free(f.from);
    free(f.first);
    free(f.order);
    free(f.number);
    free(f.up);
}
