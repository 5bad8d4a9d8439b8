/* What another engine holds likely in every place of a text, as a record of `bnt perplexity`
 * (engine/logits_record.h). The windows are those of engine/perplexity.h with the default stride:
 * each begins with BOS, or with the last id of the one before it for a model that has none. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/logits_record.h"

#include "base/utf8.h"
#include "engine/perplexity.h"
#include "engine/quality.h"
#include "testkit/crossval.h"

struct logits_run {
    struct bnt_subject *subject;
    struct bnt_subject_facts facts;
    const struct crossval_logits_plan *plan;
    struct bnt_ids text;
    int32_t bos;     /* -1: none */
    size_t done;     /* ids of the text that are predicted */
    int32_t *window; /* plan->window of them */
    size_t n_window;
    struct bnt_record_writer *writer;
};

/* ---- the text ---- */

/* A start token is what a text gets in front when special tokens are added. */
static enum bnt_status find_bos(struct logits_run *r, struct bnt_err *err)
{
    struct bnt_ids plain = {0}, special = {0};
    enum bnt_status st = bnt_subject_tokenize(r->subject, "a", 1, 0, &plain, err);
    if (st == BNT_OK) {
        st = bnt_subject_tokenize(r->subject, "a", 1, BNT_ENCODE_ADD_SPECIAL, &special, err);
    }
    const bool has = special.n > plain.n && plain.n > 0 && special.at[0] != plain.at[0];
    r->bos = has ? special.at[0] : -1;
    bnt_ids_release(&plain);
    bnt_ids_release(&special);
    return st;
}

static enum bnt_status read_text(struct logits_run *r, struct bnt_err *err)
{
    const char *text = r->plan->text;
    enum bnt_status st = find_bos(r, err);
    if (st == BNT_OK) {
        st = bnt_subject_tokenize(r->subject, text, strlen(text), 0, &r->text, err);
    }
    r->text.n = r->text.n < r->plan->n_text ? r->text.n : r->plan->n_text;
    r->done = r->bos < 0;
    return st == BNT_OK && r->text.n <= r->done
               ? bnt_err_set(err, BNT_E_USAGE, "a text of %zu tokens has none to predict",
                             r->text.n)
               : st;
}

/* ---- rows ---- */

static enum bnt_status keep_logits(void *ctx, size_t index, const float *logits,
                                   struct bnt_err *err)
{
    struct logits_run *r = ctx;
    if (index + 1 >= r->n_window) {
        return BNT_OK; /* nothing comes after the last id of the window */
    }
    const int32_t id = r->window[index + 1];
    return bnt_record_add_logits(r->writer, id, bnt_surprise(logits, (int32_t)r->facts.n_vocab, id),
                                 logits, err);
}

/* Values are log-probabilities here. Entries without an id are left out. */
static enum bnt_status keep_row(struct logits_run *r, const struct bnt_row *row, int32_t id,
                                struct bnt_err *err)
{
    struct bnt_logits_value best[BNT_RECORD_TOP];
    struct bnt_record_row kept = {.id = id, .nll = NAN, .logsum = NAN, .best = best};
    for (size_t i = 0; i < row->n; i++) {
        const struct bnt_row_entry *e = &row->at[i];
        kept.nll = e->id == id ? -e->logprob : kept.nll;
        if (e->id >= 0 && kept.n < BNT_RECORD_TOP) {
            best[kept.n++] = (struct bnt_logits_value){e->id, (float)e->logprob};
        }
    }
    return isnan(kept.nll) ? bnt_err_set(err, BNT_E_UNSUPPORTED,
                                         "%.300s does not tell how likely id %d is: it is not "
                                         "among the %zu of its row",
                                         r->facts.place, (int)id, row->n)
                           : bnt_record_add(r->writer, &kept, err);
}

static enum bnt_status ask_rows(struct logits_run *r, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 1; st == BNT_OK && i < r->n_window; i++) {
        const struct bnt_subject_request q = {.ids = r->window,
                                              .n_ids = i,
                                              .max_tokens = 1,
                                              .n_logprobs = r->facts.n_vocab,
                                              .interrupted = r->plan->interrupted};
        struct bnt_row row;
        bnt_row_init(&row);
        st = bnt_subject_row(r->subject, &q, 0, &row, err);
        if (st == BNT_OK) {
            st = keep_row(r, &row, r->window[i], err);
        }
        bnt_row_release(&row);
    }
    return st;
}

