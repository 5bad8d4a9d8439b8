/* bnt-suites: every suite of this project, one forked process per test, TAP on standard output.
 *
 *     ok 1 - base_buf_grows # time=0.4ms
 *     # verdict: passed
 *     not ok 2 - cli_version # time=12.0ms
 *     # verdict: crash
 *     # why: killed by SIGSEGV (Segmentation fault)
 *     # rerun: build/release/bnt-suites --run cli_version
 *     # | a line of the test's own output
 *     ok 3 - gguf_reads_official # SKIP needs: shared (no shared folder: set BNT_SHARED)
 *     # verdict: skipped
 *     1..3
 *     1 passed, 1 failed, 1 skipped
 *
 * `bnt test` reads these lines (testkit/runner_tap.c). Exit: 0, 1 when a test failed, 2 usage, 4
 * nothing selected, 130 interrupted. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/msg.h"
#include "base/opt.h"
#include "testkit/suite.h"
#include "testkit/suites/corpus.h"
#include "testkit/suites/faults.h"
#include "testkit/suites/isolate.h"
#include "testkit/suites/judge.h"
#include "testkit/suites/test_place.h"
#include "testkit/suites/support.h"
#include "testkit/suites/tap_write.h"
#include "testkit/suites/traits.h"
#include "testkit/suites/user_tests.h"
#include "testkit/suites/worker.h"

#define SUITE(name) extern const struct suite suite_##name;
#include "testkit/suites.def"
#undef SUITE

static const struct suite *const suites[] = {
#define SUITE(name) &suite_##name,
#include "testkit/suites.def"
#undef SUITE
    NULL,
};

static const struct suite *const corpus[] = {&suite_corpus, &suite_corpus_ends, &suite_corpus_reach,
                                             NULL};

struct main_opts {
    bool list, corpus, worker, faults, fail_fast;
    const char *tier;
    const char *run, *body, *place, *places;
    int64_t page;
};

static const struct bnt_opt options[] = {
    {BNT_OPT_FLAG, 0, "list", NULL,
     "list tests: name, suite, tier, timeout in ms, needs and KEY=VALUE, separated by tabs",
     offsetof(struct main_opts, list), NULL, 0, 0, NULL},
    {.kind = BNT_OPT_STR,
     .long_name = "tier",
     .arg = "TIER",
     .help = "only tests of this tier and of those before it",
     .offset = offsetof(struct main_opts, tier),
     .def = "full",
     .choices = "fast|integration|full"},
    {BNT_OPT_FLAG, 0, "fail-fast", NULL, "stop after the first failure",
     offsetof(struct main_opts, fail_fast), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "faults", NULL,
     "list planted defects: name, suite that must see it and what it is, separated by tabs",
     offsetof(struct main_opts, faults), NULL, 0, 0, NULL},
    {BNT_OPT_STR, 0, "run", "ID", "run the one test of this name", offsetof(struct main_opts, run),
     NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "corpus", NULL,
     "only the runner's own pathological tests, most of which must fail",
     offsetof(struct main_opts, corpus), NULL, 0, 0, NULL},
    {.kind = BNT_OPT_FLAG,
     .long_name = "worker",
     .help = "for bnt test: run the tests that standard input names, one after another",
     .offset = offsetof(struct main_opts, worker)},
    {.kind = BNT_OPT_STR,
     .long_name = "places",
     .arg = "DIR",
     .help = "with --worker: where the folders of tests are made ($TMPDIR)",
     .offset = offsetof(struct main_opts, places)},
    {.kind = BNT_OPT_STR,
     .long_name = "body",
     .arg = "ID",
     .help = "for a worker: be the process of the test of this name",
     .offset = offsetof(struct main_opts, body)},
    {.kind = BNT_OPT_INT,
     .long_name = "page",
     .arg = "FD",
     .help = "with --body: the descriptor of the page for its report",
     .offset = offsetof(struct main_opts, page),
     .max = 1 << 20},
    {.kind = BNT_OPT_STR,
     .long_name = "place",
     .arg = "DIR",
     .help = "with --body: the test's own folder",
     .offset = offsetof(struct main_opts, place)},
    BNT_OPT_END,
};

static volatile sig_atomic_t stop;

/* A sanitizer ends a process with a status of its own, and a leak is looked for at every exit. */
#define SANITIZER_DEFAULTS "exitcode=86"
_Static_assert(JUDGE_SANITIZER_EXIT == 86, "the number in SANITIZER_DEFAULTS");
#define SANITIZER_HOOK(name)                                                                       \
    const char *name(void);                                                                        \
    __attribute__((visibility("default"), used)) const char *name(void)                            \
    {                                                                                              \
        return SANITIZER_DEFAULTS;                                                                 \
    }
