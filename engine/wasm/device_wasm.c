/* The WebAssembly module has no GPU: the CPU, or the error that names what is missing. */
#include "engine/device.h"

enum bnt_status device_backend_new(const struct bnt_model *m, struct backend_config config,
                                   bool n_batch_given, const struct device_choice *choice,
                                   struct backend **out, struct bnt_err *err)
{
    (void)n_batch_given;
    if (choice->kind == DEVICE_CUDA) {
        bnt_err_set(err, BNT_E_DEVICE, "cuda:%d: a WebAssembly module reaches no GPU",
                    choice->index);
        bnt_err_hint(err, "--device cpu, or a native bnt");
        return BNT_E_DEVICE;
    }
    return backend_cpu_new(m, &config, out, err);
}
