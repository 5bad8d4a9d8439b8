/* The table of ops that a tap may see. */
#include "engine/tap.h"

#include <string.h>

static const struct op_row {
    const char *name;
    bool in_layer;
    const char *what;
} op_rows[] = {
#define BNT_TAP_ROW(id, name, in_layer, what) {name, in_layer, what},
    BNT_TAP_TABLE(BNT_TAP_ROW)
#undef BNT_TAP_ROW
};

const char *bnt_tap_name(enum bnt_tap_op op)
{
    return op_rows[op].name;
}

const char *bnt_tap_what(enum bnt_tap_op op)
{
    return op_rows[op].what;
}

bool bnt_tap_in_layer(enum bnt_tap_op op)
{
    return op_rows[op].in_layer;
}

enum bnt_tap_op bnt_tap_find(const char *name)
{
    int op = 0;
    while (op < BNT_TAP_N_OPS && strcmp(op_rows[op].name, name) != 0) {
        op++;
    }
    return (enum bnt_tap_op)op;
}
