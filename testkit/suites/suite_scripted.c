/* Guards scripted answers, and the table of functions that they share with real and tiny models: a
 * script that is read otherwise than it says, an answer that no script gave, a subject that claims
 * what it cannot do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "mock/script_record.h"
#include "mock/scripted.h"
#include "testkit/subject.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

static struct bnt_subject *open_script(void)
{
    struct bnt_err err = {0};
    struct bnt_subject *s;
    es_ok(bnt_subject_open_scripted(suite_source("testkit/data/mock/scripted.json"), &s, &err),
          &err);
    return s;
}

static struct bnt_subject_request ask(const char *prompt)
{
    return (struct bnt_subject_request){.prompt = prompt, .prompt_len = strlen(prompt)};
}

/* ---- what a script says ---- */

static void answers_are_found_by_text_pattern_and_ids(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *text;
        enum bnt_finish finish;
        size_t n_ids;
    } cases[] = {
        {"Hello", " world!", BNT_FINISH_STOP, 3},
        {"Short", "A short answer.", BNT_FINISH_LENGTH, 0},
        {"Weather in Rome", "Sunny, as always.", BNT_FINISH_STOP, 0},
    };
    struct bnt_subject *s = open_script();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_subject_request r = ask(cases[i].prompt);
        struct bnt_subject_answer a;
        bnt_subject_answer_init(&a);
        es_ok(bnt_subject_generate(s, &r, &a, &err), &err);
        assert_string_equal(bnt_buf_view(&a.made.text), cases[i].text);
        assert_int_equal(a.made.finish, cases[i].finish);
        assert_int_equal(a.made.ids.n, cases[i].n_ids);
        bnt_subject_answer_release(&a);
    }
    struct bnt_err err = {0};
    struct bnt_subject_answer a;
    bnt_subject_answer_init(&a);
    es_ok(bnt_subject_generate(
              s, &(struct bnt_subject_request){.ids = (const int32_t[]){4}, .n_ids = 1}, &a, &err),
          &err);
    assert_string_equal(bnt_buf_view(&a.made.text), "by ids");
    assert_int_equal(a.prompt_ids.at[0], 4);
    bnt_subject_answer_release(&a);
    bnt_subject_close(s);
}

static void ends_before_the_end_are_those_of_a_model(void **state)
{
    (void)state;
    static const char *const stop[] = {"ld"};
    static const struct {
        struct bnt_subject_request r;
        const char *text;
        enum bnt_finish finish;
        size_t n_ids;
    } cases[] = {
        {{.max_tokens = 2}, " world", BNT_FINISH_LENGTH, 2},
        {{.max_tokens = 3}, " world!", BNT_FINISH_STOP, 3},
        {{.stop = stop, .n_stop = 1}, " wor", BNT_FINISH_STOP, 2},
        {{.n_logprobs = 1}, " world!", BNT_FINISH_STOP, 3},
    };
    struct bnt_subject *s = open_script();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_subject_request r = cases[i].r;
        struct bnt_subject_answer a;
        r.prompt = "Hello";
        r.prompt_len = 5;
        bnt_subject_answer_init(&a);
        es_ok(bnt_subject_generate(s, &r, &a, &err), &err);
        assert_string_equal(bnt_buf_view(&a.made.text), cases[i].text);
        assert_int_equal(a.made.finish, cases[i].finish);
        assert_int_equal(a.made.ids.n, cases[i].n_ids);
        assert_true(!r.n_logprobs || a.made.logprob[2] == -1.0f);
        bnt_subject_answer_release(&a);
    }
    bnt_subject_close(s);
}

