/* What stands in the tensors of a mock: numbers from a seed and the tensor's name, each exactly
 * what its type can hold, of a size that keeps activations and logits in the range of a trained
 * model. */
#ifndef BNT_MOCK_TINY_WEIGHTS_H
#define BNT_MOCK_TINY_WEIGHTS_H

#include "engine/tensor_type.h"
#include "engine/gguf_plan.h"

/* Takes the bytes of a tensor in order, in as many pieces as they come. */
typedef enum bnt_status tiny_sink_fn(void *ctx, const void *bytes, size_t n, struct bnt_err *err);

struct tiny_weights {
    uint64_t seed;
    enum i2s_layout layout; /* of I2_S */
    tiny_sink_fn *sink;
    void *ctx;
};

/* Errors: UNSUPPORTED for TL1 and TL2 of a shape whose tiles are not known, USAGE for one that its
 * packing does not divide; the sink's. */
enum bnt_status tiny_weights_fill(const struct tiny_weights *w, const struct gplan_tensor *t,
                                  struct bnt_err *err);

#endif
