/* Guards the engine's promises: results that depend on nothing but the model and the ids (kernels,
 * threads, batches, streaming), memory held to its limit, packings of I2_S told apart, and files
 * that lack something refused by name. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/sysinfo.h"
#include "engine/bnt_infer.h"
#include "engine/cpu/kernels.h"
#include "engine/file_facts.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"

/* "Once upon a time, there was a little girl named Lily. She loved" in the bundled vocabulary. */
static const int32_t story[] = {2045, 394, 401, 258, 372, 44, 382, 280,
                                258,  386, 427, 391, 332, 46, 325, 430};
enum { STORY = sizeof story / sizeof story[0] };

/* ---- equality ---- */

struct variant {
    const char *kernel;
    int n_threads;
    uint32_t n_batch;
    enum bnt_kv_type kv;
    bool stream;
};

/* Logits of every position of the story under a variant: STORY x n_vocab, freed by the caller. */
static float *all_logits(const char *path, const struct variant *v, uint32_t *n_vocab)
{
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_session *s;
    struct bnt_session_options so = {.n_ctx = 64,
                                     .n_batch = v->n_batch,
                                     .n_threads = v->n_threads,
                                     .kernel = v->kernel,
                                     .kv_type = v->kv};
    struct bnt_model_options mo = {
        .session = &so, .stream_weights = v->stream, .i2s_layout = "128/32"};
    es_ok(bnt_model_open(path, &mo, &m, &err), &err);
    es_ok(bnt_session_new(m, &so, &s, &err), &err);
    *n_vocab = bnt_session_n_vocab(s);
    float *rows = es_eval_rows(s, story, STORY);
    bnt_session_free(s);
    bnt_model_close(m);
    return rows;
}

static void equal_to_plain(const char *path, const struct variant *variants, size_t n)
{
    struct variant plain = {.kernel = "ref", .n_threads = 1, .n_batch = 1};
    for (size_t i = 0; i < n; i++) {
        uint32_t n_vocab;
        plain.kv = variants[i].kv;
        float *want = all_logits(path, &plain, &n_vocab);
        float *got = all_logits(path, &variants[i], &n_vocab);
        for (size_t j = 0; j < (size_t)STORY * n_vocab; j++) {
            if (memcmp(&want[j], &got[j], sizeof *want) != 0) {
                fail_msg("kernel %s, %d threads, batch %u, kv %d: logit %zu of position %zu is "
                         "%.9g, plain gives %.9g",
                         variants[i].kernel ? variants[i].kernel : "auto", variants[i].n_threads,
                         variants[i].n_batch, (int)variants[i].kv, j % n_vocab, j / n_vocab,
                         (double)got[j], (double)want[j]);
            }
        }
        free(want);
        free(got);
    }
}

static void every_kernel_gives_equal_bits(void **state)
{
    (void)state;
    size_t n_run = 0;
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        if (!cpu_kernels_missing(*k)) {
            struct variant v[] = {
                {.kernel = (*k)->name, .n_threads = 1, .n_batch = 5},
                {.kernel = (*k)->name, .n_threads = 2, .n_batch = 16, .kv = BNT_KV_F32}};
            equal_to_plain(suite_bundled_model(), v, 2);
            n_run++;
        }
    }
    assert_true(n_run >= 1);
}

static void threads_and_batches_give_equal_bits(void **state)
{
    (void)state;
    const struct variant v[] = {
        {.n_threads = 1, .n_batch = 1},
        {.n_threads = 2, .n_batch = 1},
        {.n_threads = 5, .n_batch = 1},
        {.n_threads = 1, .n_batch = 7},
        {.n_threads = 2, .n_batch = 16},
        {.n_threads = 5, .n_batch = 16},
        {.n_threads = 2, .n_batch = 3, .kv = BNT_KV_F32},
    };
    equal_to_plain(suite_bundled_model(), v, sizeof v / sizeof v[0]);
}

static void streamed_layers_give_equal_bits(void **state)
{
    (void)state;
    const struct variant v[] = {{.n_threads = 2, .n_batch = 16, .stream = true},
                                {.n_threads = 1, .n_batch = 1, .stream = true}};
    equal_to_plain(suite_bundled_model(), v, 2);
}

