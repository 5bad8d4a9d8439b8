/* Guards against what shows only on much or on odd text: bytes lost somewhere among all
 * pre-tokenizers, characters torn apart on a stream, time that grows with the square of the length,
 * state shared between threads. */
#include "testkit/suite.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "engine/fuzz/exercise_tokenizer.inc"
#include "testkit/suites/tokenizer_vocabs.h"

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- random text ---- */

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t new_seed(void)
{
    const char *given = getenv("BNT_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003u;
    print_message("seed: BNT_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* Words, spaces, digits, several scripts, joiners, and broken bytes. */
static const char *const scraps[] = {
    "a",
    "the",
    "Hello",
    " World",
    "camelCase",
    "I'm",
    "'LL",
    "'s",
    " ",
    "  ",
    "    ",
    "\n",
    "\r\n",
    "\t",
    "1",
    "12345",
    "007",
    ".",
    "...",
    "?!",
    "--",
    "$",
    "{}",
    "\"",
    "\\",
    "/",
    "\xc3\xa9",
    "\xc3\x89",
    "\xd0\x96",
    "\xe4\xbd\xa0",
    "\xe5\xa5\xbd",
    "\xe3\x81\x8b",
    "\xed\x95\x9c",
    "\xe0\xb8\xa3",
    "\xd9\xa3",
    "\xc2\xbd",
    "\xc2\xa0",
    "\xe3\x80\x80",
    "\xe2\x80\xa8",
    "\xcc\x81",
    "\xe2\x80\x8d",
    "\xf0\x9f\x98\x80",
    "\xf0\x9f\x91\xa8",
    "\xef\xbb\xbf",
    "\xff",
    "\x80",
    "\xe4\xbd",
    "\xc0",
    "\xed\xa0\x80",
    "\xf4\x90\x80\x80",
    "\x01",
    "\x7f",
    "\xef\xbc\x81",
    "\xe2\x80\xa6",
    "IMGIMGABZ",
    "<sentinel:7>",
    "\xc5\xbf",
};

static size_t random_text(uint64_t *random, char *out, size_t room)
{
    size_t n = 0;
    size_t parts = next_random(random) % 60;
    for (size_t i = 0; i < parts && n + 16 < room; i++) {
        uint64_t r = next_random(random);
        if (r % 8 == 0) {
            out[n++] = (char)(r >> 8);
            continue;
        }
        const char *scrap = scraps[(r >> 8) % (sizeof(scraps) / sizeof(scraps[0]))];
        size_t times = r % 8 == 1 ? (r >> 32) % 9 : 1;
        for (size_t k = 0; k < times && n + 16 < room; k++) {
            size_t len = strlen(scrap);
            memcpy(out + n, scrap, len);
            n += len;
        }
    }
    return n;
}

static void every_text_comes_back_whole(void **state)
{
    (void)state;
    uint64_t random = new_seed();
    struct gguf *g = NULL;
    assert_int_equal(gguf_open(suite_bundled_model(), GGUF_MODE_AUTO, &g, NULL), BNT_OK);
    for (size_t row = 0; pretok_at(row) != NULL; row++) {
        struct bnt_tokenizer *t = tv_new(g, pretok_at(row)->name);
        for (int i = 0; i < 60; i++) {
            char text[2048];
            size_t n = random_text(&random, text, sizeof(text));
            exercise_text(t, text, n, 0, true); /* aborts when bytes are lost */
        }
        bnt_tokenizer_free(t);
    }
    gguf_close(g);
}

static void streams_never_split_a_character(void **state)
{
    (void)state;
    static const char text[] = "caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80!";
    struct bnt_tokenizer *t = tv_open(suite_bundled_model(), NULL);
    struct bnt_buf out = BNT_BUF(256);
    struct bnt_detok d;
    bnt_detok_init(&d, t, false);
    size_t n_held = 0;
    for (size_t i = 0; i < strlen(text); i++) { /* byte by byte, the worst that tokens can do */
        char byte[3];
        tv_byte_char((unsigned char)text[i], byte);
        size_t before = out.len;
        assert_int_equal(bnt_detok_push(&d, bnt_tokenizer_find(t, byte), &out, NULL), BNT_OK);
        assert_true(is_whole_utf8(bnt_buf_view(&out) + before, out.len - before));
        n_held += out.len == before;
    }
    assert_int_equal(n_held, 1 + 2 + 2 + 3);
    assert_string_equal(bnt_buf_view(&out), text);
    bnt_buf_release(&out);
    bnt_tokenizer_free(t);
}

static void streams_pass_broken_bytes_on(void **state)
{
    (void)state;
    /* bytes, and how many of them are out after each push */
    static const struct {
        const char *bytes;
        size_t out[4];
    } cases[] = {
        {"\xff", {1}},
        {"\x80", {1}},
        {"\xc0", {1}},
        {"\xe4\x41", {0, 2}},
        {"\xe4\xe4", {0, 1}},
        {"\xf0\x9f\x41", {0, 0, 3}},
        {"\xe0\x80", {0, 2}},
        {"\xed\xa0", {0, 2}},
        {"\xf4\x90", {0, 2}},
        {"\xf5", {1}},
        {"\xf0\x9f\x98\x80", {0, 0, 0, 4}},
    };
    struct bnt_tokenizer *t = tv_open(suite_bundled_model(), NULL);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct bnt_buf out = BNT_BUF(64);
        struct bnt_detok d;
        bnt_detok_init(&d, t, false);
        for (size_t i = 0; cases[c].bytes[i] != '\0'; i++) {
            char byte[3];
            tv_byte_char((unsigned char)cases[c].bytes[i], byte);
            assert_int_equal(bnt_detok_push(&d, bnt_tokenizer_find(t, byte), &out, NULL), BNT_OK);
            assert_int_equal(out.len, cases[c].out[i]);
        }
        assert_int_equal(bnt_detok_flush(&d, &out, NULL), BNT_OK);
        assert_string_equal(bnt_buf_view(&out), cases[c].bytes);
        bnt_buf_release(&out);
    }
    bnt_tokenizer_free(t);
}

/* ---- length ---- */

static const char *const repeated[] = {
    "a",
    " ",
    "\n",
    "7",
    "!",
    "\xf0\x9f\x98\x80",
    "\xe4\xbd\xa0",
    "\xff",
    "\xcc\x81",
    "ab",
    "a ",
    " \n",
    "'s",
    "\r",
    "A\xc3\x89",
    "\xc2\xa0",
    "a\xcc\x81 ",
    "<",
    "<|",
    "<sentinel:1",
    "IMGIMG",
    "\t ",
    "0\xd9\xa3",
};

static char *repeat(const char *unit, size_t n)
{
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0, len = strlen(unit); i < n; i++) {
        text[i] = unit[i % len];
    }
    return text;
}

static double encode_seconds(const struct bnt_tokenizer *t, const char *text, size_t n)
{
    double best = 1e9;
    for (int i = 0; i < 2; i++) { /* the second run finds its memory mapped */
        struct bnt_ids ids = {0};
        double start = cpu_seconds();
        assert_int_equal(bnt_tokenizer_encode(t, text, n, BNT_ENCODE_PARSE_SPECIAL, &ids, NULL),
                         BNT_OK);
        double taken = cpu_seconds() - start;
        best = taken < best ? taken : best;
        bnt_ids_release(&ids);
    }
    return best;
}

/* Four times the length may take ten times as long (n log n and cold caches give five or six, a
 * square sixteen), beyond a floor below which times are noise. */
static void expect_no_square(const struct bnt_tokenizer *t, const char *what, size_t n)
{
    for (size_t i = 0; i < sizeof(repeated) / sizeof(repeated[0]); i++) {
        char *text = repeat(repeated[i], 4 * n);
        double quarter = encode_seconds(t, text, n);
        double whole = encode_seconds(t, text, 4 * n);
        if (whole > 10 * quarter && whole > 0.05) {
            fail_msg("%s on %zu bytes of \"%s\": %.3f s, on a quarter of them %.3f s", what, 4 * n,
                     repeated[i], whole, quarter);
        }
        free(text);
    }
}

static void long_texts_take_no_square_of_time(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_open(suite_bundled_model(), NULL);
    expect_no_square(t, "bundled", 1u << 18);
    bnt_tokenizer_free(t);
}

static void every_pretokenizer_takes_no_square_of_time(void **state)
{
    (void)state;
    struct gguf *g = NULL;
    assert_int_equal(gguf_open(suite_bundled_model(), GGUF_MODE_AUTO, &g, NULL), BNT_OK);
    const struct pretok_step *last = NULL;
    for (size_t row = 0; pretok_at(row) != NULL; row++) {
        if (pretok_at(row)->steps != last) {
            struct bnt_tokenizer *t = tv_new(g, pretok_at(row)->name);
            expect_no_square(t, pretok_at(row)->name, 1u << 14);
            bnt_tokenizer_free(t);
        }
        last = pretok_at(row)->steps;
    }
    gguf_close(g);
}

static void long_sentencepiece_texts_take_no_square_of_time(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {
        {"a", 0, -1},
        {"aa", 0, -2},
        {"aaaa", 0, -3},
        {"\xe2\x96\x81", 0, -4},
        {"\xe2\x96\x81\xe2\x96\x81", 0, -5},
        {"b\xe2\x96\x81", 0, -6},
        {"   ", 4, 0},
        {"  ", 4, 0},
        {"<", 3, 0},
        {NULL, 0, 0},
    };
    const struct tv_spec spec = {.model = "llama", .bytes = true, .tokens = tokens};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    expect_no_square(t, "llama", 1u << 17);
    bnt_tokenizer_free(t);
}

/* ---- speed ---- */

/* What is promised; measured: some 20 MB/s, and 50 ms to be ready. */
static void english_goes_at_5_megabytes_per_second(void **state)
{
    (void)state;
    struct bnt_buf text = BNT_BUF(16u << 20);
    assert_int_equal(bnt_file_read(suite_shared("text/wiki.test.raw"), &text, NULL), BNT_OK);
    const struct gguf *g = tv_llama3_file();
    double start = cpu_seconds();
    struct bnt_tokenizer *t = tv_new(g, "llama-bpe");
    double load = cpu_seconds() - start;
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double taken = encode_seconds(t, text.data, text.len);
        best = taken < best ? taken : best;
    }
    double rate = (double)text.len / best * 1e-6;
    print_message("LLaMA-3 vocabulary: ready in %.0f ms, %.1f MB/s\n", load * 1e3, rate);
    if (rate < 5 || load > 0.25) {
        fail_msg("%.1f MB/s, should be 5; ready in %.3f s, should be 0.25", rate, load);
    }
    bnt_tokenizer_free(t);
    tv_close();
    bnt_buf_release(&text);
}

