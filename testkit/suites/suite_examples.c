/* Guards the gallery of docs/examples/: a program that does not build or does not hold what it
 * shows, on a tiny model or on the bundled one, and a file that the gallery does not list. The last
 * line that a program prints is compared: both models answer alike on every machine. */
#include "testkit/suite.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/exit.h"
#include "base/file.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

enum { PAGE_MAX_BYTES = 64 << 10 };

/* EXAMPLE(identifier, file without .c, last line on the tiny model, on the bundled model) */
#define EXAMPLES(EXAMPLE)                                                                          \
    EXAMPLE(load, "01-load", "bitnet-b1.58: 2 layers, 256 wide, I2_S, 1313536 parameters",         \
            "bitnet-b1.58: 4 layers, 256 wide, I2_S, 3676416 parameters")                          \
    EXAMPLE(greedy, "02-greedy",                                                                   \
            "ids 7 251 10 465 121 152 423 234 126 347 268 43 488 330 183 473",                     \
            "ids 44 382 280 258 386 427 391 332 46 325 430 264 301 536 266 1041")                  \
    EXAMPLE(stream, "03-stream", "20 bytes, ended by a stop string of 2",                          \
            "33 bytes, ended by a stop string of 8")                                               \
    EXAMPLE(seed, "04-seed", "ids 246 165 439...", "ids 423 548 317...")                           \
    EXAMPLE(logits, "05-logits", "38 positions; then 329 (-0.22), 303 (-2.68), 139 (-3.07)",       \
            "10 positions; then 391 (-0.66), 1009 (-1.65), 46 (-1.97)")                            \
    EXAMPLE(perplexity, "06-perplexity", "perplexity 2717304.18 over 78 ids",                      \
            "perplexity 1.36 over 22 ids")                                                         \
    EXAMPLE(rewind, "07-rewind", "42 positions, then id 126", "13 positions, then id 430")         \
    EXAMPLE(batch, "08-batch", "41 ids, 512 logits: equal bit for bit",                            \
            "13 ids, 2048 logits: equal bit for bit")                                              \
    EXAMPLE(subjects, "09-subjects", "holds on tiny (bitnet-b1.58, 512 tokens)",                   \
            "holds on real (bitnet-b1.58, 2048 tokens)")                                           \
    EXAMPLE(cache, "10-cache", "example: 0277193d4c22, 582208 bytes, bitnet-b1.58",                \
            "example: 317d5bc88ae5, 1925568 bytes, bitnet-b1.58")

static const struct example {
    const char *name, *tiny, *bundled;
} examples[] = {
#define EXAMPLE_ROW(id, file, tiny, bundled) {file, tiny, bundled},
    EXAMPLES(EXAMPLE_ROW)
#undef EXAMPLE_ROW
};

enum { N_EXAMPLES = sizeof examples / sizeof examples[0] };

enum example_index {
#define EXAMPLE_INDEX(id, file, tiny, bundled) EXAMPLE_##id,
    EXAMPLES(EXAMPLE_INDEX)
#undef EXAMPLE_INDEX
};

/* The program, beside the `bnt` of this build. */
static void program_path(const char *name, char out[BNT_PATH_MAX])
{
    const char *bnt = suite_bnt();
    const char *slash = strrchr(bnt, '/');
    int folder = slash ? (int)(slash - bnt) : 1;
    assert_int_equal(
        bnt_path_format(out, NULL, "%.*s/examples/%s", folder, slash ? bnt : ".", name), BNT_OK);
    if (access(out, X_OK) != 0) {
        fail_msg("%s is not there: run make examples", out);
    }
}

static const char *last_line(char *text)
{
    size_t n = strlen(text);
    if (n > 0 && text[n - 1] == '\n') {
        text[n - 1] = '\0';
    }
    const char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

/* A second argument is the cache's folder, which only one program takes. */
static void run_example(const struct example *e, const char *model, const char *want)
{
    char program[BNT_PATH_MAX];
    struct suite_output o;
    program_path(e->name, program);
    const char *folder = strcmp(e->name, "10-cache") == 0 ? ms_path("models") : NULL;
    const char *const argv[] = {program, model, folder, NULL};
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != 0 || strcmp(last_line(o.out), want) != 0) {
        fail_msg("%s %s: exit %d, \"%s\" instead of \"%s\"\n%s", e->name, model, o.exit,
                 last_line(o.out), want, o.err);
    }
    assert_string_equal(o.err, "");
    suite_output_release(&o);
}