static enum bnt_status next_window(struct logits_run *r, struct bnt_err *err)
{
    const size_t room = r->plan->window - 1, left = r->text.n - r->done;
    const size_t n = left < room ? left : room;
    r->window[0] = r->bos >= 0 ? r->bos : r->text.at[r->done - 1];
    memcpy(r->window + 1, r->text.at + r->done, n * sizeof *r->window);
    r->n_window = n + 1;
    r->done += n;
    return r->facts.can & BNT_CAN_EVALUATE
               ? bnt_subject_evaluate(r->subject, r->window, r->n_window, keep_logits, r, err)
               : ask_rows(r, err);
}

/* ---- the file ---- */

static enum bnt_status create(struct logits_run *r, const char *path, struct bnt_err *err)
{
    struct bnt_record_info info = {.n_vocab = r->facts.n_vocab,
                                   .window = r->plan->window,
                                   .stride = r->plan->window - 1,
                                   .top = BNT_RECORD_TOP < r->facts.n_vocab ? BNT_RECORD_TOP
                                                                            : r->facts.n_vocab,
                                   .n_tokens = r->text.n,
                                   .n_rows = r->text.n - r->done};
    snprintf(info.engine, sizeof info.engine, "%.*s", (int)sizeof info.engine - 1, r->facts.place);
    snprintf(info.model, sizeof info.model, "%.*s", (int)sizeof info.model - 1, r->facts.name);
    info.engine[bnt_utf8_valid(info.engine, strlen(info.engine))] = '\0';
    info.model[bnt_utf8_valid(info.model, strlen(info.model))] = '\0';
    enum bnt_status st = bnt_record_tokens_digest(r->text.at, r->text.n, info.tokens_digest, err);
    return st == BNT_OK ? bnt_record_create(path, &info, &r->writer, err) : st;
}

static enum bnt_status check(const struct logits_run *r, struct bnt_err *err)
{
    const unsigned can = r->facts.can;
    const bool tells = (can & BNT_CAN_EVALUATE) ||
                       (can & (BNT_CAN_ROWS | BNT_CAN_IDS)) == (BNT_CAN_ROWS | BNT_CAN_IDS);
    if (r->plan->window < 2 || (r->facts.n_ctx > 0 && r->plan->window > r->facts.n_ctx)) {
        return bnt_err_set(err, BNT_E_USAGE, "windows of %u positions: from 2 to %u are possible",
                           r->plan->window, r->facts.n_ctx);
    }
    return tells && (can & BNT_CAN_TOKENIZE) && r->facts.n_vocab > 0
               ? BNT_OK
               : bnt_err_set(err, BNT_E_UNSUPPORTED,
                             "%.300s does not tell how likely the tokens of a text are",
                             r->facts.place);
}

enum bnt_status crossval_record_logits(struct bnt_subject *subject,
                                       const struct crossval_logits_plan *plan, const char *path,
                                       uint64_t *n_rows, struct bnt_err *err)
{
    struct logits_run r = {
        .subject = subject, .facts = bnt_subject_describe(subject), .plan = plan};
    enum bnt_status st = check(&r, err);
    r.window = st == BNT_OK ? calloc(plan->window, sizeof *r.window) : NULL;
    if (st == BNT_OK && !r.window) {
        st = bnt_err_nomem(err, "a window", plan->window * sizeof *r.window);
    }
    st = st == BNT_OK ? read_text(&r, err) : st;
    *n_rows = st == BNT_OK ? r.text.n - r.done : 0;
    st = st == BNT_OK ? create(&r, path, err) : st;
    while (st == BNT_OK && r.done < r.text.n) {
        st = next_window(&r, err);
        st = st == BNT_OK ? bnt_err_interrupted(plan->interrupted, err) : st;
    }
    st = st == BNT_OK ? bnt_record_commit(r.writer, err) : st;
    bnt_record_free(r.writer);
    bnt_ids_release(&r.text);
    free(r.window);
    return st;
}
