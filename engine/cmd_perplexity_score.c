/* `bnt perplexity`: from a text and a model to scores of single tokens, beside those of a
 * reference. */
#include "base/env.h"
#include "engine/cmd_perplexity_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "engine/engine_arg.h"
#include "engine/file_facts.h"
#include "engine/quality.h"

enum { DEFAULT_WINDOW = 512 };

enum bnt_status perplexity_read(struct perplexity *p, struct bnt_err *err)
{
    enum bnt_status st = bnt_file_read(p->o->file, &p->text, err);
    if (st == BNT_OK && p->text.len == 0) {
        st = bnt_err_set(err, BNT_E_USAGE, "%s: the text is empty", p->o->file);
    }
    if (st == BNT_OK) {
        st = bnt_model_arg_resolve(p->app, &p->o->model, &p->ref, &p->mock, err);
    }
    if (st == BNT_OK && p->mock) {
        bnt_model_arg_warn(&p->ref);
    }
    return st;
}

/* ---- model and text ---- */

static void close_model(struct perplexity *p)
{
    bnt_session_free(p->session);
    bnt_model_close(p->model);
    p->session = NULL;
    p->model = NULL;
}

/* The window: what was asked for, else what the reference had, else 512 or what the model was
 * trained with. It is known when the model is, and the session needs it. */
static void choose_window(struct perplexity *p)
{
    const struct bnt_record_info *r = p->reference ? bnt_record_info(p->reference) : NULL;
    uint32_t trained = bnt_model_info(p->model)->n_ctx_train;
    p->window = p->o->window ? (uint32_t)p->o->window
                : r          ? r->window
                             : (trained < DEFAULT_WINDOW ? trained : DEFAULT_WINDOW);
    p->stride = p->o->stride ? (uint32_t)p->o->stride : r ? r->stride : p->window - 1;
}

static enum bnt_status open_session(struct perplexity *p, bool dequantize, struct bnt_err *err)
{
    const struct perplexity_opts *o = p->o;
    struct bnt_session_options so = bnt_engine_session(&o->engine);
    struct bnt_model_options mo = bnt_engine_model(&o->engine);
    so.interrupted = p->app->interrupted;
    /* Memory is planned for the largest window that may be chosen. */
    so.n_ctx = o->window ? (uint32_t)o->window : DEFAULT_WINDOW;
    if (p->reference && !o->window) {
        so.n_ctx = bnt_record_info(p->reference)->window;
    }
    mo.session = &so;
    mo.dequantize = dequantize;
    char packed_dir[BNT_PATH_MAX];
    bnt_engine_packed(o->engine.packed, p->ref.digest, packed_dir, &mo);
    enum bnt_status st = bnt_model_open(p->ref.path, &mo, &p->model, err);
    if (st != BNT_OK) {
        return st;
    }
    choose_window(p);
    so.n_ctx = p->window;
    if (p->window > bnt_model_info(p->model)->n_ctx_train) {
        bnt_msg_warn("tokens past that are scored badly",
                     "windows of %u: this model was trained "
                     "with %u positions",
                     p->window, bnt_model_info(p->model)->n_ctx_train);
    }
    st = bnt_session_new(p->model, &so, &p->session, err);
    if (st == BNT_OK && bnt_session_kernel_note(p->session)[0] != '\0') {
        bnt_msg_warn(NULL, "%s", bnt_session_kernel_note(p->session));
    }
    return st;
}

static enum bnt_status encode(struct perplexity *p, struct bnt_err *err)
{
    bnt_ids_release(&p->ids);
    enum bnt_status st = bnt_tokenizer_encode(bnt_model_tokenizer(p->model), p->text.data,
                                              p->text.len, 0, &p->ids, err);
    if (st == BNT_OK && p->o->max_tokens > 0 && p->ids.n > (uint64_t)p->o->max_tokens) {
        p->ids.n = (size_t)p->o->max_tokens;
    }
    return st == BNT_OK ? bnt_record_tokens_digest(p->ids.at, p->ids.n, p->tokens_digest, err) : st;
}

/* ---- the reference ---- */

