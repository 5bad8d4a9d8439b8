/* Guards a server as one side of a comparison of speed: other work than ours that counts all the
 * same, a clock that is not the one that was said, tokens that were not made. The server is
 * scripted. */
#include "testkit/suite.h"

#include <math.h>
#include <string.h>

#include "mock/bnt_mock.h"
#include "testkit/perf_server.h"
#include "testkit/suites/infer_support.h"

#define JSON(text) .status = 200, .body = (text), .body_bytes = sizeof(text) - 1
#define PROPS                                                                                      \
    {                                                                                              \
        .path = "/props",                                                                          \
        JSON("{\"default_generation_settings\": {\"n_ctx\": 64}, \"model_path\": \"x.gguf\"}")     \
    }
#define MODELS(n_vocab)                                                                            \
    {                                                                                              \
        .path = "/v1/models",                                                                      \
        JSON("{\"data\": [{\"id\": \"x\", \"meta\": {\"n_vocab\": " n_vocab "}}]}")                \
    }
#define LLAMA(prompt_n, predicted_n)                                                               \
    {                                                                                              \
        .path = "/completion",                                                                     \
        JSON("{\"content\": \"a\", \"timings\": {\"prompt_n\": " prompt_n                          \
             ", \"prompt_ms\": 2.5, \"predicted_n\": " predicted_n ", \"predicted_ms\": 12}}")     \
    }
#define OPENAI(prompt, made)                                                                       \
    {                                                                                              \
        .path = "/v1/completions",                                                                 \
        JSON("{\"choices\": [{\"text\": \"a\"}], \"usage\": {\"prompt_tokens\": " prompt           \
             ", \"completion_tokens\": " made "}}")                                                \
    }

static const struct bench_plan with_decode = {
    .lengths = {4}, .n_lengths = 1, .n_decode = 8, .n_warmups = 1, .n_reps = 2};
static const struct bench_plan prompt_alone = {.lengths = {4}, .n_lengths = 1, .n_reps = 1};

/* Open and run once; the body of the last question is kept. */
static enum bnt_status run(const struct bnt_mock_route *routes, const struct bench_plan *work,
                           struct perf_server_times *times, char question[2048])
{
    struct bnt_mock_server *mock = NULL;
    struct perf_server *s = NULL;
    assert_int_equal(bnt_mock_server_start(routes, NULL, &mock, NULL), BNT_OK);
    const struct perf_server_plan plan = {
        .address = bnt_mock_server_url(mock), .model = suite_bundled_model(), .work = work};
    struct bnt_err err = {0};
    enum bnt_status st = perf_server_open(&plan, &s, &err);
    st = st == BNT_OK ? perf_server_run(s, times, &err) : st;
    bnt_mock_server_last_body(mock, question, 2048);
    if (st != BNT_OK) {
        print_message("%s\n", err.msg);
    }
    perf_server_close(s);
    bnt_mock_server_stop(mock);
    return st;
}

static void the_servers_own_clock_counts(void **state)
{
    (void)state;
    const struct bnt_mock_route routes[] = {PROPS, MODELS("2048"), LLAMA("4", "9"), {0}};
    struct perf_server_times t;
    char question[2048];
    assert_int_equal(run(routes, &with_decode, &t, question), BNT_OK);
    assert_true(t.prompt_ms[0] == 2.5 && isnan(t.prompt_ms[1]));
    assert_true(t.decode_ms == 12); /* nine tokens, of which the first is the prompt's */
    /* Ids, none of them kept from before, and no end before the ninth. */
    assert_non_null(strstr(question, "\"prompt\""));
    assert_non_null(strstr(question, "\"n_predict\":9"));
    assert_non_null(strstr(question, "\"cache_prompt\":false"));
    assert_non_null(strstr(question, "\"ignore_eos\":true"));
}

static void questions_and_answers_are_timed_without_one(void **state)
{
    (void)state;
    const struct bnt_mock_route routes[] = {MODELS("2048"), OPENAI("4", "1"), {0}};
    struct perf_server_times t;
    char question[2048];
    assert_int_equal(run(routes, &prompt_alone, &t, question), BNT_OK);
    assert_true(t.prompt_ms[0] > 0 && isnan(t.decode_ms));
    assert_non_null(strstr(question, "\"max_tokens\":1"));
}

static void other_work_than_ours_is_refused(void **state)
{
    (void)state;
    const struct bnt_mock_route longer[] = {PROPS, MODELS("2048"), LLAMA("5", "9"), {0}};
    const struct bnt_mock_route text[] = {MODELS("2048"), OPENAI("5", "1"), {0}};
    const struct bnt_mock_route other[] = {PROPS, MODELS("32000"), LLAMA("4", "9"), {0}};
    const struct bnt_mock_route ended[] = {PROPS, MODELS("2048"), LLAMA("4", "2"), {0}};
    struct perf_server_times t;
    char question[2048];
    assert_int_equal(run(longer, &with_decode, &t, question), BNT_E_DIFFERS);
    assert_int_equal(run(text, &prompt_alone, &t, question), BNT_E_DIFFERS);
    assert_int_equal(run(other, &with_decode, &t, question), BNT_E_DIFFERS);
    assert_int_equal(run(ended, &with_decode, &t, question), BNT_E_INFERENCE);
}

/* The command, with a server that takes as good as no time: ours is slower. */
static void a_server_is_compared_with_a_verdict(void **state)
{
    (void)state;
    const struct bnt_mock_route routes[] = {
        PROPS,
        MODELS("2048"),
        {.path = "/completion",
         JSON("{\"content\": \"a\", \"timings\": {\"prompt_n\": 4, \"prompt_ms\": 0.000001}}")},
        {0}};
    struct bnt_mock_server *mock = NULL;
    struct suite_output o;
    assert_int_equal(bnt_mock_server_start(routes, NULL, &mock, NULL), BNT_OK);
    suite_run((const char *const[]){suite_bnt(), "bench", "--compare", bnt_mock_server_url(mock),
                                    "--prompt-lengths", "4", "-n", "0", "-r", "1", "-w", "0",
                                    "--pairs", "12", NULL},
              NULL, 0, &o);
    bnt_mock_server_stop(mock);
    assert_int_equal(o.exit, BNT_E_SLOWER);
    assert_non_null(strstr(o.out, "its own clock"));
    assert_non_null(strstr(o.out, "wall time"));
    suite_output_release(&o);
    suite_run((const char *const[]){suite_bnt(), "bench", "--compare", "http://127.0.0.1:9",
                                    "--clock", "cpu", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "the_servers_own_clock_counts", .body = the_servers_own_clock_counts},
    {.name = "questions_and_answers_are_timed_without_one",
     .body = questions_and_answers_are_timed_without_one},
    {.name = "other_work_than_ours_is_refused", .body = other_work_than_ours_is_refused},
    {.name = "a_server_is_compared_with_a_verdict", .body = a_server_is_compared_with_a_verdict},
    {0},
};
const struct suite suite_perf_server = {"perf_server", tests, "server_work"};
