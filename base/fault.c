/* The table of named defects, and which one is active in a build that has them. */
#include "base/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *what;
} faults[] = {
#define FAULT(name, what) {#name, what},
#include "base/faults.def"
#undef FAULT
};

const char *bnt_fault_name(enum bnt_fault which)
{
    return faults[which].name;
}

const char *bnt_fault_what(enum bnt_fault which)
{
    return faults[which].what;
}

#ifdef BNT_FAULTS

enum bnt_fault bnt_fault_active = BNT_FAULTS_COUNT;

/* Before main, since every thread and every early line of the program may ask. A name that is not
 * known must not look like a build without defects. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *name = getenv("BNT_FAULT");
    for (int i = 0; name && name[0] && i < BNT_FAULTS_COUNT; i++) {
        if (strcmp(faults[i].name, name) == 0) {
            bnt_fault_active = (enum bnt_fault)i;
            return;
        }
    }
    if (name && name[0]) {
        fprintf(stderr, "BNT_FAULT: there is no defect '%s'\n", name);
        _Exit(2);
    }
}

#endif
