/* `bnt perplexity`: figures with their intervals, verdicts, JSON. */
#include "base/json_load.h"
#include "base/utf8.h"
#include "engine/cmd_perplexity_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "engine/quality.h"

/* ---- lines per token ---- */

static enum bnt_status print_json(json_t *doc, size_t flags, struct bnt_err *err)
{
    return bnt_json_print(doc, flags | JSON_REAL_PRECISION(9), err);
}

/* The bytes of a token, or null for those that are no UTF-8 by themselves. */
static json_t *json_piece(const struct perplexity *p, int32_t id)
{
    struct bnt_buf piece = BNT_BUF(1u << 20);
    json_t *out = NULL;
    if (bnt_tokenizer_piece(bnt_model_tokenizer(p->model), id, true, &piece, NULL) == BNT_OK &&
        bnt_utf8_valid(bnt_buf_view(&piece), piece.len) == piece.len) {
        out = json_stringn(bnt_buf_view(&piece), piece.len);
    }
    bnt_buf_release(&piece);
    return out ? out : json_null();
}

enum bnt_status perplexity_print_token(const struct perplexity *p, const struct bnt_scored *row,
                                       const struct bnt_record_row *other,
                                       const struct bnt_logits_diff *diff, struct bnt_err *err)
{
    json_t *line = json_pack("{s:I, s:i, s:o, s:f}", "index", (json_int_t)row->index, "id", row->id,
                             "text", json_piece(p, row->id), "logprob", -row->nll);
    if (line && other) {
        json_object_set_new(line, "reference_logprob", json_real(-other->nll));
        json_object_set_new(line, "kl", json_real(diff->kl));
        json_object_set_new(line, "same_top", json_boolean(diff->same_top));
        json_object_set_new(line, "match", json_boolean(diff->match));
    }
    return print_json(line, JSON_COMPACT, err);
}

/* ---- gates ---- */

static void add_gate(struct perplexity *p, const char *name, struct bnt_interval seen,
                     double at_least, double at_most)
{
    struct bnt_gate *g = &p->gates[p->n_gates++];
    *g = (struct bnt_gate){.name = name, .seen = seen, .at_least = at_least, .at_most = at_most};
    bnt_gate_judge(g, p->n);
}

/* The same weights, by the same arithmetic: a difference is a fault in either direction, and the
 * distributions must agree. Of a run without quantised activations only a loss is one. */
static void gate_comparison(struct perplexity *p, const struct bnt_interval *change,
                            const struct bnt_interval *kl, const struct bnt_interval *same)
{
    const struct perplexity_opts *o = p->o;
    bool alike = bnt_record_info(p->reference)->dequantized == o->dequantize;
    struct bnt_interval loss = bnt_gate_exp(change);
    double limit = o->max_loss > 0 ? o->max_loss / 100
                   : alike         ? BNT_GATE_LOSS_SAME
                                   : BNT_GATE_LOSS_DEQUANTIZED;
    loss = (struct bnt_interval){loss.estimate - 1, loss.low - 1, loss.high - 1};
    add_gate(p, "loss", loss, alike ? -limit : -INFINITY, limit);
    add_gate(p, "kl", *kl, -INFINITY,
             o->max_kl > 0 ? o->max_kl
             : alike       ? BNT_GATE_KL_SAME
                           : INFINITY);
    add_gate(p, "match", *same, o->min_match > 0 ? o->min_match : -INFINITY, INFINITY);
}

static enum bnt_status judge(struct perplexity *p, struct bnt_err *err)
{
    const struct bnt_gate_options o = {(uint64_t)p->o->seed, p->o->confidence};
    struct bnt_interval change, kl, same;
    enum bnt_status st = bnt_gate_mean(p->nll, p->n, &o, &p->nats, err);
    if (st != BNT_OK) {
        return st;
    }
    p->perplexity = bnt_gate_exp(&p->nats);
    if (p->o->max_perplexity > 0) {
        add_gate(p, "perplexity", p->perplexity, -INFINITY, p->o->max_perplexity);
    }
    if (!p->reference) {
        return BNT_OK;
    }
    st = bnt_gate_mean(p->change, p->n, &o, &change, err);
    if (st == BNT_OK) {
        st = bnt_gate_mean(p->kl, p->n, &o, &kl, err);
    }
    if (st == BNT_OK) {
        st = bnt_gate_mean(p->same, p->n, &o, &same, err);
    }
    if (st == BNT_OK) {
        gate_comparison(p, &change, &kl, &same);
    }
    return st;
}

static bool has_limit(const struct bnt_gate *g)
{
    return isfinite(g->at_least) || isfinite(g->at_most);
}

/* ---- figures ---- */

static double bits_per_byte(const struct perplexity *p)
{
    return p->bytes > 0 ? p->nats.estimate * (double)p->n / p->bytes / log(2) : NAN;
}

static double speed(const struct perplexity *p)
{
    return p->score_ns > 0 ? (double)p->evaluated * 1e9 / (double)p->score_ns : NAN;
}

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *json_interval(const struct bnt_interval *i)
{
    return json_pack("[f, f]", i->low, i->high);
}

static json_t *json_gate(const struct bnt_gate *g)
{
    return json_pack("{s:s, s:f, s:o, s:o, s:o, s:o}", "name", g->name, "value", g->seen.estimate,
                     "interval", json_interval(&g->seen), "at_least", number(g->at_least),
                     "at_most", number(g->at_most), "verdict",
                     has_limit(g) ? json_string(bnt_verdict_name(g->verdict)) : json_null());
}

