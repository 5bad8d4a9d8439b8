/* `bnt bench`: the table and the JSON of one measurement. A figure that cannot be told is a dash in
 * the table and null in JSON. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_load.h"
#include "base/stats.h"
#include "testkit/cmd_bench_impl.h"

/* Quantiles of a series, milliseconds. */
struct quantiles {
    double least, p50, p95, p99;
};

static enum bnt_status quantiles_of(const struct bench_series *s, struct quantiles *q,
                                    struct bnt_err *err)
{
    *q = (struct quantiles){NAN, NAN, NAN, NAN};
    if (s->n == 0) {
        return BNT_OK;
    }
    double *sorted = malloc(s->n * sizeof *sorted);
    if (sorted == NULL) {
        return bnt_err_nomem(err, "measured times", s->n * sizeof *sorted);
    }
    memcpy(sorted, s->at, s->n * sizeof *sorted);
    bnt_stats_sort(sorted, s->n);
    q->least = sorted[0];
    q->p50 = bnt_stats_median(sorted, s->n);
    q->p95 = bnt_stats_quantile(sorted, s->n, 0.95);
    q->p99 = bnt_stats_quantile(sorted, s->n, 0.99);
    free(sorted);
    return BNT_OK;
}

/* A prompt length, or the single tokens (of all sequences). */
struct line {
    uint32_t n_ids; /* in the time that tokens_per_s is taken from */
    double tokens_per_s, joules_per_token;
    struct quantiles ms;
};

/* What the process used of the memory's speed. */
struct traffic {
    uint64_t bytes_per_token;
    double gb_per_s, share; /* NaN: not measured */
};

struct lines {
    struct line prompts[BENCH_LENGTHS_MAX], decode;
    struct traffic traffic;
};

static enum bnt_status line_of(uint32_t n_ids, const struct bench_series *runs,
                               const struct bench_series *shown, double joules, struct line *out,
                               struct bnt_err *err)
{
    struct quantiles per_run;
    enum bnt_status st = quantiles_of(runs, &per_run, err);
    *out = (struct line){.n_ids = n_ids,
                         .tokens_per_s = n_ids * 1e3 / per_run.p50,
                         .joules_per_token = joules / ((double)n_ids * (double)runs->n)};
    return st == BNT_OK ? quantiles_of(shown, &out->ms, err) : st;
}

static enum bnt_status lines_of(const struct bench_result *r, struct lines *out,
                                struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < r->n_prompts && st == BNT_OK; i++) {
        const struct bench_prompt *p = &r->prompts[i];
        st = line_of(p->n_ids, &p->first_ms, &p->first_ms, p->joules, &out->prompts[i], err);
    }
    const struct bench_decode *d = &r->decode;
    if (st == BNT_OK) {
        st = line_of(d->n_ids * d->n_sequences, &d->run_ms, &d->token_ms, d->joules, &out->decode,
                     err);
    }
    struct traffic *t = &out->traffic;
    t->bytes_per_token = r->weight_bytes_per_token + r->kv_bytes_per_token;
    t->gb_per_s = (double)t->bytes_per_token * out->decode.tokens_per_s / 1e9;
    t->share = r->has_bandwidth ? t->gb_per_s / r->bandwidth_gb_per_s : NAN;
    return st;
}

/* ---- JSON. */

json_t *bench_json_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *json_samples(const struct bench_series *s)
{
    json_t *out = json_array();
    for (size_t i = 0; i < s->n; i++) {
        json_array_append_new(out, bench_json_number(s->at[i]));
    }
    return out;
}

static json_t *json_quantiles(const struct quantiles *q)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "min", bench_json_number(q->least), "p50",
                     bench_json_number(q->p50), "p95", bench_json_number(q->p95), "p99",
                     bench_json_number(q->p99));
}

static json_t *json_prompts(const struct bench_result *r, const struct lines *lines)
{
    json_t *out = json_array();
    for (size_t i = 0; i < r->n_prompts; i++) {
        const struct line *l = &lines->prompts[i];
        json_t *row =
            json_pack("{s:I, s:o, s:o, s:o, s:o, s:o}", "tokens", (json_int_t)l->n_ids,
                      "tokens_per_s", bench_json_number(l->tokens_per_s), "first_token_ms",
                      json_quantiles(&l->ms), "samples_ms", json_samples(&r->prompts[i].first_ms),
                      "cpu_ms", json_samples(&r->prompts[i].cpu_ms), "joules_per_token",
                      bench_json_number(l->joules_per_token));
        json_array_append_new(out, row);
    }
    return out;
}

