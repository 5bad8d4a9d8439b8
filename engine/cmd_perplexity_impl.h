/* Shared by the files of `bnt perplexity`: cmd_perplexity.c (options, the steps),
 * cmd_perplexity_score.c (model, text, record and scoring), cmd_perplexity_report.c (what is said
 * of it). */
#ifndef BNT_CMD_PERPLEXITY_IMPL_H
#define BNT_CMD_PERPLEXITY_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/app.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/msg.h"
#include "base/opt.h"
#include "engine/engine_arg.h"
#include "engine/bnt_infer.h"
#include "engine/logits_compare.h"
#include "engine/logits_record.h"
#include "engine/model_arg.h"
#include "engine/perplexity.h"
#include "engine/perplexity_gate.h"

#define PERPLEXITY_MAX_TEXT (256u << 20) /* bytes */
/* In place of a record: the same model, its ternary weights as F32. */
#define PERPLEXITY_DEQUANTIZED "dequantized:"

struct perplexity_opts {
    struct bnt_model_arg model;
    struct bnt_engine_arg engine;
    const char *file, *record, *against;
    int64_t window, stride, max_tokens, seed;
    double max_perplexity, max_loss, max_kl, min_match, confidence; /* 0: not given */
    bool dequantize, per_token, json;
};

enum { PERPLEXITY_MAX_GATES = 4 };

/* One run. Released by perplexity_close, at whatever stage it is. */
struct perplexity {
    struct bnt_app *app;
    const struct perplexity_opts *o;
    struct bnt_model_ref ref;
    bool mock;
    struct bnt_buf text;
    struct bnt_model *model;
    struct bnt_session *session;
    struct bnt_ids ids;
    uint32_t window, stride;
    char tokens_digest[BNT_SHA256_HEX];

    char temporary[BNT_PATH_MAX]; /* record of the dequantised run, until it is open; or "" */
    struct bnt_record *reference; /* NULL: nothing to compare with */
    struct bnt_record_writer *writer;
    uint64_t record_bytes; /* of the finished file */

    size_t n;                         /* tokens scored, in the arrays */
    double *nll, *change, *kl, *same; /* per token; the last three only with a reference */
    struct bnt_logits_summary compared;
    uint64_t evaluated, score_ns;
    struct bnt_progress progress;

    double bytes; /* of the scored tokens' text */
    struct bnt_interval nats, perplexity;
    struct bnt_gate gates[PERPLEXITY_MAX_GATES];
    size_t n_gates;
};

/* cmd_perplexity_score.c, in the order in which they are called. */
enum bnt_status perplexity_read(struct perplexity *p, struct bnt_err *err);
/* Open the record to compare with, or make it by a run of the dequantised model. */
enum bnt_status perplexity_open_reference(struct perplexity *p, struct bnt_err *err);
/* Open the model, score the text, write the record that is asked for. */
enum bnt_status perplexity_score(struct perplexity *p, struct bnt_err *err);
void perplexity_close(struct perplexity *p);

/* cmd_perplexity_report.c. */
enum bnt_status perplexity_print_token(const struct perplexity *p, const struct bnt_scored *row,
                                       const struct bnt_record_row *other,
                                       const struct bnt_logits_diff *diff, struct bnt_err *err);
enum bnt_status perplexity_report(struct perplexity *p, struct bnt_err *err);

#endif