/* ---- stacks ---- */

/* Of the caller and of the threads of a session, as `ulimit -s` or a C library may have it. */
enum { SMALL_STACK = 192 * 1024, PROMPT = 100 };

static void *evaluate_prompt(void *kernel)
{
    struct es_engine e;
    int32_t ids[PROMPT];
    for (int i = 0; i < PROMPT; i++) {
        ids[i] = story[i % STORY];
    }
    es_open(&e, suite_bundled_model(),
            &(struct bnt_session_options){.n_threads = 2, .kernel = kernel});
    (void)es_greedy(&e, ids, PROMPT);
    es_close(&e);
    return kernel;
}

static void prompts_need_little_stack(void **state)
{
    (void)state;
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, SMALL_STACK), 0);
    assert_int_equal(pthread_setattr_default_np(&attr), 0);
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        pthread_t thread;
        void *done = NULL, *name = (void *)(uintptr_t)(*k)->name;
        if (!cpu_kernels_missing(*k)) {
            assert_int_equal(pthread_create(&thread, NULL, evaluate_prompt, name), 0);
            assert_int_equal(pthread_join(thread, &done), 0);
            assert_ptr_equal(done, name);
        }
    }
    pthread_attr_destroy(&attr);
}

/* ---- positions ---- */

static void rewind_forgets_and_overflow_is_refused(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct es_engine e;
    es_open(&e, suite_bundled_model(), &(struct bnt_session_options){.n_ctx = 20});
    int32_t a = es_greedy(&e, story, STORY);
    es_ok(bnt_session_eval(e.session, story, 4, &err), &err);
    assert_int_equal(bnt_session_n_past(e.session), 20);

    assert_int_equal(bnt_session_eval(e.session, story, 1, &err), BNT_E_INFERENCE);
    assert_non_null(strstr(err.msg, "context full"));
    assert_int_equal(bnt_session_n_past(e.session), 20);

    err = (struct bnt_err){0};
    es_ok(bnt_session_rewind(e.session, 7, &err), &err);
    assert_null(bnt_session_logits(e.session));
    assert_int_equal(es_greedy(&e, story + 7, STORY - 7), a);
    assert_int_equal(bnt_session_rewind(e.session, 17, &err), BNT_E_USAGE);
    es_close(&e);
}

