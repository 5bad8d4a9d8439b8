/* bnt inspect --sarif: a rule per fault class of gguf.h, a result for the one that refused the
 * file, none for a sound file. */
#include <string.h>

#include "engine/cmd_inspect_impl.h"
#include "engine/cmd_sarif.h"

static json_t *rules(void)
{
    json_t *all = json_array();
    for (int fault = GGUF_FAULT_NONE + 1; fault < GGUF_N_FAULTS; fault++) {
        const struct gguf_fault_info *info = gguf_fault_info(fault);
        const struct sarif_rule rule = {info->name, info->name, info->hint, info->recoverable};
        json_array_append_new(all, sarif_rule(&rule));
    }
    return all;
}

enum bnt_status inspect_print_sarif(const char *path, const struct bnt_err *error,
                                    struct bnt_err *err)
{
    bool defect = error->domain && strcmp(error->domain, "gguf") == 0 && error->foreign > 0;
    json_t *results = json_array();
    if (defect) {
        struct sarif_result result = {.rule = gguf_fault_info(error->foreign)->name,
                                      .rule_index = error->foreign - 1,
                                      .level = "error",
                                      .message = error->msg,
                                      .hint = error->hint};
        result.has_offset = gguf_fault_offset(error->msg, &result.offset);
        json_array_append_new(results, sarif_result(path, &result));
    }
    return sarif_print(rules(), results, error->status == BNT_OK || defect ? NULL : error, err);
}
