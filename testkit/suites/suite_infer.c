/* Guards `bnt infer` and the loop under it: answers that differ from an independent forward pass, a
 * text that depends on how it is shown, a limit that is off by one, a failure that ends with
 * success. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/app.h"
#include "base/file.h"
#include "engine/commands.h"
#include "engine/generate.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"

/* Against another implementation (docs/architecture.md: float rule): the int8 rounding of
 * activations turns tiny differences into steps, so logits may differ by 0.2 % of the largest in
 * the median and 3 % at most, and the best id only where the two best are that close. */
#define MEDIAN_TOLERANCE 0.002
#define LARGEST_TOLERANCE 0.03
#define GAP 0.03

#define GOLDEN "testkit/data/golden/tinystories-bitnet.json"

/* ---- Golden answers. */

static json_t *load_json(const char *path)
{
    json_error_t e;
    json_t *doc = json_load_file(path, 0, &e);
    if (doc == NULL) {
        fail_msg("%s:%d: %s", path, e.line, e.text);
    }
    return doc;
}

struct golden_case {
    const json_t *greedy, *gaps, *steps; /* of one prompt */
    size_t n_prompt;
    double *differences; /* of logits, relative to the largest of their row */
    size_t n_differences;
};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_row(struct golden_case *c, size_t step, const float *logits, int32_t n_vocab)
{
    struct bnt_candidate best;
    assert_int_equal(bnt_logprobs_top(logits, n_vocab, 1, &best), 1);
    if (json_real_value(json_array_get(c->gaps, step)) > GAP && best.id != js_id(c->greedy, step)) {
        fail_msg("step %zu: id %d is best, recorded is %d", step, best.id, js_id(c->greedy, step));
    }
    if (step >= json_array_size(c->steps)) {
        return;
    }
    const json_t *top = js_get(json_array_get(c->steps, step), "top5");
    double largest = fabs(json_number_value(json_array_get(json_array_get(top, 0), 1)));
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        double expected = json_number_value(json_array_get(pair, 1));
        c->differences[c->n_differences++] =
            fabs((double)logits[js_id(pair, 0)] - expected) / largest;
    }
}

static int32_t vocabulary; /* of the model under test */

static enum bnt_status see_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct golden_case *c = ctx;
    (void)err;
    if (index + 1 >= c->n_prompt && index + 1 - c->n_prompt < json_array_size(c->greedy)) {
        check_row(c, index + 1 - c->n_prompt, logits, vocabulary);
    }
    return BNT_OK;
}

/* The recorded ids are fed, so that a near tie at one step does not hide the steps after it. */
static void check_prompt(struct es_engine *e, const json_t *entry, struct golden_case *c)
{
    struct bnt_err err = {0};
    int32_t ids[512];
    size_t n = 0;
    const json_t *prompt = js_get(entry, "prompt_ids");
    c->greedy = js_get(entry, "greedy_ids");
    c->gaps = js_get(entry, "relative_gap");
    c->steps = js_get(entry, "steps");
    c->n_prompt = json_array_size(prompt);
    for (size_t i = 0; i < c->n_prompt; i++) {
        ids[n++] = js_id(prompt, i);
    }
    for (size_t i = 0; i + 1 < json_array_size(c->greedy); i++) {
        ids[n++] = js_id(c->greedy, i);
    }
    es_ok(bnt_session_rewind(e->session, 0, &err), &err);
    es_ok(bnt_session_eval_each(e->session, ids, n, see_row, c, &err), &err);
}

static void logits_equal_the_recorded_ones(void **state)
{
    (void)state;
    json_t *golden = load_json(suite_source(GOLDEN));
    const json_t *greedy = js_get(golden, "greedy");
    struct es_engine e;
    struct bnt_session_options so = {.kv_type = BNT_KV_F16};
    es_open(&e, suite_bundled_model(), &so);
    vocabulary = (int32_t)bnt_model_info(e.model)->n_vocab;
    struct golden_case c = {.differences =
                                malloc(json_array_size(greedy) * 16 * 5 * sizeof(double))};
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        check_prompt(&e, json_array_get(greedy, i), &c);
    }
    assert_int_equal(c.n_differences, 8 * 16 * 5);
    qsort(c.differences, c.n_differences, sizeof(double), compare_doubles);
    double median = c.differences[c.n_differences / 2],
           largest = c.differences[c.n_differences - 1];
    if (!(median <= MEDIAN_TOLERANCE && largest <= LARGEST_TOLERANCE)) {
        fail_msg("logits differ by %g in the median, %g at most", median, largest);
    }
    free(c.differences);
    es_close(&e);
    json_decref(golden);
}

