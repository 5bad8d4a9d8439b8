/* Suites that need no C: a YAML file (NAME.bnt.yml) with prompts and what must come of them.
 * docs/user-suites.md is the reference of its keys.
 *
 *     struct user_suite s;
 *     if (user_suite_read("capitals.bnt.yml", &s, &err) == BNT_OK) {
 *         for (size_t i = 0; i < s.n; i++) { user_test_run(&s.tests[i], subject, &report, &err); }
 *         user_suite_release(&s);
 *     }
 *
 * Every mistake of a file is an error with its line and column, found before anything runs. */
#ifndef BNT_USER_SUITE_H
#define BNT_USER_SUITE_H

#include <math.h>

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "engine/sampler.h"
#include "base/yaml_tree.h"
#include "testkit/bnt_test.h"
#include "testkit/subject.h"

#define USER_SUITE_MAX_TESTS 2000 /* of one file, after parameters and models are filled in */
#define USER_SUITE_ENDING ".bnt.yml"

/* Texts of a list, or the one text that stands in its place. */
struct user_texts {
    const char **at;
    size_t n;
};

/* Whole numbers; at is NULL when the key is absent. */
struct user_ids {
    int32_t *at;
    size_t n;
};

/* NaN where the file names no bound. */
struct user_range {
    double min, max;
};

struct user_logprob {
    uint32_t at;       /* index of the generated token */
    const char *token; /* the text of one token; NULL: id */
    int32_t id;        /* -1: token */
    struct user_range range;
};

struct user_perplexity {
    const char *text; /* NULL: not asked for */
    struct user_range range;
};

/* What must come of a prompt. A member that is absent asks for nothing. */
struct user_expect {
    struct user_ids ids, ids_begin;
    const char *text, *begins;                /* exactly; at the beginning */
    struct user_texts contains, contains_any; /* all of them; one of them */
    struct user_texts not_contains;           /* none of them */
    struct user_texts matches, not_matches;   /* POSIX extended regular expressions */
    const struct yaml_node *json;             /* the shape of the JSON value that the text is */
    const char *finish;                       /* "stop", "length" or "context" */
    struct user_range tokens;                 /* generated */
    bool quality;                             /* whole UTF-8, no degenerate repetition */
    struct user_range coherence, relevance, repetition; /* engine/text_quality.h */
    uint32_t repeats;             /* so many times the same answer; 0: not asked for */
    struct user_logprob *logprob; /* n_logprob of them */
    size_t n_logprob;
    struct user_perplexity perplexity;
    struct user_range tokens_per_second; /* of decoding */
    struct user_range first_token_ms;
    struct user_range memory_bytes; /* peak of the test's process, model included */
};

/* No bound on either side. */
#define NO_RANGE ((struct user_range){.min = NAN, .max = NAN})

/* A test that expects nothing yet: no range has a bound. */
extern const struct user_expect user_expect_nothing;

struct user_test {
    const char *name;  /* a-z, 0-9 and _: suite, test and variant; unique in the file */
    const char *model; /* a subject as bnt_subject_open takes it; NULL: that of the run */
    enum bnt_test_tier tier;
    unsigned timeout_ms;                 /* 0: that of every test, testkit/suite.h */
    const char *tags, *needs, *subjects; /* comma-separated; "" none, every kind of subject */
    const char *prompt;                  /* NULL: ids, or neither */
    struct user_ids ids;
    uint32_t max_tokens;
    bool ignore_eos;
    struct bnt_sampler_params sampling;
    struct user_texts stop;
    struct user_expect expect;
    unsigned line; /* of the test in the file */
};

struct user_suite {
    const char *path;
    const char *name; /* a-z, 0-9 and _ */
    struct user_test *tests;
    size_t n;
    struct yaml_tree tree; /* texts and shapes lie here and in the arena */
    struct bnt_arena arena;
};

/* Errors: FILE with place and hint; those of bnt_file_read. */
enum bnt_status user_suite_read(const char *path, struct user_suite *out, struct bnt_err *err);
void user_suite_release(struct user_suite *s);

/* Whether the test takes a subject of this kind. */
bool user_test_takes(const struct user_test *t, const char *kind);
/* Ask the subject and hold its answer against all that is expected. The report gets a line per
 * expectation that does not hold, with what came instead, and at the end the answer. Errors: FAILED
 * some do not hold; UNSUPPORTED the subject cannot do what the test asks for: a skip; those of the
 * subject. */
enum bnt_status user_test_run(const struct user_test *t, struct bnt_subject *subject,
                              struct bnt_buf *report, struct bnt_err *err);

/* Check of a shape while the file is read, and of a text against it; the words of JSON Schema that
 * are known: type, required, properties, items, enum, minimum, maximum, minItems, maxItems,
 * minLength, maxLength, pattern. Errors: FILE with the place; FAILED with the path in the value. */
enum bnt_status json_shape_read(const struct yaml_node *shape, const char *shown,
                                struct bnt_err *err);
enum bnt_status json_shape_check(const struct yaml_node *shape, const char *text, size_t len,
                                 struct bnt_err *err);

#endif
