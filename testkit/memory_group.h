/* A control group that holds one process, with all that it starts, to a limit of memory. The kernel
 * enforces it at once and counts what it had to kill, where watching from outside comes late and
 * where RLIMIT_AS means each process by itself.
 *
 *     memory_group_open(&g);                        once; g.kind says which, or that there is none
 *     memory_group_limit(&g, bytes);                before each use
 *     if (fork() == 0) { memory_group_enter(&g); ... }
 *     ... memory_group_kills(&g) ...                of this use
 *     memory_group_close(&g);
 *
 * The group is made below that of this process, else below one of its ancestors, whichever may be
 * written and passes the controller on. Version 2 (memory.max, memory.swap.max) is taken before
 * version 1 (memory.limit_in_bytes). Where no group can be made everything here does nothing. */
#ifndef TESTKIT_MEMORY_GROUP_H
#define TESTKIT_MEMORY_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"

enum memory_group_kind { MEMORY_GROUP_NONE, MEMORY_GROUP_V1, MEMORY_GROUP_V2 };

struct memory_group {
    enum memory_group_kind kind;
    char path[BNT_PATH_MAX];
    uint64_t kills_before;
};

void memory_group_open(struct memory_group *g);
/* The same below these folders, where hierarchies of version 2 and 1 are mounted; `list` is a file
 * with the groups of this process, as /proc/self/cgroup. */
void memory_group_open_in(struct memory_group *g, const char *list, const char *v2,
                          const char *v1);
/* False when the kernel does not take it: nobody should enter then. */
bool memory_group_limit(struct memory_group *g, uint64_t bytes);
/* Put this process into it. Async-signal-safe. */
bool memory_group_enter(const struct memory_group *g);
/* Processes of the group that the kernel killed for want of memory since memory_group_limit. */
uint64_t memory_group_kills(const struct memory_group *g);
/* Remove it and the groups that were made below it, when nobody is left in them. */
void memory_group_close(struct memory_group *g);

const char *memory_group_name(const struct memory_group *g); /* "cgroup v2"... */

#endif
