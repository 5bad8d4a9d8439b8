/* The best logits of tokens, chosen on the device: from the whole head, or from a screened one
 * (kernel_args.h). Both give the same bits. The launches of a lone token are kept as a graph for as
 * long as the caller asks for the same number of logits. */
#include <string.h>

#include "base/fault.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/cuda/launches.h"
#include "engine/screen.h"

enum { BLOCKS_PER_PROCESSOR = 8 /* of the rows that are computed in full */ };

bool cuda_can_screen(const struct bnt_model *m)
{
    return m->screened && launch_screen_takes(m->info.n_embd);
}

/* ---- the choice ---- */

/* The best a.k of each of n rows to `to`; the last launch takes the count along. */
static enum bnt_status pick(const struct backend_cuda *b, struct cuda_pick_args a, uint32_t n,
                            struct cuda_candidate *to, struct bnt_err *err)
{
    struct cuda_candidate *counted = a.counted;
    for (int round = 0;; round++) {
        uint32_t blocks = launch_pieces(a.n, CUDA_PICK_SPAN);
        a.counted = blocks == 1 ? counted : NULL;
        a.out = blocks == 1 ? to : b->s.picks[round % 2];
        struct cuda_launch l = launch_of_pick(&a, n);
        enum bnt_status st = cuda_launch(b, &l, err);
        if (st != BNT_OK || blocks == 1) {
            return st;
        }
        a.list = a.out;
        a.n = blocks * a.k;
    }
}

/* ---- the screened head ---- */

static enum bnt_status score(const struct backend_cuda *b, uint32_t row, uint32_t n,
                             struct bnt_err *err)
{
    const struct bnt_model_info *in = &b->base.model->info;
    uint32_t stride = (uint32_t)act_stride(in->n_embd);
    struct screen screen;
    screen_view(&b->base.model->head, b->w->screen_form, &screen);
    struct cuda_screen_input_args input = {.x = b->s.x + (uint64_t)row * in->n_embd,
                                           .norm = b->w->output_norm,
                                           .n = in->n_embd,
                                           .eps = (float)in->rms_eps,
                                           .h = b->s.h,
                                           .q = b->s.screen_q,
                                           .stride = stride,
                                           .unit = screen_rounding_unit(in->n_embd),
                                           .out = b->s.screen_input};
    struct cuda_screen_score_args scores = {.rows = screen.rows + BNT_FAULT(cuda_screen_steps),
                                            .codes = screen.codes,
                                            .n_rows = in->n_vocab,
                                            .n = n,
                                            .stride = stride,
                                            .row_bytes = screen.row_bytes,
                                            .q = b->s.screen_q,
                                            .in = b->s.screen_input,
                                            .near = b->s.near,
                                            .tops = b->s.tops};
    memcpy(scores.levels, screen_levels, sizeof scores.levels);
    struct cuda_launch l = launch_of_screen_input(&input, n);
    enum bnt_status st = cuda_launch(b, &l, err);
    l = launch_of_screen_score(&scores);
    return st == BNT_OK ? cuda_launch(b, &l, err) : st;
}

/* The best scores that blocks leave of each of n tokens. */
static uint32_t n_tops(const struct backend_cuda *b, uint32_t n)
{
    return launch_pieces(b->base.model->info.n_vocab, launch_screen_rows(n));
}

/* Of each of n tokens: seeds are the k best by score, one of a block at most; then the rows that
 * may reach them. */
static enum bnt_status complete(const struct backend_cuda *b, uint32_t n, uint32_t k,
                                struct bnt_err *err)
{
    const struct bnt_model_info *in = &b->base.model->info;
    struct cuda_pick_args tops = {.list = b->s.tops, .n = n_tops(b, n), .k = k};
    struct screen screen;
    screen_view(&b->base.model->head, b->w->screen_form, &screen);
    uint32_t pieces = launch_pieces(in->n_vocab, CUDA_FULL_THREADS);
    uint32_t most = launch_pieces(b->info.n_processors * BLOCKS_PER_PROCESSOR, n);
    uint32_t stride = (uint32_t)act_stride(in->n_embd);
    struct cuda_screen_full_args full = {.w = b->w->head.data,
                                         .row_bytes = b->w->head.row_bytes,
                                         .type = b->w->head.type,
                                         .rows = in->n_vocab,
                                         .cols = in->n_embd,
                                         .k = k,
                                         .n_blocks = pieces < most ? pieces : most,
                                         .together = n == 1 ? 1 : CUDA_FULL_TOGETHER,
                                         .x = b->s.h,
                                         .near = b->s.near,
                                         .screen_rows = screen.rows,
                                         .rest = screen.rest,
                                         .rest_bytes = screen.rest_bytes,
                                         .q = b->s.screen_q,
                                         .stride = BNT_FAULT(cuda_screen_crossed) ? 0 : stride,
                                         .seeds = b->s.seeds,
                                         .logits = b->s.logits,
                                         .in = b->s.screen_input,
                                         .n_full = &b->s.screen_input->n_full};
    enum bnt_status st = pick(b, tops, n, b->s.seeds, err);
    struct cuda_launch seeds = launch_of_screen_full(&full, n, true);
    struct cuda_launch rows = launch_of_screen_full(&full, n, false);
    st = st == BNT_OK ? cuda_launch(b, &seeds, err) : st;
    return st == BNT_OK ? cuda_launch(b, &rows, err) : st;
}

