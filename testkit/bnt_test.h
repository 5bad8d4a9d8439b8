/* The runner: collects tests from a program that speaks as bnt-suites does, plans them, runs each
 * in a process of its own within the budget of a tier, and reports.
 *
 *     struct bnt_test_run run = {0};
 *     bnt_test_collect(&run, program, BNT_TIER_FAST, &filters, &err);
 *     plan_make(&run, ...);                        optional: planner.h
 *     bnt_test_execute(&run, &options, &err);
 *     bnt_test_report_text(&run, &buf, &err);
 *     bnt_test_run_release(&run);
 *
 * A tier is a budget of time. What does not fit into what remains of it is not started, and is NOT
 * RUN: a result of its own, counted and shown, never a pass. */
#ifndef BNT_TEST_H
#define BNT_TEST_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/app.h"
#include "base/buf.h"
#include "base/opt.h"
#include "testkit/verdict.h"

enum bnt_test_tier { BNT_TIER_FAST, BNT_TIER_INTEGRATION, BNT_TIER_FULL, BNT_TIERS };

enum bnt_test_outcome {
    BNT_TEST_PENDING,
    BNT_TEST_PASSED,
    BNT_TEST_FAILED,
    BNT_TEST_SKIPPED,
    BNT_TEST_NOT_RUN,
    BNT_TEST_CACHED,      /* it passed before, and nothing that it depends on has changed */
    BNT_TEST_DISAGREED,   /* an audit: the cache said passed, and it did not pass */
    BNT_TEST_QUARANTINED, /* failed, and the quarantine file knows it: shown, not gating */
    BNT_TEST_OUTCOMES
};

/* Why a test stands where it stands in the order; earlier ones first. */
enum bnt_plan_class {
    BNT_PLAN_OVERDUE, /* unrun for so many runs that it may wait no longer */
    BNT_PLAN_MUST,    /* contract, changed inputs, failed last time */
    BNT_PLAN_NEW,     /* never run */
    BNT_PLAN_VALUE,   /* by value per second */
    BNT_PLAN_CLASSES
};

struct bnt_test_plan {
    enum bnt_plan_class kind;
    char why[160];     /* "its inputs changed since its last pass" */
    double value;      /* probability of learning something, 0 to 1 */
    uint64_t mean_ms;  /* expected time */
    uint64_t fit_ms;   /* what it stays below nine times in ten: must fit into the budget */
    uint64_t worst_ms; /* must fit into budget and grace */
    size_t n_unrun;    /* runs in a row that left it unrun */
    size_t rank;       /* planned position, from 0 */
};

/* Of a test that was started. */
struct bnt_test_place {
    bool started;
    size_t order;      /* how many had been started before it */
    unsigned slot;     /* worker, from 0 */
    uint64_t start_ms; /* since the run began */
};

/* A run of a test before the one that counts: retried for its cause, or repeated. */
struct bnt_test_try {
    enum bnt_test_outcome outcome;
    enum verdict verdict; /* unknown (zero) when it was read from a result file */
    char *reason;         /* of anything but a pass; NULL for a pass */
    char *output;         /* of a failure; may be NULL */
    uint64_t wall_ns;
};
#define BNT_TEST_TRIES_MAX 3 /* of a test with a declared cause */

#define BNT_TEST_PAST 24 /* earlier runs that a result carries with it */

/* A figure that a body reported with suite_metric. */
struct bnt_test_metric {
    char name[48], unit[16];
    double value;
    /* Of earlier runs of this build on this machine and model, oldest first. */
    size_t n_past;
    double past[BNT_TEST_PAST];
    bool worse;    /* judged with --slower: it got worse against its past (perf_steps.h) */
    double change; /* of worse: relative, of its latest values to those before */
};
#define BNT_TEST_METRICS_MAX 16

/* Results of earlier runs, oldest first. */
struct bnt_test_past {
    size_t n;
    struct {
        enum bnt_test_outcome outcome;
        uint64_t wall_ms;
    } at[BNT_TEST_PAST];
};

enum bnt_cache_state {
    BNT_CACHE_OFF,  /* not cacheable, or no cache */
    BNT_CACHE_MISS, /* ran; a pass is kept */
    BNT_CACHE_HIT,
    BNT_CACHE_AUDIT /* a hit that was run all the same */
};

