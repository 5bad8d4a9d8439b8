/* Inside of a session, for session.c, session_step.c and session_file.c. */
#ifndef BNT_SESSION_H
#define BNT_SESSION_H

#include "engine/backend.h"
#include "engine/bnt_infer.h"
#include "engine/device.h"

struct session_sequence {
    int32_t *held; /* n_ctx; the first n_past are the ids whose keys and values the cache has */
    uint32_t n_past;
    bool in_step; /* while a step is laid out: it has the sequence already */
};

struct bnt_session {
    const struct bnt_model *model;
    struct backend *backend;
    float *logits; /* BACKEND_HEAD_BATCH rows */
    float *last;   /* the row of the last evaluated id; NULL while there is none */
    int32_t *held; /* of all sequences */
    struct session_sequence *sequences; /* n_seq */
    struct session_sequence *now;       /* the selected one */
    struct backend_row *rows;           /* n_batch; the first n_last are the last batch */
    struct device_choice choice;
    char device[32], kernel[32]; /* what has computed; both where the CPU took over */
    uint32_t n_last;             /* ids of the last batch; 0 after a rewind */
    uint32_t n_timed;            /* decoded ids in timed_ns, while a rate is watched */
    uint64_t timed_ns;
};

/* Evaluate the first n of s->rows, and hold them. A GPU that fails is replaced, as the choice says.
 */
enum bnt_status session_forward(struct bnt_session *s, uint32_t n, struct bnt_err *err);
/* Logits of a whole batch of n, handed out row by row; the last of them stays. */
enum bnt_status session_each_logits(struct bnt_session *s, size_t first_index, uint32_t n,
                                    bnt_logits_fn *fn, void *ctx, struct bnt_err *err);
/* A GPU that decodes too slowly is left, where that was asked for: so many ids took so long. */
enum bnt_status session_watch_rate(struct bnt_session *s, uint32_t decoded, uint64_t ns,
                                   struct bnt_err *err);
/* After a step of the back end: true when it is to be done again, by the CPU that has taken over.
 * Otherwise *st is what it was, or the error of the fall-back, in err. */
bool session_again(struct bnt_session *s, enum bnt_status *st, const struct bnt_err *failed,
                   struct bnt_err *err);

#endif