SANITIZER_HOOK(__asan_default_options)
SANITIZER_HOOK(__lsan_default_options)
SANITIZER_HOOK(__ubsan_default_options)
SANITIZER_HOOK(__tsan_default_options)

static void on_signal(int number)
{
    stop = number;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader that left must not cost us the clean-up */
}

static const char *tier_name(enum suite_tier tier)
{
    return tier == SUITE_FAST ? "fast" : tier == SUITE_INTEGRATION ? "integration" : "full";
}

static enum suite_tier tier_of(const char *name)
{
    enum suite_tier tier = SUITE_FAST;
    while (tier < SUITE_FULL && strcmp(tier_name(tier), name) != 0) {
        tier++;
    }
    return tier;
}

/* A filter is part of "/suite/name" ("/cli/": the suite cli, and not cache_cli); a test is selected
 * when any filter matches, or there is none. */
static bool selected(const struct suite *s, const struct suite_test *t, const char *id, int n,
                     char **filters)
{
    if (id) {
        return strcmp(t->name, id) == 0;
    }
    char full[256];
    snprintf(full, sizeof full, "/%s/%s", s->name, t->name);
    for (int i = 0; i < n; i++) {
        if (strstr(full, filters[i])) {
            return true;
        }
    }
    return n == 0;
}

