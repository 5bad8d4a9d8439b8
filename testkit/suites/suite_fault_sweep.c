/* Guards what happens when something runs out: the n-th allocation, mapping, read or write of a
 * command fails, for every n or for as many as there is time for. Then the command gives the right
 * answer nevertheless, or ends with a message that names what ran out: no crash, no hang, no
 * leak, no wrong answer, nothing half written. testkit/preload/nth_fails.c does the failing. */
#include "testkit/suite.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exit.h"
#include "cache/bnt_cache.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/mock_support.h"
#include "testkit/suites/support.h"

enum { WORDS_MAX = 10, RUN_MS = 30000, THOROUGH = 150 };

/* ---- the commands: those of the main paths, on a model that is small ---- */

struct sweep {
    const char *words[WORDS_MAX];
    const char *cwd; /* in the scratch folder; NULL: that itself */
    int exit;        /* of a run in which nothing fails */
};

/* In this order each finds what it needs. */
static const struct sweep sweeps[] = {
    {{"fetch", "--force", "-q", "--name", "t", "t.gguf"}, NULL, 0},
    {{"lock"}, "project", 0},
    {{"fetch", "--locked", "-q"}, "project", 0},
    {{"path", "t"}, NULL, 0},
    {{"cache", "ls", "--json"}, NULL, 0},
    {{"inspect", "--allow-mock", "t.gguf"}, NULL, BNT_E_MOCK_USED},
    {{"tokenize", "-m", "t.gguf", "--allow-mock", "two words"}, NULL, BNT_E_MOCK_USED},
    {{"infer", "-m", "t.gguf", "--allow-mock", "-n", "3", "-t", "1", "-p", "hello"},
     NULL,
     BNT_E_MOCK_USED},
    {{"test", "lint", "s.bnt.yml"}, NULL, 0},
};
enum { N_SWEEPS = sizeof sweeps / sizeof sweeps[0] };

/* What may fail, and the words of which one stands in a message about it. NULL: it is no failure,
 * and the answer is the right one. */
struct kind {
    const char *name, *says[4];
};

static const struct kind kinds[] = {
    {"alloc", {"memory"}},
    {"map", {"memory"}},
    {"read", {"Input/output error", "disk I/O error"}},
    {"write", {"No space left", "disk is full", "cannot be written"}},
    {"piece", {NULL}},
    {"part", {NULL}},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static const char suite_text[] = "suite: sweep\n"
                                 "tests:\n"
                                 "  - name: says_something\n"
                                 "    prompt: hello\n"
                                 "    max_tokens: 3\n"
                                 "    expect:\n"
                                 "      contains_any: [a, \"b\"]\n";
static const char manifest_text[] = "models:\n"
                                    "  t:\n"
                                    "    source: ../t.gguf\n";

/* ---- runs ---- */

static void run(const struct sweep *s, struct suite_output *o)
{
    char cwd[BNT_PATH_MAX];
    const char *argv[WORDS_MAX + 2] = {suite_bnt()};
    for (size_t i = 0; i < WORDS_MAX && s->words[i]; i++) {
        argv[i + 1] = s->words[i];
    }
    suite_run(argv, fixture_path(cwd, s->cwd ? s->cwd : "."), RUN_MS, o);
}

static void arm(const char *kind, unsigned long n)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%lu", kind, n);
    assert_int_equal(setenv("BNT_NTH", text, 1), 0);
}

static void prepare(void)
{
    char path[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    struct suite_output o;
    const struct bnt_mock_recipe small = {.n_layer = 1, .n_embd = 64};
    (void)ms_make("t.gguf", &small, NULL);
    fixture_write(fixture_path(path, "s.bnt.yml"), suite_text);
    assert_int_equal(bnt_mkdirs(fixture_path(path, "project"), NULL), BNT_OK);
    fixture_write(fixture_path(path, "project/bnt.yml"), manifest_text);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    for (size_t i = 0; i < N_SWEEPS; i++) {
        run(&sweeps[i], &o);
        if (o.exit != sweeps[i].exit) {
            fail_msg("%s: exit %d\n%s", sweeps[i].words[0], o.exit, o.err);
        }
        suite_output_release(&o);
    }
    support_preload("nth_fails.so");
}

/* How many calls of that kind a run makes in which none fails, and what it answers. */
static unsigned long count(const struct sweep *s, const struct kind *k, struct suite_output *o)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(64);
    assert_int_equal(setenv("BNT_NTH_COUNT", fixture_path(path, "count"), 1), 0);
    arm(k->name, 0);
    run(s, o);
    assert_int_equal(o->exit, s->exit);
    assert_int_equal(bnt_file_read(path, &text, NULL), BNT_OK);
    const unsigned long n = strtoul(bnt_buf_view(&text), NULL, 10);
    bnt_buf_release(&text);
    assert_int_equal(unsetenv("BNT_NTH_COUNT"), 0);
    return n;
}

