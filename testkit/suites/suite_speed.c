/* Guards the memory and the speed of the engine themselves, and what a night does about a loss:
 * a model that is held twice, memory that grows with every token, a program that became slower and
 * nobody is told. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/suites/infer_support.h"

/* ---- Memory. */

/* Peak of resident memory of one small benchmark, bytes. */
static double peak_bytes(const char *model, const char *packed, const char *repetitions)
{
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "bench", "--json", "--no-bandwidth", "-m", model,
                                    "--allow-mock", "--packed", packed, "--prompt-lengths", "8",
                                    "-n", "4", "-w", "0", "-r", repetitions, NULL},
              NULL, 0, &o);
    json_t *doc = json_loads(o.out, 0, NULL);
    if (!doc) {
        fail_msg("exit %d: %s", o.exit, o.err);
    }
    double peak = json_number_value(js_get(js_get(doc, "memory"), "peak_bytes"));
    json_decref(doc);
    suite_output_release(&o);
    return peak;
}

/* What a program needs besides its model, bytes: libraries, code, stacks, the session of this
 * benchmark, words of the tokenizer. */
#define BESIDES_MODEL 16e6

/* Weights are mapped, or copied into another packing; then the mapped pages are given back. Copies
 * that single tokens read besides are asked not to be made. */
static void a_model_is_held_once(void **state)
{
    (void)state;
    static const char *const layouts[] = {"128/32", "64/16"};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct suite_output o;
        struct stat file;
        char model[BNT_PATH_MAX];
        assert_int_equal(bnt_path_format(model, NULL, "%s/model.gguf", suite_scratch()), BNT_OK);
        suite_run((const char *const[]){suite_bnt(), "mock", "make", "--layers", "6", "--embd",
                                        "1024", "--ff", "3072", "--heads", "8", "--layout",
                                        layouts[i], "-o", model, NULL},
                  NULL, 0, &o);
        assert_int_equal(o.exit, 0);
        suite_output_release(&o);
        assert_int_equal(stat(model, &file), 0);
        double peak = peak_bytes(model, "off", "1");
        print_message("packing %s: a model of %.1f MB, peak %.1f MB\n", layouts[i],
                      (double)file.st_size / 1e6, peak / 1e6);
        assert_true(peak < (double)file.st_size + BESIDES_MODEL);
        assert_int_equal(unlink(model), 0);
    }
}

static void memory_does_not_grow_with_tokens(void **state)
{
    (void)state;
    double few = peak_bytes(suite_bundled_model(), "auto", "1");
    double many = peak_bytes(suite_bundled_model(), "auto", "100");
    suite_metric("bundled_peak", few / 1e6, "MB");
    assert_true(many < few + 2e6);
}

static void the_bundled_model_stays_below_its_ceiling(void **state)
{
    (void)state;
    assert_true(peak_bytes(suite_bundled_model(), "auto", "1") < 1.93e6 + BESIDES_MODEL);
}

/* ---- Speed. */

static void write_script(const char *path, const char *lines)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", lines);
    fclose(f);
    assert_int_equal(chmod(path, 0755), 0);
}

/* Everything is written where the test may. */
static void enter_scratch(void)
{
    assert_int_equal(chdir(suite_scratch()), 0);
}

/* Figures for the history, of which the page of a run draws the course; none is judged here. */
static void the_bundled_model_is_measured(void **state)
{
    (void)state;
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "bench", "--json", "-t", "1", "--prompt-lengths",
                                    "10,512", "-r", "15", NULL},
              NULL, 0, &o);
    json_t *doc = json_loads(o.out, 0, NULL);
    if (!doc) {
        fail_msg("exit %d: %s", o.exit, o.err);
    }
    const json_t *prompts = js_get(doc, "prompts"), *decode = js_get(doc, "decode");
    const json_t *first = js_get(json_array_get(prompts, 0), "first_token_ms");
    const json_t *memory = js_get(doc, "memory");
    suite_metric("decode", json_number_value(js_get(decode, "tokens_per_s")), "1/s");
    suite_metric("prompt_512",
                 json_number_value(js_get(json_array_get(prompts, 1), "tokens_per_s")), "1/s");
    suite_metric("first_token", json_number_value(js_get(first, "p50")), "ms");
    suite_metric("open", json_number_value(js_get(js_get(doc, "load"), "open_ms")), "ms");
    suite_metric("bandwidth_share", 100 * json_number_value(js_get(memory, "share")), "%");
    suite_metric("peak", json_number_value(js_get(memory, "peak_bytes")) / 1e6, "MB");
    json_decref(doc);
    suite_output_release(&o);
}

/* `bnt` as it would be without a planted defect. */
static void make_base(const char *more)
{
    char text[BNT_PATH_MAX + 128];
    snprintf(text, sizeof text, "unset BNT_FAULT\nexec '%s' \"$@\" %s", suite_bnt(), more);
    write_script("base", text);
}