static void what_is_not_scripted_is_an_error(void **state)
{
    (void)state;
    static const struct bnt_sampler_params warm = {.temperature = 1};
    static const int32_t no_ids[] = {3, 3, 3};
    static const struct {
        struct bnt_subject_request r;
        const char *prompt;
        enum bnt_status status;
        const char *says;
    } cases[] = {
        {{0}, "Who are you?", BNT_E_NOT_FOUND, "no scripted answer fits the prompt 'Who are you?'"},
        {{0}, "Hello ", BNT_E_NOT_FOUND, "no scripted answer"},
        {{0}, "Fall over", BNT_E_INFERENCE, "the model fell over"},
        {{.n_logprobs = 1}, "Short", BNT_E_UNSUPPORTED, "no logprobs"},
        {{.sampling = &warm}, "Hello", BNT_E_UNSUPPORTED, "cannot sample"},
        {{.ids = no_ids, .n_ids = 3}, NULL, BNT_E_NOT_FOUND, "the 3 ids"},
        {{0}, NULL, BNT_E_USAGE, "as text or as ids"},
    };
    struct bnt_subject *s = open_script();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_subject_request r = cases[i].r;
        struct bnt_subject_answer a;
        r.prompt = cases[i].prompt;
        r.prompt_len = r.prompt ? strlen(r.prompt) : 0;
        bnt_subject_answer_init(&a);
        enum bnt_status st = bnt_subject_generate(s, &r, &a, &err);
        if (st != cases[i].status || !strstr(err.msg, cases[i].says)) {
            fail_msg("case %zu: status %d, '%s'", i, (int)st, err.msg);
        }
        bnt_subject_answer_release(&a);
    }
    struct bnt_ids ids = {0};
    assert_int_equal(bnt_subject_tokenize(s, "Short", 5, 0, &ids, NULL), BNT_E_UNSUPPORTED);
    bnt_ids_release(&ids);
    bnt_subject_close(s);
}

static enum bnt_status keep_last(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    (void)index;
    (void)err;
    float **last = ctx;
    memcpy(last[0], logits, (size_t)(last[1] - last[0]) * sizeof *logits);
    return BNT_OK;
}

static void broken_scripts_are_refused_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", ":1: "},
        {"[1]", "no JSON object"},
        {"{}", "bnt_scripted is not 1"},
        {"{\"bnt_scripted\":2}", "bnt_scripted is not 1"},
        {"{\"bnt_scripted\":1}", "answers is no list"},
        {"{\"bnt_scripted\":1,\"answers\":[]}", "answers is no list"},
        {"{\"bnt_scripted\":1,\"answers\":[7]}", "answers[0] is no object"},
        {"{\"bnt_scripted\":1,\"anwsers\":[{}]}", "anwsers is not known"},
        {"{\"bnt_scripted\":1,\"n_vocab\":-1,\"answers\":[{}]}", "n_vocab is no count"},
        {"{\"bnt_scripted\":1,\"answers\":[{},{\"promt\":\"\"}]}", "answers[1].promt is not known"},
        {"{\"bnt_scripted\":1,\"answers\":[{\"prompt\":1}]}", "answers[0].prompt is no text"},
        {"{\"bnt_scripted\":1,\"answers\":[{\"matches\":\"(\"}]}", "no regular expression"},
        {"{\"bnt_scripted\":1,\"n_vocab\":4,\"answers\":[{\"ids\":[4]}]}", "ids[0] is no id"},
        {"{\"bnt_scripted\":1,\"answers\":[{\"ids\":[1],\"pieces\":[]}]}", "not as many as ids"},
        {"{\"bnt_scripted\":1,\"answers\":[{\"ids\":[1,2],\"text\":\"x\"}]}", "give pieces"},
        {"{\"bnt_scripted\":1,\"answers\":[{\"finish\":\"done\"}]}", "none of stop, length"},
        {"{\"bnt_scripted\":1,\"answers\":[{\"logits\":[[1]]}]}", "no row of n_vocab"},
        {"{\"bnt_scripted\":1,\"n_vocab\":1,\"answers\":[{\"logits\":[[1]]}]}", "one row for each"},
        {"{\"bnt_scripted\":1,\"answers\":[{\"error\":{\"status\":0}}]}", "no exit code"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_scripted *s;
        const char *path = ms_path("s.json");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(cases[i].text, f);
        fclose(f);
        enum bnt_status st = bnt_scripted_open(path, &s, &err);
        if (st != BNT_E_FILE || !strstr(err.msg, cases[i].says)) {
            fail_msg("case %zu: status %d, '%s'", i, (int)st, err.msg);
        }
    }
}

