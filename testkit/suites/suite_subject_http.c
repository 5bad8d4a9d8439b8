/* Guards the subject behind an address: an ability that the server has not, a question that is not
 * the one that was asked, an answer that cannot be and is believed, a key that is shown. The server
 * is scripted; what it was asked is looked at. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/fake_server.h"
#include "testkit/user_suite.h"

/* " world" as ids 4 and 5, then the end token 3. */
#define WORLD                                                                                      \
    "{\"content\": \" world\", \"tokens\": [4, 5, 3], \"stop_type\": \"eos\","                     \
    " \"timings\": {\"prompt_ms\": 2.5, \"predicted_ms\": 10},"                                    \
    " \"completion_probabilities\": ["                                                             \
    "{\"id\": 4, \"logprob\": -0.5, \"top_logprobs\": [{\"id\": 4, \"logprob\": -0.5},"            \
    " {\"id\": 7, \"logprob\": -1.5}]},"                                                           \
    "{\"id\": 5, \"logprob\": -2, \"top_logprobs\": [{\"id\": 6, \"logprob\": -1},"                \
    " {\"id\": 5, \"logprob\": -2}]}]}"

#define TEXT(text, reason)                                                                         \
    "{\"choices\": [{\"text\": \"" text "\", \"finish_reason\": \"" reason "\"}],"                 \
    " \"usage\": {\"completion_tokens\": 3}}"

/* ---- llama-server ---- */

static const struct bnt_mock_route llama[] = {
    PROPS, MODELS, TOKENIZE, {.path = "/completion", JSON(WORLD)}, {0}};

static void llama_server_tells_what_it_is(void **state)
{
    (void)state;
    struct fake_server s = fake_server_begin(llama);
    const struct bnt_subject_facts f = bnt_subject_describe(s.subject);
    assert_string_equal(f.kind, "http");
    assert_string_equal(f.name, "/m/x.gguf");
    assert_string_equal(f.place, bnt_mock_server_url(s.server));
    assert_int_equal(f.n_ctx, 64);
    assert_int_equal(f.n_vocab, 10);
    assert_true(f.remote);
    assert_int_equal(f.can, BNT_CAN_TOKENIZE | BNT_CAN_GENERATE | BNT_CAN_IDS | BNT_CAN_LOGPROBS |
                                BNT_CAN_SAMPLE | BNT_CAN_ROWS);
    struct bnt_ids ids = {0};
    assert_int_equal(bnt_subject_tokenize(s.subject, "a", 1, BNT_ENCODE_ADD_SPECIAL, &ids, NULL),
                     BNT_OK);
    assert_int_equal(ids.n, 2);
    fake_server_assert_asked(&s, "\"add_special\":true,\"parse_special\":false");
    assert_int_equal(bnt_subject_evaluate(s.subject, ids.at, ids.n, NULL, NULL, NULL),
                     BNT_E_UNSUPPORTED);
    bnt_ids_release(&ids);
    fake_server_end(&s);
}

static void llama_server_answers_with_ids_and_log_probabilities(void **state)
{
    (void)state;
    struct fake_server s = fake_server_begin(llama);
    struct bnt_subject_answer a;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.temperature = 0.5;
    p.top_k = 3;
    p.seed = 7;
    struct bnt_subject_request r = fake_server_hello;
    r.sampling = &p;
    r.n_logprobs = 2;
    r.stop = (const char *const[]){"END"};
    r.n_stop = 1;
    bnt_subject_answer_init(&a);
    assert_int_equal(bnt_subject_generate(s.subject, &r, &a, NULL), BNT_OK);
    assert_int_equal(a.prompt_ids.n, 2);
    assert_string_equal(bnt_buf_view(&a.made.text), " world");
    assert_int_equal(a.made.ids.n, 2);
    assert_int_equal(a.made.stop_id, 3);
    assert_int_equal(a.made.finish, BNT_FINISH_STOP);
    assert_int_equal(a.made.n_best, 2);
    assert_true(a.made.logprob[1] == -2);
    assert_int_equal(a.made.best[2].id, 6);
    assert_int_equal(a.made.times.first_token_ns, 2500000);
    assert_int_equal(a.made.times.total_ns, 12500000);
    static const char *const parts[] = {
        "\"prompt\":[1,2]",  "\"n_predict\":8",        "\"temperature\":0.5",    "\"top_k\":3",
        "\"seed\":7",        "\"stop\":[\"END\"]",     "\"n_probs\":2",          "\"min_p\":0.0",
        "\"typical_p\":1.0", "\"cache_prompt\":false", "\"return_tokens\":true", "\"samplers\":["};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        fake_server_assert_asked(&s, parts[i]);
    }
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