static json_t *json_decode(const struct bench_result *r, const struct line *l)
{
    if (l->n_ids == 0) {
        return json_null();
    }
    return json_pack(
        "{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "tokens", (json_int_t)r->decode.n_ids,
        "sequences", (json_int_t)r->decode.n_sequences, "after", (json_int_t)r->decode.n_before,
        "tokens_per_s", bench_json_number(l->tokens_per_s), "token_ms", json_quantiles(&l->ms),
        "samples_ms", json_samples(&r->decode.run_ms), "cpu_ms", json_samples(&r->decode.cpu_ms),
        "joules_per_token", bench_json_number(l->joules_per_token));
}

static json_t *json_model(const struct bench_report *report)
{
    const struct bench_result *r = report->r;
    return json_pack("{s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:b}", "path",
                     bnt_json_text(report->ref->path), "digest", report->ref->digest, "kind",
                     report->ref->kind, "name", r->name, "architecture", r->arch, "weights",
                     r->weights, "parameters", (json_int_t)r->n_params, "bytes",
                     (json_int_t)r->file_bytes, "streamed", r->streamed);
}

static json_t *json_settings(const struct bench_report *report)
{
    const struct bench_result *r = report->r;
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:i, s:I, s:I, s:s, s:I, s:I}", "device", r->device,
                     "kernel", r->kernel, "kernel_note", r->kernel_note, "head",
                     r->screened ? "screened" : "full", "head_packed", r->narrow_head, "threads",
                     r->n_threads, "batch", (json_int_t)r->n_batch, "ctx", (json_int_t)r->n_ctx,
                     "kv_type", report->o->engine.kv_type, "warmup", (json_int_t)report->o->warmup,
                     "repetitions", (json_int_t)report->o->repetitions);
}

static json_t *json_memory(const struct bench_result *r, const struct traffic *t)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:i, s:o}", "peak_bytes",
        (json_int_t)r->peak_bytes, "session_bytes", (json_int_t)r->session_bytes, "kv_bytes",
        (json_int_t)r->kv_bytes, "weight_bytes_per_token", (json_int_t)r->weight_bytes_per_token,
        "kv_bytes_per_token", (json_int_t)r->kv_bytes_per_token, "bytes_per_token",
        (json_int_t)t->bytes_per_token, "used_gb_per_s", bench_json_number(t->gb_per_s),
        "bandwidth_gb_per_s", bench_json_number(r->has_bandwidth ? r->bandwidth_gb_per_s : NAN),
        "bandwidth_streams", r->bandwidth_streams, "share", bench_json_number(t->share));
}

static json_t *json_report(const struct bench_report *report, const struct lines *lines)
{
    const struct bench_result *r = report->r;
    json_t *load =
        json_pack("{s:o, s:o, s:o, s:o}", "open_ms", bench_json_number(r->open_ms), "pack_ms",
                  bench_json_number(r->pack_ms), "session_ms", bench_json_number(r->session_ms),
                  "self_test_ms", bench_json_number(r->self_test_ms));
    json_t *why = r->no_energy[0] != '\0' ? json_string(r->no_energy) : json_null();
    return json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schema", 1, "version",
                     BNT_VERSION, "build", BNT_CONFIG, "model", json_model(report), "settings",
                     json_settings(report), "load", load, "prompts", json_prompts(r, lines),
                     "decode", json_decode(r, &lines->decode), "memory",
                     json_memory(r, &lines->traffic), "no_energy", why);
}

enum bnt_status bench_print_document(json_t *doc, struct bnt_err *err)
{
    return bnt_json_print(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(9), err);
}

enum bnt_status bench_print_json(const struct bench_report *report, struct bnt_err *err)
{
    struct lines lines;
    enum bnt_status st = lines_of(report->r, &lines, err);
    if (st != BNT_OK) {
        return st;
    }
    return bench_print_document(json_report(report, &lines), err);
}

/* ---- Table. */

static void print_cell(double v, int width, int decimals)
{
    if (isfinite(v)) {
        printf("  %*.*f", width, decimals, v);
    } else {
        printf("  %*s", width, "-");
    }
}

