/* The words of --device and --fallback. */
#include <stdlib.h>
#include <string.h>

#include "engine/device.h"

static bool parse_device(const char *text, struct device_choice *out)
{
    out->kind = strcmp(text, "auto") == 0  ? DEVICE_AUTO
                : strcmp(text, "cpu") == 0 ? DEVICE_CPU
                                           : DEVICE_CUDA;
    if (out->kind != DEVICE_CUDA || strcmp(text, "cuda") == 0) {
        return true;
    }
    char *end = NULL;
    long index = strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9'
                     ? strtol(text + 5, &end, 10)
                     : -1;
    out->index = (int)index;
    return index >= 0 && index < 1024 && *end == '\0';
}

static bool parse_fallback(const char *text, struct device_choice *out)
{
    if (strcmp(text, "error") == 0 || strcmp(text, "never") == 0) {
        out->fallback = text[0] == 'n' ? DEVICE_FALLBACK_NEVER : DEVICE_FALLBACK_ERROR;
        return true;
    }
    char *end = NULL;
    out->fallback = DEVICE_FALLBACK_BELOW;
    out->below = strncmp(text, "below:", 6) == 0 ? strtod(text + 6, &end) : 0;
    return out->below > 0 && out->below < 1e9 && *end == '\0';
}

enum bnt_status device_choice_of(const struct bnt_session_options *opts, struct device_choice *out,
                                 struct bnt_err *err)
{
    const char *device = opts->device ? opts->device : "cpu";
    const char *fallback = opts->fallback ? opts->fallback : "error";
    *out = (struct device_choice){
        .limit = opts->device_memory, .warn = opts->warn, .warn_ctx = opts->warn_ctx};
    if (!parse_device(device, out)) {
        bnt_err_set(err, BNT_E_USAGE, "device %s is not one of cpu, cuda, cuda:N, auto", device);
        bnt_err_hint(err, "bnt devices lists what is there");
        return BNT_E_USAGE;
    }
    if (!parse_fallback(fallback, out)) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "fallback %s is not one of never, error, below:TOKENS_PER_SECOND",
                           fallback);
    }
    return BNT_OK;
}

bool device_is_cpu(const struct backend *b)
{
    return strcmp(b->ops->name, "cpu") == 0;
}

bool device_failed(const struct backend *b, enum bnt_status st)
{
    return !device_is_cpu(b) && (st == BNT_E_DEVICE || st == BNT_E_MEMORY);
}
