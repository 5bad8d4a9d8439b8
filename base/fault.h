/* Named defects, planted in the code for the tests of the tests: a suite that stays green with a
 * defect it ought to see proves nothing. They exist only in the build CONFIG=fault, where the
 * environment variable BNT_FAULT names the one that is active; in every other build BNT_FAULT(x) is
 * the constant 0 and leaves no trace.
 *
 *     n_kv = pos + 1 - BNT_FAULT(kv_off_by_one);
 *
 * base/faults.def lists them; a suite says in `kills` which of them it must see (testkit/suite.h).
 */
#ifndef BNT_FAULT_H
#define BNT_FAULT_H

enum bnt_fault {
#define FAULT(name, what) BNT_FAULT_##name,
#include "base/faults.def"
#undef FAULT
    BNT_FAULTS_COUNT
};

/* "kv_off_by_one", and what is wrong while it is active; static. */
const char *bnt_fault_name(enum bnt_fault which);
const char *bnt_fault_what(enum bnt_fault which);

#ifdef BNT_FAULTS
/* The one that is active, or BNT_FAULTS_COUNT; read from the environment before main. */
extern enum bnt_fault bnt_fault_active;
#define BNT_FAULT(name) (bnt_fault_active == BNT_FAULT_##name)
#else
#define BNT_FAULT(name) 0
#endif

#endif
