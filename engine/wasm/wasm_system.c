/* What a WebAssembly module may use, in place of base/sysinfo.c: one thread, and the memory that it
 * can address; memory only grows, so what it has is also its peak. In place of engine/file_facts.c:
 * no cache, so nothing is remembered of a file. */
#include "base/sysinfo.h"

#include "engine/file_facts.h"

#if defined(__wasm__)

#include <stddef.h>
#include <sys/mman.h>

enum { PAGE_BYTES = 65536 };

int bnt_cpu_count(void)
{
    return 1;
}

uint64_t bnt_memory_limit(void)
{
    return SIZE_MAX;
}

uint64_t bnt_peak_rss(void)
{
    return (uint64_t)__builtin_wasm_memory_size(0) * PAGE_BYTES;
}

uint64_t bnt_current_rss(void)
{
    return bnt_peak_rss();
}

/* Advice about mapped pages: here they are memory like any other. */
int madvise(void *at, size_t n, int advice)
{
    (void)at, (void)n, (void)advice;
    return 0;
}

bool bnt_file_identify(const char *path, struct bnt_file_id *id)
{
    (void)path, (void)id;
    return false;
}

bool bnt_fact_get(const struct bnt_file_id *id, const char *key, char value[BNT_FACT_MAX])
{
    (void)id, (void)key, (void)value;
    return false;
}

void bnt_fact_put(const struct bnt_file_id *id, const char *key, const char *value)
{
    (void)id, (void)key, (void)value;
}

#endif