/* One step of ci/job.sh in the current folder; returns its exit code. */
static int job_step(const char *step, const char *const *args)
{
    char path[BNT_PATH_MAX], bnt[BNT_PATH_MAX];
    const char *argv[32] = {"/bin/sh", suite_source("ci/job.sh"), step};
    for (size_t n = 3; *args && n < 31; n++) {
        argv[n] = *args++;
    }
    assert_int_equal(bnt_path_format(bnt, NULL, "%s", suite_bnt()), BNT_OK);
    *strrchr(bnt, '/') = '\0';
    assert_int_equal(bnt_path_format(path, NULL, ".:%s", getenv("PATH")), BNT_OK);
    setenv("PATH", path, 1);
    setenv("BUILD", bnt, 1);
    setenv("GITHUB_OUTPUT", "output", 1);
    struct suite_output o;
    suite_run(argv, NULL, 0, &o);
    print_message("%s%s", o.out, o.err);
    int code = o.exit;
    suite_output_release(&o);
    return code;
}
#define JOB_STEP(step, ...) job_step(step, (const char *const[]){__VA_ARGS__, NULL})

static size_t lines_with(const char *path, const char *word)
{
    struct bnt_buf text = BNT_BUF(1 << 20);
    size_t n = 0;
    assert_int_equal(bnt_file_read(path, &text, NULL), BNT_OK);
    for (const char *at = bnt_buf_view(&text); (at = strstr(at, word)) != NULL;
         at += strlen(word)) {
        n++;
    }
    bnt_buf_release(&text);
    return n;
}

#define SMALL                                                                                      \
    "--prompt-lengths", "4", "-n", "3", "-r", "1", "-w", "0", "--pairs", "12", "--margin", "30"

/* Machines differ, and others work on them: a difference of half is not missed on any. */
static void this_program_is_not_slower_than_itself(void **state)
{
    (void)state;
    enter_scratch();
    make_base("");
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "bench", "--compare", "base", SMALL, NULL}, NULL,
              0, &o);
    print_message("%s%s", o.out, o.err);
    assert_true(o.exit == BNT_OK || o.exit == BNT_E_INCONCLUSIVE);
    suite_output_release(&o);
}

/* The step of the nightly workflow, with a base that is really faster, since it may use the fast
 * kernels; gh is a stand-in that remembers the issue it opened. */
static void a_slower_program_opens_one_issue(void **state)
{
    (void)state;
    enter_scratch();
    make_base("--kernel auto");
    write_script("gh", "echo \"$*\" >>calls\ncase $2 in\nlist) [ ! -e issue ] || echo 7 ;;\n"
                       "create) : >issue ;;\nesac");
    assert_int_equal(JOB_STEP("compare", "./base", SMALL, "--kernel", "ref"), BNT_E_SLOWER);
    assert_int_equal(lines_with("output", "exit=17\n"), 1);
    assert_int_equal(JOB_STEP("slower", "17"), 0);
    assert_int_equal(JOB_STEP("slower", "17"), 0);
    assert_int_equal(lines_with("calls", "issue create "), 1);
    assert_int_equal(lines_with("calls", "issue comment 7 "), 1);
}

/* A run of one test that reports a time of so many ms, by a program that lists it; its exit code.
 */
static int run_with_figure(double ms)
{
    char value[32];
    struct suite_output o;
    snprintf(value, sizeof value, "%g", ms);
    setenv("FIGURE", value, 1);
    suite_run((const char *const[]){suite_bnt(), "test", "--suites", "./figures", "--history",
                                    "figures.db", "--slower", "-j", "1", NULL},
              NULL, 0, &o);
    int code = o.exit;
    print_message("%g ms: exit %d\n%s%s", ms, code, o.out, o.err);
    assert_int_equal(strstr(o.out, "SLOWER figures/timed: step is ") != NULL, code == BNT_E_SLOWER);
    suite_output_release(&o);
    return code;
}

/* Four nights in a row, and none of the four as good as before: the fourth says so, and one issue
 * is opened. One bad night, and nights that only became faster, are none. */
static void figures_that_got_worse_open_one_issue(void **state)
{
    (void)state;
    static const double steady[] = {100,  101, 99,    100.5, 100, 130,
                                    99.5, 100, 100.4, 99.6,  100, 101};
    static const double after[] = {112, 113, 111, 112.5};
    enum { N_AFTER = sizeof after / sizeof after[0] };
    enter_scratch();
    write_script(
        "figures",
        "[ \"$1\" != --list ] || { printf 'timed\\tfigures\\tfast\\t10000\\t-\\n'; exit; }\n"
        "echo '1..1'; echo 'ok 1 - timed # time=1.0ms'\n"
        "echo \"# metric: step $FIGURE ms\"; echo '# verdict: passed'");
    write_script("gh", "echo \"$*\" >>calls\ncase $2 in\nlist) [ ! -e issue ] || echo 7 ;;\n"
                       "create) : >issue ;;\nesac");
    for (size_t i = 0; i < sizeof steady / sizeof steady[0]; i++) {
        assert_int_equal(run_with_figure(steady[i]), BNT_OK);
    }
    for (size_t i = 0; i < N_AFTER; i++) {
        assert_int_equal(run_with_figure(after[i]), i + 1 < N_AFTER ? BNT_OK : BNT_E_SLOWER);
    }
    assert_int_equal(JOB_STEP("slower", "17", "0"), 0);
    assert_int_equal(JOB_STEP("slower", "", "3"), 0);
    assert_int_equal(lines_with("calls", "issue create "), 1);
    assert_int_equal(lines_with("calls", "issue comment 7 "), 0);
    for (size_t i = 0; i < 2 * N_AFTER; i++) {
        assert_int_equal(run_with_figure(80), BNT_OK);
    }
}