/* A comparison is of the same tokens, each predicted from the same tokens. */
static enum bnt_status check_reference(const struct perplexity *p, struct bnt_err *err)
{
    const struct bnt_record_info *r = bnt_record_info(p->reference);
    const char *file = p->o->against;
    if (r->n_vocab != bnt_session_n_vocab(p->session)) {
        return bnt_err_set(err, BNT_E_USAGE, "%s: made with a vocabulary of %u, the model has %u",
                           file, r->n_vocab, bnt_session_n_vocab(p->session));
    }
    if (r->window != p->window || r->stride != p->stride) {
        bnt_err_set(err, BNT_E_USAGE, "%s: made with windows of %u every %u, not of %u every %u",
                    file, r->window, r->stride, p->window, p->stride);
        bnt_err_hint(err, "leave --window and --stride away: the record knows them");
        return BNT_E_USAGE;
    }
    if (r->n_tokens != p->ids.n || strcmp(r->tokens_digest, p->tokens_digest) != 0) {
        bnt_err_set(err, BNT_E_USAGE, "%s: made of %llu other tokens than the %zu of this text",
                    file, (unsigned long long)r->n_tokens, p->ids.n);
        bnt_err_hint(err, "a record serves one text, cut by one tokenizer to one --max-tokens");
        return BNT_E_USAGE;
    }
    return BNT_OK;
}

static enum bnt_status open_writer(struct perplexity *p, const char *path, bool dequantize,
                                   struct bnt_err *err)
{
    bool hashed;
    struct bnt_record_info info = {.dequantized = dequantize,
                                   .n_vocab = bnt_session_n_vocab(p->session),
                                   .window = p->window,
                                   .stride = p->stride,
                                   .top = BNT_RECORD_TOP,
                                   .n_tokens = p->ids.n,
                                   .n_rows = bnt_score_count(p->session, p->ids.n)};
    enum bnt_status st = BNT_OK;
    if (p->ref.digest[0] == '\0') {
        st = bnt_digest_of_file(p->ref.path, p->app->interrupted, p->ref.digest, &hashed, err);
    }
    const char *name = bnt_model_info(p->model)->name;
    snprintf(info.engine, sizeof info.engine, "bnt %s", BNT_VERSION);
    snprintf(info.model, sizeof info.model, "%s",
             bnt_utf8_valid(name, strlen(name)) == strlen(name) ? name : "");
    memcpy(info.model_digest, p->ref.digest, sizeof info.model_digest);
    memcpy(info.tokens_digest, p->tokens_digest, sizeof info.tokens_digest);
    return st == BNT_OK ? bnt_record_create(path, &info, &p->writer, err) : st;
}

/* ---- scoring ---- */

static enum bnt_status allocate(struct perplexity *p, struct bnt_err *err)
{
    size_t n = bnt_score_count(p->session, p->ids.n);
    double **arrays[] = {&p->nll, &p->change, &p->kl, &p->same};
    for (size_t i = 0; i < (p->reference ? 4 : 1); i++) {
        *arrays[i] = malloc(n * sizeof **arrays[i] + 1);
        if (!*arrays[i]) {
            return bnt_err_nomem(err, "scores", n * sizeof **arrays[i]);
        }
    }
    return BNT_OK;
}

static enum bnt_status compare(struct perplexity *p, const struct bnt_scored *row,
                               struct bnt_record_row *other, struct bnt_logits_diff *diff,
                               struct bnt_err *err)
{
    enum bnt_status st = bnt_record_next(p->reference, other, err);
    if (st != BNT_OK) {
        return st;
    }
    struct bnt_logits_reference r = {other->best, other->n, other->logsum};
    st = bnt_logits_compare(row->logits, (int32_t)bnt_session_n_vocab(p->session), &r, diff, err);
    if (st == BNT_OK) {
        bnt_logits_gather(&p->compared, row->index, diff);
        p->change[p->n] = row->nll - other->nll;
        p->kl[p->n] = diff->kl;
        p->same[p->n] = diff->match;
    }
    return st;
}

static enum bnt_status take_row(void *ctx, const struct bnt_scored *row, struct bnt_err *err)
{
    struct perplexity *p = ctx;
    struct bnt_record_row other;
    struct bnt_logits_diff diff;
    bool kept = p->nll != NULL; /* else this is the run that makes a reference */
    enum bnt_status st = p->reference ? compare(p, row, &other, &diff, err) : BNT_OK;
    if (st == BNT_OK && p->writer) {
        st = bnt_record_add_logits(p->writer, row->id, row->nll, row->logits, err);
    }
    if (st == BNT_OK && kept && p->o->per_token) {
        st = perplexity_print_token(p, row, p->reference ? &other : NULL, &diff, err);
    }
    if (kept) {
        p->nll[p->n] = row->nll;
    }
    p->n++;
    bnt_progress_update(&p->progress, p->n);
    return st;
}

