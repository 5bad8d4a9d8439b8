/* Inside of a session, for session.c and session_file.c. */
#ifndef BNT_SESSION_H
#define BNT_SESSION_H

#include "engine/backend.h"
#include "engine/bnt_infer.h"

struct bnt_session {
    const struct bnt_model *model;
    struct backend *backend;
    float *logits; /* BACKEND_HEAD_BATCH rows */
    float *last;   /* the row of the last evaluated id; NULL while there is none */
    int32_t *held; /* n_ctx; the first n_past are the ids whose keys and values the cache has */
    uint32_t n_past;
};

#endif
