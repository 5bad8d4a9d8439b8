/* The head for a caller who needs its best logits only. All rows are scored against the small copy
 * (engine/screen.h), the best by score are computed in full. Of the other rows whose score plus
 * bound reaches the last of those, the copy's second part tells better, and what still reaches it
 * is computed in full as well: any other row is surely below.
 *
 * The bound. With x = s*q + d (q in steps of 1/SCREEN_FINER, so that d is next to nothing) and w =
 * step*level + e, the true product is w*x = score + rest where score = step*s*sum level*q and, by
 * Cauchy and Schwarz, |rest| <= |e|*|x| + |step*level|*|d|. The logit is computed in float, in 16
 * lanes one after the other: it differs from w*x by at most (cols/16 + 6) roundings of sum |w||x|
 * <=
 * (|e| + norm)*|x|. The score and the sum of both are computed in float too.
 * SCREEN_ROUNDINGS more than cover the latter, and the lengths of the input are lengthened by all
 * of them.
 *
 * The second part splits e = g + f, where g has 2 bits. It meets the first row of q alone, x =
 * s*q[0] + c, and adds s*sum g*q[0] to the score: |rest| <= |f|*|x| + |step*level|*|d| + |g|*|c|,
 * and |g| <= |e| + |f|. */
#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "engine/best.h"
#include "engine/cpu/backend_cpu.h"

enum {
    REST_AHEAD = 2, /* rows */
    STRETCH = 16    /* rows of which most are passed over together */
};

/* One token, in its place of s.screen_act, s.near and s.above. */
struct screen_task {
    struct backend_cpu *b;
    const struct screen *screen;
    const float *x;
    struct act_rows act;
    /* Of the input: its scale in fine steps; lengths with their share of roundings. */
    struct cpu_near_input in;
    float *score, *above;  /* of all rows */
    struct bnt_near *near; /* what is asked for */
    float least;           /* a row below it does not matter */
    uint32_t n_list;
};

static struct screen_task task_of(struct backend_cpu *b, uint32_t token)
{
    const struct screen *screen = &b->base.model->screen;
    const struct act_rows *a = &b->s.screen_act;
    struct screen_task t = {.b = b, .screen = screen, .in = b->near_input[token]};
    t.x = b->s.h + (size_t)token * b->width;
    t.act = (struct act_rows){.q = a->q + 2 * token * a->stride,
                              .scale = a->scale + 2 * (size_t)token,
                              .sum = a->sum + 2 * (size_t)token,
                              .stride = a->stride};
    t.score = b->s.near + token * screen->n_rows;
    t.above = b->s.above + token * screen->n_rows;
    return t;
}

/* What q leaves of x, in steps of a SCREEN_FINER of its scale, into the second row; what both leave
 * into the lengths. */
static bool measure_input(struct screen_task *t)
{
    const struct act_rows *a = &t->act;
    const float *x = t->x;
    uint64_t cols = t->screen->cols;
    t->b->kernels->quantize_act(x, cols, a->q, a->scale, a->sum);
    if (!isfinite(a->scale[0])) {
        return false;
    }
    double xx = 0, cc = 0, dd = 0, scale = (double)a->scale[0], fine_scale = scale / SCREEN_FINER;
    memset(a->q + a->stride, 0, a->stride);
    a->sum[1] = 0;
    for (uint64_t i = 0; i < cols; i++) {
        uint64_t at = act_position(i);
        double d = (double)x[i] - scale * (double)a->q[at];
        cc += d * d;
        double fine = fmin(fmax(rint(d / fine_scale), -127), 127);
        a->q[a->stride + at] = (int8_t)fine;
        a->sum[1] += (int32_t)fine;
        d -= fine_scale * fine;
        xx += (double)x[i] * (double)x[i];
        dd += d * d;
    }
    double unit = screen_rounding_unit(cols), length = sqrt(xx), rest = sqrt(dd);
    double coarse = sqrt(cc);
    t->in.scale = a->scale[0] / SCREEN_FINER;
    t->in.x_length = (float)(length * (1 + unit));
    t->in.d_length = (float)(rest + unit * (length + rest));
    t->in.c_length = (float)(coarse + unit * (length + coarse));
    return isfinite(t->in.x_length) && isfinite(t->in.d_length) && isfinite(t->in.c_length);
}

