/* Guards `bnt infer` and the loop under it: answers that differ from an independent forward pass, a text that depends
 * on how it is shown, a limit that is off by one, a failure that ends with success. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/file.h"
#include "engine/commands.h"
#include "engine/generate.h"
#include "testkit/suites/engine_support.h"

/* Against another implementation (docs/architecture.md: float rule): the int8 rounding of activations turns tiny
 * differences into steps, so logits may differ by 0.2 % of the largest in the median and 3 % at most, and the best id
 * only where the two best are that close. */
#define MEDIAN_TOLERANCE 0.002
#define LARGEST_TOLERANCE 0.03
#define GAP 0.03

#define GOLDEN "testkit/data/golden/tinystories-bitnet.json"

/* ---- The command, run in this process. */

struct result {
    enum bnt_status status;
    char *out, *err; /* what it wrote */
    json_t *json;    /* of out, NULL when it is none */
};

static volatile sig_atomic_t interrupted;
static const char *model_kind = "real";

static enum bnt_status resolve(const struct bnt_app *app, const char *name, struct bnt_model_ref *out,
                               struct bnt_err *err)
{
    (void)app;
    *out = (struct bnt_model_ref){.kind = model_kind};
    return bnt_path_format(out->path, err, "%s", name != NULL ? name : suite_bundled_model());
}

static char *slurp(const char *path)
{
    struct bnt_buf b = BNT_BUF(64u << 20);
    assert_int_equal(bnt_file_read(path, &b, NULL), BNT_OK);
    char *text = strdup(bnt_buf_view(&b));
    bnt_buf_release(&b);
    return text;
}

static int redirect(int fd, const char *path, int flags)
{
    int saved = dup(fd), file = open(path, flags, 0644);
    assert_true(saved >= 0 && file >= 0);
    assert_true(dup2(file, fd) == fd);
    close(file);
    return saved;
}

static void restore(int fd, int saved)
{
    dup2(saved, fd);
    close(saved);
}

/* Run with `input` on stdin; args end with NULL. */
static struct result run_with(const char *input, const char *const *args)
{
    char in[BNT_PATH_MAX], out[BNT_PATH_MAX], err[BNT_PATH_MAX];
    char *argv[64] = {(char *)(uintptr_t)"infer"};
    int argc = 1;
    for (; args[argc - 1] != NULL; argc++) {
        assert_true(argc < 63);
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    }
    struct bnt_app app = {.interrupted = &interrupted, .resolve_model = resolve};
    assert_int_equal(bnt_path_format(in, NULL, "%s/in", suite_scratch()), BNT_OK);
    assert_int_equal(bnt_path_format(out, NULL, "%s/out", suite_scratch()), BNT_OK);
    assert_int_equal(bnt_path_format(err, NULL, "%s/err", suite_scratch()), BNT_OK);
    FILE *f = fopen(in, "w");
    assert_non_null(f);
    fputs(input, f);
    fclose(f);
    fflush(stdout);
    fflush(stderr);
    assert_non_null(freopen(in, "r", stdin)); /* also forgets what an earlier run has read ahead */
    int saved_out = redirect(1, out, O_WRONLY | O_CREAT | O_TRUNC);
    int saved_err = redirect(2, err, O_WRONLY | O_CREAT | O_TRUNC);
    struct result r = {.status = bnt_cmd_run(&bnt_cmd_infer, "bnt", &app, argc, argv)};
    fflush(stdout);
    fflush(stderr);
    restore(1, saved_out);
    restore(2, saved_err);
    r.out = slurp(out);
    r.err = slurp(err);
    r.json = json_loads(r.out, 0, NULL);
    return r;
}

#define RUN(...) run_with("", (const char *const[]){__VA_ARGS__, NULL})

static void drop(struct result *r)
{
    free(r->out);
    free(r->err);
    json_decref(r->json);
}

static void expect_status(const struct result *r, enum bnt_status status)
{
    if (r->status != status) {
        fail_msg("ended with %d, not %d: %s", (int)r->status, (int)status, r->err);
    }
}

static void expect_failure(struct result r, enum bnt_status status, const char *word)
{
    expect_status(&r, status);
    if (strstr(r.err, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, r.err);
    }
    drop(&r);
}

