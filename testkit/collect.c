/* Which tests there are: asks a suites program for its list, and keeps what tier and filters
 * select. Owns the names and budgets of tiers, the names of outcomes, and the memory of a run. */
#include "testkit/bnt_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testkit/filter.h"
#include "testkit/proc.h"

enum {
    LIST_TIMEOUT_MS = 30 * 1000,
    LIST_MAX_BYTES = 8 << 20,
    TEST_TIMEOUT_MAX_MS = 1 << 30,
    LEAST_GRACE_MS = 10 * 1000,
};

static const struct {
    const char *name;
    uint64_t budget_ms;
} tiers[BNT_TIERS] = {
    [BNT_TIER_FAST] = {"fast", 300 * 1000},
    [BNT_TIER_INTEGRATION] = {"integration", 900 * 1000},
    [BNT_TIER_FULL] = {"full", 2700 * 1000},
};

const char *bnt_test_tier_name(enum bnt_test_tier tier)
{
    return tiers[tier].name;
}

bool bnt_test_kind_is_mock(const char *kind)
{
    return strcmp(kind, "real") != 0 && strcmp(kind, "http") != 0;
}

uint64_t bnt_test_tier_budget_ms(enum bnt_test_tier tier)
{
    return tiers[tier].budget_ms;
}

uint64_t bnt_test_grace_ms(uint64_t budget_ms)
{
    uint64_t tenth = budget_ms / 10;
    return tenth > LEAST_GRACE_MS ? tenth : LEAST_GRACE_MS;
}

static const char *const outcome_names[BNT_TEST_OUTCOMES] = {
    "pending", "passed", "failed", "skipped", "not run", "cached", "disagreed", "quarantined"};

const char *bnt_test_outcome_name(enum bnt_test_outcome outcome)
{
    return outcome_names[outcome];
}

const char *bnt_test_class_name(enum bnt_plan_class kind)
{
    static const char *const names[BNT_PLAN_CLASSES] = {"overdue", "must", "new", "value"};
    return names[kind];
}

const char *bnt_test_cache_name(enum bnt_cache_state state)
{
    static const char *const names[] = {"off", "miss", "hit", "audit"};
    return names[state];
}

enum bnt_test_tier bnt_test_tier_from_name(const char *name)
{
    int i = 0;
    while (i < BNT_TIERS && strcmp(tiers[i].name, name) != 0) {
        i++;
    }
    return (enum bnt_test_tier)i;
}

enum bnt_test_outcome bnt_test_outcome_from_name(const char *name)
{
    int i = 0;
    while (i < BNT_TEST_OUTCOMES && strcmp(outcome_names[i], name) != 0) {
        i++;
    }
    return (enum bnt_test_outcome)i;
}

bool bnt_test_is_red(const struct bnt_test *test)
{
    return test->outcome == BNT_TEST_FAILED || test->outcome == BNT_TEST_DISAGREED;
}

bool bnt_test_is_flaky(const struct bnt_test *test)
{
    bool failed = false;
    for (size_t i = 0; i < test->n_tries; i++) {
        failed |= test->tries[i].outcome == BNT_TEST_FAILED;
    }
    return failed && test->outcome == BNT_TEST_PASSED;
}

enum bnt_status bnt_test_find_program(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    static const char *const places[] = {"bnt-suites", "../libexec/bnt/bnt-suites"};
    char dir[BNT_PATH_MAX];
    enum bnt_status status = bnt_exe_dir(dir, err);
    for (size_t i = 0; status == BNT_OK && i < sizeof places / sizeof places[0]; i++) {
        status = bnt_path_format(out, err, "%s/%s", dir, places[i]);
        if (status == BNT_OK && access(out, X_OK) == 0) {
            return BNT_OK;
        }
    }
    if (status == BNT_OK) {
        status = bnt_err_set(err, BNT_E_NOT_FOUND, "no program bnt-suites beside %s/bnt", dir);
        bnt_err_hint(err, "run: make, or name it with --suites PROGRAM");
    }
    return status;
}

/* ---- collecting ---- */

void bnt_test_release(struct bnt_test *t)
{
    char *const texts[] = {
        t->name,   t->suite,  t->needs,   t->tags,    t->subjects,     t->retry_on, t->inputs,
        t->reason, t->output, t->cause,   t->warning, t->not_enforced, t->label,    t->diagnosis,
        t->owner,  t->excuse, t->expires, t->kills,   t->threads,      t->rerun,    t->file};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        free(texts[i]);
    }
    for (size_t i = 0; i < t->n_tries; i++) {
        free(t->tries[i].reason);
        free(t->tries[i].output);
    }
    free(t->tries);
    free(t->metrics);
}