static void score_rows(const struct screen_task *t, uint64_t begin, uint64_t end)
{
    const struct screen_row *rows = t->screen->rows;
    for (uint64_t r = begin; r < end; r++) {
        float score = t->score[r] * (rows[r].step * t->in.scale);
        float bound = rows[r].error * t->in.x_length + rows[r].norm * t->in.d_length + SCREEN_LOSS;
        t->score[r] = score;
        t->above[r] = BNT_FAULT(screen_bound_lost) ? score : score + bound;
    }
}

/* The rows of slots [begin, end) for one token. */
static void screen_token(const struct screen_task *t, uint64_t begin, uint64_t end)
{
    const struct cpu_kernels *kernels = t->b->kernels;
    uint64_t spread = t->screen->n_rows / WALK_STREAMS;
    struct screen_codes codes = {t->screen->codes, t->screen->row_bytes};
    struct row_walk walk = {begin, end < spread ? end : spread, spread};
    kernels->dot_screen(&codes, &walk, &t->act, t->score);
    if (end > spread) {
        /* Up to three rows are left over: stretches of no length that are read one by one. */
        for (uint64_t r = WALK_STREAMS * spread; r < t->screen->n_rows; r++) {
            struct screen_codes one = {codes.codes + r * codes.row_bytes, codes.row_bytes};
            struct row_walk same = {0, 1, 0};
            kernels->dot_screen(&one, &same, &t->act, t->score + r);
        }
    }
    struct cpu_rows ranges[SLOT_RANGES];
    int n = cpu_slot_rows(t->screen->n_rows, 1, (struct cpu_rows){begin, end}, ranges);
    for (int i = 0; i < n; i++) {
        score_rows(t, ranges[i].begin, ranges[i].end);
    }
}

/* A piece is small enough for the second-level cache, where later tokens find it. */
static void screen_slots(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct backend_cpu *b = ctx;
    for (uint32_t token = 0; token < b->near_n; token++) {
        struct screen_task t = task_of(b, token);
        screen_token(&t, begin, end);
    }
}

/* Rows of the list lie apart: they are asked for before their turn comes. */
static void ask_for(const uint8_t *row, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += 64) {
        __builtin_prefetch(row + at, 0, 2);
    }
}

/* Scores and bounds of the list's rows by both parts of the copy. */
static void second_look(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    const struct screen_task *t = ctx;
    const struct cpu_scratch *s = &t->b->s;
    const struct screen *screen = t->screen;
    struct ternary_weights row = {.rows = 1,
                                  .cols = screen->rest_cols,
                                  .row_bytes = screen->rest_bytes,
                                  .scale = SCREEN_REST};
    float half = 0.5f * SCREEN_REST * t->act.scale[0] * (float)t->act.sum[0];
    for (size_t i = begin; i < end; i++) {
        uint32_t r = s->list[i];
        const struct screen_row *at = &screen->rows[r];
        float sum;
        if (i + REST_AHEAD < end) {
            ask_for(screen->rest + s->list[i + REST_AHEAD] * row.row_bytes, row.row_bytes);
        }
        row.codes = screen->rest + r * row.row_bytes;
        t->b->kernels->matmul_ternary(&row, 0, 1, &t->act, 1, &sum, 1);
        float bound = at->left * t->in.x_length + at->norm * t->in.d_length +
                      (at->error + at->left) * t->in.c_length + SCREEN_LOSS;
        t->above[r] = t->score[r] + (sum - half) * at->step + bound;
    }
}

static void full_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct screen_task *t = ctx;
    const struct backend_cpu *b = t->b;
    struct float_weights row = cpu_floats(&b->base.model->head);
    const uint8_t *data = row.data;
    row.rows = 1;
    for (size_t i = begin; i < end; i++) {
        if (i + 1 < end) {
            ask_for(data + b->s.list[i + 1] * row.row_bytes, row.row_bytes);
        }
        row.data = data + b->s.list[i] * row.row_bytes;
        b->kernels->matmul_float(&row, 0, 1, t->x, b->width, 1, &b->s.exact[i], 0,
                                 cpu_own_row(&b->s, thread));
    }
}

/* The rows of the list in full, which are not listed again. */
static void run_list(struct screen_task *t)
{
    const struct cpu_scratch *s = &t->b->s;
    uint64_t macs = (uint64_t)t->n_list * t->screen->cols;
    cpu_pool_run(t->b->pool, t->n_list, macs < CPU_SERIAL_MACS ? t->n_list : 4, full_rows, t);
    for (uint32_t i = 0; i < t->n_list; i++) {
        t->above[s->list[i]] = -INFINITY;
    }
}

