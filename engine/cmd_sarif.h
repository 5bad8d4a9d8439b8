/* SARIF 2.1.0 (OASIS), which code scanning shows: one rule per class of defect, one result per
 * defect with its place in the file. */
#ifndef BNT_CMD_SARIF_H
#define BNT_CMD_SARIF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct sarif_rule {
    const char *id, *what, *help;
    bool recoverable;
};
struct sarif_result {
    const char *rule;
    int rule_index;
    const char *level; /* "error", "warning" or "note" */
    const char *message, *hint;
    bool has_offset;
    uint64_t offset; /* bytes from the start of the file */
};

json_t *sarif_rule(const struct sarif_rule *rule);
json_t *sarif_result(const char *path, const struct sarif_result *result);
/* The log on standard output; takes rules and results. What is no defect of the file (it is not
 * there, memory ran out) is a notification: failure, or NULL when the run succeeded. */
enum bnt_status sarif_print(json_t *rules, json_t *results, const struct bnt_err *failure,
                            struct bnt_err *err);

#endif
