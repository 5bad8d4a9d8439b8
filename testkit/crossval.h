/* Cross-validation: the engine against a reference, which is any other subject: somebody else's
 * server, a command, a file of recorded answers. It climbs a ladder, and stops at the first rung on
 * which the two differ, because what comes after only repeats that difference:
 *
 *     token ids → first logits → layer taps → teacher-forced → greedy text → perplexity → speed
 *
 * A rung for which the reference has not what it takes is skipped with that as its reason, and is
 * never a pass. docs/crossval.md says what each rung asks, and what the figures mean. */
#ifndef TESTKIT_CROSSVAL_H
#define TESTKIT_CROSSVAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "testkit/subject.h"

/* X(identifier, word in reports and JSON) */
#define CROSSVAL_RUNGS(X)                                                                          \
    X(CROSSVAL_TOKENS, "token_ids")                                                                \
    X(CROSSVAL_FIRST, "first_logits")                                                              \
    X(CROSSVAL_TAPS, "layer_taps")                                                                 \
    X(CROSSVAL_FORCED, "teacher_forced")                                                           \
    X(CROSSVAL_GREEDY, "greedy_text")                                                              \
    X(CROSSVAL_PERPLEXITY, "perplexity")                                                           \
    X(CROSSVAL_SPEED, "speed")

enum crossval_rung {
#define CROSSVAL_ID(id, word) id,
    CROSSVAL_RUNGS(CROSSVAL_ID)
#undef CROSSVAL_ID
        CROSSVAL_N_RUNGS
};

enum crossval_verdict {
    CROSSVAL_NOT_REACHED, /* a rung before it differs */
    CROSSVAL_SKIPPED,     /* why says what the reference has not */
    CROSSVAL_SAME,
    CROSSVAL_DIFFERS, /* why says where */
};
const char *crossval_rung_name(enum crossval_rung rung);
const char *crossval_verdict_name(enum crossval_verdict verdict);

/* A bound that is NAN is not held against anything. */
struct crossval_tolerances {
    double forced_match; /* least share of equal best tokens, teacher-forced */
    double free_match;   /* the same, free-running */
    double pearson;      /* least mean over positions */
    double cosine;       /* the same */
    double kl;           /* most, nats, mean over positions */
    double mse;          /* most */
    double max_error;    /* most, of one value */
    double tap_error;    /* most, of a row of a tap: size of the difference over size of the row */
    double perplexity;   /* most relative difference */
    double speed;        /* least share of the reference's tokens per second */
};
struct crossval_tolerances crossval_tolerances_default(void);
/* YAML: a map of the names above to numbers, or `off`. Those that are absent keep their default.
 * Errors: FILE with the place; those of bnt_file_read. */
enum bnt_status crossval_tolerances_read(const char *path, struct crossval_tolerances *out,
                                         struct bnt_err *err);

#define CROSSVAL_PROMPTS_MAX 64

struct crossval_plan {
    const char *const *prompts; /* n_prompts of them, at least one */
    size_t n_prompts;
    const char *text;  /* for perplexity */
    uint32_t n_text;   /* tokens of it, at most */
    uint32_t n_tokens; /* of each greedy answer */
    uint32_t n_best;   /* entries of a row that a reference is asked for; 0: the vocabulary */
    const volatile sig_atomic_t *interrupted;
};
/* A few prompts and a text that any model can be asked. */
struct crossval_plan crossval_plan_default(void);

#define CROSSVAL_FIGURES_MAX 16

struct crossval_result {
    enum crossval_verdict verdict;
    char why[400];
    struct {
        const char *name; /* static */
        double value;
    } figures[CROSSVAL_FIGURES_MAX];
    size_t n_figures;
};

struct crossval_report {
    struct crossval_result rungs[CROSSVAL_N_RUNGS];
    enum crossval_rung differs_at; /* CROSSVAL_N_RUNGS: nowhere */
    size_t n_same;                 /* rungs that were climbed, speed not counted */
};

/* OK whatever the verdicts are. Errors: those of the subjects, save UNSUPPORTED; INTERRUPTED. */
enum bnt_status crossval_run(struct bnt_subject *ours, struct bnt_subject *reference,
                             const struct crossval_plan *plan,
                             const struct crossval_tolerances *tolerances,
                             struct crossval_report *out, struct bnt_err *err);

/* Write down what a subject answers to the plan, for bnt_subject_open_recorded. What the subject
 * cannot tell is not in the record, and counted. Errors: those of the subject and of durable
 * files. */
struct crossval_recorded {
    size_t n_rows, not_offered; /* places */
    size_t n_early;             /* answers of which not all ids are known */
    char no_score[640];         /* why there is none; "": there is one */
};
enum bnt_status crossval_record(struct bnt_subject *subject, const struct crossval_plan *plan,
                                const char *path, struct crossval_recorded *out,
                                struct bnt_err *err);
/* Write down what a subject holds likely in every place of a text, for `bnt perplexity --against`
 * (engine/logits_record.h); *n_rows are the places. Errors: UNSUPPORTED it does not tell, or not of
 * each token; USAGE a window out of range, a text too short; INTERRUPTED; those of the subject and
 * of durable files. */
struct crossval_logits_plan {
    const char *text;
    uint32_t n_text; /* tokens of it, at most */
    uint32_t window; /* positions, the start token included */
    const volatile sig_atomic_t *interrupted;
};
enum bnt_status crossval_record_logits(struct bnt_subject *subject,
                                       const struct crossval_logits_plan *plan, const char *path,
                                       uint64_t *n_rows, struct bnt_err *err);
/* The subject that gives these answers again. It also reads files of recorded greedy answers
 * ("greedy" with "prompt_ids", "greedy_ids" and "steps"; or a map of prompts). Errors: those of
 * bnt_file_read; FILE with the place. */
enum bnt_status crossval_open_recorded(const char *path, struct bnt_subject **out,
                                       struct bnt_err *err);
/* The prompts of the file, valid until the subject is closed; at most max. */
size_t crossval_recorded_prompts(const struct bnt_subject *s, const char **prompts, size_t max);
/* The text that it has a score of, or NULL. */
const char *crossval_recorded_text(const struct bnt_subject *s);
/* Ask for no longer answers, and for no more of the text, than are in the record. */
void crossval_recorded_fit(const struct bnt_subject *s, struct crossval_plan *plan);

/* Be a reference: answer the questions of the command protocol from `in` to `out` until `in` ends.
 * Errors: FAILED when out cannot be written. */
struct crossval_lines {
    enum bnt_status (*read)(void *ctx, struct bnt_buf *line, bool *end, struct bnt_err *err);
    enum bnt_status (*write)(void *ctx, const char *bytes, size_t n, struct bnt_err *err);
    void *ctx;
};
enum bnt_status crossval_serve(struct bnt_subject *subject, const struct crossval_lines *lines,
                               struct bnt_err *err);

#endif