/* Ids of a free run against recorded ones: they may part only at a near tie. Returns the ids that
 * agree. */
static size_t agreeing(const json_t *got, const json_t *expected, const json_t *gaps)
{
    size_t n = json_array_size(got) < json_array_size(expected) ? json_array_size(got)
                                                                : json_array_size(expected);
    for (size_t i = 0; i < n; i++) {
        if (js_id(got, i) != js_id(expected, i)) {
            if (gaps == NULL || json_real_value(json_array_get(gaps, i)) > GAP) {
                fail_msg("id %zu is %d, recorded is %d", i, js_id(got, i), js_id(expected, i));
            }
            return i;
        }
    }
    return n;
}

static void command_gives_the_recorded_answers(void **state)
{
    (void)state;
    json_t *golden = load_json(suite_source(GOLDEN));
    size_t whole = 0, i;
    const json_t *entry;
    json_array_foreach(js_get(golden, "greedy"), i, entry)
    {
        struct infer_result r =
            INFER("-p", js_text(entry, "prompt"), "-n", "96", "--json", "--validate-output");
        infer_expect(&r, BNT_OK);
        const json_t *expected = js_get(entry, "greedy_ids");
        assert_true(json_equal(js_get(r.json, "prompt_ids"), js_get(entry, "prompt_ids")));
        bool ends = js_id(expected, json_array_size(expected) - 1) ==
                    2046; /* EOS is recorded, and is not in ids */
        size_t n = agreeing(js_get(r.json, "ids"), expected, js_get(entry, "relative_gap"));
        if (n == json_array_size(expected) - ends) {
            whole++;
            assert_string_equal(js_text(r.json, "text"), js_text(entry, "greedy_text"));
            assert_string_equal(js_text(r.json, "finish_reason"), ends ? "stop" : "length");
            assert_int_equal(js_count(r.json, "ids"), n);
        }
        infer_drop(&r);
    }
    assert_true(whole >= 5); /* near ties are rare: most answers agree to their end */
    json_decref(golden);
}

/* The LLaMA path, on a trained float32 model; its recorded answers come from a float32 cache. */
static void llama_model_gives_the_recorded_answers(void **state)
{
    (void)state;
    json_t *golden = load_json(suite_shared("golden/stories260K.greedy.json"));
    const char *prompt;
    const json_t *entry;
    json_object_foreach(golden, prompt, entry)
    {
        char n[16], path[BNT_PATH_MAX];
        snprintf(n, sizeof(n), "%zu", js_count(entry, "greedy_ids"));
        assert_int_equal(bnt_path_format(path, NULL, "%s", suite_shared("models/stories260K.gguf")),
                         BNT_OK);
        struct infer_result r = INFER("-m", path, "-p", prompt, "-n", n, "--json", "--kv-type",
                                      "f32", "--logprobs", "5");
        infer_expect(&r, BNT_OK);
        assert_true(json_equal(js_get(r.json, "prompt_ids"), js_get(entry, "prompt_ids")));
        assert_int_equal(agreeing(js_get(r.json, "ids"), js_get(entry, "greedy_ids"), NULL),
                         js_count(entry, "greedy_ids"));
        const json_t *top5 = js_get(entry, "top5_first16"), *rows = js_get(r.json, "logprobs");
        for (size_t step = 0; step < json_array_size(top5);
             step++) { /* differences of logits are those of logprobs */
            const json_t *want = json_array_get(top5, step),
                         *have = js_get(json_array_get(rows, step), "top");
            double best = json_number_value(json_array_get(json_array_get(want, 0), 1));
            double best_have = json_number_value(js_get(json_array_get(have, 0), "logprob"));
            for (size_t k = 0; k < 5; k++) {
                double a = json_number_value(json_array_get(json_array_get(want, k), 1)) - best;
                double b =
                    json_number_value(js_get(json_array_get(have, k), "logprob")) - best_have;
                assert_true(fabs(a - b) < 0.01);
            }
        }
        infer_drop(&r);
    }
    json_decref(golden);
}

/* ---- What is shown. */

