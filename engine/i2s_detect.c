/* Which packing an I2_S file uses. Nothing in the file says; reading one as another is the
 * commonest cause of garbage text. So a fixed text is scored, and a packing under which it makes no
 * sense is not believed.
 *
 * The score asks how well each next token of the text is told from the text's other tokens: mean
 * log of the softmax over just those candidates, divided by the log of their number. A model that
 * read its weights right is far below 1; one that reads noise sits at 1 or above. Only the
 * candidates' rows of the head are needed, so the check costs a prefill of a few tokens. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend.h"
#include "engine/cpu/fmath.h"
#include "engine/file_facts.h"
#include "engine/model.h"

/* Everyday English: any model that answers at all finds it likely. */
static const char probe_text[] = "Once upon a time, there was a little girl named Lily. She was";

#define SENSE 0.75  /* at most: the text makes sense under this packing */
#define MARGIN 0.15 /* another packing must beat the default by this much */
#define FACT_KEY "i2s"
enum { MAX_PROBE = 20, MIN_CANDIDATES = 4 };

struct probe {
    int32_t ids[MAX_PROBE];
    uint32_t n;
    int32_t unique[MAX_PROBE];
    uint32_t n_unique;
    float *rows; /* n_unique rows of the head */
};

static void probe_release(struct probe *p)
{
    free(p->rows);
    p->rows = NULL;
}

/* The probe's ids, and which of them are candidates: every distinct id but the first, which nothing
 * predicts. */
static void add_ids(struct probe *p, const struct bnt_ids *ids)
{
    for (size_t i = 0; i < ids->n && p->n < MAX_PROBE; i++) {
        uint32_t seen = 0;
        p->ids[p->n++] = ids->at[i];
        while (seen < p->n_unique && p->unique[seen] != ids->at[i]) {
            seen++;
        }
        if (i > 0 && seen == p->n_unique) {
            p->unique[p->n_unique++] = ids->at[i];
        }
    }
}

static enum bnt_status load_rows(struct probe *p, const struct bnt_model *m, struct bnt_err *err)
{
    const struct weight *head = &m->head;
    uint8_t *raw = malloc((size_t)head->row_bytes);
    p->rows = malloc((size_t)(p->n_unique * head->cols) * sizeof *p->rows + 1);
    enum bnt_status st =
        raw && p->rows ? BNT_OK
                       : bnt_err_nomem(err, "a probe", p->n_unique * head->cols * sizeof(float));
    for (uint32_t i = 0; st == BNT_OK && i < p->n_unique; i++) {
        uint64_t offset = (uint64_t)p->unique[i] * head->row_bytes;
        st = gguf_tensor_read(m->gguf, head->tensor, offset, head->row_bytes, raw, err);
        if (st == BNT_OK) {
            dequantize_row(head->type, raw, head->cols, p->rows + i * head->cols);
        }
    }
    free(raw);
    return st;
}

static enum bnt_status probe_init(struct probe *p, const struct bnt_model *m, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    *p = (struct probe){0};
    enum bnt_status st = bnt_tokenizer_encode(m->tokenizer, probe_text, strlen(probe_text),
                                              BNT_ENCODE_ADD_SPECIAL, &ids, err);
    if (st == BNT_OK) {
        add_ids(p, &ids);
        st = load_rows(p, m, err);
    }
    bnt_ids_release(&ids);
    return st;
}

/* Mean surprise at each next id among the candidates, 1 being that of a blind guess; INFINITY when
 * a logit is no number. logits: n rows of n_unique. */
static double surprise(const struct probe *p, const float *logits)
{
    double sum = 0;
    for (uint32_t t = 0; t + 1 < p->n; t++) {
        const float *row = logits + (size_t)t * p->n_unique;
        double max = row[0], total = 0, wanted = 0;
        for (uint32_t i = 0; i < p->n_unique; i++) {
            max = row[i] > max ? row[i] : max;
        }
        for (uint32_t i = 0; i < p->n_unique; i++) {
            total += fm_exp(row[i] - max);
            wanted = p->unique[i] == p->ids[t + 1] ? row[i] - max : wanted;
        }
        sum += fm_log(total) - wanted;
    }
    double score = sum / ((p->n - 1) * fm_log(p->n_unique));
    return isfinite(score) ? score : INFINITY;
}

