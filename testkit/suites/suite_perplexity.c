/* Guards the judgement of a model by a text: a token that is predicted twice or never, a record
 * that is believed although it is damaged, noise that passes, and a verdict where the text is too
 * short for one. */
#include "testkit/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "engine/logits_record.h"
#include "engine/perplexity.h"
#include "engine/perplexity_gate.h"
#include "engine/tensor_type.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"

/* ---- windows ---- */

enum { N = 23 };
static const int32_t story[N] = {394, 401, 258, 372, 44,  382, 280, 258,  386, 427,  391, 332,
                                 46,  325, 430, 264, 301, 536, 266, 1041, 262, 1192, 585};

struct seen {
    size_t n;
    double nll[N];
};

static enum bnt_status see(void *ctx, const struct bnt_scored *row, struct bnt_err *err)
{
    struct seen *s = ctx;
    (void)err;
    assert_int_equal(row->index, s->n);
    assert_int_equal(row->id, story[s->n]);
    s->nll[s->n++] = row->nll;
    return BNT_OK;
}

/* The surprise of story[i] after BOS and `context` ids. */
static double alone(struct es_engine *e, size_t i, size_t context)
{
    struct bnt_err err = {0};
    int32_t ids[N + 1] = {bnt_tokenizer_bos(bnt_model_tokenizer(e->model))};
    memcpy(ids + 1, story + i - context, context * sizeof *ids);
    es_ok(bnt_session_rewind(e->session, 0, &err), &err);
    es_ok(bnt_session_eval(e->session, ids, context + 1, &err), &err);
    return bnt_surprise(bnt_session_logits(e->session), (int32_t)bnt_session_n_vocab(e->session),
                        story[i]);
}

static void windows_predict_every_token_once_with_the_context_they_promise(void **state)
{
    (void)state;
    struct es_engine e;
    es_open(&e, suite_bundled_model(), &(struct bnt_session_options){.n_ctx = 64, .n_threads = 1});
    static const struct {
        uint32_t window, stride;
    } cases[] = {{8, 0}, {8, 3}, {8, 1}, {2, 1}, {64, 10}, {24, 0}, {23, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct bnt_err err = {0};
        struct seen s = {0};
        struct bnt_score_options o = {cases[k].window, cases[k].stride, see, &s};
        es_ok(bnt_score_text(e.session, story, N, &o, &err), &err);
        assert_int_equal(s.n, N);
        size_t first = cases[k].window - 1, stride = cases[k].stride ? cases[k].stride : first;
        for (size_t i = 0; i < N; i++) {
            size_t context = i < first ? i : (i - first) % stride + first - stride;
            assert_true(s.nll[i] == alone(&e, i, context));
        }
    }
    struct bnt_score_options bad[] = {{1, 0, NULL, NULL}, {65, 0, NULL, NULL}, {8, 8, NULL, NULL}};
    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(bnt_score_text(e.session, story, N, &bad[k], NULL), BNT_E_USAGE);
    }
    es_close(&e);
}

/* What is left of a model without the rounding of activations is nearly the same, and the same
 * however its weights come into memory. */
static void dequantised_weights_leave_activations_alone(void **state)
{
    (void)state;
    struct bnt_session_options so = {.n_ctx = 64, .n_threads = 1};
    struct bnt_model_options mo[] = {
        {0}, {.dequantize = true}, {.dequantize = true, .stream_weights = true}};
    float *rows[3];
    size_t n_vocab = 0;
    for (size_t i = 0; i < 3; i++) {
        struct es_engine e;
        es_open_with(&e, suite_bundled_model(), &mo[i], &so);
        n_vocab = bnt_session_n_vocab(e.session);
        rows[i] = es_eval_rows(e.session, story, N);
        es_close(&e);
    }
    double kl = 0;
    for (size_t i = 0; i < N; i++) {
        struct bnt_logits_diff d;
        assert_int_equal(bnt_logits_compare_rows(rows[1] + i * n_vocab, rows[0] + i * n_vocab,
                                                 (int32_t)n_vocab, &d, NULL),
                         BNT_OK);
        kl += d.kl / N;
    }
    assert_true(kl > 1e-6 && kl < 2e-3);
    assert_memory_equal(rows[1], rows[2], N * n_vocab * sizeof(float));
    for (size_t i = 0; i < 3; i++) {
        free(rows[i]);
    }
}