/* No ids, no list of models, three flags for the end. */
static void older_server_claims_no_ids(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        PROPS,
        TOKENIZE,
        {.path = "/completion",
         JSON("{\"content\": \" world\", \"stopped_limit\": true, \"truncated\": false,"
              " \"completion_probabilities\": [{\"content\": \" w\", \"probs\": []}]}")},
        {0}};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_subject_answer a;
    bnt_subject_answer_init(&a);
    assert_int_equal(bnt_subject_describe(s.subject).can,
                     BNT_CAN_TOKENIZE | BNT_CAN_GENERATE | BNT_CAN_SAMPLE);
    assert_int_equal(bnt_subject_generate(s.subject, &fake_server_hello, &a, NULL), BNT_OK);
    assert_int_equal(a.made.finish, BNT_FINISH_LENGTH);
    fake_server_assert_asked(&s, "\"prompt\":\"Hello\"");
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

/* ---- OpenAI ---- */

static void openai_server_claims_text_alone(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        MODELS, {.path = "/v1/completions", JSON(TEXT(" caf\\u00e9", "stop"))}, {0}};
    assert_int_equal(setenv("BNT_API_KEY", "sk-secret", 1), 0);
    struct fake_server s = fake_server_begin(routes);
    struct bnt_subject_answer a;
    char head[4096];
    bnt_subject_answer_init(&a);
    const struct bnt_subject_facts f = bnt_subject_describe(s.subject);
    assert_string_equal(f.name, "x");
    assert_int_equal(f.n_ctx, 99);
    assert_int_equal(f.can, BNT_CAN_GENERATE | BNT_CAN_SAMPLE | BNT_CAN_ROWS);
    assert_int_equal(bnt_subject_generate(s.subject, &fake_server_hello, &a, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&a.made.text), " caf\xc3\xa9");
    assert_int_equal(a.made.ids.n, 0);
    fake_server_assert_asked(
        &s, "\"model\":\"x\",\"prompt\":\"Hello\",\"max_tokens\":8,\"temperature\":0.0");
    bnt_mock_server_last_request(s.server, head, sizeof head);
    assert_non_null(strstr(head, "POST /v1/completions "));
    assert_non_null(strstr(head, "Authorization: Bearer sk-secret"));
    assert_non_null(strstr(head, "Content-Type: application/json"));
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

/* OpenAI's own form is a map per place, that of llama-server a list of objects. */
static void openai_rows_go_by_text(void **state)
{
    (void)state;
#define LOGPROBS(form)                                                                             \
    {                                                                                              \
        JSON("{\"choices\": [{\"text\": \" a b\", \"finish_reason\": \"length\", \"logprobs\": "   \
             "{" form "}}]}")                                                                      \
    }
    static const struct bnt_mock_step answers[] = {
        LOGPROBS("\"top_logprobs\": [{\" a\": -1}, {\"y\": -2, \" b\": -0.5}]"),
        LOGPROBS("\"content\": [{}, {\"top_logprobs\": [{\"token\": \" b\", \"logprob\": -0.5},"
                 " {\"token\": \"y\", \"logprob\": -2}]}]"),
        LOGPROBS("\"top_logprobs\": null"),
        LOGPROBS("\"top_logprobs\": [{}, {\"y\": 2}]"),
        {0}};
    const struct bnt_mock_route routes[] = {
        MODELS, {.path = "/v1/completions", .steps = answers}, {0}};
    static const enum bnt_status want[] = {BNT_OK, BNT_OK, BNT_E_UNSUPPORTED, BNT_E_INFERENCE};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_subject_request r = fake_server_hello;
    r.n_logprobs = 20;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct bnt_row row;
        bnt_row_init(&row);
        assert_int_equal(bnt_subject_row(s.subject, &r, 1, &row, NULL), want[i]);
        fake_server_assert_asked(&s, "\"max_tokens\":2,");
        fake_server_assert_asked(&s, "\"logprobs\":5");
        if (want[i] == BNT_OK) {
            assert_int_equal(row.n, 2);
            assert_string_equal(row.at[0].text, " b");
            assert_int_equal(row.at[0].id, -1);
            assert_true(row.at[1].logprob == -2);
        }
        bnt_row_release(&row);
    }
    fake_server_end(&s);
}