static void text_is_the_same_however_it_is_shown(void **state)
{
    (void)state;
    struct infer_result json = INFER("-p", "Once upon a time", "-n", "40", "--json");
    struct infer_result text = INFER("-p", "Once upon a time", "-n", "40");
    struct infer_result echo = INFER("-p", "Once upon a time", "-n", "40", "--echo");
    struct infer_result metrics =
        INFER("-p", "Once upon a time", "-n", "40", "--metrics", "--logprobs", "2");
    char expected[4096];
    infer_expect(&json, BNT_OK);
    snprintf(expected, sizeof(expected), "Once upon a time%s\n", js_text(json.json, "text"));
    assert_string_equal(text.out, expected + strlen("Once upon a time"));
    assert_string_equal(echo.out, expected);
    assert_string_equal(metrics.out, text.out);
    assert_string_equal(text.err, "");
    assert_non_null(strstr(metrics.err, "first token"));
    assert_non_null(strstr(metrics.err, "\" little\""));
    assert_string_equal(js_text(js_get(json.json, "model"), "kind"), "real");
    assert_int_equal(strlen(js_text(js_get(json.json, "model"), "digest")), 64);
    assert_true(json_number_value(js_get(js_get(json.json, "metrics"), "first_token_ms")) > 0);
    assert_int_equal(json_integer_value(js_get(js_get(json.json, "metrics"), "generated_tokens")),
                     40);
    infer_drop(&json);
    infer_drop(&text);
    infer_drop(&echo);
    infer_drop(&metrics);
}

static void prompt_comes_from_option_file_or_stdin(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/prompt", suite_scratch()), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("Once upon a time\n", f);
    fclose(f);
    struct infer_result option = INFER("-p", "Once upon a time");
    struct infer_result file = INFER("-f", path);
    struct infer_result input = infer_run("Once upon a time\n", (const char *const[]){NULL});
    struct infer_result dash =
        infer_run("Once upon a time", (const char *const[]){"--file=-", NULL});
    struct infer_result json = INFER("-p", "Once upon a time", "--json");
    infer_expect(&option, BNT_OK);
    assert_string_equal(file.out, option.out);
    assert_string_equal(input.out, option.out);
    assert_string_equal(dash.out, option.out);
    assert_int_equal(js_count(json.json, "ids"), 32); /* the default where stdout is no terminal */
    infer_drop(&option);
    infer_drop(&file);
    infer_drop(&input);
    infer_drop(&dash);
    infer_drop(&json);
    infer_fails(INFER("-p", "a", "-f", path), BNT_E_USAGE, "one of them");
    infer_fails(INFER("-f", "/no/such/file"), BNT_E_NOT_FOUND, "/no/such/file");
    infer_fails(INFER("operand"), BNT_E_USAGE, "operand");
}

static void control_tokens_in_a_prompt_are_a_choice(void **state)
{
    (void)state;
    struct infer_result parsed = INFER("-p", "a<|eot_id|>", "-n", "1", "--json");
    struct infer_result text = INFER("-p", "a<|eot_id|>", "-n", "1", "--json", "--no-special");
    struct infer_result empty = INFER("-p", "", "-n", "1", "--json");
    infer_expect(&parsed, BNT_OK);
    const json_t *ids = js_get(parsed.json, "prompt_ids");
    assert_int_equal(js_id(ids, json_array_size(ids) - 1), 2047);
    ids = js_get(text.json, "prompt_ids");
    for (size_t i = 1; i < json_array_size(ids); i++) {
        assert_in_range(js_id(ids, i), 0, 2044);
    }
    assert_int_equal(js_count(empty.json, "prompt_ids"), 1);
    assert_int_equal(js_id(js_get(empty.json, "prompt_ids"), 0), 2045);
    infer_drop(&parsed);
    infer_drop(&text);
    infer_drop(&empty);
}

/* ---- Ends. */