/* ---- records ---- */

enum { ROWS = 300, TOP = 5 }; /* more than a block */

static struct bnt_record_info some_info(void)
{
    struct bnt_record_info info = {.engine = "another 1.2",
                                   .model = "m",
                                   .n_vocab = 1000,
                                   .window = 16,
                                   .stride = 15,
                                   .top = TOP,
                                   .n_tokens = ROWS,
                                   .n_rows = ROWS};
    memset(info.tokens_digest, 'a', BNT_SHA256_HEX - 1);
    return info;
}

static struct bnt_record_row some_row(int32_t i, struct bnt_logits_value best[TOP])
{
    size_t n = i % 7 == 0 ? 2 : TOP; /* a row may have fewer */
    for (size_t k = 0; k < n; k++) {
        best[k] = (struct bnt_logits_value){i + (int32_t)k, 9.5f - (float)k / (float)(i + 1)};
    }
    return (struct bnt_record_row){i % 1000, i / 3.0, i % 5 ? 11 + i / 7.0 : NAN, best, n};
}

static const char *write_record(void)
{
    static char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_record_info info = some_info();
    struct bnt_record_writer *w;
    struct bnt_logits_value best[TOP];
    es_ok(bnt_path_format(path, &err, "%s/a.rec", suite_scratch()), &err);
    es_ok(bnt_record_create(path, &info, &w, &err), &err);
    for (int32_t i = 0; i < ROWS; i++) {
        struct bnt_record_row row = some_row(i, best);
        es_ok(bnt_record_add(w, &row, &err), &err);
    }
    struct bnt_record_row extra = some_row(0, best);
    assert_int_equal(bnt_record_add(w, &extra, NULL), BNT_E_USAGE);
    es_ok(bnt_record_commit(w, &err), &err);
    bnt_record_free(w);
    return path;
}

static void a_record_gives_back_what_it_was_given(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_record *r;
    struct bnt_record_row got;
    struct bnt_logits_value best[TOP];
    es_ok(bnt_record_open(write_record(), &r, &err), &err);
    const struct bnt_record_info info = some_info();
    assert_memory_equal(bnt_record_info(r), &info, sizeof info);
    for (int32_t i = 0; i < ROWS; i++) {
        struct bnt_record_row want = some_row(i, best);
        es_ok(bnt_record_next(r, &got, &err), &err);
        assert_int_equal(got.id, want.id);
        assert_true(got.nll == want.nll);
        assert_memory_equal(&got.logsum, &want.logsum, sizeof got.logsum);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.best, want.best, want.n * sizeof *best);
    }
    assert_int_equal(bnt_record_next(r, &got, NULL), BNT_E_FILE);
    bnt_record_close(r);
}

static enum bnt_status open_bytes(const char *bytes, size_t n)
{
    char path[BNT_PATH_MAX];
    struct bnt_record *r;
    assert_int_equal(bnt_path_format(path, NULL, "%s/b.rec", suite_scratch()), BNT_OK);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    enum bnt_status st = bnt_record_open(path, &r, NULL);
    bnt_record_close(r);
    return st;
}

static void a_damaged_record_is_refused(void **state)
{
    (void)state;
    struct bnt_buf file = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(write_record(), &file, NULL), BNT_OK);
    assert_int_equal(open_bytes(file.data, file.len), BNT_OK);
    for (size_t at = 0; at < file.len; at += at < 64 ? 1 : 97) {
        file.data[at] ^= 4;
        enum bnt_status st = open_bytes(file.data, file.len);
        assert_true(at < 8    ? st == BNT_E_FILE
                    : at < 12 ? st == BNT_E_UNSUPPORTED
                              : st == BNT_E_DIGEST || st == BNT_E_FILE);
        file.data[at] ^= 4;
        assert_int_not_equal(open_bytes(file.data, at), BNT_OK);
    }
    bnt_buf_release(&file);
    char path[BNT_PATH_MAX];
    struct bnt_record_writer *w;
    struct bnt_record_info info = some_info();
    struct bnt_err err = {0};
    assert_int_equal(bnt_path_format(path, NULL, "%s/half.rec", suite_scratch()), BNT_OK);
    es_ok(bnt_record_create(path, &info, &w, &err), &err);
    assert_int_equal(bnt_record_commit(w, NULL), BNT_E_FAILED);
    bnt_record_free(w);
    assert_int_equal(access(path, F_OK), -1); /* no half a record */
    info.stride = info.window;
    assert_int_equal(bnt_record_create(path, &info, &w, NULL), BNT_E_USAGE);
}