static void what_openai_has_no_word_for_is_not_asked(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        MODELS, {.path = "/v1/completions", JSON(TEXT("x", "stop"))}, {0}};
    struct bnt_sampler_params p[3] = {bnt_sampler_defaults(), bnt_sampler_defaults(),
                                      bnt_sampler_defaults()};
    p[0].temperature = 1, p[0].top_k = 5;
    p[1].temperature = 1, p[1].min_p = 0.1;
    p[2].repeat_penalty = 1.1;
    const int32_t id = 1;
    struct bnt_subject_request r[] = {fake_server_hello, fake_server_hello,
                                      fake_server_hello, fake_server_hello,
                                      fake_server_hello, {.ids = &id, .n_ids = 1, .max_tokens = 1}};
    r[0].sampling = &p[0];
    r[1].sampling = &p[1];
    r[2].sampling = &p[2];
    r[3].ignore_eos = true;
    r[4].max_tokens = 0;
    struct fake_server s = fake_server_begin(routes);
    const size_t before = bnt_mock_server_requests(s.server);
    for (size_t i = 0; i < sizeof r / sizeof r[0]; i++) {
        struct bnt_subject_answer a;
        bnt_subject_answer_init(&a);
        assert_int_equal(bnt_subject_generate(s.subject, &r[i], &a, NULL), BNT_E_UNSUPPORTED);
        bnt_subject_answer_release(&a);
    }
    assert_int_equal(bnt_mock_server_requests(s.server), before);
    fake_server_end(&s);
}

/* ---- what goes wrong ---- */

struct wrong {
    const char *body, *says;
    enum bnt_status status;
    int code; /* 0: 200 */
    enum bnt_mock_fault fault;
};

/* Ask a server that answers its first request of `path` well, and then so. */
static void assert_wrong(const struct wrong *w, bool is_llama)
{
    const struct bnt_mock_step steps[] = {{JSON(WORLD)},
                                          {.status = w->code ? w->code : 200,
                                           .body = w->body,
                                           .body_bytes = strlen(w->body),
                                           .fault = w->fault,
                                           .fault_at = 5},
                                          {0}};
    const struct bnt_mock_route routes[] = {
        MODELS,
        {.path = is_llama ? "/completion" : "/v1/completions", .steps = steps + !is_llama},
        TOKENIZE,
        PROPS,
        {0}};
    struct bnt_mock_route used[5];
    memcpy(used, routes, sizeof used);
    used[3] = is_llama ? routes[3] : routes[4];
    struct fake_server s = fake_server_begin(used);
    struct bnt_subject_answer a;
    struct bnt_err err = {0};
    struct bnt_subject_request r = fake_server_hello;
    r.stop = (const char *const[]){"END"};
    r.n_stop = 1;
    r.n_logprobs = is_llama ? 1 : 0;
    bnt_subject_answer_init(&a);
    const enum bnt_status st = bnt_subject_generate(s.subject, &r, &a, &err);
    if (st != w->status || !strstr(err.msg, w->says) || strstr(err.msg, "sk-secret")) {
        fail_msg("%s: status %d, should be %d: %s, should say %s", w->body, (int)st, (int)w->status,
                 err.msg, w->says);
    }
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

static void bad_answers_are_errors_by_cause(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {"<html>", "no JSON object", BNT_E_INFERENCE, 0, 0},
        {"[]", "no JSON object", BNT_E_INFERENCE, 0, 0},
        {"{\"choices\": [{\"text\": \"\xc3\", \"finish_reason\": \"stop\"}]}", "no JSON object",
         BNT_E_INFERENCE, 0, 0},
        {"{}", "has not one choice", BNT_E_INFERENCE, 0, 0},
        {"{\"choices\": []}", "has not one choice", BNT_E_INFERENCE, 0, 0},
        {"{\"choices\": [{\"text\": 3}]}", "has no text", BNT_E_INFERENCE, 0, 0},
        {"{\"choices\": [{\"text\": \"x\"}]}", "does not say how", BNT_E_INFERENCE, 0, 0},
        {TEXT("x", "content_filter"), "\"content_filter\"", BNT_E_INFERENCE, 0, 0},
        {TEXT("an END", "stop"), "a stop string", BNT_E_INFERENCE, 0, 0},
        {"{\"error\": {\"message\": \"too\\nlong\"}}", "400: too long", BNT_E_INFERENCE, 400, 0},
        {"{\"detail\": \"odd\"}", "422: odd", BNT_E_INFERENCE, 422, 0},
        {"{\"error\": \"who are you, sk-secret?\"}", "answered 401", BNT_E_AUTH, 401, 0},
        {"{\"message\": \"slow down\"}", "429: slow down", BNT_E_RATE_LIMIT, 429, 0},
        {"{\"error\": {\"message\": \"Loading model\"}}", "503: Loading model", BNT_E_NETWORK, 503,
         0},
        {"", "answered 301", BNT_E_INFERENCE, 301, 0},
        {TEXT("x", "stop"), "completions: ", BNT_E_NETWORK, 0, BNT_MOCK_CLOSE},
        {TEXT("x", "stop"), "completions: ", BNT_E_NETWORK, 0, BNT_MOCK_RESET},
    };
    assert_int_equal(setenv("BNT_API_KEY", "sk-secret", 1), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_wrong(&cases[i], false);
    }
}