static void stops_end_the_answer_before_them(void **state)
{
    (void)state;
    struct infer_result stop = INFER("-p", "Once upon a time", "-n", "40", "--json", "--stop",
                                     "girl named", "--stop", "zzz");
    struct infer_result text = INFER("-p", "Once upon a time", "-n", "40", "--stop", "girl named");
    struct infer_result id =
        INFER("-p", "Once upon a time", "-n", "40", "--json", "--stop-id", "427");
    /* The beginning of a stop string that never comes is text. */
    struct infer_result held =
        INFER("-p", "Once upon a time", "-n", "6", "--json", "--stop", "girl without");
    assert_string_equal(js_text(held.json, "text"), ", there was a little girl");
    infer_drop(&held);
    infer_expect(&stop, BNT_OK);
    assert_string_equal(js_text(stop.json, "text"), ", there was a little ");
    assert_string_equal(js_text(stop.json, "finish_reason"), "stop");
    assert_string_equal(js_text(stop.json, "stop"), "girl named");
    assert_string_equal(text.out, ", there was a little \n");
    assert_string_equal(js_text(id.json, "finish_reason"), "stop");
    assert_int_equal(json_integer_value(js_get(id.json, "stop_id")), 427);
    assert_int_equal(js_count(id.json, "ids"), 5); /* 44 382 280 258 386, then 427 */
    infer_drop(&stop);
    infer_drop(&text);
    infer_drop(&id);
    infer_fails(INFER("-p", "a", "--stop-id", "2048"), BNT_E_USAGE, "2047");
    infer_fails(INFER("-p", "a", "--stop", ""), BNT_E_USAGE, "stop string 1");
}

/* The answer to this prompt ends by itself (recorded: 84 ids and EOS). */
static void end_tokens_end_unless_ignored(void **state)
{
    (void)state;
    static const char prompt[] = "\"Can I play with you?\" asked the small bird.";
    struct infer_result ends = INFER("-p", prompt, "-n", "-1", "--json");
    struct infer_result goes_on = INFER("-p", prompt, "-n", "90", "--json", "--ignore-eos");
    infer_expect(&ends, BNT_OK);
    assert_string_equal(js_text(ends.json, "finish_reason"), "stop");
    assert_int_equal(json_integer_value(js_get(ends.json, "stop_id")), 2046);
    size_t n = js_count(ends.json, "ids");
    assert_in_range(n, 60, 89);
    assert_int_equal(js_count(goes_on.json, "ids"), 90);
    assert_int_equal(js_id(js_get(goes_on.json, "ids"), n), 2046);
    assert_string_equal(js_text(goes_on.json, "finish_reason"), "length");
    infer_drop(&ends);
    infer_drop(&goes_on);
}

/* 5 ids of prompt in a context of 16: 11 more are evaluated, and the 12th is told but needs no
 * position. */
static void context_is_used_to_its_end(void **state)
{
    (void)state;
    struct infer_result r = INFER("-p", "Once upon a time", "-n", "-1", "--json", "--ctx", "16");
    struct infer_result all = INFER("-p", "Once upon a time", "-n", "12", "--json");
    infer_expect(&r, BNT_OK);
    assert_string_equal(js_text(r.json, "finish_reason"), "context");
    assert_int_equal(js_count(r.json, "ids"), 12);
    assert_true(json_equal(js_get(r.json, "ids"), js_get(all.json, "ids")));
    infer_drop(&r);
    infer_drop(&all);
    r = INFER("-p", "Once upon a time", "--json", "--ctx", "6");
    infer_expect(&r, BNT_OK);
    infer_drop(&r);
    infer_fails(INFER("-p", "Once upon a time", "--ctx", "5"), BNT_E_USAGE, "--ctx 6");
}

/* ---- Sampling. */

static void seed_decides_the_text(void **state)
{
    (void)state;
    struct infer_result a =
        INFER("-p", "Once upon a time", "--json", "--temperature", "1.2", "--seed", "7");
    struct infer_result b = INFER("-p", "Once upon a time", "--json", "--temperature", "1.2",
                                  "--seed", "7", "--threads", "1", "--kernel", "ref");
    struct infer_result c =
        INFER("-p", "Once upon a time", "--json", "--temperature", "1.2", "--seed", "8");
    struct infer_result d = INFER("-p", "Once upon a time", "--json", "--temperature", "1.2");
    struct infer_result e = INFER("-p", "Once upon a time", "--json", "--temperature", "1.2");
    infer_expect(&a, BNT_OK);
    assert_true(json_equal(js_get(a.json, "ids"), js_get(b.json, "ids")));
    assert_false(json_equal(js_get(a.json, "ids"), js_get(c.json, "ids")));
    assert_int_equal(json_integer_value(js_get(js_get(a.json, "sampling"), "seed")), 7);
    json_int_t drawn = json_integer_value(js_get(js_get(d.json, "sampling"), "seed"));
    assert_true(drawn != json_integer_value(js_get(js_get(e.json, "sampling"), "seed")));
    char seed[32];
    snprintf(seed, sizeof(seed), "%" JSON_INTEGER_FORMAT, drawn);
    struct infer_result again =
        INFER("-p", "Once upon a time", "--json", "--temperature", "1.2", "--seed", seed);
    assert_true(json_equal(js_get(d.json, "ids"), js_get(again.json, "ids")));
    infer_drop(&a);
    infer_drop(&b);
    infer_drop(&c);
    infer_drop(&d);
    infer_drop(&e);
    infer_drop(&again);
    infer_fails(INFER("-p", "a", "--deterministic", "--seed", "1"), BNT_E_USAGE, "--deterministic");
    infer_fails(INFER("-p", "a", "--seed", "-1"), BNT_E_USAGE, "--seed");
    infer_fails(INFER("-p", "a", "--logit-bias", "5"), BNT_E_USAGE, "ID=VALUE");
    infer_fails(INFER("-p", "a", "--logit-bias", "9999=1"), BNT_E_USAGE, "9999");
}

