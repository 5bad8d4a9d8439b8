#include "engine/file_audit.h"

#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "engine/bnt_infer.h"

enum { AUDIT_IDS = 4 };

static enum bnt_status differs(const char *path, const char *what, const char *name,
                               struct bnt_err *err)
{
    bnt_err_hint(err, "this is a defect of bnt, or of the disk: please report it");
    return bnt_err_set(err, BNT_E_FAILED, "%s: audit: %s of %s is not what was written", path, what,
                       name);
}

static enum bnt_status audit_tensor(const struct gguf *g, const struct gplan_tensor *want,
                                    const struct gguf_tensor *have, struct bnt_err *err)
{
    const char *what = !gguf_str_eq(have->name, want->name)               ? "the name"
                       : have->type != (enum tensor_type)want->type       ? "the type"
                       : memcmp(have->ne, want->ne, sizeof have->ne) != 0 ? "the shape"
                       : have->size != want->size                         ? "the size"
                       : have->offset != g->data_offset + want->offset    ? "the place"
                                                                          : NULL;
    return what ? differs(g->path, what, want->name, err) : BNT_OK;
}

static enum bnt_status audit_header(const struct gguf *g, const struct gguf_plan *plan,
                                    enum tensor_type type, struct bnt_err *err)
{
    uint64_t file_type = UINT64_MAX;
    gguf_get_u64(g, "general.file_type", &file_type);
    if (file_type != tensor_file_type(type)) {
        return differs(g->path, "the value", "general.file_type", err);
    }
    if (g->n_tensors != plan->n_tensors) {
        return differs(g->path, "the number", "tensors", err);
    }
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < g->n_tensors; i++) {
        st = audit_tensor(g, &plan->tensors[i], &g->tensors[i], err);
    }
    return st;
}

static enum bnt_status audit_logits(const char *path, const float *logits, uint32_t n,
                                    int32_t *top_id, struct bnt_err *err)
{
    uint32_t top = 0;
    bool alike = true;
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(logits[i])) {
            return bnt_err_set(err, BNT_E_FAILED,
                               "%s: audit: the logit of token %u is %g: its weights are broken",
                               path, i, (double)logits[i]);
        }
        alike = alike && logits[i] == logits[0];
        top = logits[i] > logits[top] ? i : top;
    }
    *top_id = (int32_t)top;
    return alike && n > 1
               ? bnt_err_set(err, BNT_E_FAILED, "%s: audit: all tokens are as likely", path)
               : BNT_OK;
}

/* Weights are read layer by layer, whatever memory there is. */
static enum bnt_status audit_forward(const char *path, int32_t *top_id, struct bnt_err *err)
{
    const struct bnt_session_options so = {.n_ctx = AUDIT_IDS, .n_batch = AUDIT_IDS};
    const struct bnt_model_options mo = {
        .session = &so, .i2s_layout = "128/32", .stream_weights = true};
    struct bnt_model *model = NULL;
    struct bnt_session *session = NULL;
    int32_t ids[AUDIT_IDS];
    enum bnt_status st = bnt_model_open(path, &mo, &model, err);
    if (st == BNT_OK) {
        st = bnt_session_new(model, &so, &session, err);
    }
    if (st == BNT_OK) {
        for (int i = 0; i < AUDIT_IDS; i++) {
            ids[i] = (int32_t)((uint32_t)i * 37 % bnt_model_info(model)->n_vocab);
        }
        st = bnt_session_eval(session, ids, AUDIT_IDS, err);
    }
    if (st == BNT_OK) {
        st = audit_logits(path, bnt_session_logits(session), bnt_session_n_vocab(session), top_id,
                          err);
    }
    bnt_session_free(session);
    bnt_model_close(model);
    return st;
}

enum bnt_status file_audit(const char *path, const struct gguf_plan *plan, enum tensor_type type,
                           int32_t *top_id, struct bnt_err *err)
{
    struct gguf *g = NULL;
    enum bnt_status st = gguf_open(path, GGUF_MODE_STREAM, &g, err);
    if (st == BNT_OK && !BNT_FAULT(audit_blind)) {
        st = audit_header(g, plan, type, err);
    }
    gguf_close(g);
    return st == BNT_OK ? audit_forward(path, top_id, err) : st;
}
