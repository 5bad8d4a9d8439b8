/* What must hold for every model, whatever it was trained on: it runs on $BNT_TEST_MODEL (`bnt test
 * -m`), else on the bundled one. Guards a family, size or tensor type that loads and answers, but
 * not the same answer each time or on each path. Nothing here knows a right answer; recorded
 * answers are in the suites of their models. */
#include "testkit/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bnt_infer.h"

enum { PROMPT_IDS = 8, MODEL_TIMEOUT_MS = 300 * 1000, N_CTX = 64 };

static const char prompt[] = "Once upon a time there was a little girl who lived near the sea.";

struct subject {
    struct bnt_model *model;
    int32_t ids[PROMPT_IDS]; /* the prompt, cut to what the large models evaluate in seconds on the
                                slowest kernel */
    size_t n_vocab;
};

static void must(enum bnt_status status, const struct bnt_err *err)
{
    if (status != BNT_OK) {
        fail_msg("%s: %s", suite_model(), err->msg);
    }
}

static void subject_open(struct subject *s)
{
    struct bnt_err err = {0};
    s->model = suite_model_open();
    const struct bnt_tokenizer *t = bnt_model_tokenizer(s->model);
    assert_non_null(t);
    struct bnt_ids ids = {0};
    must(bnt_tokenizer_encode(t, prompt, strlen(prompt), BNT_ENCODE_ADD_SPECIAL, &ids, &err), &err);
    assert_true(ids.n >= PROMPT_IDS);
    memcpy(s->ids, ids.at, sizeof s->ids);
    s->n_vocab = bnt_model_info(s->model)->n_vocab;
    bnt_ids_release(&ids);
}

static struct bnt_session *session_new(const struct subject *s, const char *kernel, int n_threads)
{
    const struct bnt_session_options options = {.n_ctx = N_CTX,
                                                .kernel = kernel,
                                                .n_threads = n_threads,
                                                .device = kernel ? "cpu" : suite_on_device(),
                                                .fallback = "never"};
    struct bnt_session *session = NULL;
    struct bnt_err err = {0};
    must(bnt_session_new(s->model, &options, &session, &err), &err);
    return session;
}

static void eval(struct bnt_session *session, const int32_t *ids, size_t n)
{
    struct bnt_err err = {0};
    must(bnt_session_eval(session, ids, n, &err), &err);
}

/* The logits after the prompt, in a copy that the caller frees. */
static float *prompt_logits(const struct subject *s, const char *kernel, int n_threads)
{
    struct bnt_session *session = session_new(s, kernel, n_threads);
    eval(session, s->ids, PROMPT_IDS);
    float *copy = malloc(s->n_vocab * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, bnt_session_logits(session), s->n_vocab * sizeof *copy);
    bnt_session_free(session);
    return copy;
}

static void assert_same_bits(const struct subject *s, const float *a, const float *b,
                             const char *what)
{
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0) {
            fail_msg("%s: logit %zu is %.9g, not %.9g", what, i, (double)b[i], (double)a[i]);
        }
    }
}

static void describes_itself(void **state)
{
    (void)state;
    struct subject s;
    subject_open(&s);
    const struct bnt_model_info *info = bnt_model_info(s.model);
    print_message("%s: %s %s, %u layers, %u embd, %u ff, %u/%u heads, vocabulary %u, %s\n",
                  suite_model(), info->arch, info->name, info->n_layer, info->n_embd, info->n_ff,
                  info->n_head, info->n_head_kv, info->n_vocab, info->weights);
    assert_true(info->n_layer > 0 && info->n_embd > 0 && info->n_ff > 0 && info->head_dim > 0);
    assert_true(info->n_head_kv > 0 && info->n_head % info->n_head_kv == 0);
    assert_true(info->n_ctx_train > 0 && info->rms_eps > 0 && info->rms_eps < 0.1 &&
                info->rope_theta > 1);
    assert_true(info->n_params > 0 && info->file_bytes > info->n_params / 8);
    assert_true((uint32_t)bnt_tokenizer_n_vocab(bnt_model_tokenizer(s.model)) <= info->n_vocab);
}

static void text_comes_back(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "Once upon a time",
        "It's 3 o'clock, isn't it?",
        "two  spaces, a tab\tand\nlines\n\n",
        "1234567890",
        "Grüße aus Köln",
    };
    struct subject s;
    subject_open(&s);
    const struct bnt_tokenizer *t = bnt_model_tokenizer(s.model);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_ids ids = {0};
        struct bnt_buf out = BNT_BUF(4096);
        must(bnt_tokenizer_encode(t, texts[i], strlen(texts[i]), 0, &ids, &err), &err);
        must(bnt_tokenizer_decode(t, ids.at, ids.n, false, &out, &err), &err);
        assert_string_equal(bnt_buf_view(&out), texts[i]);
        bnt_buf_release(&out);
        bnt_ids_release(&ids);
    }
}