/* ---- verdicts ---- */

static void a_verdict_needs_the_whole_interval_and_enough_tokens(void **state)
{
    (void)state;
    static const struct {
        double low, high;
        size_t n;
        enum bnt_verdict expected;
    } cases[] = {
        {1, 2, 5000, BNT_VERDICT_PASS},      {1, 2, BNT_GATE_MIN_TOKENS, BNT_VERDICT_PASS},
        {1, 2, 2047, BNT_VERDICT_UNDECIDED}, {1, 4, 5000, BNT_VERDICT_UNDECIDED},
        {4, 5, 5000, BNT_VERDICT_FAIL},      {4, 5, 2047, BNT_VERDICT_UNDECIDED},
        {-2, -1, 5000, BNT_VERDICT_FAIL},    {-1, 1, 5000, BNT_VERDICT_UNDECIDED},
    };
    struct bnt_gate g = {.name = "x", .at_least = 0, .at_most = 3};
    struct bnt_err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        g.seen =
            (struct bnt_interval){(cases[i].low + cases[i].high) / 2, cases[i].low, cases[i].high};
        bnt_gate_judge(&g, cases[i].n);
        assert_int_equal(g.verdict, cases[i].expected);
    }
    struct bnt_gate two[] = {{.name = "a", .verdict = BNT_VERDICT_UNDECIDED, .at_most = 1},
                             {.name = "b", .verdict = BNT_VERDICT_FAIL, .at_most = 1}};
    assert_int_equal(bnt_gates_status(two, 1, 100, &err), BNT_E_INCONCLUSIVE);
    assert_non_null(strstr(err.msg, "not enough tokens to decide"));
    assert_int_equal(bnt_gates_status(two, 2, 9000, NULL), BNT_E_QUALITY);
    assert_int_equal(bnt_gates_status(two, 0, 0, NULL), BNT_OK);
}

/* Surprises as texts have them: skewed, and easy or hard together over forty tokens, so that
 * neighbours are correlated as in the validation file (0.08; 0.01 at a distance of 32). */
static void draw_surprises(struct bnt_rng *r, double *nll, size_t n)
{
    double passage = 0;
    for (size_t i = 0; i < n; i++) {
        passage = i % 40 == 0 ? 2.5 * (bnt_rng_unit(r) - 0.5) : passage;
        nll[i] = 2.6 + passage + 2.45 * (-log(1 - bnt_rng_unit(r)) - 1);
    }
}

/* 95 % of 100 is 95, with a standard deviation of 2.2. */
static void the_interval_of_perplexity_covers_in_simulation(void **state)
{
    (void)state;
    enum { TOKENS = 4096, ROUNDS = 100 };
    double *nll = malloc(TOKENS * sizeof *nll);
    struct bnt_rng r;
    unsigned in = 0;
    bnt_rng_seed(&r, 11);
    for (unsigned k = 0; k < ROUNDS; k++) {
        struct bnt_interval i;
        struct bnt_gate_options o = {.seed = k};
        draw_surprises(&r, nll, TOKENS);
        assert_int_equal(bnt_gate_mean(nll, TOKENS, &o, &i, NULL), BNT_OK);
        i = bnt_gate_exp(&i);
        in += i.low <= exp(2.6) && exp(2.6) <= i.high;
    }
    free(nll);
    assert_in_range(in, 87, 100);
}

/* ---- the command ---- */

/* A text of the right kind: what the bundled model itself would say. */
static const char *text_file(void)
{
    static char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/story.txt", suite_scratch()), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 3; i++) {
        fputs("Once upon a time, there was a little girl named Lily. She loved to play outside and "
              "explore the world around her. One day, she saw a big tree and wanted to climb it.\n",
              f);
    }
    fclose(f);
    return path;
}

#define RUN(...)                                                                                   \
    infer_run_command(&bnt_cmd_perplexity, "", (const char *const[]){__VA_ARGS__, NULL})

