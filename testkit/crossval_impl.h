/* What the files of the ladder share. */
#ifndef TESTKIT_CROSSVAL_IMPL_H
#define TESTKIT_CROSSVAL_IMPL_H

#include "engine/logits_compare.h"
#include "testkit/crossval.h"

/* A prompt, and what both sides made of it. Answers are asked for once, when a rung needs them. */
struct crossval_case {
    const char *prompt;
    struct bnt_ids ids; /* of the prompt, as we read it */
    struct bnt_subject_answer ours, theirs;
};

struct ladder {
    struct bnt_subject *ours, *reference;
    struct bnt_subject_facts our_facts, their_facts;
    const struct crossval_plan *plan;
    const struct crossval_tolerances *tol;
    struct crossval_case *cases; /* plan->n_prompts of them */
    bool answered;
    struct crossval_report *report;
};

struct crossval_result *crossval_result_of(struct ladder *l, enum crossval_rung rung);
/* Ends the rung. The first reason stays. */
void crossval_differs(struct ladder *l, enum crossval_rung rung, const char *fmt, ...)
    BNT_PRINTF(3, 4);
void crossval_skip(struct ladder *l, enum crossval_rung rung, const char *fmt, ...)
    BNT_PRINTF(3, 4);
void crossval_figure(struct ladder *l, enum crossval_rung rung, const char *name, double value);

bool crossval_can(const struct bnt_subject_facts *f, unsigned what);
/* Both sides' greedy answers to all prompts; theirs stay empty where the reference cannot. */
enum bnt_status crossval_answer(struct ladder *l, struct bnt_err *err);

/* Whether the reference tells what it holds likely in a place. */
bool crossval_tells_rows(const struct ladder *l);

enum bnt_status crossval_first(struct ladder *l, struct bnt_err *err);
enum bnt_status crossval_forced(struct ladder *l, struct bnt_err *err);
enum bnt_status crossval_taps(struct ladder *l, struct bnt_err *err);

/* The first tap, in the order of computation, on which the two differ, for ids; name is "" where
 * none does, or where the reference shows none. */
struct crossval_tap_place {
    char name[96];
    double error, worst;
    size_t n;
};
enum bnt_status crossval_find_tap(struct ladder *l, const int32_t *ids, size_t n,
                                  struct crossval_tap_place *out, struct bnt_err *err);

#endif