static void bad_ids_change_nothing(void **state)
{
    (void)state;
    struct es_engine e;
    es_open(&e, suite_bundled_model(), &(struct bnt_session_options){.n_ctx = 32});
    const int32_t bad[][2] = {{5, -1}, {5, 2048}, {5, INT32_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct bnt_err err = {0};
        assert_int_equal(bnt_session_eval(e.session, bad[i], 2, &err), BNT_E_USAGE);
        assert_int_equal(bnt_session_n_past(e.session), 0);
    }
    assert_int_equal(bnt_session_eval(e.session, story, 0, NULL), BNT_E_USAGE);
    es_close(&e);
}

static void sessions_over_one_model_do_not_meet(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct es_engine e;
    struct bnt_session *other;
    es_open(&e, suite_bundled_model(), &(struct bnt_session_options){.n_ctx = 32});
    es_ok(bnt_session_new(e.model, &(struct bnt_session_options){.n_ctx = 32}, &other, &err), &err);
    es_ok(bnt_session_eval(e.session, story, 8, &err), &err);
    es_ok(bnt_session_eval(other, story + 8, 8, &err), &err); /* other text in between */
    struct es_engine second = {.model = e.model, .session = other};
    es_ok(bnt_session_rewind(other, 0, &err), &err);
    assert_int_equal(es_greedy(&e, story + 8, STORY - 8), es_greedy(&second, story, STORY));
    bnt_session_free(other);
    es_close(&e);
}

static void interrupted_eval_keeps_whole_batches(void **state)
{
    (void)state;
    static volatile int stop = 1;
    struct bnt_err err = {0};
    struct es_engine e;
    es_open(&e, suite_bundled_model(),
            &(struct bnt_session_options){.n_ctx = 32, .interrupted = &stop});
    assert_int_equal(bnt_session_eval(e.session, story, STORY, &err), BNT_E_INTERRUPTED);
    assert_int_equal(bnt_session_n_past(e.session), 0);
    stop = 0;
    err = (struct bnt_err){0};
    es_ok(bnt_session_eval(e.session, story, STORY, &err), &err);
    es_close(&e);
}

static void a_token_allocates_nothing(void **state)
{
    (void)state;
    if (!es_counts_allocations()) {
        skip(); /* a sanitizer owns malloc here */
    }
    struct bnt_err err = {0};
    struct es_engine e;
    es_open(&e, suite_bundled_model(),
            &(struct bnt_session_options){.n_ctx = 64, .n_threads = 2, .device = "cpu"});
    es_ok(bnt_session_eval(e.session, story, 4, &err), &err);
    uint64_t before = es_allocations();
    for (int i = 4; i < STORY; i++) {
        es_ok(bnt_session_eval(e.session, story + i, 1, &err), &err);
    }
    assert_int_equal(es_allocations() - before, 0);
    es_close(&e);
}

/* ---- memory ---- */

static void a_limit_that_cannot_hold_is_refused_with_need_and_have(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_model_options mo = {.memory_limit = 4u << 20};
    assert_int_equal(bnt_model_open(suite_bundled_model(), &mo, &m, &err), BNT_E_MEMORY);
    const char *needs = strstr(err.msg, "needs ");
    assert_non_null(needs);
    assert_non_null(strstr(err.msg, "the limit is 4 MB"));
    /* What it says is what does. */
    const uint64_t mb = strtoul(needs + strlen("needs "), NULL, 10);
    mo.memory_limit = (mb - 1) * 1000000;
    assert_int_equal(bnt_model_open(suite_bundled_model(), &mo, &m, NULL), BNT_E_MEMORY);
    mo.memory_limit = mb * 1000000;
    assert_int_equal(bnt_model_open(suite_bundled_model(), &mo, &m, NULL), BNT_OK);
    bnt_model_close(m);
}

/* The 2B shape runs when address space is short: weights are streamed and nobody is killed. */
static void two_billion_parameters_run_within_one_gigabyte(void **state)
{
    (void)state;
    struct rlimit limit = {1000u << 20, 1000u << 20};
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    struct es_engine e;
    es_open(&e, getenv("BNT_SYNTH2B"), &(struct bnt_session_options){.n_ctx = 256, .n_threads = 2});
    assert_true(bnt_model_info(e.model)->streamed);
    const int32_t ids[] = {128000, 9906, 1917};
    es_greedy(&e, ids, 3);
    assert_in_range(bnt_peak_rss(), 1, 1000u << 20);
    es_close(&e);
}

/* The same by --memory-limit, where the file can be mapped: what is mapped counts too. */
static void two_billion_parameters_stay_below_a_memory_limit(void **state)
{
    (void)state;
    struct es_engine e;
    struct bnt_session_options so = {.n_ctx = 256, .n_threads = 2};
    struct bnt_model_options mo = {.memory_limit = 300u << 20, .i2s_layout = "128/32"};
    es_open_with(&e, getenv("BNT_SYNTH2B"), &mo, &so);
    assert_true(bnt_model_info(e.model)->streamed);
    const int32_t ids[] = {128000, 9906, 1917};
    es_greedy(&e, ids, 3);
    assert_true(bnt_model_memory_need(e.model, &so) <= mo.memory_limit);
    assert_in_range(bnt_peak_rss(), 1, mo.memory_limit);
    es_close(&e);
}

static void two_billion_parameters_peak_below_2_2_gigabytes(void **state)
{
    (void)state;
    struct es_engine e;
    es_open(&e, getenv("BNT_SYNTH2B"),
            &(struct bnt_session_options){.n_ctx = 4096, .n_threads = 2});
    int32_t ids[512];
    for (int i = 0; i < 512; i++) {
        ids[i] = i * 211 % 100000;
    }
    for (int i = 0; i < 8; i++) {
        struct bnt_err err = {0};
        es_ok(bnt_session_eval(e.session, ids, 512 - (i == 7), &err), &err);
    }
    es_greedy(&e, ids, 1);
    assert_in_range(bnt_peak_rss(), 1, 2200000000u);
    es_close(&e);
}

/* ---- packings of I2_S ---- */

static int n_warnings;
static char last_warning[512];

static void count_warning(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)hint;
    n_warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", what);
}

