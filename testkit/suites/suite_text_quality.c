/* Guards the figures of docs/quality.md: word salad that passes for text, a loop that is not seen,
 * an answer about something else, and sound text that is refused. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "engine/text_quality.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/official.h"

static struct bnt_text_quality figures(const char *text, const char *prompt)
{
    struct bnt_text_quality q;
    assert_int_equal(bnt_text_quality(text, strlen(text), prompt, strlen(prompt), &q, NULL),
                     BNT_OK);
    return q;
}

static const char *const good[] = {
    "Lily wanted to climb the tall tree in her garden. Her mom said it was not safe. \"Can you "
    "help me?\" she asked. They found a ladder, and Lily could see the whole town from the top.",
    "The engine reads a file and checks every offset. If one of them is wrong, it says where. A "
    "user can then repair the file with another command, or ask for a new copy of it.",
    "In 1969 the first astronauts walked on the Moon. They brought 22 kg of rocks with them, "
    "which scientists still study today. Mr. Armstrong was the first of them.",
};
enum { N_GOOD = sizeof good / sizeof good[0], TEXT_MAX = 4096, WORDS_MAX = 400 };

/* The words of a text in another order. */
static void shuffle(const char *text, struct bnt_rng *rng, char out[TEXT_MAX])
{
    char copy[TEXT_MAX], *words[WORDS_MAX], *rest = NULL;
    size_t n = 0, len = 0;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *w = strtok_r(copy, " \n", &rest); w && n < WORDS_MAX;
         w = strtok_r(NULL, " \n", &rest)) {
        words[n++] = w;
    }
    for (size_t i = n; i > 1; i--) {
        size_t k = bnt_rng_below(rng, i);
        char *held = words[i - 1];
        words[i - 1] = words[k];
        words[k] = held;
    }
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        len += (size_t)snprintf(out + len, TEXT_MAX - len, "%s%s", i ? " " : "", words[i]);
    }
}

static void sound_text_is_coherent_and_shuffled_text_is_not(void **state)
{
    (void)state;
    struct bnt_rng rng;
    char mixed[TEXT_MAX];
    size_t passed = 0;
    bnt_rng_seed(&rng, 1);
    for (size_t i = 0; i < N_GOOD; i++) {
        struct bnt_text_quality q = figures(good[i], "");
        assert_true(q.coherence > 0.9 && q.repetition == 0 && q.relevance == 1);
        for (int k = 0; k < 100; k++) {
            shuffle(good[i], &rng, mixed);
            passed += figures(mixed, "").coherence > BNT_COHERENCE_MIN;
        }
    }
    assert_in_range(passed, 0, 15); /* of 300 texts of some 30 words */
}

static void noise_and_lists_are_not_coherent(void **state)
{
    (void)state;
    struct bnt_rng rng;
    char text[TEXT_MAX];
    bnt_rng_seed(&rng, 2);
    for (int k = 0; k < 50; k++) {
        for (size_t i = 0; i < 400; i++) {
            uint64_t r = bnt_rng_below(&rng, k % 2 ? 255 : 29);
            text[i] = k % 2 ? (char)(r + 1) : r < 26 ? (char)('a' + r) : ' ';
        }
        text[400] = '\0';
        assert_true(figures(text, "").coherence < BNT_COHERENCE_MIN);
    }
    assert_true(figures("", "").coherence == 0 && figures(" \n", "").relevance == 0);
    assert_true(figures("?!? #### %%%% @@@@ ++++", "").coherence < BNT_COHERENCE_MIN);
    assert_true(figures("GGGG GGGG GGGG GGGG", "").coherence < BNT_COHERENCE_MIN);
    assert_true(
        figures("tree house dog ball cat bird fish sun moon star boat car hat", "").coherence <
        BNT_COHERENCE_MIN);
}