/* Score the model as it is bound now: a copy whose head is just the candidates. */
static enum bnt_status score(const struct bnt_model *m, const struct probe *p, bool streamed,
                             double *out, struct bnt_err *err)
{
    struct bnt_model view = *m;
    struct bnt_session_options opts = {.n_ctx = p->n, .n_batch = p->n};
    struct backend_config config;
    struct backend *backend = NULL;
    float logits[MAX_PROBE * MAX_PROBE];
    struct backend_row rows[MAX_PROBE];
    view.info.streamed = streamed;
    view.info.n_vocab = p->n_unique;
    view.head = (struct weight){.tensor = m->head.tensor,
                                .native = true,
                                .type = TENSOR_F32,
                                .rows = p->n_unique,
                                .cols = m->head.cols,
                                .row_bytes = m->head.cols * sizeof(float),
                                .data = (const uint8_t *)p->rows,
                                .out_scale = 1.0f};
    config = backend_config_of(&view, &opts);
    enum bnt_status st = backend_cpu_new(&view, &config, &backend, err);
    if (st == BNT_OK) {
        backend_rows(rows, p->ids, p->n, (struct backend_row){0});
        st = backend->ops->forward(backend, rows, p->n, err);
    }
    for (uint32_t t = 0; st == BNT_OK && t < p->n; t += BACKEND_HEAD_BATCH) {
        uint32_t n = p->n - t < BACKEND_HEAD_BATCH ? p->n - t : BACKEND_HEAD_BATCH;
        st = backend->ops->logits(backend, t, n, logits + (size_t)t * p->n_unique, err);
    }
    if (st == BNT_OK) {
        *out = surprise(p, logits);
    }
    if (backend) {
        backend->ops->free(backend);
    }
    return st;
}

/* Score the packings that are not the default; weights are converted layer by layer while they are
 * read. */
static enum bnt_status best_other(struct bnt_model *m, const struct probe *p, enum i2s_layout *best,
                                  double *best_score, struct bnt_err *err)
{
    static const enum i2s_layout others[] = {I2S_ARM, I2S_ROWS4};
    enum bnt_status st = BNT_OK;
    *best_score = INFINITY;
    for (size_t i = 0; st == BNT_OK && i < sizeof others / sizeof others[0]; i++) {
        double s = INFINITY;
        struct bnt_err why = {0};
        model_set_i2s_layout(m, others[i]);
        st = score(m, p, true, &s, &why);
        if (st == BNT_E_FILE || st == BNT_E_UNSUPPORTED) {
            st = BNT_OK; /* a shape or a code that this packing cannot hold: not this one */
        } else if (st != BNT_OK) {
            bnt_err_set(err, st, "%s", why.msg);
        }
        if (s < *best_score) {
            *best_score = s;
            *best = others[i];
        }
    }
    model_set_i2s_layout(m, I2S_X86);
    return st;
}

/* What a check came to, and how it is remembered: "<layout> <verdict>". */
enum verdict { SENSIBLE, CONVERTED, UNDECIDED };
static const char *const verdict_names[] = {"sensible", "converted", "undecided"};

static void tell(struct bnt_model *m, const struct bnt_model_options *opts, enum i2s_layout layout,
                 enum verdict verdict)
{
    char text[512];
    m->info.i2s_undecided = verdict == UNDECIDED;
    if (verdict == SENSIBLE || !opts->warn) {
        return;
    }
    if (verdict == CONVERTED) {
        snprintf(text, sizeof text,
                 "%s: I2_S weights are packed %s, not 128/32 (a fixed text makes sense under that "
                 "packing only): converted on load",
                 m->gguf->path, i2s_layout_name(layout));
        opts->warn(opts->warn_ctx, text,
                   "the file was quantised for another processor; --i2s-layout overrides");
    } else {
        snprintf(text, sizeof text,
                 "%s: plain English makes no sense to this model under any I2_S packing: taken as "
                 "128/32",
                 m->gguf->path);
        opts->warn(opts->warn_ctx, text,
                   "if the answers are garbage, try --i2s-layout 64/16 or 4-rows, or check the "
                   "file's digest");
    }
}

