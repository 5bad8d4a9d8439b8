/* Guards what spares evaluations: a text that is another one with drafts, with a prompt whose
 * beginning was held, or from a saved session; and a saved session that is damaged or of another
 * model, and is taken nevertheless. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/draft.h"
#include "engine/generate.h"
#include "testkit/subject.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/mock_support.h"

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* ---- drafts ---- */

static void drafts_come_from_behind_the_longest_match(void **state)
{
    (void)state;
    static const struct {
        int32_t text[12];
        size_t n, most;
        int32_t draft[4];
        size_t n_draft;
    } cases[] = {
        {{1, 2, 3, 1, 2}, 5, 4, {3, 1, 2}, 3},
        {{1, 2, 3, 1, 2}, 5, 1, {3}, 1},
        {{1, 2, 3, 1, 2}, 5, 0, {0}, 0},
        {{1, 2, 3, 4, 2}, 5, 4, {0}, 0},                 /* one id is no match */
        {{1, 2, 7, 1, 2, 8, 1, 2}, 8, 1, {8}, 1},        /* of equal ones the latest */
        {{5, 1, 2, 7, 1, 2, 8, 5, 1, 2}, 10, 1, {7}, 1}, /* the longer, though earlier */
        {{4, 4, 4, 4}, 4, 4, {4}, 1},
        {{4}, 1, 4, {0}, 0},
        {{0}, 0, 4, {0}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t out[4] = {0};
        assert_int_equal(draft_look_up(cases[i].text, cases[i].n, cases[i].most, out),
                         cases[i].n_draft);
        assert_memory_equal(out, cases[i].draft, cases[i].n_draft * sizeof *out);
    }
}

/* ---- generation ---- */

struct setting {
    double temperature, repeat_penalty;
    uint64_t seed;
    const char *stop;
    uint32_t max_tokens, n_logprobs;
};

static void generate(struct es_engine *e, const char *prompt, const struct setting *set,
                     uint32_t speculate, struct bnt_generation *g)
{
    struct bnt_err err = {0};
    struct bnt_sampler_params sp = bnt_sampler_defaults();
    struct bnt_sampler *sampler = NULL;
    struct bnt_stop *stop = NULL;
    struct bnt_ids ids = {0};
    const struct bnt_tokenizer *t = bnt_model_tokenizer(e->model);
    sp.temperature = set->temperature;
    sp.repeat_penalty = set->repeat_penalty > 0 ? set->repeat_penalty : 1;
    sp.seed = set->seed;
    es_ok(bnt_tokenizer_encode(t, prompt, strlen(prompt), BNT_ENCODE_ADD_SPECIAL, &ids, &err),
          &err);
    es_ok(bnt_sampler_new(&sp, bnt_tokenizer_n_vocab(t), &sampler, &err), &err);
    es_ok(bnt_stop_new(&set->stop, set->stop != NULL, &stop, &err), &err);
    struct bnt_generate_params p = {.max_tokens = set->max_tokens,
                                    .stop = stop,
                                    .n_logprobs = set->n_logprobs,
                                    .whole = true,
                                    .speculate = speculate};
    bnt_generation_init(g);
    es_ok(bnt_generate(e->session, t, sampler, ids.at, ids.n, &p, g, &err), &err);
    bnt_ids_release(&ids);
    bnt_stop_free(stop);
    bnt_sampler_free(sampler);
}

static void assert_same(const struct bnt_generation *a, const struct bnt_generation *b)
{
    assert_int_equal(a->ids.n, b->ids.n);
    assert_memory_equal(a->ids.at, b->ids.at, a->ids.n * sizeof *a->ids.at);
    assert_string_equal(bnt_buf_view(&a->text), bnt_buf_view(&b->text));
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->stop_id, b->stop_id);
    assert_int_equal(a->stop_string, b->stop_string);
    if (a->logprob) {
        assert_memory_equal(a->logprob, b->logprob, a->ids.n * sizeof *a->logprob);
    }
}

/* Texts that repeat themselves, so that there are drafts, and some of them fail. */
static const char *const prompts[] = {
    "The cat sat on the mat. The dog sat on the mat. The cat sat on the",
    "One day a girl named Lily saw a bird. The bird saw Lily. One day a girl named",
    "red blue red blue red green red blue red",
    "a",
};
static const struct setting settings[] = {
    {.max_tokens = 48},
    {.max_tokens = 48, .repeat_penalty = 1.3, .n_logprobs = 2},
    {.max_tokens = 48, .temperature = 0.7, .seed = 1},
    {.max_tokens = 48, .temperature = 0.7, .seed = 2},
    {.max_tokens = 48, .temperature = 1.5, .seed = 3},
    {.max_tokens = 48, .stop = "the"},
    {.max_tokens = 1},
    {.max_tokens = 0}, /* to the end of the context */
};

