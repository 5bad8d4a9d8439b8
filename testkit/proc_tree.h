/* The processes below one, as /proc shows them: found, measured, ended. Linux. */
#ifndef TESTKIT_PROC_TREE_H
#define TESTKIT_PROC_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROC_TREE_MAX = 4096 }; /* more are left out of a list, and ended by the next round */

struct proc_tree {
    pid_t at[PROC_TREE_MAX];
    size_t n;
};

/* Descendants of `root`, parents before their children, without the direct children listed in
 * spare[0..n_spare-1] and what is below those. */
void proc_tree_below(pid_t root, const pid_t *spare, size_t n_spare, struct proc_tree *out);
/* Bytes of memory of its own that a process holds: anonymous, shared and swapped; not what it maps
 * of files. 0 when it is gone. */
uint64_t proc_tree_memory(pid_t pid);
/* "sleep (1234), sh (1235)" of what still runs below this process, for a message. False: nothing.
 */
bool proc_tree_describe(const pid_t *spare, size_t n_spare, char *out, size_t size);
/* Reap children of this process but those in spare. True when none is left. */
bool proc_tree_reap(const pid_t *spare, size_t n_spare);
/* End and reap everything below this process, but the children in spare and what is below those.
 * Whatever forks meanwhile is stopped first. Needs PR_SET_CHILD_SUBREAPER to reach daemons. */
void proc_tree_end(const pid_t *spare, size_t n_spare);

#endif