static void options_reach_the_sampler(void **state)
{
    (void)state;
    struct infer_result plain = INFER("-p", "Once upon a time", "--json", "-n", "6");
    struct infer_result banned =
        INFER("-p", "Once upon a time", "--json", "-n", "6", "--logit-bias", "44=-inf");
    struct infer_result penalty =
        INFER("-p", "Once upon a time", "--json", "-n", "60", "--presence-penalty", "1000");
    struct infer_result k1 =
        INFER("-p", "Once upon a time", "--json", "-n", "6", "--temperature", "2", "--top-k", "1");
    infer_expect(&banned, BNT_OK);
    assert_int_equal(js_id(js_get(plain.json, "ids"), 0), 44);
    assert_int_not_equal(js_id(js_get(banned.json, "ids"), 0), 44);
    assert_true(json_equal(js_get(plain.json, "ids"), js_get(k1.json, "ids")));
    const json_t *ids = js_get(penalty.json, "ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(js_id(ids, i), js_id(ids, j));
        }
    }
    infer_drop(&plain);
    infer_drop(&banned);
    infer_drop(&penalty);
    infer_drop(&k1);
}

static void log_probabilities_are_those_recorded(void **state)
{
    (void)state;
    json_t *golden = load_json(suite_source(GOLDEN));
    const json_t *steps = js_get(json_array_get(js_get(golden, "greedy"), 0), "steps");
    struct infer_result r =
        INFER("-p", "Once upon a time", "--json", "-n", "16", "--logprobs", "5");
    infer_expect(&r, BNT_OK);
    const json_t *rows = js_get(r.json, "logprobs");
    assert_int_equal(json_array_size(rows), 16);
    for (size_t i = 0; i < 16; i++) {
        const json_t *row = json_array_get(rows, i), *top = js_get(row, "top"),
                     *step = json_array_get(steps, i);
        assert_int_equal(json_array_size(top), 5);
        assert_int_equal(json_integer_value(js_get(row, "id")), js_id(js_get(r.json, "ids"), i));
        double best = json_number_value(js_get(json_array_get(top, 0), "logprob"));
        assert_true(json_number_value(js_get(row, "logprob")) == best);
        const json_t *pair = json_array_get(js_get(step, "top5"), 0);
        double logit = json_number_value(json_array_get(pair, 1));
        assert_true(fabs(best - (logit - json_number_value(js_get(step, "logsumexp")))) <
                    LARGEST_TOLERANCE * logit);
        for (size_t k = 1; k < 5; k++) {
            double p = json_number_value(js_get(json_array_get(top, k), "logprob"));
            assert_true(p <= best && p < 0);
            best = p;
        }
    }
    infer_drop(&r);
    json_decref(golden);
}

/* ---- What must not pass. */

static void validation_refuses_endless_repetition(void **state)
{
    (void)state;
    struct infer_result r = INFER("-p", "Once", "-n", "40", "--logit-bias", "427=1000", "--json");
    infer_expect(&r, BNT_OK); /* nobody asked */
    infer_drop(&r);
    infer_fails(INFER("-p", "Once", "-n", "40", "--logit-bias", "427=1000", "--validate-output"),
                BNT_E_QUALITY, "repetition");
    infer_fails(INFER("-p", "Once", "--logit-bias", "2046=1000", "--validate-output"),
                BNT_E_QUALITY, "empty");
}