static void run_also(struct screen_task *t)
{
    const struct cpu_scratch *s = &t->b->s;
    if (t->near->n_also == 0) {
        return;
    }
    t->n_list = (uint32_t)t->near->n_also;
    for (uint32_t i = 0; i < t->n_list; i++) {
        s->list[i] = (uint32_t)t->near->also[i];
        t->score[s->list[i]] = -INFINITY;
    }
    run_list(t);
    memcpy(t->near->also_logits, s->exact, t->n_list * sizeof(float));
}

/* The rows of the list in full, and the best of them. */
static void run_best(struct screen_task *t)
{
    struct bnt_near *near = t->near;
    run_list(t);
    for (uint32_t i = 0; i < t->n_list; i++) {
        struct bnt_candidate one = {(int32_t)t->b->s.list[i], t->b->s.exact[i]};
        near->n_best = (uint32_t)best_insert(near->best, near->n_best, near->k, one);
    }
}

/* The rows of highest score into the list. */
static void list_best(struct screen_task *t)
{
    struct bnt_candidate by_score[BNT_BEST_MAX];
    t->n_list = (uint32_t)best_of_row(t->score, t->screen->n_rows, t->near->k, by_score);
    for (uint32_t i = 0; i < t->n_list; i++) {
        t->b->s.list[i] = (uint32_t)by_score[i].id;
    }
}

static bool any_reaches(const float above[STRETCH], float least)
{
    int reach = 0;
    for (int i = 0; i < STRETCH; i++) {
        reach += !(above[i] < least);
    }
    return reach > 0;
}

/* Every row that may reach t->least and is not known yet. False: too many to be worth it. */
static bool list_others(struct screen_task *t)
{
    uint32_t *list = t->b->s.list, n = 0, rows = (uint32_t)t->screen->n_rows;
    for (uint32_t r = 0; r < rows && n < rows / 2;) {
        uint32_t end = rows - r < STRETCH ? rows : r + STRETCH;
        if (end == r + STRETCH && !any_reaches(t->above + r, t->least)) {
            r = end;
        }
        for (; r < end; r++) {
            list[n] = r;
            n += !(t->above[r] < t->least);
        }
    }
    t->n_list = n;
    return n < rows / 2;
}

/* Look again at the list, and leave those in it that may still reach t->least. False: as above. */
static bool thin_list(struct screen_task *t)
{
    const struct cpu_scratch *s = &t->b->s;
    uint32_t n = 0;
    uint64_t macs = (uint64_t)t->n_list * t->screen->cols;
    cpu_pool_run(t->b->pool, t->n_list, macs < CPU_SERIAL_MACS ? t->n_list : 64, second_look, t);
    for (uint32_t i = 0; i < t->n_list; i++) {
        if (!(t->above[s->list[i]] < t->least)) {
            s->list[n++] = s->list[i];
        }
    }
    t->n_list = n;
    return n < t->screen->n_rows / 8;
}

bool cpu_screen_score(struct backend_cpu *b)
{
    const struct screen *screen = &b->base.model->screen;
    bool rests = b->screen_rest > 0;
    b->screen_rest -= rests;
    for (uint32_t token = 0; !rests && token < b->near_n; token++) {
        struct screen_task t = task_of(b, token);
        rests = !measure_input(&t);
        b->near_input[token] = t.in;
    }
    if (rests) {
        return false;
    }
    uint64_t slots = cpu_slots(screen->n_rows, 1);
    struct cpu_slot_kind kind = {1, WALK_STREAMS * screen->row_bytes};
    size_t chunk = cpu_slot_chunk(b, kind, slots, screen->n_rows * screen->cols * b->near_n);
    cpu_pool_run(b->pool, slots, chunk, screen_slots, b);
    return true;
}

/* Rows whose logits are wanted in any case are left out of what follows. */
bool cpu_screened_near(struct backend_cpu *b, uint32_t token, struct bnt_near *near)
{
    struct screen_task t = task_of(b, token);
    uint64_t most = t.screen->n_rows / 16;
    t.near = near;
    near->n_best = 0;
    if (near->k > most || near->n_also > most) {
        return false;
    }
    run_also(&t);
    if (near->k == 0) {
        return true;
    }
    list_best(&t);
    run_best(&t);
    if (near->n_best < near->k) { /* some are no finite numbers */
        return false;
    }
    t.least = near->best[near->k - 1].value;
    if (!list_others(&t) || !thin_list(&t)) {
        b->screen_rest = SCREEN_REST_TOKENS;
        return false;
    }
    run_best(&t);
    return true;
}
