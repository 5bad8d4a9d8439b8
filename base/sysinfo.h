/* What this process may use: processors, memory. Linux; reads cgroup v1 and v2 limits. */
#ifndef BNT_SYSINFO_H
#define BNT_SYSINFO_H

#include <stdint.h>

/* Processors that this process may run on: affinity mask, cut by a cgroup CPU quota (rounded up).
 * At least 1. */
int bnt_cpu_count(void);
/* Bytes of memory this process may use: the smaller of RAM and the cgroup limit. */
uint64_t bnt_memory_limit(void);
/* Peak resident memory of this process, bytes. */
uint64_t bnt_peak_rss(void);

#endif
