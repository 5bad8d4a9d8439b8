/* Which device computes for a session, and what happens when it fails. A session that is on a GPU
 * keeps the ids that it holds, so that the CPU can evaluate them again and go on. */
#ifndef BNT_DEVICE_H
#define BNT_DEVICE_H

#include "engine/backend.h"

enum device_kind { DEVICE_CPU, DEVICE_AUTO, DEVICE_CUDA };
enum device_fallback { DEVICE_FALLBACK_ERROR, DEVICE_FALLBACK_NEVER, DEVICE_FALLBACK_BELOW };

/* bnt_session_options in words that are checked. */
struct device_choice {
    enum device_kind kind;
    int index; /* of the GPU */
    enum device_fallback fallback;
    double below;   /* tokens a second */
    uint64_t limit; /* bytes on the GPU */
    bnt_warn_fn *warn;
    void *warn_ctx;
};
/* Errors: USAGE. */
enum bnt_status device_choice_of(const struct bnt_session_options *opts, struct device_choice *out,
                                 struct bnt_err *err);

/* A back end as the choice says. config is as for the CPU; n_batch_given: the caller chose n_batch,
 * which is larger by default on a GPU. Errors: DEVICE, MEMORY and those of the CPU's. */
enum bnt_status device_backend_new(const struct bnt_model *m, struct backend_config config,
                                   bool n_batch_given, const struct device_choice *choice,
                                   struct backend **out, struct bnt_err *err);

bool device_is_cpu(const struct backend *b);
/* True for what a back end that is not the CPU's returns when it is of no more use. */
bool device_failed(const struct backend *b, enum bnt_status st);

/* What a choice comes to for a model, before there is a session. */
struct device_place {
    char name[16];  /* "cpu", "cuda:0": a session takes it as its device */
    int index;      /* of the GPU; -1: the CPU */
    char what[256]; /* "NVIDIA H200 9.0, driver 13000, module ..."; "" for the CPU */
};
/* auto is measured, as a session would; for the others m may be NULL. Errors: USAGE, DEVICE (a GPU
 * was asked for and is not there) and those of reading the module. */
enum bnt_status device_find(struct bnt_model *m, const struct bnt_session_options *opts,
                            struct device_place *out, struct bnt_err *err);

#endif