static bool seen_before(const struct suite *const *all, const struct suite_test *wanted)
{
    for (const struct suite *const *s = all; *s; s++) {
        for (const struct suite_test *t = (*s)->tests; t->name; t++) {
            if (t == wanted) {
                return false;
            }
            if (strcmp(t->name, wanted->name) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* A name is an identity: in filters, reports and history. */
static enum bnt_status check_names(const struct suite *const *all)
{
    for (const struct suite *const *s = all; *s; s++) {
        for (const struct suite_test *t = (*s)->tests; t->name; t++) {
            if (!t->body || seen_before(all, t)) {
                return bnt_msg_fail(BNT_E_FAILED, "rename it, or give it a body",
                                    "test %s of suite %s is %s", t->name, (*s)->name,
                                    t->body ? "there twice" : "empty");
            }
            if (strspn(t->name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(t->name)) {
                return bnt_msg_fail(BNT_E_FAILED, "use a-z, 0-9 and _", "test name %s", t->name);
            }
        }
    }
    return BNT_OK;
}

static void list_word(const char *key, const char *value)
{
    if (value) {
        printf("\t%s=%s", key, value);
    }
}

/* The test's own word, else that of its suite, else none. */
static const char *word_of(const char *own, const char *of_suite)
{
    return own ? own : of_suite[0] ? of_suite : NULL;
}

static void list_kills(const char *kills)
{
    const char *before = "\tkills=", *name;
    size_t n;
    for (; kills && (name = faults_next_name(&kills, &n)) != NULL; before = ",") {
        printf("%s%.*s", before, (int)n, name);
    }
}

static void list_test(const struct suite *s, const struct suite_test *t)
{
    static const struct traits none = {.tags = "", .subjects = "", .retry_on = ""};
    static const char *const thread_words[] = {
        [SUITE_NO_THREADS] = NULL, [SUITE_USES_THREADS] = "used", [SUITE_SHARES_DATA] = "shared"};
    const struct traits *all = traits_of(s) ? traits_of(s) : &none;
    const char *inputs = user_tests_inputs(s);
    const bool cacheable = t->cacheable || (all->cacheable && !t->needs);
    printf("%s\t%s\t%s\t%u\t%s", t->name, s->name, tier_name(t->tier), isolate_timeout_ms(t),
           t->needs ? t->needs : "-");
    list_word("worker", "yes");
    list_word("tags", word_of(t->tags, all->tags));
    list_word("subjects", word_of(t->subjects, all->subjects));
    list_word("retry_on", word_of(t->retry_on, all->retry_on));
    list_word("cacheable", cacheable ? "yes" : NULL);
    list_word("threads", thread_words[all->threads]);
    list_kills(s->kills);
    list_word("inputs", inputs ? inputs : support_inputs_digest(s->name));
    list_word("file", user_tests_file(s));
    printf("\n");
}

static void run_one(const struct suite_test *t, struct tap_tally *tally)
{
    struct isolate_result result;
    isolate_run(t, &stop, &result);
    tap_write_result(stdout, t, &result, tally);
    isolate_release(&result);
    if (fflush(stdout) != 0) {
        stop = SIGPIPE; /* nobody reads the rest */
    }
}

static enum bnt_status conclude(const struct tap_tally *t)
{
    tap_write_end(stdout, t);
    enum bnt_status st = bnt_msg_flush();
    if (st != BNT_OK) {
        return st;
    }
    return stop ? BNT_E_INTERRUPTED : t->failed ? BNT_E_FAILED : BNT_OK;
}

/* Those of the project, or of $BNT_SUITE_FILES in their place. */
static const struct suite *const *chosen = suites;

static const struct suite_test *find_test(const char *name, bool in_corpus)
{
    for (const struct suite *const *s = in_corpus ? corpus : chosen; *s; s++) {
        for (const struct suite_test *t = (*s)->tests; t->name; t++) {
            if (strcmp(t->name, name) == 0) {
                return t;
            }
        }
    }
    return NULL;
}

static enum bnt_status serve_runner(const struct tap_tally *how)
{
    struct bnt_err err = {0};
    enum bnt_status status = worker_serve(find_test, how, &stop, &err);
    return status == BNT_OK || status == BNT_E_INTERRUPTED ? status : bnt_msg_error(&err);
}

static enum bnt_status be_body(const struct main_opts *o)
{
    const struct suite_test *test = find_test(o->body, false);
    test = test ? test : find_test(o->body, true);
    if (!test || !o->place) {
        return bnt_msg_fail(BNT_E_USAGE, NULL, "--body: no such test, or no place");
    }
    return (enum bnt_status)isolate_fresh_body(test, (int)o->page, o->place);
}

static enum bnt_status run_suites(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct main_opts *o = parsed;
    const struct suite *const *users = NULL;
    struct bnt_err err = {0};
    if (user_tests_load(&users, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    chosen = users ? users : suites;
    const struct suite *const *all = o->corpus ? corpus : chosen;
    struct tap_tally tally = {.program = program_invocation_name, .corpus = o->corpus};
    if (o->body) {
        return be_body(o);
    }
    if (o->places) {
        setenv("TMPDIR", o->places, 1);
    }
    if (o->worker) {
        return serve_runner(&tally);
    }
    enum suite_tier most = tier_of(o->tier);
    unsigned n_selected = 0;
    bool stopped = false;
    enum bnt_status status = check_names(all);
    if (status == BNT_OK && all == suites) {
        status = traits_check(all);
    }
    if (o->faults) {
        faults_print(all);
        return status == BNT_OK ? faults_check(all) : status;
    }
    for (const struct suite *const *s = all; status == BNT_OK && *s && !stop && !stopped; s++) {
        for (const struct suite_test *t = (*s)->tests; t->name && !stop && !stopped; t++) {
            if (t->tier > most || !selected(*s, t, o->run, argc, argv)) {
                continue;
            }
            n_selected++;
            if (o->list) {
                list_test(*s, t);
            } else {
                run_one(t, &tally);
                stopped = o->fail_fast && tally.failed > 0;
            }
        }
    }
    if (status == BNT_OK && n_selected == 0 && !stop) {
        status = bnt_msg_fail(BNT_E_NO_TESTS, "see: bnt-suites --list", "no test selected");
    } else if (status == BNT_OK && !o->list) {
        status = conclude(&tally);
    }
    return status;
}

static const struct bnt_cmd command = {
    .name = "bnt-suites",
    .synopsis = "[--list] [--run ID] [FILTER...]",
    .summary = "run this project's tests, one process each, with TAP on standard output",
    .description = "FILTER is a part of /SUITE/NAME. A test is killed with its process group when "
                   "its time is over; its "
                   "output is shown when it fails. A skip says which need is not met here.",
    .opts = options,
    .opts_size = sizeof(struct main_opts),
    .run = run_suites,
};

int main(int argc, char **argv)
{
    bnt_msg_setup(BNT_MSG_NORMAL, BNT_COLOR_AUTO);
    catch_signals();
    proc_adopt_orphans();
    test_place_fix_environment();
    enum bnt_status status = bnt_cmd_run(&command, "", NULL, argc, argv);
    test_place_end();
    isolate_end();
    return (int)status;
}