static json_t *get(const json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL) {
        fail_msg("no key %s", key);
    }
    return v;
}

static const char *get_text(const json_t *object, const char *key)
{
    return json_string_value(get(object, key));
}

static int32_t id_at(const json_t *ids, size_t i)
{
    return (int32_t)json_integer_value(json_array_get(ids, i));
}

static size_t count(const json_t *object, const char *key)
{
    return json_array_size(get(object, key));
}

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
    struct bnt_logprob best;
    assert_int_equal(bnt_logprobs_top(logits, n_vocab, 1, &best), 1);
    if (json_real_value(json_array_get(c->gaps, step)) > GAP && best.id != id_at(c->greedy, step)) {
        fail_msg("step %zu: id %d is best, recorded is %d", step, best.id, id_at(c->greedy, step));
    }
    if (step >= json_array_size(c->steps)) {
        return;
    }
    const json_t *top = get(json_array_get(c->steps, step), "top5");
    double largest = fabs(json_number_value(json_array_get(json_array_get(top, 0), 1)));
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        double expected = json_number_value(json_array_get(pair, 1));
        c->differences[c->n_differences++] = fabs((double)logits[id_at(pair, 0)] - expected) / largest;
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
    const json_t *prompt = get(entry, "prompt_ids");
    c->greedy = get(entry, "greedy_ids");
    c->gaps = get(entry, "relative_gap");
    c->steps = get(entry, "steps");
    c->n_prompt = json_array_size(prompt);
    for (size_t i = 0; i < c->n_prompt; i++) {
        ids[n++] = id_at(prompt, i);
    }
    for (size_t i = 0; i + 1 < json_array_size(c->greedy); i++) {
        ids[n++] = id_at(c->greedy, i);
    }
    es_ok(bnt_session_rewind(e->session, 0, &err), &err);
    es_ok(bnt_session_eval_each(e->session, ids, n, see_row, c, &err), &err);
}

static void logits_equal_the_recorded_ones(void **state)
{
    (void)state;
    json_t *golden = load_json(suite_source(GOLDEN));
    const json_t *greedy = get(golden, "greedy");
    struct es_engine e;
    struct bnt_session_options so = {.kv_type = BNT_KV_F16};
    es_open(&e, suite_bundled_model(), &so);
    vocabulary = (int32_t)bnt_model_info(e.model)->n_vocab;
    struct golden_case c = {.differences = malloc(json_array_size(greedy) * 16 * 5 * sizeof(double))};
    for (size_t i = 0; i < json_array_size(greedy); i++) {
        check_prompt(&e, json_array_get(greedy, i), &c);
    }
    assert_int_equal(c.n_differences, 8 * 16 * 5);
    qsort(c.differences, c.n_differences, sizeof(double), compare_doubles);
    double median = c.differences[c.n_differences / 2], largest = c.differences[c.n_differences - 1];
    if (!(median <= MEDIAN_TOLERANCE && largest <= LARGEST_TOLERANCE)) {
        fail_msg("logits differ by %g in the median, %g at most", median, largest);
    }
    free(c.differences);
    es_close(&e);
    json_decref(golden);
}

