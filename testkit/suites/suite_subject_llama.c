/* Guards the forms in which the llama-servers of bitnet.cpp and ik_llama.cpp tell ids and
 * log-probabilities: an id that is another's, one that is missing in the middle, probabilities that
 * are not those before sampling. */
#include "testkit/suite.h"

#include <string.h>

#include "testkit/suites/fake_server.h"

/* bitnet.cpp's answers: texts and probabilities; the ids of the texts come from the list of the
 * vocabulary. Ids 2 and 8 have one text, 9 is a byte. */
#define OLD(end, places)                                                                           \
    "{\"content\": \" a b\", \"tokens_predicted\": 3, \"truncated\": false, " end                  \
    ": true, \"stopping_word\": \"\", \"completion_probabilities\": [" places "]}"
#define PLACE(text)                                                                                \
    "{\"content\": \"" text "\", \"probs\": [{\"tok_str\": \" a\", \"prob\": 0.5},"                \
    " {\"tok_str\": \"byte: \\\\xf0\", \"prob\": 0.25}, {\"tok_str\": \"x\", \"prob\": 0.125},"    \
    " {\"tok_str\": \" b\", \"prob\": 0}]}"
static const char vocabulary[] =
    "{\"tokens\": [{\"id\": 0, \"piece\": \"q\"}, {\"id\": 1, \"piece\": \"He\"},"
    " {\"id\": 2, \"piece\": \"x\"}, {\"id\": 3, \"piece\": \"<end>\"},"
    " {\"id\": 4, \"piece\": \" a\"}, {\"id\": 5, \"piece\": \" b\"},"
    " {\"id\": 6, \"piece\": \"c\"}, {\"id\": 7, \"piece\": [240, 159]},"
    " {\"id\": 8, \"piece\": \"x\"}, {\"id\": 9, \"piece\": [240]}]}";

static const struct bnt_mock_step old_tokenize[] = {
    {JSON("{\"tokens\": [1, 6]}")},
    {JSON("{\"tokens\": [{\"id\": 1, \"piece\": \"He\"}]}")},
    {JSON("{\"tokens\": [1, 6]}")},
    {.status = 200, .body = vocabulary, .body_bytes = sizeof vocabulary - 1},
    {0}};

/* What a server of the older form answers, but for completions. */
#define OLD_SERVER                                                                                 \
    PROPS, MODELS,                                                                                 \
    {                                                                                              \
        .path = "/tokenize", .steps = old_tokenize                                                 \
    }

static void assert_ids(const struct bnt_ids *ids, const int32_t *want, size_t n)
{
    assert_int_equal(ids->n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(ids->at[i], want[i]);
    }
}