static enum bnt_status run_windows(struct perplexity *p, const char *label, struct bnt_err *err)
{
    const struct bnt_score_options so = {
        .window = p->window, .stride = p->stride, .scored = take_row, .ctx = p};
    p->n = 0;
    bnt_progress_begin(&p->progress, label, bnt_score_count(p->session, p->ids.n), false);
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = bnt_score_text(p->session, p->ids.at, p->ids.n, &so, err);
    p->score_ns = bnt_clock_now_ns() - t0;
    p->evaluated = st == BNT_OK ? bnt_score_cost(p->session, p->ids.n, &so) : 0;
    bnt_progress_end(&p->progress);
    return st;
}

static enum bnt_status finish_record(struct perplexity *p, struct bnt_err *err)
{
    enum bnt_status st = p->writer ? bnt_record_commit(p->writer, err) : BNT_OK;
    p->record_bytes = p->writer ? bnt_record_bytes(p->writer) : 0;
    bnt_record_free(p->writer);
    p->writer = NULL;
    return st;
}

/* An empty file of our own, which the record will replace. */
static enum bnt_status reserve_temporary(struct perplexity *p, struct bnt_err *err)
{
    enum bnt_status st =
        bnt_path_format(p->temporary, err, "%s/bnt-perplexity-XXXXXX", bnt_temp_dir());
    int fd = st == BNT_OK ? mkstemp(p->temporary) : -1;
    if (st == BNT_OK && fd < 0) {
        st = bnt_err_errno(err, "cannot make %s", p->temporary);
    }
    if (fd < 0) {
        p->temporary[0] = '\0';
    } else {
        close(fd);
    }
    return st;
}

static void drop_temporary(struct perplexity *p)
{
    if (p->temporary[0] != '\0') {
        unlink(p->temporary);
        p->temporary[0] = '\0';
    }
}

static enum bnt_status record_dequantized(struct perplexity *p, struct bnt_err *err)
{
    enum bnt_status st = reserve_temporary(p, err);
    if (st == BNT_OK) {
        st = open_session(p, true, err);
    }
    if (st == BNT_OK) {
        st = encode(p, err);
    }
    if (st == BNT_OK) {
        st = open_writer(p, p->temporary, true, err);
    }
    if (st == BNT_OK) {
        st = run_windows(p, "scoring, dequantised", err);
    }
    if (st == BNT_OK) {
        st = finish_record(p, err);
    }
    close_model(p);
    if (st == BNT_OK) {
        st = bnt_record_open(p->temporary, &p->reference, err);
    }
    drop_temporary(p); /* what is mapped stays readable */
    return st;
}

enum bnt_status perplexity_open_reference(struct perplexity *p, struct bnt_err *err)
{
    if (!p->o->against) {
        return BNT_OK;
    }
    return strcmp(p->o->against, PERPLEXITY_DEQUANTIZED) == 0
               ? record_dequantized(p, err)
               : bnt_record_open(p->o->against, &p->reference, err);
}

/* Bytes that the scored tokens stand for. */
static enum bnt_status count_bytes(struct perplexity *p, struct bnt_err *err)
{
    struct bnt_buf piece = BNT_BUF(1u << 20);
    enum bnt_status st = BNT_OK;
    for (size_t i = p->ids.n - p->n; st == BNT_OK && i < p->ids.n; i++) {
        bnt_buf_reset(&piece);
        st = bnt_tokenizer_piece(bnt_model_tokenizer(p->model), p->ids.at[i], true, &piece, err);
        p->bytes += (double)piece.len;
    }
    bnt_buf_release(&piece);
    return st;
}

enum bnt_status perplexity_score(struct perplexity *p, struct bnt_err *err)
{
    enum bnt_status st = open_session(p, p->o->dequantize, err);
    if (st == BNT_OK) {
        st = encode(p, err);
    }
    if (st == BNT_OK && p->reference) {
        st = check_reference(p, err);
    }
    if (st == BNT_OK && p->o->record) {
        st = open_writer(p, p->o->record, p->o->dequantize, err);
    }
    if (st == BNT_OK) {
        st = allocate(p, err);
    }
    if (st == BNT_OK) {
        st = run_windows(p, "scoring", err);
    }
    if (st == BNT_OK) {
        st = count_bytes(p, err);
    }
    return st == BNT_OK ? finish_record(p, err) : st;
}

void perplexity_close(struct perplexity *p)
{
    close_model(p);
    bnt_record_free(p->writer);
    bnt_record_close(p->reference);
    bnt_ids_release(&p->ids);
    bnt_buf_release(&p->text);
    free(p->nll);
    free(p->change);
    free(p->kl);
    free(p->same);
}
