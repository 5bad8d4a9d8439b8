/* Inside of a session, for session.c and session_file.c. */
#ifndef BNT_SESSION_H
#define BNT_SESSION_H

#include "engine/backend.h"
#include "engine/bnt_infer.h"
#include "engine/device.h"

struct bnt_session {
    const struct bnt_model *model;
    struct backend *backend;
    float *logits; /* BACKEND_HEAD_BATCH rows */
    float *last;   /* the row of the last evaluated id; NULL while there is none */
    int32_t *held; /* n_ctx; the first n_past are the ids whose keys and values the cache has */
    uint32_t n_past;
    struct device_choice choice;
    uint32_t n_last;  /* ids of the last batch; 0 after a rewind */
    uint32_t n_timed; /* decoded ids in timed_ns, while a rate is watched */
    uint64_t timed_ns;
};

#endif