/* ---- the memory of words ---- */

/* Random words, more than the memory of a long text has slots for; a word alone is too short to be
 * remembered. */
static void a_long_text_encodes_as_its_words_do(void **state)
{
    (void)state;
    enum { WORDS = 20000, LETTERS = 6 };
    struct bnt_tokenizer *t = tv_open(suite_bundled_model(), NULL);
    struct bnt_buf text = BNT_BUF(1 << 20);
    struct bnt_ids whole = {0}, parts = {0};
    uint64_t random = new_seed();
    for (int i = 0; i < WORDS; i++) {
        char word[LETTERS + 1] = " ";
        for (int k = 1; k < LETTERS; k++) {
            word[k] = (char)('a' + next_random(&random) % 26);
        }
        assert_int_equal(bnt_buf_append(&text, word, LETTERS, NULL), BNT_OK);
        assert_int_equal(bnt_tokenizer_encode(t, word, LETTERS, 0, &parts, NULL), BNT_OK);
    }
    assert_int_equal(bnt_tokenizer_encode(t, text.data, text.len, 0, &whole, NULL), BNT_OK);
    assert_int_equal(whole.n, parts.n);
    assert_memory_equal(whole.at, parts.at, parts.n * sizeof *parts.at);
    bnt_ids_release(&whole);
    bnt_ids_release(&parts);
    bnt_buf_release(&text);
    bnt_tokenizer_free(t);
}