/* ---- one body, any subject ---- */

static enum bnt_status bundled(const struct bnt_app *app, const char *name,
                               struct bnt_model_ref *out, struct bnt_err *err)
{
    (void)app;
    (void)name;
    *out = (struct bnt_model_ref){.kind = "real"};
    return bnt_path_format(out->path, err, "%s", suite_bundled_model());
}

static int32_t best_of(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int32_t)best;
}

/* The first generated id is the best one after the prompt, and asking again changes nothing. */
static void table_holds(struct bnt_subject *s, const char *kind)
{
    struct bnt_err err = {0};
    struct bnt_subject_facts f = bnt_subject_describe(s);
    struct bnt_ids ids = {0};
    float *row = calloc(f.n_vocab, sizeof *row);
    float *span[2] = {row, row + f.n_vocab};
    assert_string_equal(f.kind, kind);
    assert_non_null(row);
    es_ok(bnt_subject_tokenize(s, "Hello", 5, BNT_ENCODE_ADD_SPECIAL, &ids, &err), &err);
    assert_true(ids.n > 0);
    es_ok(bnt_subject_evaluate(s, ids.at, ids.n, keep_last, span, &err), &err);
    for (int again = 0; again < 2; again++) {
        struct bnt_subject_request r = ask("Hello");
        struct bnt_subject_answer a;
        r.max_tokens = 2;
        bnt_subject_answer_init(&a);
        es_ok(bnt_subject_generate(s, &r, &a, &err), &err);
        assert_int_equal(a.prompt_ids.n, ids.n);
        assert_memory_equal(a.prompt_ids.at, ids.at, ids.n * sizeof *ids.at);
        assert_int_equal(a.made.ids.n, 2);
        assert_int_equal(a.made.ids.at[0], best_of(row, f.n_vocab));
        bnt_subject_answer_release(&a);
    }
    bnt_ids_release(&ids);
    free(row);
}

static void real_tiny_and_scripted_stand_behind_one_table(void **state)
{
    (void)state;
    struct bnt_app app = {.resolve_model = bundled};
    char script[BNT_PATH_MAX + 16];
    snprintf(script, sizeof script, "scripted:%s", suite_source("testkit/data/mock/scripted.json"));
    const struct {
        const char *spec, *kind;
    } subjects[] = {{NULL, "real"}, {"tiny:", "tiny"}, {"tiny:7", "tiny"}, {script, "scripted"}};
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_subject *s;
        es_ok(bnt_subject_open(&app, subjects[i].spec, NULL, &s, &err), &err);
        table_holds(s, subjects[i].kind);
        bnt_subject_close(s);
    }
}