#define ROW(id, lp) "{\"id\": " #id ", \"logprob\": " #lp ", \"top_logprobs\": []}"
#define MADE(tokens, rows)                                                                         \
    "{\"content\": \"x\", \"stop_type\": \"limit\", \"tokens\": " tokens                           \
    ", \"completion_probabilities\": [" rows "]}"

static void bad_ids_and_log_probabilities_are_not_believed(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {"{\"content\": \"x\", \"stop_type\": \"eos\"}", "no list of tokens", BNT_E_INFERENCE, 0,
         0},
        {MADE("[4, 10]", ""), "no id of the vocabulary", BNT_E_INFERENCE, 0, 0},
        {MADE("[-1]", ""), "no id of the vocabulary", BNT_E_INFERENCE, 0, 0},
        {MADE("[1.5]", ""), "no id of the vocabulary", BNT_E_INFERENCE, 0, 0},
        {MADE("[99999999999]", ""), "no id of the vocabulary", BNT_E_INFERENCE, 0, 0},
        {MADE("[4]", ""), "0 of 1 tokens", BNT_E_UNSUPPORTED, 0, 0},
        {MADE("[4]", ROW(5, -1)), "not of its tokens", BNT_E_INFERENCE, 0, 0},
        {MADE("[4]", ROW(4, 1)), "not of its tokens", BNT_E_INFERENCE, 0, 0},
        {MADE("[4]", ROW(4, null)), "not of its tokens", BNT_E_INFERENCE, 0, 0},
        {"{\"content\": \"x\", \"tokens\": [4], \"stop_type\": \"none\"}", "how it ended",
         BNT_E_INFERENCE, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_wrong(&cases[i], true);
    }
}

static void the_end_is_told_as_it_was(void **state)
{
    (void)state;
    static const struct {
        const char *end;
        enum bnt_finish finish;
        int stop_string;
    } cases[] = {
        {"\"stop_type\": \"limit\", \"truncated\": false", BNT_FINISH_LENGTH, -1},
        {"\"stop_type\": \"limit\", \"truncated\": true", BNT_FINISH_CONTEXT, -1},
        {"\"stop_type\": \"word\", \"stopping_word\": \"END\"", BNT_FINISH_STOP, 1},
        {"\"stop_type\": \"eos\"", BNT_FINISH_STOP, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"content\": \"x\", \"tokens\": [4], %s}", cases[i].end);
        const struct bnt_mock_route routes[] = {
            PROPS,
            MODELS,
            TOKENIZE,
            {.path = "/completion", .status = 200, .body = body, .body_bytes = strlen(body)},
            {0}};
        struct fake_server s = fake_server_begin(routes);
        struct bnt_subject_answer a;
        struct bnt_subject_request r = fake_server_hello;
        r.stop = (const char *const[]){"never", "END"};
        r.n_stop = 2;
        bnt_subject_answer_init(&a);
        assert_int_equal(bnt_subject_generate(s.subject, &r, &a, NULL), BNT_OK);
        assert_int_equal(a.made.finish, cases[i].finish);
        assert_int_equal(a.made.stop_string, cases[i].stop_string);
        bnt_subject_answer_release(&a);
        fake_server_end(&s);
    }
}

