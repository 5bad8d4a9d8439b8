/* Bisection: the first token, layer, op and element at which two runs differ. Each side is a run of
 * `bnt trace` in a process of its own, so that a side may be another program, may crash, and leaves
 * nothing behind. A first pass finds the record, by digests; a second one has all values of that
 * record alone and finds the element. */
#ifndef TESTKIT_BISECT_H
#define TESTKIT_BISECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/opt.h"
#include "base/status.h"
#include "engine/op_trace_diff.h"

/* What both sides run. Texts are borrowed; NULL and 0: the default. */
struct bisect_run {
    const char *model, *prompt, *ids;
    int64_t max_tokens;
    bool allow_mock;
    struct op_tolerance tolerance;
    const volatile int *interrupted;
};

/* What is particular to a side: "KEY=VALUE" with the keys bnt (a program), model, kernel, device,
 * threads, batch, kv-type, i2s-layout, pre, tl, tiles, and env (NAME=VALUE in its environment). */
struct bisect_side {
    const struct bnt_strs *settings;
    char name; /* 'A' or 'B' */
};

struct bisect_result {
    struct op_difference first; /* with its element, unless the values of the record are equal */
    uint64_t n_before;          /* records that are equal, before it in the order of computation */
    bool unstable;              /* the second pass saw no difference where the first saw one */
    bool mock;
};

/* Errors: USAGE an unknown key; FAILED or the side's own exit code, with what it said; INTERRUPTED.
 */
enum bnt_status bisect(const struct bisect_run *run, const struct bisect_side sides[2],
                       struct bisect_result *out, struct bnt_err *err);

#endif