/* Room for one more, zeroed. */
static struct bnt_test *add_test(struct bnt_test_run *run, struct bnt_err *err)
{
    size_t bytes = (run->n + 1) * sizeof *run->at;
    struct bnt_test *grown = realloc(run->at, bytes);
    if (!grown) {
        bnt_err_nomem(err, "the list of tests", bytes);
        return NULL;
    }
    run->at = grown;
    struct bnt_test *t = &run->at[run->n++];
    *t = (struct bnt_test){0};
    return t;
}

/* One line of `bnt-suites --list`, cut into its fields. */
struct listed {
    const char *name, *suite, *tier, *timeout, *needs, *tags, *subjects, *kills, *retry_on,
        *cacheable, *threads, *inputs, *worker, *file;
};

/* KEY=VALUE; a key that this bnt does not know is of a newer program and says nothing to it. */
static void read_pair(struct listed *l, char *pair)
{
    const struct {
        const char *key;
        const char **value;
    } keys[] = {
        {"tags=", &l->tags},           {"subjects=", &l->subjects}, {"retry_on=", &l->retry_on},
        {"cacheable=", &l->cacheable}, {"inputs=", &l->inputs},     {"worker=", &l->worker},
        {"kills=", &l->kills},         {"threads=", &l->threads},   {"file=", &l->file},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        size_t len = strlen(keys[i].key);
        if (strncmp(pair, keys[i].key, len) == 0) {
            *keys[i].value = pair + len;
        }
    }
}

/* False when the line is not one about a test. */
static bool cut_line(char *line, struct listed *l)
{
    char *rest = NULL;
    *l = (struct listed){.tags = "",
                         .subjects = "",
                         .kills = "",
                         .retry_on = "",
                         .cacheable = "",
                         .threads = "",
                         .inputs = "",
                         .worker = ""};
    l->name = strtok_r(line, "\t", &rest);
    l->suite = strtok_r(NULL, "\t", &rest);
    l->tier = strtok_r(NULL, "\t", &rest);
    l->timeout = strtok_r(NULL, "\t", &rest);
    l->needs = strtok_r(NULL, "\t", &rest);
    for (char *pair; (pair = strtok_r(NULL, "\t", &rest)) != NULL;) {
        read_pair(l, pair);
    }
    return l->needs != NULL;
}

static const char *unless_dash(const char *word)
{
    return strcmp(word, "-") == 0 ? "" : word;
}

static enum bnt_status fill_test(struct bnt_test *t, const struct listed *l, struct bnt_err *err)
{
    t->name = strdup(l->name);
    t->suite = strdup(l->suite);
    t->needs = strdup(unless_dash(l->needs));
    t->tags = strdup(l->tags);
    t->subjects = strdup(l->subjects);
    t->kills = strdup(l->kills);
    t->retry_on = strdup(l->retry_on);
    t->inputs = strdup(unless_dash(l->inputs));
    t->timeout_ms = (unsigned)strtoul(l->timeout, NULL, 10);
    t->cacheable = strcmp(l->cacheable, "yes") == 0;
    t->threads = strdup(l->threads);
    t->file = l->file ? strdup(l->file) : NULL;
    bool filled = t->name && t->suite && t->needs && t->tags && t->subjects && t->retry_on;
    return filled && t->kills && t->threads && t->inputs && (t->file || !l->file)
               ? BNT_OK
               : bnt_err_nomem(err, "the list of tests", 0);
}

static enum bnt_status read_listed(struct bnt_test_run *run, char *line,
                                   const struct bnt_strs *filters, struct bnt_err *err)
{
    struct listed l;
    bool whole = cut_line(line, &l);
    enum bnt_test_tier tier = whole ? bnt_test_tier_from_name(l.tier) : BNT_TIERS;
    if (tier == BNT_TIERS || l.timeout[strspn(l.timeout, "0123456789")] ||
        strtoull(l.timeout, NULL, 10) > TEST_TIMEOUT_MAX_MS) {
        return bnt_err_set(err, BNT_E_FILE, "%s --list: not a line about a test: %.80s",
                           run->program, line);
    }
    struct bnt_test *t = add_test(run, err);
    enum bnt_status status = t ? fill_test(t, &l, err) : BNT_E_MEMORY;
    if (status != BNT_OK) {
        return status;
    }
    t->tier = tier;
    status = bnt_test_names_add(&run->known, l.name, err);
    if (status != BNT_OK) {
        return status;
    }
    run->has_workers = strcmp(l.worker, "yes") == 0;
    bool wanted = filter_matches(filters, t);
    if (wanted && tier <= run->tier) {
        return BNT_OK;
    }
    run->n_other_tier += wanted;
    bnt_test_release(&run->at[--run->n]);
    return BNT_OK;
}

/* What the suites program says when it refuses (a mistake in a suite of a user's), said again as
 * our own: its message, its hint and its exit code. */