static void a_server_that_is_silent_or_endless_is_left(void **state)
{
    (void)state;
    char *large = malloc(9u << 20);
    assert_non_null(large);
    memset(large, ' ', 9u << 20);
    const struct bnt_mock_route silent[] = {
        {.path = "/props", JSON("{}"), .fault = BNT_MOCK_STALL, .fault_at = 1}, {0}};
    const struct bnt_mock_route endless[] = {
        {.path = "/props", .status = 200, .body = large, .body_bytes = 9u << 20}, {0}};
    const struct {
        const struct bnt_mock_route *routes;
        unsigned
            timeout_ms; /* not of the endless one, which takes long where threads are watched */
        const char *says;
    } cases[] = {{silent, 200, "timed out"}, {endless, 10000, "too large"}};
    for (size_t i = 0; i < 2; i++) {
        struct bnt_mock_server *s = fake_server_start(cases[i].routes);
        struct bnt_subject *subject = NULL;
        struct bnt_err err = {0};
        const struct bnt_subject_options opts = {.http_timeout_ms = cases[i].timeout_ms,
                                                 .http_max_attempts = 1};
        assert_int_equal(bnt_subject_open(NULL, bnt_mock_server_url(s), &opts, &subject, &err),
                         BNT_E_NETWORK);
        assert_null(subject);
        if (!strstr(err.msg, cases[i].says)) {
            fail_msg("%s, should say %s", err.msg, cases[i].says);
        }
        bnt_mock_server_stop(s);
    }
    free(large);
}

/* ---- addresses ---- */