struct bnt_test {
    char *name; /* unique */
    char *suite;
    char *needs;             /* as stated, "" if none */
    char *tags;              /* comma-separated words, "" if none */
    char *subjects;          /* kinds of model it takes, comma-separated; "": it takes none */
    char *kills;             /* planted defects that its suite must see, comma-separated; "" */
    char *retry_on;          /* causes for which it may be run again, comma-separated; "" */
    char *inputs;            /* digest of the files it depends on; "" when unknown */
    char *file;              /* of its suite in YAML; NULL: it is in none */
    enum bnt_test_tier tier; /* the smallest that runs it */
    unsigned timeout_ms;
    bool cacheable; /* declared: same inputs, same result */
    char *threads;  /* of the code that its suite runs: "", "used" or "shared" (what
                       ThreadSanitizer looks at) */
    bool quarantined;
    enum bnt_test_outcome outcome;
    char *reason; /* of anything but a pass: "an assertion failed", "needs: shared (...)", "budget";
                     NULL for a pass */
    char *output; /* what the body wrote, for a failure; may be NULL */
    char *rerun;  /* the command line as a result file has it; NULL: as bnt_test_rerun makes it */
    char *cause;  /* the infrastructure's part in a failure: "network"; NULL: none */
    enum verdict verdict; /* what exactly became of it; meaningless before it ran */
    char *warning;        /* of its time class; NULL: none */
    char *not_enforced;   /* what the kernel could not hold it to; NULL: nothing to say */
    uint64_t wall_ns;
    struct bnt_test_plan plan;
    struct bnt_test_place place;
    struct bnt_test_try *tries; /* before the last one */
    size_t n_tries;
    struct bnt_test_past past;
    struct bnt_test_metric *metrics;
    size_t n_metrics;
    char cache_key[BNT_SHA256_HEX]; /* "" when not cacheable */
    enum bnt_cache_state cache;
    char *label;     /* of a failure: "deterministic", "flaky"...; NULL: not diagnosed */
    char *diagnosis; /* what was tried, and came out; NULL with label */
    char *owner, *excuse, *expires; /* of its quarantine; NULL when it is in none */
};

struct bnt_test_machine {
    char fingerprint[17]; /* of what follows; "" while unknown */
    char host[256], cpu[128], os[128];
    char device[256]; /* what computes for the tests in the place of cpu; "": cpu does */
    int n_cpu;
    uint64_t memory_bytes;
};

struct bnt_test_names {
    size_t n;
    char **at;
};

struct bnt_test_shard {
    unsigned index, total;           /* from 1; total 0: not sharded */
    char plan[BNT_SHA256_HEX];       /* digest of who runs what: equal in all shards of one run */
    double seconds;                  /* expected, of this shard */
    struct bnt_test_names elsewhere; /* SUITE/NAME of the tests of the other shards */
};

/* One of the runs that were merged into one. */
struct bnt_test_part {
    char id[17];
    unsigned shard;
    int exit_code;
    double seconds, expected_seconds;
    struct bnt_test_machine machine;
};

struct bnt_test_run {
    char id[17]; /* 16 hex digits, random; "" before it ran */
    char program[BNT_PATH_MAX];
    char program_digest[BNT_SHA256_HEX]; /* "" while unknown */
    char version[32], config[32];        /* of that build; "" while unknown */
    bool has_workers;                    /* the program speaks --worker (slots.h) */
    char worker_note[400];               /* what is to be said of processes after their tests; "" */
    enum bnt_test_tier tier;
    struct bnt_test *at; /* the selected tests, in the program's order */
    size_t n;
    size_t *order;               /* indices into at, in the order of the plan; NULL: as listed */
    struct bnt_test_names known; /* names of all tests of the program, whatever was selected */
    size_t n_other_tier;         /* tests that the filters match and the tier does not reach */
    struct bnt_model_ref model;  /* what ran; set by the caller before bnt_test_execute */
    bool model_given;            /* not the default: reruns must name it */
    uint64_t seed;               /* BNT_TEST_SEED of the tests; 0: not set */
    uint64_t budget_ms;
    int n_jobs;
    int64_t started_unix_s;
    uint64_t wall_ns;
    bool interrupted;
    struct bnt_test_machine machine;
    struct bnt_test_shard shard;
    struct bnt_test_part *parts; /* of a merged run, by shard */
    size_t n_parts;
};

struct bnt_test_counts {
    size_t n, of[BNT_TEST_OUTCOMES];
    size_t n_flaky;   /* of the passed ones */
    uint64_t wall_ns; /* sum over tests */
};

struct bnt_test_options {
    int n_jobs;                               /* processes at a time, 1 to BNT_TEST_JOBS_MAX */
    uint64_t budget_ms;                       /* 0: the tier's */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
    unsigned n_repeats;                       /* runs of each test; 0: 1 */
    bool fail_fast;                           /* start nothing after a failure that gates */
    /* Called some ten times a second: for a live line. `running` is the name of one test that runs
     * now, or NULL. */
    void (*tick)(void *ctx, const struct bnt_test_run *run, const char *running,
                 uint64_t elapsed_ms);
    void *tick_ctx;
    /* Called when a test starts (its outcome is PENDING) and when it has ended; may be NULL. */
    void (*event)(void *ctx, const struct bnt_test_run *run, const struct bnt_test *test);
    void *event_ctx;
};
#define BNT_TEST_JOBS_MAX 64

/* Add a copy of a name. */
enum bnt_status bnt_test_names_add(struct bnt_test_names *names, const char *name,
                                   struct bnt_err *err);

/* How long after its budget a run may end: what was started in time may come to its end. */
uint64_t bnt_test_grace_ms(uint64_t budget_ms);