static bool names_it(const struct kind *k, const char *text)
{
    for (size_t i = 0; i < sizeof k->says / sizeof k->says[0] && k->says[i]; i++) {
        if (strstr(text, k->says[i])) {
            return true;
        }
    }
    return false;
}

/* ---- what must hold ---- */

static void assert_verdict(const struct sweep *s, const struct kind *k, unsigned long n,
                           const struct suite_output *right, const struct suite_output *o)
{
    const bool same = strcmp(o->out, right->out) == 0;
    const char *why = o->exit == s->exit && !same ? "the answer is wrong"
                      : o->exit == s->exit        ? NULL
                      : o->exit == 0              ? "it passes for another result"
                      : !k->says[0]               ? "what is no failure makes it fail"
                      : !names_it(k, o->err)      ? "the message does not name what ran out"
                                                  : NULL;
    if (why) {
        fail_msg("BNT_NTH=%s:%lu bnt %s %s: %s: exit %d\n%s%s", k->name, n, s->words[0],
                 s->words[1] ? s->words[1] : "", why, o->exit, o->err, o->out);
    }
}

/* No temporary is left, and what the cache holds is whole. */
static void assert_cache_sound(void)
{
    char path[BNT_PATH_MAX];
    struct bnt_cache_list list;
    DIR *d = opendir(fixture_path(path, "c/tmp"));
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            fail_msg("%s/%s was left", path, e->d_name);
        }
    }
    closedir(d);
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    assert_int_equal(list.n, 1);
    for (size_t i = 0; i < list.n; i++) {
        enum bnt_cache_health health = BNT_CACHE_MISSING;
        assert_int_equal(bnt_cache_verify(c, &list.at[i], NULL, NULL, &health, NULL), BNT_OK);
        assert_int_equal(health, BNT_CACHE_OK);
    }
    bnt_cache_list_release(&list);
    bnt_cache_close(c);
}

/* At most so many of the calls, spread evenly, fail one after the other. Returns how many did. */
static unsigned long sweep(const struct sweep *s, const struct kind *k, unsigned long most)
{
    struct suite_output right, o;
    unsigned long tried = 0;
    const unsigned long calls = count(s, k, &right), step = calls / most + 1;
    for (unsigned long n = 1; n <= calls; n += step, tried++) {
        arm(k->name, n);
        run(s, &o);
        assert_verdict(s, k, n, &right, &o);
        suite_output_release(&o);
    }
    suite_output_release(&right);
    assert_cache_sound();
    return tried;
}

/* At most so many failures of each kind in each command; in one of them more. */
static void sweep_all(unsigned long most, const char *thorough)
{
    unsigned long tried = 0;
    prepare();
    for (size_t i = 0; i < N_SWEEPS; i++) {
        const bool more = thorough && strcmp(sweeps[i].words[0], thorough) == 0;
        for (size_t k = 0; k < N_KINDS; k++) {
            tried += sweep(&sweeps[i], &kinds[k], more ? THOROUGH : most);
        }
    }
    suite_metric("failures_tried", (double)tried, "1");
}

/* ---- bodies ---- */

static void commands_survive_some_failures(void **state)
{
    (void)state;
    sweep_all(2, "tokenize");
}

static void commands_survive_failures_everywhere(void **state)
{
    (void)state;
    sweep_all(THOROUGH, NULL);
}

static const struct suite_test tests[] = {
    {.name = "fault_sweep_commands_survive_some_failures",
     .body = commands_survive_some_failures,
     .needs = "no-tsan",
     .timeout_ms = 60000},
    {.name = "fault_sweep_commands_survive_failures_everywhere",
     .body = commands_survive_failures_everywhere,
     .needs = "no-tsan",
     .timeout_ms = 600000,
     .tier = SUITE_INTEGRATION},
    {0},
};
const struct suite suite_fault_sweep = {"fault_sweep", tests, "real_without_memory"};