/* The bundled model with NaN in all of its embedding. */
static const char *broken_model(void)
{
    static char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_buf b = BNT_BUF(64u << 20);
    struct gguf *g;
    es_ok(bnt_file_read(suite_bundled_model(), &b, &err), &err);
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_AUTO, &g, &err), &err);
    const struct gguf_tensor *t = gguf_find_tensor(g, "token_embd.weight");
    assert_non_null(t);
    for (uint64_t i = 1; i < t->size; i += 2) {
        b.data[t->offset + i] = 0x7e; /* binary16: 0x7exx is NaN */
    }
    gguf_close(g);
    es_ok(bnt_path_format(path, &err, "%s/broken.gguf", suite_scratch()), &err);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.data, 1, b.len, f), b.len);
    fclose(f);
    bnt_buf_release(&b);
    return path;
}

static void broken_logits_are_a_failure(void **state)
{
    (void)state;
    const char *model = broken_model();
    infer_fails(INFER("-m", model, "-p", "Once", "--validate-output"), BNT_E_INFERENCE,
                "not a number");
    infer_fails(INFER("-m", model, "-p", "Once"), BNT_E_INFERENCE, "finite");
}

static void mocks_are_marked(void **state)
{
    (void)state;
    infer_model_kind = "tiny";
    infer_fails(INFER("-p", "Once"), BNT_E_NOT_FOUND, "tiny");
    struct infer_result r = INFER("-p", "Once", "-n", "3", "--json", "--allow-mock");
    infer_expect(&r, BNT_E_MOCK_USED);
    assert_string_equal(js_text(js_get(r.json, "model"), "kind"), "tiny");
    assert_int_equal(js_count(r.json, "ids"), 3);
    assert_non_null(strstr(r.err, "mock"));
    infer_drop(&r);
    infer_fails(INFER("-p", "a", "--allow-mock", "--logit-bias", "2046=1000", "--validate-output"),
                BNT_E_QUALITY, "empty");
}

static void limits_and_names_are_passed_on(void **state)
{
    (void)state;
    infer_fails(INFER("-p", "Once", "--memory-limit", "100k"), BNT_E_MEMORY, "memory");
    infer_fails(INFER("-p", "Once", "--kernel", "abacus"), BNT_E_USAGE, "abacus");
    infer_fails(INFER("-p", "Once", "--pre", "klingon"), BNT_E_UNSUPPORTED, "klingon");
    infer_fails(INFER("-m", "/no/such.gguf", "-p", "Once"), BNT_E_NOT_FOUND, "/no/such.gguf");
}

/* ---- Nothing is allocated per token: a long answer takes as many calls as a short one. */

static uint64_t allocations_of(struct es_engine *e, uint32_t n)
{
    static const int32_t prompt[] = {2045, 394, 401, 258, 372};
    struct bnt_sampler_params p = bnt_sampler_defaults();
    struct bnt_sampler *sampler = NULL;
    struct bnt_generate_params gp = {.max_tokens = n, .n_logprobs = 3, .check_logits = true};
    struct bnt_generation g;
    bnt_generation_init(&g);
    p.temperature = 0.5;
    p.frequency_penalty = 0.1;
    assert_int_equal(bnt_sampler_new(&p, 2048, &sampler, NULL), BNT_OK);
    assert_int_equal(bnt_session_rewind(e->session, 0, NULL), BNT_OK);
    uint64_t before = es_allocations();
    assert_int_equal(
        bnt_generate(e->session, bnt_model_tokenizer(e->model), sampler, prompt, 5, &gp, &g, NULL),
        BNT_OK);
    uint64_t calls = es_allocations() - before;
    assert_int_equal(g.ids.n, n);
    bnt_generation_release(&g);
    bnt_sampler_free(sampler);
    return calls;
}

static void generating_allocates_nothing_per_token(void **state)
{
    (void)state;
    if (!es_counts_allocations()) {
        skip();
    }
    struct es_engine e;
    struct bnt_session_options so = {0};
    es_open(&e, suite_bundled_model(), &so);
    allocations_of(&e, 2); /* what a device makes once, as the graph of a token */
    uint64_t few = allocations_of(&e, 10);
    assert_in_range(few, 1, 30);
    assert_int_equal(allocations_of(&e, 60), few);
    es_close(&e);
}

/* ---- Interruption. */

static enum bnt_status interrupt_after_some_text(void *ctx, const char *bytes, size_t n,
                                                 struct bnt_err *err)
{
    struct bnt_buf *seen = ctx;
    enum bnt_status st = bnt_buf_append(seen, bytes, n, err);
    infer_interrupted = seen->len > 20;
    return st;
}