/* Ids of a free run against recorded ones: they may part only at a near tie. Returns the ids that agree. */
static size_t agreeing(const json_t *got, const json_t *expected, const json_t *gaps)
{
    size_t n = json_array_size(got) < json_array_size(expected) ? json_array_size(got) : json_array_size(expected);
    for (size_t i = 0; i < n; i++) {
        if (id_at(got, i) != id_at(expected, i)) {
            if (gaps == NULL || json_real_value(json_array_get(gaps, i)) > GAP) {
                fail_msg("id %zu is %d, recorded is %d", i, id_at(got, i), id_at(expected, i));
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
    json_array_foreach(get(golden, "greedy"), i, entry)
    {
        struct result r = RUN("-p", get_text(entry, "prompt"), "-n", "96", "--json", "--validate-output");
        expect_status(&r, BNT_OK);
        const json_t *expected = get(entry, "greedy_ids");
        assert_true(json_equal(get(r.json, "prompt_ids"), get(entry, "prompt_ids")));
        bool ends = id_at(expected, json_array_size(expected) - 1) == 2046; /* EOS is recorded, and is not in ids */
        size_t n = agreeing(get(r.json, "ids"), expected, get(entry, "relative_gap"));
        if (n == json_array_size(expected) - ends) {
            whole++;
            assert_string_equal(get_text(r.json, "text"), get_text(entry, "greedy_text"));
            assert_string_equal(get_text(r.json, "finish_reason"), ends ? "stop" : "length");
            assert_int_equal(count(r.json, "ids"), n);
        }
        drop(&r);
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
        snprintf(n, sizeof(n), "%zu", count(entry, "greedy_ids"));
        assert_int_equal(bnt_path_format(path, NULL, "%s", suite_shared("models/stories260K.gguf")), BNT_OK);
        struct result r = RUN("-m", path, "-p", prompt, "-n", n, "--json", "--kv-type", "f32", "--logprobs", "5");
        expect_status(&r, BNT_OK);
        assert_true(json_equal(get(r.json, "prompt_ids"), get(entry, "prompt_ids")));
        assert_int_equal(agreeing(get(r.json, "ids"), get(entry, "greedy_ids"), NULL), count(entry, "greedy_ids"));
        const json_t *top5 = get(entry, "top5_first16"), *rows = get(r.json, "logprobs");
        for (size_t step = 0; step < json_array_size(top5); step++) { /* differences of logits are those of logprobs */
            const json_t *want = json_array_get(top5, step), *have = get(json_array_get(rows, step), "top");
            double best = json_number_value(json_array_get(json_array_get(want, 0), 1));
            double best_have = json_number_value(get(json_array_get(have, 0), "logprob"));
            for (size_t k = 0; k < 5; k++) {
                double a = json_number_value(json_array_get(json_array_get(want, k), 1)) - best;
                double b = json_number_value(get(json_array_get(have, k), "logprob")) - best_have;
                assert_true(fabs(a - b) < 0.01);
            }
        }
        drop(&r);
    }
    json_decref(golden);
}

/* ---- What is shown. */

static void text_is_the_same_however_it_is_shown(void **state)
{
    (void)state;
    struct result json = RUN("-p", "Once upon a time", "-n", "40", "--json");
    struct result text = RUN("-p", "Once upon a time", "-n", "40");
    struct result echo = RUN("-p", "Once upon a time", "-n", "40", "--echo");
    struct result metrics = RUN("-p", "Once upon a time", "-n", "40", "--metrics", "--logprobs", "2");
    char expected[4096];
    expect_status(&json, BNT_OK);
    snprintf(expected, sizeof(expected), "Once upon a time%s\n", get_text(json.json, "text"));
    assert_string_equal(text.out, expected + strlen("Once upon a time"));
    assert_string_equal(echo.out, expected);
    assert_string_equal(metrics.out, text.out);
    assert_string_equal(text.err, "");
    assert_non_null(strstr(metrics.err, "first token"));
    assert_non_null(strstr(metrics.err, "\" little\""));
    assert_string_equal(get_text(get(json.json, "model"), "kind"), "real");
    assert_int_equal(strlen(get_text(get(json.json, "model"), "digest")), 64);
    assert_true(json_number_value(get(get(json.json, "metrics"), "first_token_ms")) > 0);
    assert_int_equal(json_integer_value(get(get(json.json, "metrics"), "generated_tokens")), 40);
    drop(&json);
    drop(&text);
    drop(&echo);
    drop(&metrics);
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
    struct result option = RUN("-p", "Once upon a time");
    struct result file = RUN("-f", path);
    struct result input = run_with("Once upon a time\n", (const char *const[]){NULL});
    struct result dash = run_with("Once upon a time", (const char *const[]){"--file=-", NULL});
    struct result json = RUN("-p", "Once upon a time", "--json");
    expect_status(&option, BNT_OK);
    assert_string_equal(file.out, option.out);
    assert_string_equal(input.out, option.out);
    assert_string_equal(dash.out, option.out);
    assert_int_equal(count(json.json, "ids"), 32); /* the default where stdout is no terminal */
    drop(&option);
    drop(&file);
    drop(&input);
    drop(&dash);
    drop(&json);
    expect_failure(RUN("-p", "a", "-f", path), BNT_E_USAGE, "one of them");
    expect_failure(RUN("-f", "/no/such/file"), BNT_E_NOT_FOUND, "/no/such/file");
    expect_failure(RUN("operand"), BNT_E_USAGE, "operand");
}

static void control_tokens_in_a_prompt_are_a_choice(void **state)
{
    (void)state;
    struct result parsed = RUN("-p", "a<|eot_id|>", "-n", "1", "--json");
    struct result text = RUN("-p", "a<|eot_id|>", "-n", "1", "--json", "--no-special");
    struct result empty = RUN("-p", "", "-n", "1", "--json");
    expect_status(&parsed, BNT_OK);
    const json_t *ids = get(parsed.json, "prompt_ids");
    assert_int_equal(id_at(ids, json_array_size(ids) - 1), 2047);
    ids = get(text.json, "prompt_ids");
    for (size_t i = 1; i < json_array_size(ids); i++) {
        assert_in_range(id_at(ids, i), 0, 2044);
    }
    assert_int_equal(count(empty.json, "prompt_ids"), 1);
    assert_int_equal(id_at(get(empty.json, "prompt_ids"), 0), 2045);
    drop(&parsed);
    drop(&text);
    drop(&empty);
}

/* ---- Ends. */

static void stops_end_the_answer_before_them(void **state)
{
    (void)state;
    struct result stop = RUN("-p", "Once upon a time", "-n", "40", "--json", "--stop", "girl named", "--stop", "zzz");
    struct result text = RUN("-p", "Once upon a time", "-n", "40", "--stop", "girl named");
    struct result id = RUN("-p", "Once upon a time", "-n", "40", "--json", "--stop-id", "427");
    expect_status(&stop, BNT_OK);
    assert_string_equal(get_text(stop.json, "text"), ", there was a little ");
    assert_string_equal(get_text(stop.json, "finish_reason"), "stop");
    assert_string_equal(get_text(stop.json, "stop"), "girl named");
    assert_string_equal(text.out, ", there was a little \n");
    assert_string_equal(get_text(id.json, "finish_reason"), "stop");
    assert_int_equal(json_integer_value(get(id.json, "stop_id")), 427);
    assert_int_equal(count(id.json, "ids"), 5); /* 44 382 280 258 386, then 427 */
    drop(&stop);
    drop(&text);
    drop(&id);
    expect_failure(RUN("-p", "a", "--stop-id", "2048"), BNT_E_USAGE, "2047");
    expect_failure(RUN("-p", "a", "--stop", ""), BNT_E_USAGE, "stop string 1");
}

/* The answer to this prompt ends by itself (recorded: 84 ids and EOS). */
static void end_tokens_end_unless_ignored(void **state)
{
    (void)state;
    static const char prompt[] = "\"Can I play with you?\" asked the small bird.";
    struct result ends = RUN("-p", prompt, "-n", "-1", "--json");
    struct result goes_on = RUN("-p", prompt, "-n", "90", "--json", "--ignore-eos");
    expect_status(&ends, BNT_OK);
    assert_string_equal(get_text(ends.json, "finish_reason"), "stop");
    assert_int_equal(json_integer_value(get(ends.json, "stop_id")), 2046);
    size_t n = count(ends.json, "ids");
    assert_in_range(n, 60, 89);
    assert_int_equal(count(goes_on.json, "ids"), 90);
    assert_int_equal(id_at(get(goes_on.json, "ids"), n), 2046);
    assert_string_equal(get_text(goes_on.json, "finish_reason"), "length");
    drop(&ends);
    drop(&goes_on);
}

/* 5 ids of prompt in a context of 16: 11 more are evaluated, and the 12th is told but needs no position. */
static void context_is_used_to_its_end(void **state)
{
    (void)state;
    struct result r = RUN("-p", "Once upon a time", "-n", "-1", "--json", "--ctx", "16");
    struct result all = RUN("-p", "Once upon a time", "-n", "12", "--json");
    expect_status(&r, BNT_OK);
    assert_string_equal(get_text(r.json, "finish_reason"), "context");
    assert_int_equal(count(r.json, "ids"), 12);
    assert_true(json_equal(get(r.json, "ids"), get(all.json, "ids")));
    drop(&r);
    drop(&all);
    r = RUN("-p", "Once upon a time", "--json", "--ctx", "6");
    expect_status(&r, BNT_OK);
    drop(&r);
    expect_failure(RUN("-p", "Once upon a time", "--ctx", "5"), BNT_E_USAGE, "--ctx 6");
}

/* ---- Sampling. */

static void seed_decides_the_text(void **state)
{
    (void)state;
    struct result a = RUN("-p", "Once upon a time", "--json", "--temperature", "1.2", "--seed", "7");
    struct result b = RUN("-p", "Once upon a time", "--json", "--temperature", "1.2", "--seed", "7", "--threads", "1",
                          "--kernel", "ref");
    struct result c = RUN("-p", "Once upon a time", "--json", "--temperature", "1.2", "--seed", "8");
    struct result d = RUN("-p", "Once upon a time", "--json", "--temperature", "1.2");
    struct result e = RUN("-p", "Once upon a time", "--json", "--temperature", "1.2");
    expect_status(&a, BNT_OK);
    assert_true(json_equal(get(a.json, "ids"), get(b.json, "ids")));
    assert_false(json_equal(get(a.json, "ids"), get(c.json, "ids")));
    assert_int_equal(json_integer_value(get(get(a.json, "sampling"), "seed")), 7);
    json_int_t drawn = json_integer_value(get(get(d.json, "sampling"), "seed"));
    assert_true(drawn != json_integer_value(get(get(e.json, "sampling"), "seed")));
    char seed[32];
    snprintf(seed, sizeof(seed), "%" JSON_INTEGER_FORMAT, drawn);
    struct result again = RUN("-p", "Once upon a time", "--json", "--temperature", "1.2", "--seed", seed);
    assert_true(json_equal(get(d.json, "ids"), get(again.json, "ids")));
    drop(&a);
    drop(&b);
    drop(&c);
    drop(&d);
    drop(&e);
    drop(&again);
    expect_failure(RUN("-p", "a", "--deterministic", "--seed", "1"), BNT_E_USAGE, "--deterministic");
    expect_failure(RUN("-p", "a", "--seed", "-1"), BNT_E_USAGE, "--seed");
    expect_failure(RUN("-p", "a", "--logit-bias", "5"), BNT_E_USAGE, "ID=VALUE");
    expect_failure(RUN("-p", "a", "--logit-bias", "9999=1"), BNT_E_USAGE, "9999");
}

static void options_reach_the_sampler(void **state)
{
    (void)state;
    struct result plain = RUN("-p", "Once upon a time", "--json", "-n", "6");
    struct result banned = RUN("-p", "Once upon a time", "--json", "-n", "6", "--logit-bias", "44=-inf");
    struct result penalty = RUN("-p", "Once upon a time", "--json", "-n", "60", "--presence-penalty", "1000");
    struct result k1 = RUN("-p", "Once upon a time", "--json", "-n", "6", "--temperature", "2", "--top-k", "1");
    expect_status(&banned, BNT_OK);
    assert_int_equal(id_at(get(plain.json, "ids"), 0), 44);
    assert_int_not_equal(id_at(get(banned.json, "ids"), 0), 44);
    assert_true(json_equal(get(plain.json, "ids"), get(k1.json, "ids")));
    const json_t *ids = get(penalty.json, "ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(id_at(ids, i), id_at(ids, j));
        }
    }
    drop(&plain);
    drop(&banned);
    drop(&penalty);
    drop(&k1);
}

static void log_probabilities_are_those_recorded(void **state)
{
    (void)state;
    json_t *golden = load_json(suite_source(GOLDEN));
    const json_t *steps = get(json_array_get(get(golden, "greedy"), 0), "steps");
    struct result r = RUN("-p", "Once upon a time", "--json", "-n", "16", "--logprobs", "5");
    expect_status(&r, BNT_OK);
    const json_t *rows = get(r.json, "logprobs");
    assert_int_equal(json_array_size(rows), 16);
    for (size_t i = 0; i < 16; i++) {
        const json_t *row = json_array_get(rows, i), *top = get(row, "top"), *step = json_array_get(steps, i);
        assert_int_equal(json_array_size(top), 5);
        assert_int_equal(json_integer_value(get(row, "id")), id_at(get(r.json, "ids"), i));
        double best = json_number_value(get(json_array_get(top, 0), "logprob"));
        assert_true(json_number_value(get(row, "logprob")) == best);
        const json_t *pair = json_array_get(get(step, "top5"), 0);
        double logit = json_number_value(json_array_get(pair, 1));
        assert_true(fabs(best - (logit - json_number_value(get(step, "logsumexp")))) < LARGEST_TOLERANCE * logit);
        for (size_t k = 1; k < 5; k++) {
            double p = json_number_value(get(json_array_get(top, k), "logprob"));
            assert_true(p <= best && p < 0);
            best = p;
        }
    }
    drop(&r);
    json_decref(golden);
}

/* ---- What must not pass. */

static void validation_refuses_endless_repetition(void **state)
{
    (void)state;
    struct result r = RUN("-p", "Once", "-n", "40", "--logit-bias", "427=1000", "--json");
    expect_status(&r, BNT_OK); /* nobody asked */
    drop(&r);
    expect_failure(RUN("-p", "Once", "-n", "40", "--logit-bias", "427=1000", "--validate-output"), BNT_E_QUALITY,
                   "repetition");
    expect_failure(RUN("-p", "Once", "--logit-bias", "2046=1000", "--validate-output"), BNT_E_QUALITY, "empty");
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
    expect_failure(RUN("-m", model, "-p", "Once", "--validate-output"), BNT_E_INFERENCE, "not a number");
    expect_failure(RUN("-m", model, "-p", "Once"), BNT_E_INFERENCE, "finite");
}

static void mocks_are_marked(void **state)
{
    (void)state;
    model_kind = "tiny";
    expect_failure(RUN("-p", "Once"), BNT_E_NOT_FOUND, "tiny");
    struct result r = RUN("-p", "Once", "-n", "3", "--json", "--allow-mock");
    expect_status(&r, BNT_E_MOCK_USED);
    assert_string_equal(get_text(get(r.json, "model"), "kind"), "tiny");
    assert_int_equal(count(r.json, "ids"), 3);
    assert_non_null(strstr(r.err, "mock"));
    drop(&r);
    expect_failure(RUN("-p", "a", "--allow-mock", "--logit-bias", "2046=1000", "--validate-output"), BNT_E_QUALITY,
                   "empty");
}

static void limits_and_names_are_passed_on(void **state)
{
    (void)state;
    expect_failure(RUN("-p", "Once", "--memory-limit", "100k"), BNT_E_MEMORY, "memory");
    expect_failure(RUN("-p", "Once", "--kernel", "abacus"), BNT_E_USAGE, "abacus");
    expect_failure(RUN("-p", "Once", "--pre", "klingon"), BNT_E_UNSUPPORTED, "klingon");
    expect_failure(RUN("-m", "/no/such.gguf", "-p", "Once"), BNT_E_NOT_FOUND, "/no/such.gguf");
}

/* ---- Interruption. */

static enum bnt_status interrupt_after_some_text(void *ctx, const char *bytes, size_t n, struct bnt_err *err)
{
    struct bnt_buf *seen = ctx;
    enum bnt_status st = bnt_buf_append(seen, bytes, n, err);
    interrupted = seen->len > 20;
    return st;
}

static void interruption_keeps_what_was_produced(void **state)
{
    (void)state;
    static const int32_t prompt[] = {2045, 394, 401, 258, 372};
    struct es_engine e;
    struct bnt_session_options so = {.interrupted = &interrupted};
    struct bnt_sampler *sampler = NULL;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    struct bnt_generation g;
    struct bnt_buf seen = BNT_BUF(1000);
    struct bnt_generate_params gp = {.max_tokens = 100, .interrupted = &interrupted, .ctx = &seen,
                                     .on_text = interrupt_after_some_text};
    es_open(&e, suite_bundled_model(), &so);
    assert_int_equal(bnt_sampler_new(&p, 2048, &sampler, NULL), BNT_OK);
    bnt_generation_init(&g);
    assert_int_equal(bnt_generate(e.session, bnt_model_tokenizer(e.model), sampler, prompt, 5, &gp, &g, NULL), BNT_OK);
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
    interrupted = 1;
    struct result r = RUN("-p", "Once", "--json");
    expect_status(&r, BNT_E_INTERRUPTED);
    assert_string_equal(get_text(r.json, "finish_reason"), "interrupted");
    assert_int_equal(count(r.json, "ids"), 0);
    drop(&r);
}

/* ---- Chat. */

static void chat_wants_a_form(void **state)
{
    (void)state;
    expect_failure(RUN("--chat", "-p", "Hi"), BNT_E_NOT_FOUND, "--chat-template");
    expect_failure(RUN("--chat", "--chat-template", "chatml", "-p", "Hi"), BNT_E_UNSUPPORTED, "<|im_start|>");
    expect_failure(RUN("--system", "x", "-p", "Hi"), BNT_E_USAGE, "--chat");
    expect_failure(RUN("--chat", "--raw", "--system", "x", "-p", "Hi"), BNT_E_USAGE, "--raw");
    expect_failure(RUN("--chat", "--json"), BNT_E_USAGE, "-p");
    struct result raw = RUN("--chat", "--raw", "-p", "Once upon a time", "-n", "8");
    struct result plain = RUN("-p", "Once upon a time", "-n", "8");
    assert_string_equal(raw.out, plain.out);
    drop(&raw);
    drop(&plain);
}

static void chat_turn_is_the_template_s(void **state)
{
    (void)state;
    struct result r = RUN("--chat", "--chat-template", "bitnet", "--system", "Be kind.", "-p", "Hello", "-n", "4",
                          "--json");
    struct result same = RUN("-p", "System: Be kind.<|eot_id|>User: Hello<|eot_id|>Assistant: ", "-n", "4", "--json");
    expect_status(&r, BNT_OK);
    assert_string_equal(get_text(r.json, "chat_form"), "bitnet");
    assert_true(json_equal(get(r.json, "prompt_ids"), get(same.json, "prompt_ids")));
    assert_true(json_equal(get(r.json, "ids"), get(same.json, "ids")));
    drop(&r);
    drop(&same);
}

/* Lines of the answers of a conversation, the newlines inside answers included. */
static struct result converse(const char *lines, const char *form, const char *n)
{
    return run_with(lines, (const char *const[]){"--chat", form != NULL ? "--chat-template" : "--raw",
                                                 form != NULL ? form : "--deterministic", "-n", n, NULL});
}

static void conversation_has_a_history_until_reset(void **state)
{
    (void)state;
    static const char *const forms[] = {NULL, "bitnet", "zephyr"};
    for (size_t i = 0; i < 3; i++) {
        struct result one = converse("Tom saw a dog.\n", forms[i], "24");
        struct result two = converse("Tom saw a dog.\nWhat is its name?\n", forms[i], "24");
        struct result second = converse("What is its name?\n", forms[i], "24");
        struct result reset = converse("Tom saw a dog.\n/reset\nWhat is its name?\n", forms[i], "24");
        struct result left = converse("Tom saw a dog.\n\n/exit\nThe dog ran.\n", forms[i], "24");
        expect_status(&two, BNT_OK);
        char expected[8192];
        assert_true(strlen(one.out) > 1);
        assert_int_equal(strncmp(two.out, one.out, strlen(one.out)), 0);
        assert_string_equal(left.out, one.out);
        snprintf(expected, sizeof(expected), "%s%s", one.out, second.out);
        assert_string_equal(reset.out, expected);
        assert_string_not_equal(two.out, expected); /* the second answer knew of the first */
        drop(&one);
        drop(&two);
        drop(&second);
        drop(&reset);
        drop(&left);
    }
}

/* The cache of a conversation holds what encoding its text anew would give. */
static void conversation_equals_one_long_prompt(void **state)
{
    (void)state;
    struct result talk = converse("Tom saw a dog.\nThe dog ran.\n", "bitnet", "12");
    struct result first = converse("Tom saw a dog.\n", "bitnet", "12");
    char prompt[4096];
    snprintf(prompt, sizeof(prompt), "User: Tom saw a dog.<|eot_id|>Assistant: %.*s<|eot_id|>User: The dog ran.<|eot_id|>"
             "Assistant: ", (int)strcspn(first.out, "\n"), first.out);
    struct result whole = RUN("-p", prompt, "-n", "12");
    assert_string_equal(talk.out + strlen(first.out), whole.out);
    drop(&talk);
    drop(&first);
    drop(&whole);
}

/* A turn that does not fit is refused and leaves the conversation as it was. */
static void conversation_survives_a_turn_too_long(void **state)
{
    (void)state;
    char lines[8192] = "Tom saw a dog.\n";
    for (int i = 0; i < 200; i++) {
        strcat(lines, "The dog ran. ");
    }
    strcat(lines, "\nThe dog ran.\n");
    struct result r = run_with(lines, (const char *const[]){"--chat", "--chat-template", "bitnet", "-n", "12", "--ctx",
                                                            "100", NULL});
    struct result plain = run_with("Tom saw a dog.\nThe dog ran.\n",
                                   (const char *const[]){"--chat", "--chat-template", "bitnet", "-n", "12", NULL});
    expect_status(&r, BNT_OK);
    assert_non_null(strstr(r.err, "--ctx"));
    assert_string_equal(r.out, plain.out);
    drop(&r);
    drop(&plain);
}

static const struct suite_test tests[] = {
    {.name = "infer_logits_equal_the_recorded_ones", .body = logits_equal_the_recorded_ones, .needs = "source"},
    {.name = "infer_command_gives_the_recorded_answers", .body = command_gives_the_recorded_answers, .needs = "source"},
    {.name = "infer_llama_model_gives_the_recorded_answers", .body = llama_model_gives_the_recorded_answers,
     .needs = "shared"},
    {.name = "infer_text_is_the_same_however_it_is_shown", .body = text_is_the_same_however_it_is_shown},
    {.name = "infer_prompt_comes_from_option_file_or_stdin", .body = prompt_comes_from_option_file_or_stdin},
    {.name = "infer_control_tokens_in_a_prompt_are_a_choice", .body = control_tokens_in_a_prompt_are_a_choice},
    {.name = "infer_stops_end_the_answer_before_them", .body = stops_end_the_answer_before_them},
    {.name = "infer_end_tokens_end_unless_ignored", .body = end_tokens_end_unless_ignored},
    {.name = "infer_context_is_used_to_its_end", .body = context_is_used_to_its_end},
    {.name = "infer_seed_decides_the_text", .body = seed_decides_the_text},
    {.name = "infer_options_reach_the_sampler", .body = options_reach_the_sampler},
    {.name = "infer_log_probabilities_are_those_recorded", .body = log_probabilities_are_those_recorded,
     .needs = "source"},
    {.name = "infer_validation_refuses_endless_repetition", .body = validation_refuses_endless_repetition},
    {.name = "infer_broken_logits_are_a_failure", .body = broken_logits_are_a_failure},
    {.name = "infer_mocks_are_marked", .body = mocks_are_marked},
    {.name = "infer_limits_and_names_are_passed_on", .body = limits_and_names_are_passed_on},
    {.name = "infer_interruption_keeps_what_was_produced", .body = interruption_keeps_what_was_produced},
    {.name = "infer_interrupted_command_says_so", .body = interrupted_command_says_so},
    {.name = "infer_chat_wants_a_form", .body = chat_wants_a_form},
    {.name = "infer_chat_turn_is_the_template_s", .body = chat_turn_is_the_template_s},
    {.name = "infer_conversation_has_a_history_until_reset", .body = conversation_has_a_history_until_reset},
    {.name = "infer_conversation_equals_one_long_prompt", .body = conversation_equals_one_long_prompt},
    {.name = "infer_conversation_survives_a_turn_too_long", .body = conversation_survives_a_turn_too_long},
    {0},
};

const struct suite suite_infer = {"infer", tests};