static void foreign_packings_are_found_and_converted(void **state)
{
    (void)state;
    const struct {
        enum i2s_layout layout;
        const char *name;
    } cases[] = {{I2S_ARM, "64/16"}, {I2S_ROWS4, "4-rows"}};
    struct es_engine plain;
    es_open(&plain, suite_bundled_model(), &(struct bnt_session_options){.n_ctx = 32});
    int32_t want = es_greedy(&plain, story, STORY);
    es_close(&plain);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct es_engine e;
        const char *path = es_repacked_model(cases[i].layout);
        struct bnt_model_options mo = {.warn = count_warning};
        n_warnings = 0;
        es_open_with(&e, path, &mo, &(struct bnt_session_options){.n_ctx = 32});
        assert_string_equal(bnt_model_info(e.model)->i2s_layout, cases[i].name);
        assert_int_equal(n_warnings, 1);
        assert_non_null(strstr(last_warning, cases[i].name));
        assert_int_equal(es_greedy(&e, story, STORY), want);
        es_close(&e);

        mo.i2s_layout = "128/32"; /* the user's word overrides */
        es_open_with(&e, path, &mo, &(struct bnt_session_options){.n_ctx = 32});
        assert_string_equal(bnt_model_info(e.model)->i2s_layout, "128/32");
        es_close(&e);
    }
}

/* The check is made once: what it found is taken from then on, and said again. */
static void a_found_packing_is_remembered(void **state)
{
    (void)state;
    struct es_engine e;
    struct bnt_file_id id;
    struct bnt_model_options mo = {.warn = count_warning};
    const char *path = es_repacked_model(I2S_ARM);
    bnt_clock_fake((uint64_t)(bnt_clock_unix_s() + 60) * 1000000000u); /* the file has settled */
    for (int i = 0; i < 2; i++) {
        n_warnings = 0;
        es_open_with(&e, path, &mo, &(struct bnt_session_options){.n_ctx = 32});
        assert_string_equal(bnt_model_info(e.model)->i2s_layout, "64/16");
        assert_int_equal(n_warnings, 1);
        es_close(&e);
    }
    assert_true(bnt_file_identify(path, &id));
    char value[BNT_FACT_MAX]; /* "64/16 converted ...": a change is believed, not checked again */
    assert_true(bnt_fact_get(&id, "i2s", value));
    assert_memory_equal(value, "64/16 ", 6);
    char changed[BNT_FACT_MAX + 1];
    snprintf(changed, sizeof changed, "4-rows %s", value + 6);
    bnt_fact_put(&id, "i2s", changed);
    es_open_with(&e, path, &mo, &(struct bnt_session_options){.n_ctx = 32});
    assert_string_equal(bnt_model_info(e.model)->i2s_layout, "4-rows");
    es_close(&e);

    mo.pre = "gpt-2"; /* with other words it is another question */
    es_open_with(&e, path, &mo, &(struct bnt_session_options){.n_ctx = 32});
    assert_string_equal(bnt_model_info(e.model)->i2s_layout, "64/16");
    es_close(&e);
}

static void nonsense_under_every_packing_is_said_aloud(void **state)
{
    (void)state;
    struct es_engine e;
    struct bnt_model_options mo = {.warn = count_warning};
    n_warnings = 0;
    es_open_with(&e, es_scrambled_model(), &mo, &(struct bnt_session_options){.n_ctx = 32});
    assert_string_equal(bnt_model_info(e.model)->i2s_layout, "128/32");
    assert_int_equal(n_warnings, 1);
    assert_non_null(strstr(last_warning, "no sense"));
    es_close(&e);
}

/* ---- refusals ---- */

