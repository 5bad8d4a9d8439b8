/* A death or a failing disk at one step of a change (bnt_file_step), and caches of rounds, each of
 * which sees another step. */
#ifndef SUITES_DISK_STEPS_H
#define SUITES_DISK_STEPS_H

#include <stdbool.h>
#include <sys/types.h>

#include "cache/bnt_cache.h"

/* From now on step `at` ends the process (code 0) or fails with this errno; is_short: a write
 * writes a part, and what is left of it fails. */
void disk_steps_arm(long at, int code, bool is_short);
/* No more of that. Whether there was such a step. */
bool disk_steps_disarm(void);

/* Wait for a child that was to die at a step; true when it did. Else it came to its end, and well.
 */
bool disk_steps_killed(pid_t child);
/* Kill a child so long from now, in real time. */
void disk_steps_kill_after(pid_t child, unsigned after_us);

/* The cache of a round: <scratch>/r<round>. */
struct bnt_cache *disk_steps_cache(int round);

#endif