/* With every draft length the ids, the text, the reason of the end and what the session holds
 * afterwards are those of one id at a time. */
static void compare_drafts(const char *path, struct bnt_speculation *sum)
{
    static const uint32_t lengths[] = {1, 5, BNT_SPECULATE_MAX};
    struct es_engine e;
    es_open(&e, path, &(struct bnt_session_options){.n_ctx = 96, .n_batch = 7, .n_threads = 1});
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        for (size_t k = 0; k < sizeof settings / sizeof settings[0]; k++) {
            struct bnt_generation plain, drafted;
            generate(&e, prompts[i], &settings[k], 0, &plain);
            uint32_t past = bnt_session_n_past(e.session);
            generate(&e, prompts[i], &settings[k], lengths[(i + k) % 3], &drafted);
            assert_same(&drafted, &plain);
            assert_int_equal(bnt_session_n_past(e.session), past);
            sum->drafted += drafted.speculation.drafted;
            sum->accepted += drafted.speculation.accepted;
            bnt_generation_release(&plain);
            bnt_generation_release(&drafted);
        }
    }
    es_close(&e);
}

static void drafts_change_no_text(void **state)
{
    (void)state;
    struct bnt_speculation sum = {0};
    compare_drafts(suite_bundled_model(), &sum);
    compare_drafts(ms_make("tiny.gguf", &(struct bnt_mock_recipe){.seed = 5, .n_layer = 2}, NULL),
                   &sum);
    assert_true(sum.accepted > 50); /* else this would prove little */
    assert_true(sum.drafted > sum.accepted + 50);
}

/* ---- prompts that begin alike ---- */

static const char *const alike[] = {
    "Once upon a time there was a small red fox",
    "Once upon a time there was a small red bird who liked",
    "Once upon a time there",
    "Something else",
    "Something else",
};

static void a_held_beginning_changes_no_answer(void **state)
{
    (void)state;
    struct es_engine held;
    const struct setting set = {.max_tokens = 16, .repeat_penalty = 1.2, .n_logprobs = 1};
    const struct bnt_session_options so = {.n_ctx = 64, .n_threads = 1};
    es_open(&held, suite_bundled_model(), &so);
    for (size_t i = 0; i < sizeof alike / sizeof alike[0]; i++) {
        struct es_engine fresh;
        struct bnt_generation a, b;
        es_open(&fresh, suite_bundled_model(), &so);
        generate(&fresh, alike[i], &set, 0, &a);
        generate(&held, alike[i], &set, 0, &b);
        assert_same(&b, &a);
        assert_int_equal(a.n_reused, 0);
        assert_int_equal(b.n_reused > 0, i > 0); /* the first id at least, which begins them all */
        assert_true(i != 1 || b.n_reused >= 8);
        bnt_generation_release(&a);
        bnt_generation_release(&b);
        es_close(&fresh);
    }
    es_close(&held);
}

static void subjects_keep_what_prompts_share(void **state)
{
    (void)state;
    struct bnt_model_ref ref = {.kind = "real"};
    struct bnt_subject *s = NULL;
    struct bnt_err err = {0};
    snprintf(ref.path, sizeof ref.path, "%s", suite_bundled_model());
    es_ok(bnt_subject_open_model(&ref, NULL, &s, &err), &err);
    uint32_t reused[3];
    for (int i = 0; i < 3; i++) {
        struct bnt_subject_answer a;
        bnt_subject_answer_init(&a);
        const struct bnt_subject_request r = {.prompt = alike[i / 2],
                                              .prompt_len = strlen(alike[i / 2]),
                                              .max_tokens = 2,
                                              .afresh = i == 1};
        es_ok(bnt_subject_generate(s, &r, &a, &err), &err);
        reused[i] = a.made.n_reused;
        bnt_subject_answer_release(&a);
    }
    bnt_subject_close(s);
    assert_int_equal(reused[0], 0);
    assert_int_equal(reused[1], 0);
    assert_true(reused[2] >= 8);
}