const char *bnt_test_tier_name(enum bnt_test_tier tier);
/* Whether a model of this kind answers in the place of a trained one: not "real", and not "http",
 * of which nobody here knows what it serves. */
bool bnt_test_kind_is_mock(const char *kind);
uint64_t bnt_test_tier_budget_ms(enum bnt_test_tier tier);
const char *bnt_test_outcome_name(enum bnt_test_outcome outcome); /* "passed"... "not run" */
const char *bnt_test_class_name(enum bnt_plan_class kind);        /* "overdue"... "value" */
const char *bnt_test_cache_name(enum bnt_cache_state state);      /* "off"... "audit" */
/* The value of a name, or `n` (BNT_TIERS, BNT_TEST_OUTCOMES...) when there is no such one. */
enum bnt_test_tier bnt_test_tier_from_name(const char *name);
enum bnt_test_outcome bnt_test_outcome_from_name(const char *name);
/* It counts against the run: failed or disagreed. */
bool bnt_test_is_red(const struct bnt_test *test);
/* It passed, but not at once. */
bool bnt_test_is_flaky(const struct bnt_test *test);

/* The suites program of this build or installation: beside the executable, else
 * <prefix>/libexec/bnt/. */
enum bnt_status bnt_test_find_program(char out[BNT_PATH_MAX], struct bnt_err *err);

/* Ask the program for its tests and keep those of the tier that match one of the filters (filter.h;
 * none given: all). No test left is BNT_OK with run->n == 0. Errors: USAGE for a filter that says
 * nothing. */
enum bnt_status bnt_test_collect(struct bnt_test_run *run, const char *program,
                                 enum bnt_test_tier tier, const struct bnt_strs *filters,
                                 struct bnt_err *err);
/* Run all that are PENDING. BNT_OK whatever the tests' outcomes; afterwards none is PENDING. */
enum bnt_status bnt_test_execute(struct bnt_test_run *run, const struct bnt_test_options *options,
                                 struct bnt_err *err);
void bnt_test_run_release(struct bnt_test_run *run);
void bnt_test_release(struct bnt_test *test); /* what it holds */
/* Drop all tests but the first n of the list. */
void bnt_test_keep_first(struct bnt_test_run *run, size_t n);

/* Of one suite, or of all with NULL. */
struct bnt_test_counts bnt_test_count(const struct bnt_test_run *run, const char *suite);

/* Command line that runs one test again as it was run here, quoted for a shell. */
enum bnt_status bnt_test_rerun(const struct bnt_test_run *run, const struct bnt_test *test,
                               struct bnt_buf *out, struct bnt_err *err);

/* The table, then every failure with its output, then "N passed, N failed, N skipped[, N not run]".
 */
enum bnt_status bnt_test_report_text(const struct bnt_test_run *run, struct bnt_buf *out,
                                     struct bnt_err *err);
/* The result file: one JSON object, described in docs/testkit.md. */
enum bnt_status bnt_test_report_json(const struct bnt_test_run *run, int exit_code,
                                     struct bnt_buf *out, struct bnt_err *err);
/* Read it back: every report can be made from a result file. run: zeroed; release it. Errors: FILE
 * with the place of what is wrong, UNSUPPORTED for a newer schema. */
enum bnt_status bnt_test_result_read(const char *path, struct bnt_test_run *run, int *exit_code,
                                     struct bnt_err *err);
#define BNT_TEST_RESULT_SCHEMA 1
/* JUnit XML; valid UTF-8 and XML 1.0 whatever the tests wrote. NOT RUN is a <skipped> that says so.
 */
enum bnt_status bnt_test_report_junit(const struct bnt_test_run *run, struct bnt_buf *out,
                                      struct bnt_err *err);
/* TAP version 14. NOT RUN and CACHED are skips, a quarantined failure is a known one. */
enum bnt_status bnt_test_report_tap(const struct bnt_test_run *run, struct bnt_buf *out,
                                    struct bnt_err *err);
/* Markdown of at most max_bytes for the summary of a CI job: counts, failures with their outputs
 * and rerun lines, skips, suites; what finds no room is counted in a line. Errors: NO_SPACE when
 * not even the counts have room. */
enum bnt_status bnt_test_report_markdown(const struct bnt_test_run *run, int exit_code,
                                         size_t max_bytes, struct bnt_buf *out,
                                         struct bnt_err *err);
#define TEST_SUMMARY_MAX_BYTES (1024 * 1024) /* of one step, on GitHub */
/* Workflow commands of GitHub, at most ten of each kind: an error per red test, a warning per flaky
 * or quarantined one, a notice per unmet need. */
enum bnt_status bnt_test_report_annotations(const struct bnt_test_run *run, struct bnt_buf *out,
                                            struct bnt_err *err);
/* One page that needs nothing besides itself, and no script. kills (kills.h) may be NULL. */
struct kills;
enum bnt_status bnt_test_report_html(const struct bnt_test_run *run, int exit_code,
                                     const struct kills *kills, struct bnt_buf *out,
                                     struct bnt_err *err);

#endif