/* Counted, not timed: equal in every run, so a small margin holds on any machine. */
static void this_program_takes_no_more_instructions_than_itself(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        int exit;
        const char *verdict;
    } cases[] = {
        {"", BNT_OK, "same"},
        /* One token of 8 less to do: more than 0.5 % less. */
        {"-n 7", BNT_E_SLOWER, "slower"},
    };
    enter_scratch();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct suite_output o;
        make_base(cases[i].more);
        suite_run((const char *const[]){suite_bnt(), "bench", "--compare", "./base", "--clock",
                                        "instructions", "--prompt-lengths", "8", "-n", "8",
                                        "--json", NULL},
                  NULL, 60000, &o);
        print_message("%s%s", o.out, o.err);
        assert_int_equal(o.exit, cases[i].exit);
        json_t *doc = json_loads(o.out, 0, NULL);
        const json_t *figures = js_get(doc, "figures");
        assert_int_equal(json_array_size(figures), 1);
        const json_t *figure = json_array_get(figures, 0);
        assert_string_equal(js_text(figure, "verdict"), cases[i].verdict);
        assert_int_equal(js_count(figure, "pairs_million_instructions"), 1);
        assert_true(fabs(json_number_value(js_get(doc, "margin")) - 0.005) < 1e-9);
        json_decref(doc);
        suite_output_release(&o);
    }
}

static void a_comparison_says_why_there_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *script, *word;
        int exit;
    } cases[] = {
        {"echo 'unknown command: bench' >&2\nexit 2", "unknown command", BNT_E_UNSUPPORTED},
        {"echo '{}'", "no times", BNT_E_UNSUPPORTED},
        {"echo '{\"prompts\":[{\"cpu_ms\":[0]}]}'", "no times", BNT_E_UNSUPPORTED},
        {"echo 'no luck' >&2\nexit 16", "exited with 16: no luck", BNT_E_FAILED},
        {"exit 16", "exited with 16\n", BNT_E_FAILED},
        {"echo '{\"prompts\":[{\"tokens\":200,\"cpu_ms\":[1]}],\"model\":{\"digest\":\"x\"}}'",
         "different models", BNT_E_DIFFERS},
    };
    enter_scratch();
    for (size_t i = 0; i <= sizeof cases / sizeof *cases; i++) {
        bool missing = i == sizeof cases / sizeof *cases;
        struct suite_output o;
        if (!missing) {
            write_script("other", cases[i].script);
        }
        suite_run((const char *const[]){suite_bnt(), "bench", "--compare",
                                        missing ? "nothere" : "./other", "-n", "4", "-r", "1", "-w",
                                        "0", NULL},
                  NULL, 0, &o);
        print_message("%s", o.err);
        assert_int_equal(o.exit, missing ? BNT_E_NOT_FOUND : cases[i].exit);
        assert_non_null(strstr(o.err, missing ? "nothere" : cases[i].word));
        suite_output_release(&o);
    }
}

static const struct suite_test tests[] = {
    {.name = "a_model_is_held_once", .body = a_model_is_held_once, .needs = "plain-memory"},
    {.name = "memory_does_not_grow_with_tokens",
     .body = memory_does_not_grow_with_tokens,
     .needs = "no-tsan"},
    {.name = "the_bundled_model_stays_below_its_ceiling",
     .body = the_bundled_model_stays_below_its_ceiling,
     .needs = "plain-memory"},
    {.name = "the_bundled_model_is_measured",
     .body = the_bundled_model_is_measured,
     .needs = "release-build",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "this_program_is_not_slower_than_itself",
     .body = this_program_is_not_slower_than_itself,
     .timeout_ms = 60000,
     .needs = "no-tsan"},
    {.name = "a_slower_program_opens_one_issue",
     .body = a_slower_program_opens_one_issue,
     .timeout_ms = 60000,
     .needs = "source,no-tsan"},
    {.name = "figures_that_got_worse_open_one_issue",
     .body = figures_that_got_worse_open_one_issue,
     .needs = "source"},
    {.name = "this_program_takes_no_more_instructions_than_itself",
     .body = this_program_takes_no_more_instructions_than_itself,
     .needs = "valgrind,plain-memory",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {.name = "a_comparison_says_why_there_is_none", .body = a_comparison_says_why_there_is_none},
    {0},
};
const struct suite suite_speed = {"speed", tests,
                                  "slow_step mapping_kept slower_is_fine worse_unseen"};