static void what_is_missing_is_named(void **state)
{
    (void)state;
    const struct {
        const char *from, *to; /* bytes of the file, equal length */
        enum gguf_fault fault;
        const char *named;
    } cases[] = {
        {"blk.2.attn_sub_norm.weight", "blk.2.attn_sub_morn.weight", GGUF_FAULT_ARCHITECTURE,
         "blk.2.attn_sub_norm.weight"},
        {"blk.3.ffn_down.weight", "blk.3.ffn_dawn.weight", GGUF_FAULT_ARCHITECTURE,
         "blk.3.ffn_down.weight"},
        {"output_norm.weight", "output_morn.weight", GGUF_FAULT_ARCHITECTURE, "output_norm.weight"},
        {"token_embd.weight", "token_abcd.weight", GGUF_FAULT_ARCHITECTURE, "token_embd.weight"},
        {"attention.head_count_kv", "attention.head_count_xx", GGUF_FAULT_DIMENSIONS, "attn_k"},
        {"bitnet-b1.58.block_count", "bitnet-b1.58.black_count", GGUF_FAULT_MISSING_METADATA,
         "block_count"},
        {"attention.layer_norm_rms_epsilon", "attention.layer_norm_rms_epsilom",
         GGUF_FAULT_MISSING_METADATA, "epsilon"},
        {"general.architecture", "general.architectura", GGUF_FAULT_MISSING_METADATA,
         "general.architecture"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_model *m = NULL;
        const char *path = es_patched_model(cases[i].from, cases[i].to);
        assert_int_not_equal(bnt_model_open(path, NULL, &m, &err), BNT_OK);
        assert_string_equal(err.domain, "gguf");
        if (err.foreign != (int)cases[i].fault || !strstr(err.msg, cases[i].named) ||
            !err.hint[0]) {
            fail_msg("%s: class %s, message '%s', hint '%s'", cases[i].from,
                     gguf_fault_info(err.foreign)->name, err.msg, err.hint);
        }
    }
}

static void an_unknown_architecture_is_named_with_those_that_are_known(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_model *m = NULL;
    const char *path = es_patched_model("bitnet-b1.58", "mamba-b1.580");
    assert_int_equal(bnt_model_open(path, NULL, &m, &err), BNT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "mamba-b1.580"));
    assert_non_null(strstr(err.msg, "bitnet-b1.58"));
}

/* ---- perplexity ---- */

/* golden/tinystories-bitnet.json: float64 reference, chunks of 512 that begin with BOS. */
static void perplexity_equals_the_recorded_value(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct es_engine e;
    struct bnt_buf text = BNT_BUF(1 << 20);
    struct bnt_ids ids = {0};
    struct bnt_perplexity p;
    es_ok(bnt_file_read(suite_shared("text/tinystories.val.txt"), &text, &err), &err);
    es_open(&e, suite_bundled_model(), &(struct bnt_session_options){.n_ctx = 512, .n_threads = 2});
    es_ok(bnt_tokenizer_encode(bnt_model_tokenizer(e.model), text.data, text.len, 0, &ids, &err),
          &err);
    es_ok(bnt_perplexity(e.session, ids.at, ids.n, 512, NULL, NULL, &p, &err), &err);
    assert_int_equal(p.n_tokens, 18503);
    assert_true(fabs(p.ppl / 13.726553 - 1) <= 2e-4);
    bnt_ids_release(&ids);
    bnt_buf_release(&text);
    es_close(&e);
}

/* -log of the softmax of row[n] at id, summed in double. */
static double surprise(const float *row, uint32_t n, int32_t id)
{
    double largest = row[0], sum = 0;
    for (uint32_t i = 1; i < n; i++) {
        largest = row[i] > largest ? row[i] : largest;
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += exp(row[i] - largest);
    }
    return largest + log(sum) - row[id];
}