static void on_tiny(enum example_index i)
{
    const struct bnt_mock_recipe recipe = {.seed = 1};
    run_example(&examples[i], ms_make("tiny.gguf", &recipe, NULL), examples[i].tiny);
}

static void on_bundled(enum example_index i)
{
    run_example(&examples[i], suite_bundled_model(), examples[i].bundled);
}

#define EXAMPLE_BODIES(id, file, tiny, bundled)                                                    \
    static void id##_on_tiny(void **state)                                                         \
    {                                                                                              \
        (void)state;                                                                               \
        on_tiny(EXAMPLE_##id);                                                                     \
    }                                                                                              \
    static void id##_on_bundled(void **state)                                                      \
    {                                                                                              \
        (void)state;                                                                               \
        on_bundled(EXAMPLE_##id);                                                                  \
    }
EXAMPLES(EXAMPLE_BODIES)

static bool in_table(const char *file)
{
    for (size_t i = 0; i < N_EXAMPLES; i++) {
        size_t n = strlen(examples[i].name);
        if (strncmp(file, examples[i].name, n) == 0 && strcmp(file + n, ".c") == 0) {
            return true;
        }
    }
    return false;
}

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text);
    size_t m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

static void every_file_is_listed(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_buf page = BNT_BUF(PAGE_MAX_BYTES);
    es_ok(bnt_file_read(suite_source("docs/examples/README.md"), &page, &err), &err);
    DIR *dir = opendir(suite_source("docs/examples"));
    assert_non_null(dir);
    size_t n_programs = 0;
    size_t n_suites = 0;
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        bool program = ends_with(d->d_name, ".c");
        bool suite = ends_with(d->d_name, ".bnt.yml");
        char link[512];
        (void)snprintf(link, sizeof link, "](%s)", d->d_name);
        if ((program || suite) && !strstr(bnt_buf_view(&page), link)) {
            fail_msg("docs/examples/README.md does not list %s", d->d_name);
        }
        if (program && !in_table(d->d_name)) {
            fail_msg("no test runs docs/examples/%s: give it a row in this suite", d->d_name);
        }
        n_programs += program;
        n_suites += suite;
    }
    (void)closedir(dir);
    bnt_buf_release(&page);
    assert_int_equal(n_programs, N_EXAMPLES);
    assert_true(n_suites >= 10);
}

static void wrong_use_and_missing_models_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_EXAMPLES; i++) {
        char program[BNT_PATH_MAX];
        struct suite_output o;
        program_path(examples[i].name, program);
        const char *const bare[] = {program, NULL};
        suite_run(bare, NULL, 0, &o);
        assert_int_equal(o.exit, BNT_E_USAGE);
        assert_non_null(strstr(o.err, "usage: "));
        assert_string_equal(o.out, "");
        suite_output_release(&o);
        const char *folder = i == EXAMPLE_cache ? ms_path("models") : NULL;
        const char *const absent[] = {program, "/nowhere/m.gguf", folder, NULL};
        suite_run(absent, suite_scratch(), 0, &o);
        assert_int_equal(o.exit, BNT_E_NOT_FOUND);
        assert_non_null(strstr(o.err, "/nowhere/m.gguf"));
        suite_output_release(&o);
    }
}

static const struct suite_test tests[] = {
    {.name = "examples_are_listed_and_run",
     .body = every_file_is_listed,
     .needs = "source",
     .network = SUITE_NETWORK_NONE},
    {.name = "examples_refuse_wrong_use_and_missing_models",
     .body = wrong_use_and_missing_models_are_refused,
     .needs = "source",
     .network = SUITE_NETWORK_NONE},
#define EXAMPLE_TESTS(id, file, tiny, bundled)                                                     \
    {.name = "example_" #id "_holds_on_a_tiny_model",                                              \
     .body = id##_on_tiny,                                                                         \
     .needs = "source",                                                                            \
     .network = SUITE_NETWORK_NONE},                                                               \
        {.name = "example_" #id "_holds_on_the_bundled_model",                                     \
         .body = id##_on_bundled,                                                                  \
         .needs = "source",                                                                        \
         .tier = SUITE_INTEGRATION,                                                                \
         .network = SUITE_NETWORK_NONE},
    EXAMPLES(EXAMPLE_TESTS)
#undef EXAMPLE_TESTS
        {0},
};
const struct suite suite_examples = {"examples", tests,
                                     "stop_across_tokens seed perplexity_target rewind last_row"};
