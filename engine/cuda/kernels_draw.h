/* Drawing an id among the best logits, by one block. What is added up in order is one thread's, the
 * exponentials are everybody's. */
#ifndef BNT_CUDA_KERNELS_DRAW_H
#define BNT_CUDA_KERNELS_DRAW_H

#include "engine/cuda/draw_math.h"
#include "engine/cuda/launch_shape.h"

/* Shared: the candidates, their probabilities, the sum of those, how many are kept. */
struct draw_space {
    double *p, *sum;
    struct cuda_candidate *c;
    uint32_t *n;
};

/* Probabilities of the first *s->n, at a temperature. All of the space may be read afterwards. */
BLOCK_FN void draw_softmax(BLOCK, const struct draw_space *s, double temperature)
{
    FOR_THREADS(t)
    {
        if (t < *s->n) {
            s->p[t] = exp_f64(((double)s->c[t].logit - (double)s->c[0].logit) / temperature);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t == 0) {
            *s->sum = draw_sum(s->p, *s->n);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < *s->n) {
            s->p[t] /= *s->sum;
        }
    }
    BARRIER();
}

BLOCK_FN void k_draw(BLOCK, const struct cuda_draw_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    struct draw_space s;
    s.p = (double *)(void *)BLOCK_SHARED;
    s.sum = s.p + CUDA_PICK_MAX;
    s.c = (struct cuda_candidate *)(void *)(s.sum + 1);
    s.n = (uint32_t *)(void *)(s.c + CUDA_PICK_MAX);
    FOR_THREADS(t)
    {
        if (t < a->k) {
            s.c[t] = a->list[t];
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t == 0) {
            *s.n = draw_usable(s.c, a->k);
        }
    }
    BARRIER();
    if (a->how->top_p < 1) {
        draw_softmax(SAME_BLOCK, &s, 1.0);
    }
    FOR_THREADS(t)
    {
        if (t == 0) {
            uint32_t n = a->how->top_p < 1 ? draw_keep_mass(s.p, *s.n, a->how->top_p) : *s.n;
            *s.n = draw_keep_near(s.c, n, a->how->min_p_log);
        }
    }
    BARRIER();
    draw_softmax(SAME_BLOCK, &s, a->how->temperature);
    FOR_THREADS(t)
    {
        if (t == 0) {
            a->out[0].id = *s.n > 0 ? s.c[draw_one(s.p, *s.n, a->how->unit)].id : -1;
            a->out[1].id = a->count ? (int32_t)*a->count : 0;
        }
    }
}

#endif