static void the_command_records_compares_and_says_when_it_cannot_decide(void **state)
{
    (void)state;
    const char *text = text_file();
    char record[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(record, NULL, "%s/r.rec", suite_scratch()), BNT_OK);
    struct infer_result r = RUN("-f", text, "--json", "--record", record);
    infer_expect(&r, BNT_OK);
    json_int_t tokens = json_integer_value(js_get(r.json, "tokens"));
    double perplexity = json_real_value(js_get(r.json, "perplexity"));
    assert_true(tokens > 100 && perplexity > 1 && perplexity < 20);
    infer_drop(&r);

    r = RUN("-f", text, "--json", "--against", record, "-t", "2", "--kernel", "ref");
    infer_expect(&r, BNT_E_INCONCLUSIVE); /* equal, but of too few tokens */
    json_t *c = js_get(r.json, "comparison");
    assert_true(json_real_value(js_get(c, "max_kl")) == 0);
    assert_true(json_real_value(js_get(c, "token_match")) == 1);
    assert_true(json_real_value(js_get(r.json, "perplexity")) == perplexity);
    assert_non_null(strstr(r.err, "not enough tokens to decide"));
    infer_drop(&r);

    r = RUN("-f", text, "--per-token", "--against", "dequantized:");
    infer_expect(&r, BNT_E_INCONCLUSIVE);
    json_int_t lines = 0;
    for (const char *p = r.out; (p = strchr(p, '\n')) != NULL; p++) {
        lines++;
    }
    assert_int_equal(lines, tokens + 1);
    assert_non_null(strstr(r.out, "\"reference_logprob\""));
    assert_non_null(strstr(r.out, "\"dequantized\":true"));
    infer_drop(&r);

    infer_fails(RUN("-f", text, "--against", record, "--max-tokens", "50"), BNT_E_USAGE,
                "other tokens");
    infer_fails(RUN("-f", text, "--against", record, "--stride", "9"), BNT_E_USAGE, "windows of");
    infer_fails(RUN("-f", text, "--against", text), BNT_E_FILE, "no record");
    infer_fails(RUN("-f", text, "--max-perplexity", "2"), BNT_E_INCONCLUSIVE, "perplexity");
    infer_fails(RUN("-f", text, "--max-kl", "1"), BNT_E_USAGE, "--against");
    infer_fails(RUN("-f", "/dev/null"), BNT_E_USAGE, "empty");
    infer_fails(RUN("--json"), BNT_E_USAGE, "no text");
}

/* ---- the whole file ---- */

struct whole {
    size_t n;
    double *change, *kl;
};

/* The command's lines of a comparison with a record. */
static struct whole compare_whole(const char *model, const char *text, const char *record)
{
    struct infer_result r =
        RUN("-m", model, "-f", text, "--against", record, "--per-token", "--i2s-layout", "128/32");
    struct whole w = {.change = malloc(20000 * sizeof(double)),
                      .kl = malloc(20000 * sizeof(double))};
    assert_true(r.status == BNT_OK || r.status == BNT_E_QUALITY);
    for (char *p = r.out, *end; (end = strchr(p, '\n')) != NULL && w.n < 20000; p = end + 1) {
        json_t *line = json_loadb(p, (size_t)(end - p), 0, NULL);
        json_t *reference = json_object_get(line, "reference_logprob");
        if (reference) {
            w.change[w.n] = json_real_value(reference) - json_real_value(js_get(line, "logprob"));
            w.kl[w.n++] = json_real_value(js_get(line, "kl"));
        }
        json_decref(line);
    }
    infer_drop(&r);
    return w;
}

/* Of 1000 texts, each of BNT_GATE_MIN_TOKENS tokens in passages drawn from the whole: how many get
 * which verdict, by the limits for the same weights. */