static void a_server_of_no_known_protocol_is_unsupported(void **state)
{
    (void)state;
    static const struct bnt_mock_route nothing[] = {{0}};
    static const struct bnt_mock_route page[] = {
        {.path = "/props", JSON("<html>")}, {.path = "/v1/models", JSON("<html>")}, {0}};
    static const struct bnt_mock_route two[] = {
        {.path = "/v1/models", JSON("{\"data\": [{\"id\": \"a\"}, {\"id\": \"b\"}]}")}, {0}};
    static const struct {
        const struct bnt_mock_route *routes;
        const char *behind, *says;
        enum bnt_status status;
    } cases[] = {
        {nothing, "", "neither /props nor /v1/models", BNT_E_UNSUPPORTED},
        {page, "", "no JSON object", BNT_E_INFERENCE},
        {two, "", "2 models: which?", BNT_E_USAGE},
        {two, "#c", "has no model c", BNT_E_NOT_FOUND},
        {two, "/v1#b", "", BNT_OK},
        {two, "/?x=1", "no address", BNT_E_USAGE},
        {two, "/a b", "no address", BNT_E_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_mock_server *s = fake_server_start(cases[i].routes);
        struct bnt_subject *subject = NULL;
        struct bnt_err err = {0};
        const enum bnt_status st = fake_server_open_at(s, cases[i].behind, &subject, &err);
        if (st != cases[i].status || !strstr(err.msg, cases[i].says)) {
            fail_msg("'%s': status %d: %s", cases[i].behind, (int)st, err.msg);
        }
        bnt_subject_close(subject);
        bnt_mock_server_stop(s);
    }
    struct bnt_subject *subject = NULL;
    struct bnt_err err = {0};
    assert_int_equal(bnt_subject_open(NULL, "http://me:pass@127.0.0.1:1", NULL, &subject, &err),
                     BNT_E_USAGE);
    assert_null(strstr(err.msg, "pass"));
}

/* ---- suites of users ---- */

static enum bnt_status run_on(struct bnt_subject *subject, const char *expect,
                              struct bnt_buf *report)
{
    char path[BNT_PATH_MAX], text[512];
    struct user_suite suite;
    struct bnt_err err = {0};
    snprintf(text, sizeof text, "tests: [{name: a, prompt: Hello, subjects: http, expect: %s}]\n",
             expect);
    fixture_write(fixture_path(path, "a.bnt.yml"), text);
    if (user_suite_read(path, &suite, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    bnt_buf_reset(report);
    const enum bnt_status st = user_test_run(&suite.tests[0], subject, report, &err);
    user_suite_release(&suite);
    return st;
}

static void a_suite_in_yaml_runs_as_far_as_the_server_can(void **state)
{
    (void)state;
    static const struct bnt_mock_route openai[] = {
        MODELS,
        {.path = "/v1/completions",
         JSON("{\"choices\": [{\"text\": \" world\", \"finish_reason\": \"stop\", \"logprobs\":"
              " {\"top_logprobs\": [{}, {\"world\": -0.5, \"word\": -1.5}]}}]}")},
        {0}};
    static const struct {
        const char *expect;
        enum bnt_status on_llama, on_openai;
    } cases[] = {
        {"{text: \" world\", finish: stop, repeats: 2}", BNT_OK, BNT_OK},
        {"{contains: moon}", BNT_E_FAILED, BNT_E_FAILED},
        {"{ids: [4, 5]}", BNT_OK, BNT_E_UNSUPPORTED},
        {"{ids: [4]}", BNT_E_FAILED, BNT_E_UNSUPPORTED},
        {"{tokens: {min: 2, max: 2}}", BNT_OK, BNT_E_UNSUPPORTED},
        {"{quality: true}", BNT_OK, BNT_E_UNSUPPORTED},
        {"{tokens_per_second: {min: 99, max: 101}}", BNT_OK, BNT_E_UNSUPPORTED},
        {"{first_token_ms: {min: 2, max: 3}}", BNT_OK, BNT_E_UNSUPPORTED},
        {"{memory: {max: 900GB}}", BNT_E_UNSUPPORTED, BNT_E_UNSUPPORTED},
        {"{logprob: {id: 4, min: -1}}", BNT_OK, BNT_E_UNSUPPORTED},
        {"{logprob: {id: 4, max: -1}}", BNT_E_FAILED, BNT_E_UNSUPPORTED},
        {"{logprob: {id: 9, max: -1}}", BNT_OK, BNT_E_UNSUPPORTED},
        {"{logprob: {id: 9, min: -1}}", BNT_E_FAILED, BNT_E_UNSUPPORTED},
        {"{logprob: {id: 9, min: -3}}", BNT_E_UNSUPPORTED, BNT_E_UNSUPPORTED},
        {"{logprob: {token: world, at: 1, min: -1}}", BNT_E_FAILED, BNT_OK},
        {"{logprob: {token: moon, at: 1, min: -1}}", BNT_E_FAILED, BNT_E_FAILED},
        {"{perplexity: {text: Hello, max: 2}}", BNT_E_UNSUPPORTED, BNT_E_UNSUPPORTED},
    };
    struct bnt_buf report = BNT_BUF(1 << 16);
    struct fake_server a = fake_server_begin(llama), b = fake_server_begin(openai);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const enum bnt_status st[] = {run_on(a.subject, cases[i].expect, &report),
                                      run_on(b.subject, cases[i].expect, &report)};
        if (st[0] != cases[i].on_llama || st[1] != cases[i].on_openai) {
            fail_msg("%s: %d and %d", cases[i].expect, (int)st[0], (int)st[1]);
        }
    }
    bnt_buf_release(&report);
    fake_server_end(&a);
    fake_server_end(&b);
}

#define TEST(name_, body_)                                                                         \
    {                                                                                              \
        .name = "subject_http_" name_, .body = body_                                               \
    }
static const struct suite_test tests[] = {
    TEST("llama_server_tells_what_it_is", llama_server_tells_what_it_is),
    TEST("llama_server_answers_with_ids_and_log_probabilities",
         llama_server_answers_with_ids_and_log_probabilities),
    TEST("older_server_claims_no_ids", older_server_claims_no_ids),
    TEST("openai_rows_go_by_text", openai_rows_go_by_text),
    TEST("openai_server_claims_text_alone", openai_server_claims_text_alone),
    TEST("what_openai_has_no_word_for_is_not_asked", what_openai_has_no_word_for_is_not_asked),
    TEST("bad_answers_are_errors_by_cause", bad_answers_are_errors_by_cause),
    TEST("bad_ids_and_log_probabilities_are_not_believed",
         bad_ids_and_log_probabilities_are_not_believed),
    TEST("the_end_is_told_as_it_was", the_end_is_told_as_it_was),
    TEST("a_server_that_is_silent_or_endless_is_left", a_server_that_is_silent_or_endless_is_left),
    TEST("a_server_of_no_known_protocol_is_unsupported",
         a_server_of_no_known_protocol_is_unsupported),
    TEST("a_suite_in_yaml_runs_as_far_as_the_server_can",
         a_suite_in_yaml_runs_as_far_as_the_server_can),
    {0},
};
const struct suite suite_subject_http = {"subject_http", tests, "http_any_id http_unsaid"};