/* ---- threads ---- */

struct shared_work {
    const struct bnt_tokenizer *t;
    const char *text;
    size_t len;
    struct bnt_ids ids;
};

static void *encode_in_thread(void *arg)
{
    struct shared_work *w = arg;
    (void)bnt_tokenizer_encode(w->t, w->text, w->len, BNT_ENCODE_PARSE_SPECIAL, &w->ids, NULL);
    return NULL;
}

static void one_tokenizer_serves_many_threads(void **state)
{
    (void)state;
    enum { N = 4 };
    struct bnt_tokenizer *t = tv_open(suite_bundled_model(), NULL);
    char *text = repeat(
        "Once upon a time, there was a little girl named Lily. \xf0\x9f\x98\x80 1234\n", 100000);
    struct shared_work work[N];
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        work[i] = (struct shared_work){.t = t, .text = text, .len = 100000};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_in_thread, &work[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_true(work[i].ids.n > 10000);
        assert_int_equal(work[i].ids.n, work[0].ids.n);
        assert_memory_equal(work[i].ids.at, work[0].ids.at, work[0].ids.n * sizeof(int32_t));
    }
    for (int i = 0; i < N; i++) {
        bnt_ids_release(&work[i].ids);
    }
    free(text);
    bnt_tokenizer_free(t);
}

