/* Whether a file that was just written is what it was to be. Reads it again from the disk's side:
 * header, types, places, and a forward pass over all weights, a layer at a time. */
#ifndef BNT_FILE_AUDIT_H
#define BNT_FILE_AUDIT_H

#include "engine/gguf_plan.h"

/* Every tensor of the plan is there with its type, shape, size and place, and no other;
 * general.file_type is that of `type`; a few ids give finite logits that are not all alike.
 * *top_id: the likeliest next one. I2_S is read as 128/32. Errors: FAILED with what differs; those
 * of opening a model. */
enum bnt_status file_audit(const char *path, const struct gguf_plan *plan, enum tensor_type type,
                           int32_t *top_id, struct bnt_err *err);

#endif