static void judge_resampled(const struct whole *w, unsigned count[3])
{
    enum { TEXTS = 1000, PASSAGE = 256 };
    double change[BNT_GATE_MIN_TOKENS], kl[BNT_GATE_MIN_TOKENS];
    struct bnt_rng r;
    bnt_rng_seed(&r, 3);
    memset(count, 0, 3 * sizeof *count);
    for (unsigned k = 0; k < TEXTS; k++) {
        for (size_t i = 0; i < BNT_GATE_MIN_TOKENS; i += PASSAGE) {
            size_t at = bnt_rng_below(&r, w->n - PASSAGE);
            memcpy(change + i, w->change + at, PASSAGE * sizeof *change);
            memcpy(kl + i, w->kl + at, PASSAGE * sizeof *kl);
        }
        struct bnt_gate_options o = {.seed = k};
        struct bnt_gate loss = {.at_least = -BNT_GATE_LOSS_SAME, .at_most = BNT_GATE_LOSS_SAME};
        struct bnt_gate far = {.at_least = -INFINITY, .at_most = BNT_GATE_KL_SAME};
        assert_int_equal(bnt_gate_mean(change, BNT_GATE_MIN_TOKENS, &o, &loss.seen, NULL), BNT_OK);
        assert_int_equal(bnt_gate_mean(kl, BNT_GATE_MIN_TOKENS, &o, &far.seen, NULL), BNT_OK);
        bnt_gate_judge(&loss, BNT_GATE_MIN_TOKENS);
        bnt_gate_judge(&far, BNT_GATE_MIN_TOKENS);
        count[loss.verdict > far.verdict ? loss.verdict : far.verdict]++;
    }
}

static void release_whole(struct whole *w)
{
    free(w->change);
    free(w->kl);
}

/* golden/tinystories-bitnet.json: float64 reference, chunks of 512 that begin with BOS. */
static void the_whole_file_has_the_recorded_perplexity_and_noise_is_detected(void **state)
{
    (void)state;
    char text[BNT_PATH_MAX], record[BNT_PATH_MAX];
    unsigned count[3];
    assert_int_equal(bnt_path_format(text, NULL, "%s", suite_shared("text/tinystories.val.txt")),
                     BNT_OK);
    assert_int_equal(bnt_path_format(record, NULL, "%s/r.rec", suite_scratch()), BNT_OK);
    struct infer_result r = RUN("-f", text, "--json", "--record", record);
    infer_expect(&r, BNT_OK);
    assert_int_equal(json_integer_value(js_get(r.json, "tokens")), 18503);
    double perplexity = json_real_value(js_get(r.json, "perplexity"));
    suite_metric("perplexity", perplexity, "1");
    assert_true(fabs(perplexity / 13.726553 - 1) <= 2e-4);
    infer_drop(&r);

    r = RUN("-f", text, "--against", "dequantized:");
    infer_expect(&r, BNT_OK);
    infer_drop(&r);

    struct whole same = compare_whole(suite_bundled_model(), text, record);
    assert_int_equal(same.n, 18503);
    judge_resampled(&same, count);
    assert_int_equal(count[BNT_VERDICT_PASS], 1000);
    release_whole(&same);

    struct whole noisy = compare_whole(es_noisy_model(0.01), text, record);
    judge_resampled(&noisy, count);
    suite_metric("noise_detected", count[BNT_VERDICT_FAIL], "1");
    assert_int_equal(count[BNT_VERDICT_FAIL], 1000);
    release_whole(&noisy);
}

static const struct suite_test tests[] = {
    {.name = "perplexity_windows_predict_every_token_once",
     .body = windows_predict_every_token_once_with_the_context_they_promise},
    {.name = "perplexity_dequantised_weights_leave_activations_alone",
     .body = dequantised_weights_leave_activations_alone},
    {.name = "perplexity_record_gives_back_what_it_was_given",
     .body = a_record_gives_back_what_it_was_given},
    {.name = "perplexity_damaged_record_is_refused", .body = a_damaged_record_is_refused},
    {.name = "perplexity_verdict_needs_the_whole_interval_and_enough_tokens",
     .body = a_verdict_needs_the_whole_interval_and_enough_tokens},
    {.name = "perplexity_interval_covers_in_simulation",
     .body = the_interval_of_perplexity_covers_in_simulation,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "perplexity_command_says_when_it_cannot_decide",
     .body = the_command_records_compares_and_says_when_it_cannot_decide},
    {.name = "perplexity_of_the_whole_file_is_the_recorded_one_and_noise_is_detected",
     .body = the_whole_file_has_the_recorded_perplexity_and_noise_is_detected,
     .needs = "shared,release-build",
     .tier = SUITE_FULL,
     .timeout_ms = 300000},
    {0},
};

const struct suite suite_perplexity = {"perplexity", tests, "record_digest few_tokens"};
