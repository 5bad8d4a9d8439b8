/* A subject: what is under test, behind one small table of functions. A suite never asks which one
 * it got, only what it can do:
 *
 *     real      a trained GGUF in the engine
 *     tiny      a GGUF drawn from a seed (mock/): same loader, same kernels
 *     scripted  answers from a file (mock/scripted.h)
 *     http      a server of somebody else, with llama-server's protocol or OpenAI's
 *     command   a program that answers JSON lines (docs/crossval.md)
 *     recorded  answers that were written down by `bnt crossval --record`
 *
 *     struct bnt_subject *s;
 *     bnt_subject_open(app, "scripted:answers.json", NULL, &s, &err);
 *     struct bnt_subject_answer a;
 *     bnt_subject_answer_init(&a);
 *     bnt_subject_generate(s, &(struct bnt_subject_request){.prompt = "Hello", .prompt_len = 5,
 *                                                           .max_tokens = 16}, &a, &err);
 *     ... a.made.ids, a.made.text, a.made.finish ...
 *     bnt_subject_answer_release(&a);
 *     bnt_subject_close(s);
 *
 * Every call stands alone: nothing of an earlier one is in the context. What a subject cannot do
 * is UNSUPPORTED, never a made-up answer. A subject is used by one thread at a time. To add one,
 * fill a table of functions and a row of the openers in subject.c. */
#ifndef BNT_SUBJECT_H
#define BNT_SUBJECT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/app.h"
#include "base/status.h"
#include "engine/bnt_infer.h"
#include "engine/generate.h"
#include "engine/sampler.h"
#include "engine/tap.h"

/* What a subject can do; a test that needs more is skipped with that as its reason. */
enum bnt_subject_can {
    BNT_CAN_TOKENIZE = 1,  /* text to ids */
    BNT_CAN_EVALUATE = 2,  /* ids to logits, every position */
    BNT_CAN_GENERATE = 4,  /* prompt to text */
    BNT_CAN_IDS = 8,       /* generate tells ids, and takes a prompt as ids */
    BNT_CAN_LOGPROBS = 16, /* generate tells log-probabilities */
    BNT_CAN_SAMPLE =
        32,            /* generate follows sampling parameters and seed; else its answer is fixed */
    BNT_CAN_ROWS = 64, /* tells what it holds likely in one place of an answer */
    BNT_CAN_TAPS = 128,  /* shows what it computes on the way (engine/tap.h) */
    BNT_CAN_SCORE = 256, /* sums the log-probabilities of a text by itself */
};

struct bnt_subject_facts {   /* valid until close */
    const char *kind;        /* "real", "tiny", "scripted", ... */
    const char *name;        /* of the model, "" if it has none */
    const char *arch;        /* "" if not known */
    const char *place;       /* path or address */
    const char *digest;      /* sha256 in hex, "" while not known */
    uint32_t n_vocab, n_ctx; /* 0: not known */
    unsigned can;            /* bits of enum bnt_subject_can */
    bool remote;             /* runs elsewhere: this process's memory says nothing about it */
    /* For what only the engine can be asked; NULL for subjects that are not in it. */
    struct bnt_model *model;
    struct bnt_session *session;
};