/* ---- both ---- */

/* An id drawn among the chosen, with the count of a screened head. */
static enum bnt_status launch_draw(struct backend_cuda *b, bool screened, struct bnt_err *err)
{
    struct cuda_draw_args a = {.list = b->s.chosen,
                               .k = b->best_k,
                               .how = b->s.draw,
                               .count = screened ? &b->s.screen_input->n_full : NULL,
                               .out = b->s.drawn};
    struct cuda_launch l = launch_of_draw(&a);
    enum bnt_status st = cuda_error(
        b, b->table->upload(b->context, b->s.draw, b->best_draw, sizeof *b->best_draw), err);
    return st == BNT_OK ? cuda_launch(b, &l, err) : st;
}

/* Tokens whose best are wanted. */
struct question {
    uint32_t row, n;
    bool screened;
};

/* The b->best_k best of each token, or the id that is drawn among those of the only one, on their
 * way back; behind them the count of a screened head. */
static enum bnt_status launch_best(struct backend_cuda *b, const struct question *q,
                                   struct bnt_err *err)
{
    uint32_t n_chosen = q->n * b->best_k;
    struct cuda_pick_args a = {.logits = b->s.logits,
                               .n = b->base.model->info.n_vocab,
                               .k = b->best_k,
                               .count = q->screened ? &b->s.screen_input->n_full : NULL,
                               .counted = q->screened ? b->s.chosen + n_chosen : NULL};
    enum bnt_status st =
        q->screened ? score(b, q->row, q->n, err) : cuda_head(b, q->row, q->n, err);
    if (st == BNT_OK && q->screened) {
        st = complete(b, q->n, a.k, err);
    }
    if (st == BNT_OK) {
        st = pick(b, a, q->n, b->s.chosen, err);
    }
    if (st == BNT_OK && b->draws) {
        st = launch_draw(b, q->screened, err);
    }
    const struct cuda_candidate *from = b->draws ? b->s.drawn : b->s.chosen;
    uint64_t bytes = ((b->draws ? 1 : n_chosen) + (q->screened ? 1 : 0)) * sizeof *b->picked;
    return st == BNT_OK ? cuda_error(b, b->table->download(b->context, b->picked, from, bytes), err)
                        : st;
}

static enum bnt_status launch_full(struct backend_cuda *b, struct bnt_err *err)
{
    return launch_best(b, &(struct question){0, 1, false}, err);
}

static enum bnt_status launch_screened(struct backend_cuda *b, struct bnt_err *err)
{
    return launch_best(b, &(struct question){0, 1, true}, err);
}

static enum bnt_status best_of_lone_token(struct backend_cuda *b, bool screened,
                                          struct bnt_err *err)
{
    struct cuda_head_graph *g = &b->head_graphs[screened];
    bool same = g->k == b->best_k && g->draws == b->draws;
    if (!same && !(g->graph && BNT_FAULT(cuda_head_kept))) {
        b->table->graph_free(b->context, g->graph);
        *g = (struct cuda_head_graph){.k = b->best_k, .draws = b->draws};
    }
    enum bnt_status st =
        cuda_run_captured(b, &g->graph, screened ? launch_screened : launch_full, err);
    return st == BNT_OK ? cuda_error(b, b->table->sync(b->context), err) : st;
}

/* Whether the next head is to be screened: that of several tokens by tensor cores; seeds come from
 * blocks of their own, and a screen that did not help is left alone for a while. */
static bool wants_screen(struct backend_cuda *b, uint32_t n, uint32_t k)
{
    if (!b->w->screened || (n > 1 && b->info.major < 8) || k > n_tops(b, n)) {
        return false;
    }
    if (b->screen_rest > 0) {
        b->screen_rest--;
        return false;
    }
    return true;
}

/* The best k of n tokens from `row` on; what comes back is `back` candidates, and behind them the
 * count of a screened head. */
static enum bnt_status answer(struct backend_cuda *b, uint32_t row, uint32_t n, uint32_t k,
                              uint32_t back, struct bnt_err *err)
{
    struct question q = {row, n, wants_screen(b, n, k)};
    b->best_k = k;
    enum bnt_status st =
        b->n == 1 ? best_of_lone_token(b, q.screened, err) : launch_best(b, &q, err);
    if (st == BNT_OK && q.screened &&
        (uint32_t)b->picked[back].id / n > b->base.model->info.n_vocab / 8) {
        b->screen_rest = SCREEN_REST_TOKENS;
    }
    return st;
}

enum bnt_status cuda_best(struct backend_cuda *b, uint32_t row, uint32_t n, uint32_t k,
                          struct bnt_err *err)
{
    b->draws = false;
    return answer(b, row, n, k, n * k, err);
}

enum bnt_status cuda_draw(struct backend_cuda *b, uint32_t row, uint32_t k,
                          const struct bnt_draw *draw, int32_t *id, struct bnt_err *err)
{
    b->draws = true;
    *b->best_draw = (struct cuda_draw){.temperature = draw->temperature,
                                       .top_p = draw->top_p,
                                       .min_p_log = draw->min_p_log,
                                       .unit = BNT_FAULT(cuda_draw_unit) ? 0.5 : draw->unit};
    enum bnt_status st = answer(b, row, 1, k, 1, err);
    *id = st == BNT_OK ? b->picked[0].id : -1;
    return st;
}