/* Chunks of 5: BOS and four ids, each predicted from those before it in its chunk. */
static void perplexity_is_the_mean_surprise_of_each_next_id(void **state)
{
    (void)state;
    enum { CHUNK = 5, N = 10 };
    static const int32_t ids[N] = {394, 401, 258, 372, 44, 382, 280, 258, 386, 427};
    struct bnt_err err = {0};
    struct es_engine e;
    struct bnt_perplexity p;
    es_open(&e, suite_bundled_model(), &(struct bnt_session_options){.n_ctx = 64, .n_threads = 1});
    uint32_t n_vocab = bnt_session_n_vocab(e.session);
    double sum = 0;
    for (size_t first = 0; first < N; first += CHUNK - 1) {
        size_t take = N - first < CHUNK - 1 ? N - first : CHUNK - 1;
        int32_t chunk[CHUNK] = {bnt_tokenizer_bos(bnt_model_tokenizer(e.model))};
        memcpy(chunk + 1, ids + first, take * sizeof *ids);
        es_ok(bnt_session_rewind(e.session, 0, &err), &err);
        float *rows = es_eval_rows(e.session, chunk, take);
        for (size_t i = 0; i < take; i++) {
            sum += surprise(rows + i * n_vocab, n_vocab, chunk[i + 1]);
        }
        free(rows);
    }
    es_ok(bnt_perplexity(e.session, ids, N, CHUNK, NULL, NULL, &p, &err), &err);
    assert_int_equal(p.n_tokens, N);
    assert_true(fabs(p.nll - sum / N) <= 1e-9 * fabs(p.nll));
    assert_true(fabs(p.ppl - exp(sum / N)) <= 1e-9 * p.ppl);
    es_close(&e);
}

static const struct suite_test tests[] = {
    {.name = "engine_every_kernel_gives_equal_bits",
     .body = every_kernel_gives_equal_bits,
     .timeout_ms = 60000},
    {.name = "engine_threads_and_batches_give_equal_bits",
     .body = threads_and_batches_give_equal_bits,
     .timeout_ms = 60000},
    {.name = "engine_streamed_layers_give_equal_bits",
     .body = streamed_layers_give_equal_bits,
     .timeout_ms = 60000},
    {.name = "engine_prompts_need_little_stack",
     .body = prompts_need_little_stack,
     .needs = "no-tsan"}, /* whose own data of a thread lie on its stack, and take more */
    {.name = "engine_rewind_forgets_and_overflow_is_refused",
     .body = rewind_forgets_and_overflow_is_refused},
    {.name = "engine_bad_ids_change_nothing", .body = bad_ids_change_nothing},
    {.name = "engine_sessions_over_one_model_do_not_meet",
     .body = sessions_over_one_model_do_not_meet},
    {.name = "engine_interrupted_eval_keeps_whole_batches",
     .body = interrupted_eval_keeps_whole_batches},
    {.name = "engine_a_token_allocates_nothing", .body = a_token_allocates_nothing},
    {.name = "engine_limit_is_refused_with_need_and_have",
     .body = a_limit_that_cannot_hold_is_refused_with_need_and_have},
    {.name = "engine_2b_runs_within_1_gigabyte",
     .body = two_billion_parameters_run_within_one_gigabyte,
     .needs = "synth2b",
     .timeout_ms = 120000},
    {.name = "engine_2b_stays_below_a_memory_limit",
     .body = two_billion_parameters_stay_below_a_memory_limit,
     .needs = "synth2b",
     .timeout_ms = 120000},
    {.name = "engine_2b_peak_below_2_2_gigabytes",
     .body = two_billion_parameters_peak_below_2_2_gigabytes,
     .needs = "synth2b",
     .tier = SUITE_FULL,
     .timeout_ms = 600000},
    {.name = "engine_foreign_i2s_packings_are_found_and_converted",
     .body = foreign_packings_are_found_and_converted,
     .timeout_ms = 60000},
    {.name = "engine_found_packing_is_remembered", .body = a_found_packing_is_remembered},
    {.name = "engine_nonsense_under_every_packing_is_said_aloud",
     .body = nonsense_under_every_packing_is_said_aloud,
     .timeout_ms = 60000},
    {.name = "engine_what_is_missing_is_named", .body = what_is_missing_is_named},
    {.name = "engine_unknown_architecture_is_named",
     .body = an_unknown_architecture_is_named_with_those_that_are_known},
    {.name = "engine_perplexity_is_the_mean_surprise_of_each_next_id",
     .body = perplexity_is_the_mean_surprise_of_each_next_id},
    {.name = "engine_perplexity_equals_the_recorded_value",
     .body = perplexity_equals_the_recorded_value,
     .needs = "shared,release-build",
     .timeout_ms = 120000},
    {0},
};

const struct suite suite_engine = {
    "engine", tests,
    "pool_piece causal_mask rope_key_late streamed_layer rewind id_check "
    "perplexity_target"};