struct bnt_subject_request {
    const char *prompt; /* text, special tokens added as the model's file says; or NULL and ids */
    size_t prompt_len;
    const int32_t *ids;
    size_t n_ids;
    uint32_t max_tokens;                       /* 0: until it ends by itself */
    const struct bnt_sampler_params *sampling; /* NULL: greedy */
    const char *const *stop;                   /* stop strings */
    size_t n_stop;
    bool ignore_eos;
    bool afresh;         /* evaluate all of the prompt, whatever is still known of an earlier one */
    uint32_t n_logprobs; /* best ones per id; 0: none */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

struct bnt_subject_answer {
    struct bnt_ids prompt_ids; /* as the subject read the prompt; empty when it does not tell */
    bool ids_end_early;        /* the answer goes on behind made.ids; the subject cannot tell how */
    /* ids, text, finish; times that are not known are 0. */
    struct bnt_generation made;
};
void bnt_subject_answer_init(struct bnt_subject_answer *a);
void bnt_subject_answer_release(struct bnt_subject_answer *a);

/* What is likely in one place: the likeliest ids with the natural logarithm of their probability
 * before sampling, best first. */
struct json_t;
struct bnt_row_entry {
    int32_t id;       /* -1: not told */
    const char *text; /* of the token, as the subject shows it; NULL: not told */
    double logprob;
};
struct bnt_row {
    struct bnt_row_entry *at;
    size_t n;
    bool whole;            /* ids that are not in it have no probability that could be told */
    struct json_t *answer; /* in which the texts lie; NULL: none */
};
void bnt_row_init(struct bnt_row *row);
void bnt_row_release(struct bnt_row *row);

struct bnt_subject;

struct bnt_subject_ops {
    void (*describe)(const struct bnt_subject *s, struct bnt_subject_facts *out);
    /* Append the ids of a text; flags of enum bnt_encode_flags. */
    enum bnt_status (*tokenize)(struct bnt_subject *s, const char *text, size_t len, unsigned flags,
                                struct bnt_ids *out, struct bnt_err *err);
    /* Logits of every position of ids, from an empty context. */
    enum bnt_status (*evaluate)(struct bnt_subject *s, const int32_t *ids, size_t n,
                                bnt_logits_fn *fn, void *ctx, struct bnt_err *err);
    /* out is initialised; it holds what was produced also after a failure. */
    enum bnt_status (*generate)(struct bnt_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err);
    /* Place `at` of the greedy answer to r: at least r->n_logprobs entries where the vocabulary has
     * as many. out is initialised. */
    enum bnt_status (*row)(struct bnt_subject *s, const struct bnt_subject_request *r, uint32_t at,
                           struct bnt_row *out, struct bnt_err *err);
    /* What is computed for ids, from an empty context; rows of those ops that the subject shows. */
    enum bnt_status (*taps)(struct bnt_subject *s, const int32_t *ids, size_t n,
                            const struct bnt_tap *tap, struct bnt_err *err);
    /* As bnt_subject_score (testkit/scoring.h). */
    enum bnt_status (*score)(struct bnt_subject *s, const int32_t *ids, size_t n, double *sum,
                             struct bnt_err *err);
    void (*close)(struct bnt_subject *s);
};

/* The first member of every kind's own struct. */
struct bnt_subject {
    const struct bnt_subject_ops *ops;
};

/* For subjects in the engine; others look at what concerns them. Zero: the engine's defaults. */
struct bnt_subject_options {
    struct bnt_session_options session; /* its `interrupted` ends a wait for others, too */
    struct bnt_model_options model; /* for that session; packed weights are those of the cache */
    uint32_t http_timeout_ms;       /* of one answer of a server; 0: 10 min */
    uint32_t http_max_attempts;     /* of one question, while the server is in trouble; 0: 5 */
};

/* By what a user types: "scripted:FILE"; "tiny:" or "tiny:SEED", a mock made for this subject and
 * gone with it; "http://..." or "https://...", a server; else a model as after -m, real or tiny by
 * what its file says. opts may be NULL.
 * Errors: those of the openers below and of app->resolve_model. */
enum bnt_status bnt_subject_open(const struct bnt_app *app, const char *spec,
                                 const struct bnt_subject_options *opts, struct bnt_subject **out,
                                 struct bnt_err *err);
/* A GGUF; ref->kind is corrected by what the file says. */
enum bnt_status bnt_subject_open_model(const struct bnt_model_ref *ref,
                                       const struct bnt_subject_options *opts,
                                       struct bnt_subject **out, struct bnt_err *err);
enum bnt_status bnt_subject_open_scripted(const char *path, struct bnt_subject **out,
                                          struct bnt_err *err);
/* A server, by its address: http://HOST[:PORT][/FOLDER][/v1][#MODEL]. One that answers /props is a
 * llama-server, else it must answer /v1/models; the model need only be named where that lists
 * several. A llama-server is asked for one token, to see whether it tells ids and
 * log-probabilities. The key of BNT_API_KEY goes with every request, over http too, and is never
 * shown. Errors: USAGE the address, or the choice of the model; UNSUPPORTED neither protocol; AUTH;
 * RATE_LIMIT; NETWORK no answer in time, or the server is in trouble; INFERENCE an answer that
 * cannot be, or a request that the server refuses, with its own words. */
enum bnt_status bnt_subject_open_http(const char *address, const struct bnt_subject_options *opts,
                                      struct bnt_subject **out, struct bnt_err *err);
/* A program, started by the shell, that answers questions on its standard input. It ends with the
 * subject. Errors: UNSUPPORTED it cannot be started or does not describe itself; TIME no answer
 * within http_timeout_ms; INFERENCE an answer that cannot be, or an error that it tells. */
enum bnt_status bnt_subject_open_command(const char *command,
                                         const struct bnt_subject_options *opts,
                                         struct bnt_subject **out, struct bnt_err *err);
void bnt_subject_close(struct bnt_subject *s); /* NULL is fine */

/* The functions of the table; what facts.can does not have is UNSUPPORTED with the kind's name, a
 * request with both or neither of prompt and ids is USAGE. */
struct bnt_subject_facts bnt_subject_describe(const struct bnt_subject *s);
enum bnt_status bnt_subject_tokenize(struct bnt_subject *s, const char *text, size_t len,
                                     unsigned flags, struct bnt_ids *out, struct bnt_err *err);
enum bnt_status bnt_subject_evaluate(struct bnt_subject *s, const int32_t *ids, size_t n,
                                     bnt_logits_fn *fn, void *ctx, struct bnt_err *err);
enum bnt_status bnt_subject_generate(struct bnt_subject *s, const struct bnt_subject_request *r,
                                     struct bnt_subject_answer *out, struct bnt_err *err);
enum bnt_status bnt_subject_row(struct bnt_subject *s, const struct bnt_subject_request *r,
                                uint32_t at, struct bnt_row *out, struct bnt_err *err);
enum bnt_status bnt_subject_taps(struct bnt_subject *s, const int32_t *ids, size_t n,
                                 const struct bnt_tap *tap, struct bnt_err *err);

#endif