/* What a model said, said again without it. */
static void a_recorded_script_answers_as_its_model(void **state)
{
    (void)state;
    static const char *const prompts[] = {"Once upon a time", "Hello"};
    struct bnt_app app = {.resolve_model = bundled};
    struct bnt_err err = {0};
    struct bnt_buf text = BNT_BUF(SCRIPT_RECORD_MAX_BYTES);
    struct script_record record = {.model = suite_bundled_model(),
                                   .prompts = prompts,
                                   .n_prompts = 2,
                                   .max_tokens = 12,
                                   .logits = true};
    struct bnt_subject *subjects[2];
    struct bnt_subject_answer answers[2];
    const char *path = ms_path("recorded.json");
    es_ok(script_record(&record, &text, &err), &err);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(bnt_buf_view(&text), f);
    fclose(f);
    bnt_buf_release(&text);
    es_ok(bnt_subject_open(&app, NULL, NULL, &subjects[0], &err), &err);
    es_ok(bnt_subject_open_scripted(path, &subjects[1], &err), &err);
    for (size_t p = 0; p < 2; p++) {
        float rows[2][4096];
        for (int i = 0; i < 2; i++) {
            struct bnt_subject_request r = ask(prompts[p]);
            float *span[2] = {rows[i], rows[i] + bnt_subject_describe(subjects[i]).n_vocab};
            r.max_tokens = 12;
            bnt_subject_answer_init(&answers[i]);
            es_ok(bnt_subject_generate(subjects[i], &r, &answers[i], &err), &err);
            es_ok(bnt_subject_evaluate(subjects[i], answers[i].prompt_ids.at,
                                       answers[i].prompt_ids.n, keep_last, span, &err),
                  &err);
        }
        assert_memory_equal(rows[0], rows[1], 2048 * sizeof(float));
        assert_string_equal(bnt_buf_view(&answers[0].made.text),
                            bnt_buf_view(&answers[1].made.text));
        assert_int_equal(answers[0].made.finish, answers[1].made.finish);
        assert_int_equal(answers[0].made.ids.n, answers[1].made.ids.n);
        assert_memory_equal(answers[0].made.ids.at, answers[1].made.ids.at,
                            answers[0].made.ids.n * sizeof(int32_t));
        bnt_subject_answer_release(&answers[0]);
        bnt_subject_answer_release(&answers[1]);
    }
    bnt_subject_close(subjects[0]);
    bnt_subject_close(subjects[1]);
}

static void sampling_of_a_subject_follows_its_seed(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_subject *s;
    char texts[3][256];
    es_ok(bnt_subject_open(NULL, "tiny:3", NULL, &s, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        struct bnt_sampler_params p = bnt_sampler_defaults();
        struct bnt_subject_request r = ask("Hello");
        struct bnt_subject_answer a;
        p.temperature = 2;
        p.seed = i < 2 ? 11 : 12;
        r.sampling = &p;
        r.max_tokens = 16;
        bnt_subject_answer_init(&a);
        es_ok(bnt_subject_generate(s, &r, &a, &err), &err);
        snprintf(texts[i], sizeof texts[i], "%s", bnt_buf_view(&a.made.text));
        bnt_subject_answer_release(&a);
    }
    assert_string_equal(texts[0], texts[1]);
    assert_string_not_equal(texts[0], texts[2]);
    bnt_subject_close(s);
}

static void words_that_name_no_subject_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        enum bnt_status status;
    } cases[] = {{"tiny:x", BNT_E_USAGE},
                 {"tiny:-1", BNT_E_USAGE},
                 {"tiny:99999999999999999999", BNT_E_USAGE},
                 {"scripted:/nothing/here.json", BNT_E_NOT_FOUND}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_subject *s = NULL;
        assert_int_equal(bnt_subject_open(NULL, cases[i].spec, NULL, &s, &err), cases[i].status);
        assert_null(s);
    }
}

static const struct suite_test tests[] = {
    {.name = "scripted_answers_are_found_by_text_pattern_and_ids",
     .body = answers_are_found_by_text_pattern_and_ids,
     .needs = "source"},
    {.name = "scripted_ends_before_the_end_are_those_of_a_model",
     .body = ends_before_the_end_are_those_of_a_model,
     .needs = "source"},
    {.name = "scripted_what_is_not_scripted_is_an_error",
     .body = what_is_not_scripted_is_an_error,
     .needs = "source"},
    {.name = "scripted_broken_scripts_are_refused_with_their_place",
     .body = broken_scripts_are_refused_with_their_place},
    {.name = "subject_real_tiny_and_scripted_stand_behind_one_table",
     .body = real_tiny_and_scripted_stand_behind_one_table,
     .needs = "source"},
    {.name = "scripted_recording_answers_as_its_model",
     .body = a_recorded_script_answers_as_its_model},
    {.name = "subject_sampling_follows_its_seed", .body = sampling_of_a_subject_follows_its_seed},
    {.name = "subject_words_that_name_none_are_refused",
     .body = words_that_name_no_subject_are_refused},
    {0},
};
const struct suite suite_scripted = {"scripted", tests, "scripted_prompt"};