static json_t *json_comparison(const struct perplexity *p)
{
    const struct bnt_record_info *r = bnt_record_info(p->reference);
    const struct bnt_logits_summary *c = &p->compared;
    json_t *with = json_pack("{s:o, s:o, s:o, s:b}", "engine", bnt_json_text(r->engine), "model",
                             bnt_json_text(r->model), "digest", bnt_json_text(r->model_digest),
                             "dequantized", (int)r->dequantized);
    return json_pack(
        "{s:o, s:f, s:f, s:f, s:f, s:I, s:o, s:o, s:f, s:f, s:o}", "with", with, "top_agreement",
        bnt_logits_top_agreement(c), "token_match", bnt_logits_token_match(c), "mean_kl",
        bnt_logits_mean_kl(c), "max_kl", c->kl_max, "max_kl_at", (json_int_t)c->worst_kl_at,
        "mean_pearson", number(bnt_logits_mean_pearson(c)), "mean_cosine",
        number(bnt_logits_mean_cosine(c)), "mse", bnt_logits_mse(c), "max_error", c->max_error,
        "first_mismatch_at",
        c->first_mismatch_at == UINT64_MAX ? json_null()
                                           : json_integer((json_int_t)c->first_mismatch_at));
}

static json_t *json_report(const struct perplexity *p)
{
    json_t *gates = json_array();
    for (size_t i = 0; i < p->n_gates; i++) {
        json_array_append_new(gates, json_gate(&p->gates[i]));
    }
    json_t *digest = p->ref.digest[0] ? json_string(p->ref.digest) : json_null();
    json_t *model = json_pack("{s:o, s:o, s:s}", "path", bnt_json_text(p->ref.path), "digest",
                              digest, "kind", p->ref.kind);
    json_t *out =
        json_pack("{s:I, s:f, s:o, s:f, s:o, s:i, s:i, s:b, s:o, s:o}", "tokens", (json_int_t)p->n,
                  "perplexity", p->perplexity.estimate, "interval", json_interval(&p->perplexity),
                  "nll", p->nats.estimate, "bits_per_byte", number(bits_per_byte(p)), "window",
                  (int)p->window, "stride", (int)p->stride, "dequantized", (int)p->o->dequantize,
                  "model", model, "gates", gates);
    if (out && p->reference) {
        json_object_set_new(out, "comparison", json_comparison(p));
    }
    if (out) {
        json_object_set_new(out, "metrics",
                            json_pack("{s:I, s:f, s:o, s:s, s:i}", "evaluated_tokens",
                                      (json_int_t)p->evaluated, "seconds",
                                      (double)p->score_ns / 1e9, "tokens_per_second",
                                      number(speed(p)), "kernel", bnt_session_kernel(p->session),
                                      "threads", bnt_session_n_threads(p->session)));
    }
    return out;
}

/* ---- text ---- */

static void print_gate(const struct bnt_gate *g, double scale, const char *unit)
{
    printf("%-16s %.6g%s [%.6g, %.6g]", g->name, g->seen.estimate * scale, unit,
           g->seen.low * scale, g->seen.high * scale);
    if (has_limit(g)) {
        bool below = isfinite(g->at_most);
        printf("  %s, %s %.6g%s", bnt_verdict_name(g->verdict),
               isfinite(g->at_least) && below ? "limit +-"
               : below                        ? "at most"
                                              : "at least",
               (below ? g->at_most : g->at_least) * scale, unit);
    }
    putchar('\n');
}

static void print_text(const struct perplexity *p)
{
    bool gated = p->o->max_perplexity > 0;
    if (!gated) {
        printf("%-16s %.6f [%.6f, %.6f]\n", "perplexity", p->perplexity.estimate, p->perplexity.low,
               p->perplexity.high);
    }
    for (size_t i = 0; i < p->n_gates; i++) {
        bool percent = strcmp(p->gates[i].name, "loss") == 0;
        print_gate(&p->gates[i], percent ? 100 : 1, percent ? " %" : "");
    }
    if (p->reference) {
        const struct bnt_logits_summary *c = &p->compared;
        printf("%-16s %.6f\n", "same best token", bnt_logits_top_agreement(c));
        printf("%-16s %.6g at token %llu\n", "largest kl", c->kl_max,
               (unsigned long long)c->worst_kl_at);
    }
    printf("%-16s %.6f\n", "nats per token", p->nats.estimate);
    printf("%-16s %.6f\n", "bits per byte", bits_per_byte(p));
    printf("%-16s %zu, windows of %u every %u\n", "tokens", p->n, p->window, p->stride);
    printf("%-16s %.0f tokens/s\n", "speed", speed(p));
}

enum bnt_status perplexity_report(struct perplexity *p, struct bnt_err *err)
{
    enum bnt_status st = judge(p, err);
    if (st == BNT_OK && p->o->per_token) {
        st = print_json(json_pack("{s:o}", "summary", json_report(p)), JSON_COMPACT, err);
    } else if (st == BNT_OK && p->o->json) {
        st = print_json(json_report(p), JSON_INDENT(1), err);
    } else if (st == BNT_OK) {
        print_text(p);
    }
    if (st == BNT_OK && p->o->record) {
        bnt_msg_note("%s: %llu positions in %llu bytes", p->o->record, (unsigned long long)p->n,
                     (unsigned long long)p->record_bytes);
    }
    return st;
}