/* Seven words of which the last four are the first: one window of four stood before. */
static void repetition_is_the_share_of_windows_that_stood_before(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double expected;
    } cases[] = {
        {"one two three", 0},
        {"one two three four", 0},
        {"One, two: three four! ONE two three four", 1.0 / 5},
        {"a b c d a b c e", 0}, /* three words are no window */
        {"a a a a a a", 2.0 / 3},
        {"go on go on go on go on", 3.0 / 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = figures(cases[i].text, "").repetition;
        if (got < cases[i].expected - 1e-12 || got > cases[i].expected + 1e-12) {
            fail_msg("%s: %g, not %g", cases[i].text, got, cases[i].expected);
        }
    }
}

static void relevance_is_what_the_answer_takes_up(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *answer;
        bool relevant;
    } cases[] = {
        {"Explain quantum computing in simple terms:", "Quantum computing uses qubits.", true},
        {"Explain quantum computing in simple terms:", "The weather is nice today.", false},
        {"One day, Tom lost his kite.", "He cried, but Tom did not give up.", true},
        {"One day, Tom lost his kite.", "Lily saw a dog.", false},
        {"It was a rainy day and they climbed trees.", "The tree was wet. To climb it was hard.",
         true},
        {"and then", "anything", true}, /* asks for nothing */
        {"Tom", "", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = figures(cases[i].answer, cases[i].prompt).relevance;
        if ((got > BNT_RELEVANCE_MIN) != cases[i].relevant) {
            fail_msg("'%s' to '%s': %g", cases[i].answer, cases[i].prompt, got);
        }
    }
}

/* ---- generation ---- */

static const char *const prompts[] = {
    "Once upon a time, there was a girl named Lily. One day, Lily found a red ball in the park.",
    "Once upon a time, there was a boy named Tom. One day, Tom found a small dog in the garden.",
    "Once upon a time, there was a girl named Sue. One day, Sue found a big tree in the forest.",
    "Once upon a time, there was a boy named Ben. One day, Ben found a toy boat in the lake.",
    "Once upon a time, there was a girl named Anna. One day, Anna found a bird in the house.",
    "Once upon a time, there was a boy named Max. One day, Max found an old bear in the river.",
};
enum { N_PROMPTS = sizeof prompts / sizeof prompts[0] };

static void the_bundled_model_tells_sound_stories(void **state)
{
    (void)state;
    struct bnt_rng rng;
    char mixed[TEXT_MAX];
    unsigned strangers = 0;
    bnt_rng_seed(&rng, 3);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        struct infer_result r = INFER("-p", prompts[i], "-n", "100", "--validate-output");
        infer_expect(&r, BNT_OK);
        struct bnt_text_quality q = figures(r.out, prompts[i]);
        if (q.coherence <= BNT_COHERENCE_MIN || q.relevance <= BNT_RELEVANCE_MIN ||
            q.repetition >= BNT_REPETITION_MAX) {
            fail_msg("coherence %g, relevance %g, repetition %g: %s", q.coherence, q.relevance,
                     q.repetition, r.out);
        }
        shuffle(r.out, &rng, mixed);
        assert_true(figures(mixed, "").coherence <= BNT_COHERENCE_MIN);
        strangers += figures(r.out, prompts[(i + 1) % N_PROMPTS]).relevance > BNT_RELEVANCE_MIN;
        infer_drop(&r);
    }
    assert_in_range(strangers, 0, 2);
}

/* ---- corpora ---- */

enum { CORPUS_TEXTS = 150, CORPUS_WORDS = 100 };

/* So many words from the first beginning of a sentence behind `from`. */
static void cut_words(const struct bnt_buf *file, size_t from, char out[TEXT_MAX])
{
    size_t n = 0, words = 0, at = from;
    while (at + 2 < file->len && !(file->data[at] == '.' && strchr(" \n", file->data[at + 1]))) {
        at++;
    }
    for (at += 2; at < file->len && words < CORPUS_WORDS && n < TEXT_MAX - 1; at++) {
        const bool blank = strchr(" \n", file->data[at]) != NULL;
        words += blank && n > 0 && out[n - 1] != ' ';
        if (!blank || (n > 0 && out[n - 1] != ' ')) {
            out[n++] = blank ? ' ' : file->data[at];
        }
    }
    out[n] = '\0';
}

