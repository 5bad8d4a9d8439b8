/* Rows of the CPU back end for a tap: from batch buffers, and activations back from their
 * interleaved 8-bit form. */
#include "base/fault.h"
#include "engine/cpu/backend_cpu.h"

static void emit(const struct backend_cpu *b, const struct cpu_tap_at *at, uint32_t tok,
                 const float *values)
{
    struct bnt_tap_row row = {.op = at->op,
                              .layer = at->layer,
                              .sequence = b->s.rows[tok].seq,
                              .position = b->s.rows[tok].pos,
                              .n = (uint32_t)at->n,
                              .values = values};
    b->base.tap.row(b->base.tap.ctx, &row);
}

void cpu_tap_rows(const struct backend_cpu *b, const struct cpu_tap_at *at, const float *x,
                  size_t stride)
{
    for (uint32_t tok = 0; tok < at->n_tok; tok++) {
        uint32_t from = BNT_FAULT(tap_row) ? at->n_tok - 1 - tok : tok;
        emit(b, at, at->first_tok + tok, x + from * stride);
    }
}

void cpu_tap_act(const struct backend_cpu *b, const struct cpu_tap_at *at)
{
    const struct act_rows *act = &b->s.act;
    float *values = b->s.row;
    for (uint32_t tok = 0; tok < at->n_tok; tok++) {
        const int8_t *q = act->q + tok * act->stride;
        for (size_t c = 0; c < at->n; c++) {
            values[c] = (float)q[act_position(c)] * act->scale[tok];
        }
        emit(b, at, at->first_tok + tok, values);
    }
}