static enum bnt_status refused(const struct proc *p, const char *program, char *said,
                               struct bnt_err *err)
{
    static const char error[] = "error: ", hint[] = "\n  hint: ";
    char how[160], *text = strstr(said, error);
    if (p->end != PROC_EXITED || !text) {
        proc_describe(p, how, sizeof how);
        return bnt_err_set(err, BNT_E_FAILED, "%s --list %s: %.300s", program, how, said);
    }
    text += sizeof error - 1;
    char *advice = strstr(text, hint);
    text[strcspn(text, "\n")] = '\0';
    if (advice) {
        advice += sizeof hint - 1;
        advice[strcspn(advice, "\n")] = '\0';
        bnt_err_hint(err, "%s", advice);
    }
    return bnt_err_set(err, proc_status(p), "%s", text);
}

static enum bnt_status list_program(const char *program, char **list, struct bnt_err *err)
{
    char flag[] = "--list";
    char *argv[] = {(char *)(uintptr_t)program, flag, NULL};
    struct proc p;
    const struct proc_spec spec = {
        .argv = argv, .timeout_ms = LIST_TIMEOUT_MS, .keep_bytes = LIST_MAX_BYTES};
    enum bnt_status status = proc_run(&p, &spec, err);
    if (status) {
        return status;
    }
    char *said = proc_output(&p, PROC_ERR);
    *list = proc_output(&p, PROC_OUT);
    if (!said || !*list) {
        status = bnt_err_nomem(err, "the list of tests", LIST_MAX_BYTES);
    } else if (p.end != PROC_EXITED || (p.code != 0 && p.code != BNT_E_NO_TESTS)) {
        status = refused(&p, program, said, err);
    }
    free(said);
    proc_release(&p);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A name that is there twice would be one row in every file. */
static enum bnt_status check_distinct(const struct bnt_test_run *run, struct bnt_err *err)
{
    const size_t bytes = (run->known.n + 1) * sizeof(char *);
    char **names = malloc(bytes);
    if (!names) {
        return bnt_err_nomem(err, "the list of tests", bytes);
    }
    enum bnt_status status = BNT_OK;
    memcpy(names, run->known.at, run->known.n * sizeof *names);
    qsort(names, run->known.n, sizeof *names, by_name);
    for (size_t i = 1; status == BNT_OK && i < run->known.n; i++) {
        status = strcmp(names[i - 1], names[i]) != 0
                     ? BNT_OK
                     : bnt_err_set(err, BNT_E_FILE, "%s --list: %.80s is there twice", run->program,
                                   names[i]);
    }
    free(names);
    return status;
}

enum bnt_status bnt_test_collect(struct bnt_test_run *run, const char *program,
                                 enum bnt_test_tier tier, const struct bnt_strs *filters,
                                 struct bnt_err *err)
{
    char *list = NULL;
    run->tier = tier;
    enum bnt_status status = filter_check(filters, err);
    if (status != BNT_OK) {
        return status;
    }
    if (access(program, X_OK) != 0) {
        status = bnt_err_errno(err, "suites program %s", program);
        bnt_err_hint(err, "give the path of an executable that speaks as bnt-suites does");
        return status;
    }
    status = bnt_path_format(run->program, err, "%s", program);
    if (status == BNT_OK) {
        status = list_program(program, &list, err);
    }
    char *rest = NULL;
    for (char *line = status == BNT_OK ? strtok_r(list, "\n", &rest) : NULL;
         line && status == BNT_OK; line = strtok_r(NULL, "\n", &rest)) {
        status = read_listed(run, line, filters, err);
    }
    free(list);
    return status == BNT_OK ? check_distinct(run, err) : status;
}

static void names_release(struct bnt_test_names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        free(names->at[i]);
    }
    free(names->at);
    *names = (struct bnt_test_names){0};
}

enum bnt_status bnt_test_names_add(struct bnt_test_names *names, const char *name,
                                   struct bnt_err *err)
{
    size_t bytes = (names->n + 1) * sizeof *names->at;
    char *copy = strdup(name);
    char **grown = copy ? realloc(names->at, bytes) : NULL;
    if (!grown) {
        free(copy);
        return bnt_err_nomem(err, "a list of tests", bytes);
    }
    names->at = grown;
    names->at[names->n++] = copy;
    return BNT_OK;
}

void bnt_test_keep_first(struct bnt_test_run *run, size_t n)
{
    while (run->n > n) {
        bnt_test_release(&run->at[--run->n]);
    }
}

void bnt_test_run_release(struct bnt_test_run *run)
{
    bnt_test_keep_first(run, 0);
    free(run->at);
    free(run->order);
    free(run->parts);
    run->at = NULL;
    run->order = NULL;
    run->parts = NULL;
    names_release(&run->shard.elsewhere);
    names_release(&run->known);
    run->n = 0;
}

struct bnt_test_counts bnt_test_count(const struct bnt_test_run *run, const char *suite)
{
    struct bnt_test_counts c = {0};
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (!suite || strcmp(t->suite, suite) == 0) {
            c.n++;
            c.of[t->outcome]++;
            c.n_flaky += bnt_test_is_flaky(t);
            c.wall_ns += t->wall_ns;
        }
    }
    return c;
}