static void logits_are_numbers_that_differ(void **state)
{
    (void)state;
    struct subject s;
    subject_open(&s);
    float *logits = prompt_logits(&s, NULL, 0);
    float least = logits[0];
    float most = logits[0];
    for (size_t i = 0; i < s.n_vocab; i++) {
        if (!isfinite(logits[i])) {
            fail_msg("logit %zu is %g", i, (double)logits[i]);
        }
        least = logits[i] < least ? logits[i] : least;
        most = logits[i] > most ? logits[i] : most;
    }
    assert_true(most > least);
    free(logits);
}

static void every_path_gives_the_same_bits(void **state)
{
    (void)state;
    static const struct {
        const char *kernel, *what;
        int n_threads;
    } paths[] = {{NULL, "again", 0},
                 {NULL, "1 thread", 1},
                 {NULL, "3 threads", 3},
                 {"ref", "reference kernels", 0}};
    struct subject s;
    subject_open(&s);
    float *want = prompt_logits(&s, NULL, 2);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        float *got = prompt_logits(&s, paths[i].kernel, paths[i].n_threads);
        assert_same_bits(&s, want, got, paths[i].what);
        free(got);
    }
    free(want);
}

static void steps_equal_a_batch_and_rewind_forgets(void **state)
{
    (void)state;
    struct subject s;
    subject_open(&s);
    float *want = prompt_logits(&s, NULL, 0);
    struct bnt_session *session = session_new(&s, NULL, 0);
    for (size_t i = 0; i < PROMPT_IDS; i++) {
        eval(session, &s.ids[i], 1);
    }
    assert_same_bits(&s, want, bnt_session_logits(session), "step by step");
    struct bnt_err err = {0};
    must(bnt_session_rewind(session, 2, &err), &err);
    eval(session, &s.ids[0], 1); /* another continuation, which must leave no trace */
    must(bnt_session_rewind(session, 2, &err), &err);
    assert_int_equal(bnt_session_n_past(session), 2);
    eval(session, s.ids + 2, PROMPT_IDS - 2);
    assert_same_bits(&s, want, bnt_session_logits(session), "after a rewind");
    bnt_session_free(session);
    free(want);
}

static void ids_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    struct subject s;
    subject_open(&s);
    struct bnt_session *session = session_new(&s, NULL, 0);
    const int32_t bad[] = {-1, (int32_t)s.n_vocab, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const int32_t ids[] = {s.ids[0], bad[i]};
        struct bnt_err err = {0};
        assert_int_equal(bnt_session_eval(session, ids, 2, &err), BNT_E_USAGE);
        assert_true(err.msg[0] != '\0');
        assert_int_equal(bnt_session_n_past(session), 0);
    }
    bnt_session_free(session);
}

static void full_context_is_an_error(void **state)
{
    (void)state;
    struct subject s;
    subject_open(&s);
    struct bnt_session *session = session_new(&s, NULL, 0);
    for (size_t i = 0; i < N_CTX / PROMPT_IDS; i++) {
        eval(session, s.ids, PROMPT_IDS);
    }
    struct bnt_err err = {0};
    assert_int_equal(bnt_session_eval(session, s.ids, 1, &err), BNT_E_INFERENCE);
    assert_int_equal(bnt_session_n_past(session), N_CTX);
    bnt_session_free(session);
}

static const struct suite_test tests[] = {
    {.name = "any_model_describes_itself",
     .body = describes_itself,
     .subjects = "real,tiny",
     .timeout_ms = MODEL_TIMEOUT_MS},
    {.name = "any_model_text_comes_back",
     .body = text_comes_back,
     .subjects = "real,tiny",
     .timeout_ms = MODEL_TIMEOUT_MS},
    {.name = "any_model_logits_are_numbers_that_differ",
     .body = logits_are_numbers_that_differ,
     .subjects = "real,tiny",
     .timeout_ms = MODEL_TIMEOUT_MS},
    {.name = "any_model_every_path_gives_the_same_bits",
     .body = every_path_gives_the_same_bits,
     .subjects = "real,tiny",
     .timeout_ms = MODEL_TIMEOUT_MS},
    {.name = "any_model_steps_equal_a_batch",
     .body = steps_equal_a_batch_and_rewind_forgets,
     .subjects = "real,tiny",
     .timeout_ms = MODEL_TIMEOUT_MS},
    {.name = "any_model_bad_ids_are_refused",
     .body = ids_outside_the_vocabulary_are_refused,
     .subjects = "real,tiny",
     .timeout_ms = MODEL_TIMEOUT_MS},
    {.name = "any_model_full_context_is_an_error",
     .body = full_context_is_an_error,
     .subjects = "real,tiny",
     .timeout_ms = MODEL_TIMEOUT_MS},
    {0},
};

const struct suite suite_any_model = {"any_model", tests, "id_check"};