static void interruption_keeps_what_was_produced(void **state)
{
    (void)state;
    static const int32_t prompt[] = {2045, 394, 401, 258, 372};
    struct es_engine e;
    struct bnt_session_options so = {.interrupted = &infer_interrupted};
    struct bnt_sampler *sampler = NULL;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    struct bnt_generation g;
    struct bnt_buf seen = BNT_BUF(1000);
    struct bnt_generate_params gp = {.max_tokens = 100,
                                     .interrupted = &infer_interrupted,
                                     .ctx = &seen,
                                     .on_text = interrupt_after_some_text};
    es_open(&e, suite_bundled_model(), &so);
    assert_int_equal(bnt_sampler_new(&p, 2048, &sampler, NULL), BNT_OK);
    bnt_generation_init(&g);
    assert_int_equal(
        bnt_generate(e.session, bnt_model_tokenizer(e.model), sampler, prompt, 5, &gp, &g, NULL),
        BNT_OK);
    assert_int_equal(g.finish, BNT_FINISH_INTERRUPTED);
    assert_in_range(g.ids.n, 3, 20);
    assert_int_equal(strncmp(bnt_buf_view(&g.text), ", there was a little girl", 25), 0);
    assert_string_equal(bnt_buf_view(&g.text), bnt_buf_view(&seen));
    bnt_generation_release(&g);
    bnt_buf_release(&seen);
    bnt_sampler_free(sampler);
    es_close(&e);
}

static void interrupted_command_says_so(void **state)
{
    (void)state;
    infer_interrupted = 1;
    struct infer_result r = INFER("-p", "Once", "--json");
    infer_expect(&r, BNT_E_INTERRUPTED);
    assert_string_equal(js_text(r.json, "finish_reason"), "interrupted");
    assert_int_equal(js_count(r.json, "ids"), 0);
    infer_drop(&r);
}

static const struct suite_test tests[] = {
    {.name = "infer_logits_equal_the_recorded_ones",
     .body = logits_equal_the_recorded_ones,
     .needs = "source"},
    {.name = "infer_command_gives_the_recorded_answers",
     .body = command_gives_the_recorded_answers,
     .needs = "source"},
    {.name = "infer_llama_model_gives_the_recorded_answers",
     .body = llama_model_gives_the_recorded_answers,
     .needs = "shared"},
    {.name = "infer_text_is_the_same_however_it_is_shown",
     .body = text_is_the_same_however_it_is_shown},
    {.name = "infer_prompt_comes_from_option_file_or_stdin",
     .body = prompt_comes_from_option_file_or_stdin},
    {.name = "infer_control_tokens_in_a_prompt_are_a_choice",
     .body = control_tokens_in_a_prompt_are_a_choice},
    {.name = "infer_stops_end_the_answer_before_them", .body = stops_end_the_answer_before_them},
    {.name = "infer_end_tokens_end_unless_ignored", .body = end_tokens_end_unless_ignored},
    {.name = "infer_context_is_used_to_its_end", .body = context_is_used_to_its_end},
    {.name = "infer_seed_decides_the_text", .body = seed_decides_the_text},
    {.name = "infer_options_reach_the_sampler", .body = options_reach_the_sampler},
    {.name = "infer_log_probabilities_are_those_recorded",
     .body = log_probabilities_are_those_recorded,
     .needs = "source"},
    {.name = "infer_validation_refuses_endless_repetition",
     .body = validation_refuses_endless_repetition},
    {.name = "infer_broken_logits_are_a_failure", .body = broken_logits_are_a_failure},
    {.name = "infer_mocks_are_marked", .body = mocks_are_marked},
    {.name = "infer_limits_and_names_are_passed_on", .body = limits_and_names_are_passed_on},
    {.name = "infer_generating_allocates_nothing_per_token",
     .body = generating_allocates_nothing_per_token},
    {.name = "infer_interruption_keeps_what_was_produced",
     .body = interruption_keeps_what_was_produced},
    {.name = "infer_interrupted_command_says_so", .body = interrupted_command_says_so},
    {0},
};

const struct suite suite_infer = {
    "infer", tests,
    "i2s_scale kv_off_by_one causal_mask head_group attention_scale rope_key_late "
    "rope_style norm_epsilon sub_norm residual rope_base last_row bos"};