/* ---- found by fuzzing ---- */

static void kept_fuzzer_inputs_do_no_harm(void **state)
{
    (void)state;
    char folder[BNT_PATH_MAX];
    assert_int_equal(
        bnt_path_format(folder, NULL, "%s", suite_source("testkit/data/fuzz/tokenizer")), BNT_OK);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t n_inputs = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        char path[BNT_PATH_MAX];
        struct bnt_buf input = BNT_BUF(1u << 20);
        struct bnt_err err = {0};
        assert_int_equal(bnt_path_format(path, NULL, "%s/%s", folder, entry->d_name), BNT_OK);
        assert_int_equal(bnt_file_read(path, &input, NULL), BNT_OK);
        if (exercise_tokenizer((const uint8_t *)bnt_buf_view(&input), input.len, &err) != BNT_OK) {
            assert_true(err.msg[0] != '\0');
        }
        bnt_buf_release(&input);
        n_inputs++;
    }
    closedir(dir);
    assert_true(n_inputs >= 20);
}

static const struct suite_test tests[] = {
    {.name = "tokenizer_every_text_comes_back_whole",
     .body = every_text_comes_back_whole,
     .timeout_ms = 60000},
    {.name = "tokenizer_streams_never_split_a_character", .body = streams_never_split_a_character},
    {.name = "tokenizer_streams_pass_broken_bytes_on", .body = streams_pass_broken_bytes_on},
    {.name = "tokenizer_long_texts_take_no_square_of_time",
     .body = long_texts_take_no_square_of_time,
     .needs = "release-build",
     .timeout_ms = 120000},
    {.name = "tokenizer_every_pretokenizer_takes_no_square_of_time",
     .body = every_pretokenizer_takes_no_square_of_time,
     .needs = "release-build",
     .timeout_ms = 120000},
    {.name = "tokenizer_long_sentencepiece_texts_take_no_square_of_time",
     .body = long_sentencepiece_texts_take_no_square_of_time,
     .needs = "release-build",
     .timeout_ms = 120000},
    {.name = "tokenizer_english_goes_at_5_megabytes_per_second",
     .body = english_goes_at_5_megabytes_per_second,
     .needs = "shared,release-build",
     .timeout_ms = 60000},
    {.name = "tokenizer_a_long_text_encodes_as_its_words_do",
     .body = a_long_text_encodes_as_its_words_do},
    {.name = "tokenizer_one_tokenizer_serves_many_threads",
     .body = one_tokenizer_serves_many_threads,
     .timeout_ms = 60000},
    {.name = "tokenizer_kept_fuzzer_inputs_do_no_harm",
     .body = kept_fuzzer_inputs_do_no_harm,
     .needs = "source",
     .timeout_ms = 60000},
    {0},
};
const struct suite suite_tokenizer_bulk = {"tokenizer_bulk", tests, "word_cache utf8_split"};