struct corpus_counts {
    unsigned coherent, shuffled_coherent, repeats, relevant;
};

static struct corpus_counts count_corpus(const char *name, const char *prompt)
{
    struct bnt_buf file = BNT_BUF(64u << 20);
    struct corpus_counts c = {0};
    struct bnt_rng rng;
    char text[TEXT_MAX], mixed[TEXT_MAX];
    bnt_rng_seed(&rng, 5);
    assert_int_equal(bnt_file_read(suite_shared(name), &file, NULL), BNT_OK);
    for (size_t i = 0; i < CORPUS_TEXTS; i++) {
        cut_words(&file, i * (file.len - TEXT_MAX) / CORPUS_TEXTS, text);
        const struct bnt_text_quality q = figures(text, prompt);
        c.coherent += q.coherence > BNT_COHERENCE_MIN;
        c.repeats += q.repetition >= BNT_REPETITION_MAX;
        c.relevant += q.relevance > BNT_RELEVANCE_MIN;
        shuffle(text, &rng, mixed);
        c.shuffled_coherent += figures(mixed, "").coherence > BNT_COHERENCE_MIN;
    }
    bnt_buf_release(&file);
    return c;
}

/* Stories and an encyclopaedia, the same in disorder, and as an answer to a prompt about something
 * else: docs/quality.md tells the figures. */
static void good_and_bad_corpora_separate(void **state)
{
    (void)state;
    const struct corpus_counts stories = count_corpus("text/tinystories.val.txt", "");
    const struct corpus_counts facts = count_corpus("text/wiki.test.raw", prompts[0]);
    assert_in_range(stories.coherent, CORPUS_TEXTS - 1, CORPUS_TEXTS);
    assert_in_range(facts.coherent, CORPUS_TEXTS - 3, CORPUS_TEXTS);
    assert_int_equal(stories.repeats + facts.repeats, 0);
    assert_int_equal(stories.shuffled_coherent, 0);
    assert_in_range(facts.shuffled_coherent, 0, CORPUS_TEXTS / 15);
    assert_int_equal(facts.relevant, 0);
}

/* What a model of two billion parameters knows. */
static void a_model_that_can_answer_answers(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *word;
    } cases[] = {{"The capital of France is", "paris"},
                 {"Explain quantum computing in simple terms:", "computing"},
                 {"Write a short poem about", "poem"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct infer_result r =
            INFER("-m", official_file(), "-p", cases[i].prompt, "-n", "64", "--validate-output");
        infer_expect(&r, BNT_OK);
        if (!strcasestr(r.out, cases[i].word)) {
            fail_msg("no '%s' in: %s", cases[i].word, r.out);
        }
        struct bnt_text_quality q = figures(r.out, cases[i].prompt);
        assert_true(q.coherence > BNT_COHERENCE_MIN && q.repetition < BNT_REPETITION_MAX);
        infer_drop(&r);
    }
}

static const struct suite_test tests[] = {
    {.name = "text_quality_sound_text_is_coherent_and_shuffled_text_is_not",
     .body = sound_text_is_coherent_and_shuffled_text_is_not},
    {.name = "text_quality_noise_and_lists_are_not_coherent",
     .body = noise_and_lists_are_not_coherent},
    {.name = "text_quality_repetition_is_the_share_of_windows_that_stood_before",
     .body = repetition_is_the_share_of_windows_that_stood_before},
    {.name = "text_quality_relevance_is_what_the_answer_takes_up",
     .body = relevance_is_what_the_answer_takes_up},
    {.name = "text_quality_bundled_model_tells_sound_stories",
     .body = the_bundled_model_tells_sound_stories,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "text_quality_good_and_bad_corpora_separate",
     .body = good_and_bad_corpora_separate,
     .needs = "shared",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "text_quality_model_that_can_answer_answers",
     .body = a_model_that_can_answer_answers,
     .needs = "official2b",
     .tier = SUITE_FULL,
     .timeout_ms = 300000},
    {0},
};

const struct suite suite_text_quality = {"text_quality", tests, "word_order"};