static void texts_of_bitnet_cpp_become_ids(void **state)
{
    (void)state;
    const struct bnt_mock_route routes[] = {
        OLD_SERVER,
        {.path = "/completion",
         JSON(OLD("\"stopped_eos\"", PLACE(" a") "," PLACE(" b") "," PLACE("<end>")))},
        {0}};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_subject_answer a;
    assert_int_equal(bnt_subject_describe(s.subject).can, BNT_CAN_TOKENIZE | BNT_CAN_GENERATE |
                                                              BNT_CAN_IDS | BNT_CAN_SAMPLE |
                                                              BNT_CAN_ROWS);
    bnt_subject_answer_init(&a);
    assert_int_equal(bnt_subject_generate(s.subject, &fake_server_hello, &a, NULL), BNT_OK);
    assert_ids(&a.made.ids, (const int32_t[]){4, 5}, 2);
    assert_int_equal(a.made.stop_id, 3);
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

/* /tokenize answers the next question with the list, and the first row asks for it. */
static void learn_vocabulary(struct bnt_subject *subject)
{
    struct bnt_ids ids = {0};
    struct bnt_row row;
    const struct bnt_subject_request r = {
        .ids = (const int32_t[]){1, 6}, .n_ids = 2, .n_logprobs = 1};
    bnt_row_init(&row);
    assert_int_equal(bnt_subject_tokenize(subject, "Hec", 3, 0, &ids, NULL), BNT_OK);
    assert_int_equal(bnt_subject_row(subject, &r, 0, &row, NULL), BNT_OK);
    bnt_row_release(&row);
    bnt_ids_release(&ids);
}

/* What a stop string cut off is asked for once more, without the stop string. */
static void ids_of_an_answer_that_was_cut_are_whole(void **state)
{
    (void)state;
    static const struct bnt_mock_step answers[] = {
        {JSON(OLD("\"stopped_limit\"", PLACE(" a")))},
        {JSON(OLD("\"stopped_limit\"", PLACE(" a")))},
        {JSON(OLD("\"stopped_word\"", PLACE(" a")))},
        {JSON(OLD("\"stopped_limit\"", PLACE(" a") "," PLACE(" b") "," PLACE("c")))},
        {JSON(OLD("\"stopped_limit\"", PLACE("x")))},
        {0}};
    const struct bnt_mock_route routes[] = {
        OLD_SERVER, {.path = "/completion", .steps = answers}, {0}};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_subject_answer a;
    struct bnt_err err = {0};
    struct bnt_subject_request r = {.ids = (const int32_t[]){1, 6}, .n_ids = 2, .max_tokens = 8};
    bnt_subject_answer_init(&a);
    learn_vocabulary(s.subject);
    r.stop = (const char *const[]){"bc"};
    r.n_stop = 1;
    assert_int_equal(bnt_subject_generate(s.subject, &r, &a, NULL), BNT_OK);
    assert_ids(&a.made.ids, (const int32_t[]){4, 5, 6}, 3);
    fake_server_assert_asked(&s, "\"n_predict\":3,\"stop\":[]");
    assert_int_equal(bnt_subject_generate(s.subject, &r, &a, &err), BNT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "no single id"));
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

static void a_row_is_what_comes_before_sampling(void **state)
{
    (void)state;
    const struct bnt_mock_route routes[] = {
        OLD_SERVER, {.path = "/completion", JSON(OLD("\"stopped_limit\"", PLACE(" a")))}, {0}};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_row row;
    const struct bnt_subject_request r = {
        .ids = (const int32_t[]){1, 6}, .n_ids = 2, .n_logprobs = 99};
    bnt_row_init(&row);
    learn_vocabulary(s.subject);
    assert_int_equal(bnt_subject_row(s.subject, &r, 0, &row, NULL), BNT_OK);
    fake_server_assert_asked(&s, "\"samplers\":[],\"n_probs\":10,");
    assert_int_equal(row.n, 3);
    assert_false(row.whole);
    assert_int_equal(row.at[0].id, 4);
    assert_int_equal(row.at[1].id, 9);
    assert_int_equal(row.at[2].id, -1);
    assert_string_equal(row.at[2].text, "x");
    assert_true(row.at[1].logprob > -1.38630 && row.at[1].logprob < -1.38629);
    assert_int_equal(bnt_subject_row(s.subject, &r, 1, &row, NULL), BNT_E_UNSUPPORTED);
    bnt_row_release(&row);
    fake_server_end(&s);
}

static const int32_t two_ids[] = {1, 6};
static const struct bnt_subject_request two_best = {.ids = two_ids, .n_ids = 2, .n_logprobs = 2};

/* ik_llama.cpp's answers: texts from /completion, ids from /v1/completions. */
static void ids_come_from_the_other_door(void **state)
{
    (void)state;
    static const char content[] =
        "{\"choices\": [{\"text\": \" a b\", \"finish_reason\": \"length\", \"logprobs\": "
        "{\"content\": [{\"id\": 4, \"logprob\": -0.5, \"top_logprobs\": [{\"id\": 4, \"token\": "
        "\" a\", \"logprob\": -0.5}, {\"id\": 8, \"token\": \"x\", \"logprob\": -3.4e38}]},"
        " {\"id\": 8, \"logprob\": -1, \"top_logprobs\": []}]}}]}";
    const struct bnt_mock_route routes[] = {
        PROPS,
        MODELS,
        TOKENIZE,
        {.path = "/completion", JSON(OLD("\"stopped_limit\"", PLACE(" a") "," PLACE("x")))},
        {.path = "/v1/completions",
         .status = 200,
         .body = content,
         .body_bytes = sizeof content - 1},
        {0}};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_subject_answer a;
    struct bnt_row row;
    bnt_row_init(&row);
    bnt_subject_answer_init(&a);
    assert_int_equal(bnt_subject_generate(s.subject, &fake_server_hello, &a, NULL), BNT_OK);
    assert_ids(&a.made.ids, (const int32_t[]){4, 8}, 2);
    assert_int_equal(a.made.finish, BNT_FINISH_LENGTH);
    assert_int_equal(bnt_subject_row(s.subject, &two_best, 0, &row, NULL), BNT_OK);
    assert_int_equal(row.n, 1);
    assert_int_equal(row.at[0].id, 4);
    bnt_row_release(&row);
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

/* One version of ik_llama.cpp counts what is not in a list twice: of 0.5, 0.3 and a rest of 0.2 it
 * makes 0.5 / 1.5 in a list of one, 0.5 / 1.2 and 0.3 / 1.2 in a list of two. */
#define CONTENT(top)                                                                               \
    JSON("{\"choices\": [{\"text\": \" a\", \"finish_reason\": \"length\", \"logprobs\": {"        \
         "\"content\": [{\"id\": 4, \"logprob\": -1, \"top_logprobs\": [" top "]}]}}]}")
#define FIRST(lp) "{\"id\": 4, \"token\": \" a\", \"logprob\": " lp "}"
#define SECOND(lp) ", {\"id\": 5, \"token\": \" b\", \"logprob\": " lp "}"

static void rows_of_ik_llama_cpp_are_made_whole(void **state)
{
    (void)state;
    static const struct bnt_mock_step answers[] = {
        {CONTENT(FIRST("-1"))},
        {CONTENT(FIRST("-0.8754687") SECOND("-1.3862944"))},
        {CONTENT(FIRST("-1.0986123"))},
        {CONTENT(FIRST("-0.8754687") SECOND("-1.3862944"))},
        {0}};
    const struct bnt_mock_route routes[] = {
        PROPS,
        MODELS,
        TOKENIZE,
        {.path = "/completion", JSON(OLD("\"stopped_limit\"", PLACE(" a")))},
        {.path = "/v1/completions", .steps = answers},
        {0}};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_row row;
    bnt_row_init(&row);
    assert_int_equal(bnt_subject_row(s.subject, &two_best, 0, &row, NULL), BNT_OK);
    fake_server_assert_asked(&s, "\"n_probs\":2,");
    fake_server_assert_asked(&s, "\"stream\":true");
    assert_int_equal(row.n, 2);
    assert_true(row.at[0].logprob > -0.6933 && row.at[0].logprob < -0.6930); /* 0.5 */
    assert_true(row.at[1].logprob > -1.2041 && row.at[1].logprob < -1.2038); /* 0.3 */
    bnt_row_release(&row);
    fake_server_end(&s);
}

/* It streams, since else it fails on bytes that are no UTF-8, and tells nothing of a token that
 * ends within a character: the second of four here. */
#define EVENT(id, made)                                                                            \
    "data: {\"choices\": [{\"text\": \"\", \"logprobs\": {\"content\": [{\"id\": " id              \
    ", \"token\": \"\", \"logprob\": -1, \"top_logprobs\": [{\"id\": " id                          \
    ", \"token\": \"\", \"logprob\": -1}]}]}}], \"timings\": {\"predicted_n\": " made "}}\n\n"
#define LAST_EVENT "data: {\"choices\": [{\"text\": \"\", \"logprobs\": null}]}\n\ndata: [DONE]\n\n"

static void a_token_within_a_character_is_not_offered(void **state)
{
    (void)state;
    static const struct bnt_mock_step texts[] = {
        {JSON(OLD("\"stopped_limit\"", PLACE(" a")))},
        {JSON("data: {\"content\": \" a\", \"stop\": false}\n\n"
              "data: {\"content\": \"\\ufffd\", \"stop\": false}\n\n"
              "data: {\"content\": \"\", \"stopped_limit\": true, \"tokens_predicted\": 4}\n\n")},
        {0}};
    static const struct bnt_mock_step answers[] = {
        {JSON(EVENT("4", "1") LAST_EVENT)},
        {JSON(EVENT("4", "1") EVENT("6", "3") EVENT("7", "4") LAST_EVENT)},
        {JSON(LAST_EVENT)},
        {JSON("data: {\"choices\": [\n\n")},
        {0}};
    const struct bnt_mock_route routes[] = {PROPS,
                                            MODELS,
                                            TOKENIZE,
                                            {.path = "/completion", .steps = texts},
                                            {.path = "/v1/completions", .steps = answers},
                                            {0}};
    struct fake_server s = fake_server_begin(routes);
    struct bnt_subject_answer a;
    struct bnt_row row;
    bnt_row_init(&row);
    bnt_subject_answer_init(&a);
    assert_int_equal(bnt_subject_generate(s.subject, &fake_server_hello, &a, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&a.made.text), " a\xef\xbf\xbd");
    assert_ids(&a.made.ids, (const int32_t[]){4}, 1);
    assert_true(a.ids_end_early);
    assert_int_equal(a.made.finish, BNT_FINISH_LENGTH);
    assert_int_equal(bnt_subject_row(s.subject, &two_best, 0, &row, NULL), BNT_E_UNSUPPORTED);
    bnt_row_release(&row);
    assert_int_equal(bnt_subject_row(s.subject, &two_best, 0, &row, NULL), BNT_E_INFERENCE);
    bnt_row_release(&row);
    bnt_subject_answer_release(&a);
    fake_server_end(&s);
}

#define TEST(name_, body_)                                                                         \
    {                                                                                              \
        .name = "subject_llama_" name_, .body = body_                                              \
    }
static const struct suite_test tests[] = {
    TEST("texts_of_bitnet_cpp_become_ids", texts_of_bitnet_cpp_become_ids),
    TEST("ids_of_an_answer_that_was_cut_are_whole", ids_of_an_answer_that_was_cut_are_whole),
    TEST("a_row_is_what_comes_before_sampling", a_row_is_what_comes_before_sampling),
    TEST("ids_come_from_the_other_door", ids_come_from_the_other_door),
    TEST("rows_of_ik_llama_cpp_are_made_whole", rows_of_ik_llama_cpp_are_made_whole),
    TEST("a_token_within_a_character_is_not_offered", a_token_within_a_character_is_not_offered),
    {0},
};
const struct suite suite_subject_llama = {"subject_llama", tests,
                                          "http_first_piece http_linear http_rest http_gap"};