static void infer_answers_many_prompts_as_if_each_were_alone(void **state)
{
    (void)state;
    char input[512] = "";
    for (size_t i = 0; i < 4; i++) {
        snprintf(input + strlen(input), sizeof input - strlen(input), "%s%s\n", alike[i],
                 i == 2 ? "\r" : "");
    }
    struct infer_result r =
        infer_run(input, (const char *const[]){"--prompts", "-", "-n", "5", "--temperature", "0.9",
                                               "--seed", "4", "--json", NULL});
    infer_expect(&r, BNT_OK);
    char *line = r.out;
    for (size_t i = 0; i < 4; i++) {
        json_error_t e;
        json_t *one = json_loads(line, JSON_DISABLE_EOF_CHECK, &e);
        struct infer_result alone =
            INFER("-p", alike[i], "-n", "5", "--temperature", "0.9", "--seed", "4", "--json");
        infer_expect(&alone, BNT_OK);
        assert_true(json_equal(js_get(one, "ids"), js_get(alone.json, "ids")));
        json_int_t reused = json_integer_value(js_get(js_get(one, "metrics"), "reused_tokens"));
        assert_int_equal(reused > 0, i > 0);
        json_decref(one);
        infer_drop(&alone);
        line = strchr(line, '\n') + 1; /* an object a line */
    }
    assert_string_equal(line, "");
    infer_drop(&r);
    infer_fails(INFER("--prompts", "-", "-p", "x"), BNT_E_USAGE, "--prompts");
    infer_fails(INFER("--prompts", "-"), BNT_E_USAGE, "no prompt");
    infer_fails(INFER("--prompts", "/nowhere/prompts"), BNT_E_NOT_FOUND, "/nowhere/prompts");
}

/* ---- sessions in files ---- */

static const int32_t text[] = {1, 9, 30, 7, 12, 5, 44, 3};
enum { N_TEXT = sizeof text / sizeof text[0] };

/* A session of text, in a file. */
static const char *saved(const char *model, enum bnt_kv_type kv_type)
{
    struct es_engine e;
    struct bnt_err err = {0};
    /* The cache of a session on a GPU is not kept in files. */
    es_open(&e, model,
            &(struct bnt_session_options){.n_ctx = 24, .kv_type = kv_type, .device = "cpu"});
    es_ok(bnt_session_eval(e.session, text, N_TEXT, &err), &err);
    const char *path = suite_in_scratch("saved");
    es_ok(bnt_session_save(e.session, path, DIGEST, &err), &err);
    es_close(&e);
    return path;
}

static void a_restored_session_goes_on_bit_for_bit(void **state)
{
    (void)state;
    const char *model = suite_bundled_model();
    for (int kv = BNT_KV_F16; kv <= BNT_KV_F32; kv++) {
        const char *path = saved(model, (enum bnt_kv_type)kv);
        struct es_engine a, b;
        struct bnt_err err = {0};
        int32_t next = 17;
        struct bnt_session_options so = {
            .n_ctx = 24, .kv_type = (enum bnt_kv_type)kv, .device = "cpu"};
        es_open(&a, model, &so);
        so.n_ctx = N_TEXT + 1; /* another size of the context is another layout of the cache */
        es_open(&b, model, &so);
        es_ok(bnt_session_restore(b.session, path, DIGEST, &err), &err);
        assert_int_equal(bnt_session_n_past(b.session), N_TEXT);
        assert_memory_equal(bnt_session_ids(b.session), text, sizeof text);
        assert_null(bnt_session_logits(b.session));
        es_ok(bnt_session_eval(a.session, text, N_TEXT, &err), &err);
        es_ok(bnt_session_eval(a.session, &next, 1, &err), &err);
        es_ok(bnt_session_eval(b.session, &next, 1, &err), &err);
        assert_memory_equal(bnt_session_logits(b.session), bnt_session_logits(a.session),
                            bnt_session_n_vocab(a.session) * sizeof(float));
        es_close(&a);
        es_close(&b);
    }
}

static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    assert_int_equal(fclose(f), 0);
}

/* The file is refused so, and the session is as it was. */
static void refused(const char *digest, const struct bnt_session_options *so,
                    enum bnt_status status, const char *word)
{
    struct es_engine e;
    struct bnt_err err = {0};
    struct bnt_session_options on_cpu = *so;
    on_cpu.device = "cpu";
    es_open(&e, suite_bundled_model(), &on_cpu);
    es_ok(bnt_session_eval(e.session, text, 2, &err), &err);
    assert_int_equal(bnt_session_restore(e.session, suite_in_scratch("saved"), digest, &err),
                     status);
    assert_non_null(strstr(err.msg, word));
    assert_int_equal(bnt_session_n_past(e.session), 2);
    assert_memory_equal(bnt_session_ids(e.session), text, 2 * sizeof *text);
    assert_non_null(bnt_session_logits(e.session));
    es_close(&e);
}