static enum bnt_status decide(struct bnt_model *m, const struct probe *p, enum i2s_layout *layout,
                              enum verdict *verdict, struct bnt_err *err)
{
    double usual = 0, other = 0;
    enum i2s_layout best = I2S_X86;
    enum bnt_status st = score(m, p, m->info.streamed, &usual, err);
    *layout = I2S_X86;
    *verdict = SENSIBLE;
    if (st != BNT_OK || usual <= SENSE) {
        return st;
    }
    st = best_other(m, p, &best, &other, err);
    *verdict = UNDECIDED;
    if (st == BNT_OK && other <= SENSE && other < usual - MARGIN) {
        *layout = best;
        *verdict = CONVERTED;
    }
    return st;
}

/* A verdict as it is remembered. It holds for this version and this pre-tokenizer: another one may
 * make sense of what this one did not. */
static void verdict_text(const struct bnt_model *m, enum i2s_layout layout, enum verdict verdict,
                         char out[BNT_FACT_MAX])
{
    snprintf(out, BNT_FACT_MAX, "%s %s %s %s", i2s_layout_name(layout), verdict_names[verdict],
             BNT_VERSION, m->tokenizer ? bnt_tokenizer_pre(m->tokenizer) : "");
}

bool i2s_recall(struct bnt_model *m, const struct bnt_model_options *opts, enum i2s_layout *layout)
{
    struct bnt_file_id id;
    char value[BNT_FACT_MAX], wanted[BNT_FACT_MAX];
    struct gguf_str said;
    if (gguf_get_str(m->gguf, I2S_LAYOUT_KEY, &said)) {
        snprintf(value, sizeof value, "%.*s", said.len < 16 ? (int)said.len : 16, said.data);
        return i2s_layout_parse(value, layout, NULL) == BNT_OK;
    }
    if (!bnt_file_identify(m->gguf->path, &id) || !bnt_fact_get(&id, FACT_KEY, value)) {
        return false;
    }
    for (int l = I2S_X86; l <= I2S_ROWS4; l++) {
        for (int v = SENSIBLE; v <= UNDECIDED; v++) {
            verdict_text(m, (enum i2s_layout)l, (enum verdict)v, wanted);
            if (strcmp(value, wanted) == 0) {
                *layout = (enum i2s_layout)l;
                tell(m, opts, *layout, (enum verdict)v);
                return true;
            }
        }
    }
    return false;
}

static void remember(const struct bnt_model *m, enum i2s_layout layout, enum verdict verdict)
{
    struct bnt_file_id id;
    char value[BNT_FACT_MAX];
    verdict_text(m, layout, verdict, value);
    if (bnt_file_identify(m->gguf->path, &id)) {
        bnt_fact_put(&id, FACT_KEY, value);
    }
}

enum bnt_status i2s_detect(struct bnt_model *m, const struct bnt_model_options *opts,
                           enum i2s_layout *layout, struct bnt_err *err)
{
    struct probe p;
    enum verdict verdict;
    *layout = I2S_X86;
    if (!m->tokenizer) {
        return BNT_OK; /* ids only: nothing to score with */
    }
    enum bnt_status st = probe_init(&p, m, err);
    if (st == BNT_OK && p.n_unique >= MIN_CANDIDATES) {
        st = decide(m, &p, layout, &verdict, err);
        if (st == BNT_OK) {
            remember(m, *layout, verdict);
            tell(m, opts, *layout, verdict);
        }
    }
    probe_release(&p);
    return st;
}
