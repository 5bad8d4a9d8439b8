/* Limits of this process. Files that are absent (no cgroup, another kernel) mean "no limit", never
 * an error. */
#include "base/sysinfo.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* First line of a file without its newline; false when it cannot be read. */
static bool read_line(const char *path, char *line, int size)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return false;
    }
    bool ok = fgets(line, size, f) != NULL;
    fclose(f);
    if (ok) {
        line[strcspn(line, "\n")] = '\0';
    }
    return ok;
}

/* Path of this process in the unified cgroup hierarchy; "" at the root or without one. */
static void cgroup_path(char *out, size_t size)
{
    out[0] = '\0';
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) {
        return;
    }
    char line[512];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) == 0) {
            snprintf(out, size, "%s", strcmp(line + 3, "/") == 0 ? "" : line + 3);
        }
    }
    fclose(f);
}

/* Call fn for the named file of this process's cgroup and of each of its ancestors: the tightest
 * limit counts. */
static void each_cgroup(const char *name, void (*fn)(const char *value, void *ctx), void *ctx)
{
    char group[512], path[1024], line[128];
    cgroup_path(group, sizeof group);
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, name);
        if (read_line(path, line, sizeof line)) {
            fn(line, ctx);
        }
        char *slash = strrchr(group, '/');
        if (!slash) {
            return;
        }
        *slash = '\0';
    }
}

static void min_cpus(const char *value, void *ctx)
{
    int *cpus = ctx;
    long long quota, period;
    if (sscanf(value, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
        long long n = (quota + period - 1) / period;
        if (n < *cpus) {
            *cpus = (int)n;
        }
    }
}

int bnt_cpu_count(void)
{
    cpu_set_t set;
    int n = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        n = CPU_COUNT(&set);
    }
    if (n < 1) {
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    each_cgroup("cpu.max", min_cpus, &n);
    return n < 1 ? 1 : n;
}

static void min_bytes(const char *value, void *ctx)
{
    uint64_t *bytes = ctx;
    char *end;
    unsigned long long v = strtoull(value, &end, 10);
    if (end != value && v < *bytes) {
        *bytes = v;
    }
}

uint64_t bnt_memory_limit(void)
{
    uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char line[128];
    each_cgroup("memory.max", min_bytes, &bytes);
    if (read_line("/sys/fs/cgroup/memory/memory.limit_in_bytes", line, sizeof line)) {
        min_bytes(line, &bytes);
    }
    return bytes;
}

/* Not from getrusage: what it tells of a program includes the peak of the process that started it.
 */
uint64_t bnt_peak_rss(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmHWM: %llu", &kib) != 1) {
    }
    if (f) {
        fclose(f);
    }
    return kib * 1024;
}