static void print_line(const char *what, const struct line *l, bool energy)
{
    printf("%-14s", what);
    print_cell(l->tokens_per_s, 10, 1);
    print_cell(l->ms.p50, 10, 3);
    print_cell(l->ms.p95, 10, 3);
    print_cell(l->ms.p99, 10, 3);
    if (energy) {
        print_cell(l->joules_per_token * 1e3, 10, 3);
    }
    putchar('\n');
}

static void print_speed(const struct bench_result *r, const struct lines *lines)
{
    bool energy = r->no_energy[0] == '\0';
    char what[32];
    printf("%-14s  %10s  %10s  %10s  %10s%s\n", "", "tokens/s", "p50 ms", "p95 ms", "p99 ms",
           energy ? "    mJ/token" : "");
    for (size_t i = 0; i < r->n_prompts; i++) {
        snprintf(what, sizeof what, "prompt %u", lines->prompts[i].n_ids);
        print_line(what, &lines->prompts[i], energy);
    }
    if (r->decode.n_ids > 0) {
        if (r->decode.n_sequences > 1) {
            snprintf(what, sizeof what, "%u x %u", r->decode.n_sequences, r->decode.n_ids);
        } else {
            snprintf(what, sizeof what, "token (of %u)", r->decode.n_ids);
        }
        print_line(what, &lines->decode, energy);
    }
    printf("a prompt's times are those to the first new token, quantiles of %zu",
           r->prompts[0].first_ms.n);
    if (r->decode.n_ids > 0) {
        printf("; a token's of %zu", r->decode.token_ms.n);
    }
    putchar('\n');
    if (r->decode.n_sequences > 1 && r->decode.n_ids > 0) {
        printf("%u sequences are decoded together: tokens/s of all, times of a token of each\n",
               r->decode.n_sequences);
    }
}

static void print_ways(const struct bench_result *r)
{
    printf(" with %d thread%s, %d stream%s each\n", r->n_threads, r->n_threads == 1 ? "" : "s",
           r->bandwidth_streams, r->bandwidth_streams == 1 ? "" : "s");
}

static void print_memory(const struct bench_result *r, const struct traffic *t)
{
    printf("peak memory   %.1f MB, of it %.1f MB for the session (context of %u)\n",
           (double)r->peak_bytes / 1e6, (double)r->session_bytes / 1e6, r->n_ctx);
    printf("a token reads %.2f MB: %.2f MB of weights, %.2f MB of keys and values\n",
           (double)t->bytes_per_token / 1e6, (double)r->weight_bytes_per_token / 1e6,
           (double)r->kv_bytes_per_token / 1e6);
    if (!r->has_bandwidth) {
        printf("bandwidth     not probed\n");
    } else if (isfinite(t->share)) {
        printf("bandwidth     %.1f GB/s used, %.0f %% of the %.1f GB/s probed", t->gb_per_s,
               100 * t->share, r->bandwidth_gb_per_s);
        print_ways(r);
    } else {
        printf("bandwidth     %.1f GB/s probed", r->bandwidth_gb_per_s);
        print_ways(r);
    }
}

enum bnt_status bench_print_table(const struct bench_report *report, struct bnt_err *err)
{
    const struct bench_result *r = report->r;
    struct lines lines;
    enum bnt_status st = lines_of(r, &lines, err);
    if (st != BNT_OK) {
        return st;
    }
    printf("model         %s (%s, %s, %.1f M parameters, %.1f MB)\n", report->ref->path, r->arch,
           r->weights, (double)r->n_params / 1e6, (double)r->file_bytes / 1e6);
    printf("engine        %s kernels, %s head, %d thread%s, batches of %u, %lld repetition%s after "
           "%lld to warm up\n",
           r->kernel,
           r->screened      ? "screened"
           : r->narrow_head ? "full packed"
                            : "full",
           r->n_threads, r->n_threads == 1 ? "" : "s", r->n_batch,
           (long long)report->o->repetitions, report->o->repetitions == 1 ? "" : "s",
           (long long)report->o->warmup);
    printf("opening       %.1f ms: model %.1f, packing %.1f, session %.1f (self-test %.1f)\n\n",
           r->open_ms + r->pack_ms + r->session_ms, r->open_ms, r->pack_ms, r->session_ms,
           r->self_test_ms);
    print_speed(r, &lines);
    putchar('\n');
    print_memory(r, &lines.traffic);
    if (r->no_energy[0] != '\0') {
        printf("energy        no figure: %s\n", r->no_energy);
    }
    return BNT_OK;
}