static void bad_session_files_are_refused(void **state)
{
    (void)state;
    static const long places[] = {8, 20, 100, 400, -1}; /* header, ids, and the last value */
    const struct bnt_session_options so = {.n_ctx = 24};
    struct stat sb;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *path = saved(suite_bundled_model(), BNT_KV_F16);
        flip(path, places[i]);
        refused(DIGEST, &so, BNT_E_FILE, "damaged");
    }
    const char *path = saved(suite_bundled_model(), BNT_KV_F16);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(truncate(path, sb.st_size - 1), 0);
    refused(DIGEST, &so, BNT_E_FILE, "size");
    assert_int_equal(truncate(path, 100), 0);
    refused(DIGEST, &so, BNT_E_FILE, "no saved session");
    assert_int_equal(truncate(path, 0), 0);
    refused(DIGEST, &so, BNT_E_FILE, "no saved session");
}

static void sessions_of_others_are_refused(void **state)
{
    (void)state;
    const char *path = saved(suite_bundled_model(), BNT_KV_F16);
    char other[] = DIGEST;
    other[0] = 'f';
    refused(other, &(struct bnt_session_options){.n_ctx = 24}, BNT_E_USAGE, "another model");
    refused(DIGEST, &(struct bnt_session_options){.n_ctx = 24, .kv_type = BNT_KV_F32}, BNT_E_USAGE,
            "KV cache");
    refused(DIGEST, &(struct bnt_session_options){.n_ctx = N_TEXT - 1}, BNT_E_USAGE, "positions");
    assert_int_equal(unlink(path), 0);
    refused(DIGEST, &(struct bnt_session_options){.n_ctx = 24}, BNT_E_NOT_FOUND, "saved");
}

/* From one run of the command to the next: fewer evaluations, the same answer. */
static void infer_goes_on_from_a_saved_session(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    snprintf(file, sizeof file, "%s", suite_in_scratch("session"));
    struct infer_result first = INFER("-p", alike[0], "-n", "4", "--json", "--session-save", file);
    infer_expect(&first, BNT_OK);
    infer_drop(&first);
    struct infer_result plain = INFER("-p", alike[1], "-n", "8", "--json");
    struct infer_result again =
        INFER("-p", alike[1], "-n", "8", "--json", "--session-load", file, "--speculate", "4");
    infer_expect(&again, BNT_OK);
    assert_true(json_equal(js_get(again.json, "ids"), js_get(plain.json, "ids")));
    const json_t *metrics = js_get(again.json, "metrics");
    assert_true(json_integer_value(js_get(metrics, "reused_tokens")) >= 8);
    assert_non_null(json_object_get(js_get(metrics, "speculation"), "speedup"));
    infer_drop(&plain);
    infer_drop(&again);
    flip(file, -1);
    infer_fails(INFER("-p", "x", "--session-load", file), BNT_E_FILE, "damaged");
    infer_fails(INFER("-p", "x", "--session-save", "/nowhere/session"), BNT_E_NOT_FOUND,
                "/nowhere");
}

static const struct suite_test tests[] = {
    {.name = "reuse_drafts_come_from_behind_the_longest_match",
     .body = drafts_come_from_behind_the_longest_match},
    {.name = "reuse_drafts_change_no_text",
     .body = drafts_change_no_text,
     .timeout_ms = 30000}, /* on the fake device ten seconds */
    {.name = "reuse_a_held_beginning_changes_no_answer",
     .body = a_held_beginning_changes_no_answer},
    {.name = "reuse_subjects_keep_what_prompts_share", .body = subjects_keep_what_prompts_share},
    {.name = "reuse_infer_answers_many_prompts_as_if_each_were_alone",
     .body = infer_answers_many_prompts_as_if_each_were_alone},
    {.name = "reuse_a_restored_session_goes_on_bit_for_bit",
     .body = a_restored_session_goes_on_bit_for_bit},
    {.name = "reuse_bad_session_files_are_refused", .body = bad_session_files_are_refused},
    {.name = "reuse_sessions_of_others_are_refused", .body = sessions_of_others_are_refused},
    {.name = "reuse_infer_goes_on_from_a_saved_session",
     .body = infer_goes_on_from_a_saved_session},
    {0},
};
const struct suite suite_reuse = {"reuse", tests,
                                  "reuse_blind speculate_unverified session_unproven"};
