/* What a WebAssembly module may use, in place of base/sysinfo.c: one thread, and the memory that it
 * can address; memory only grows, so what it has is also its peak. In place of engine/file_facts.c
 * and session_file.c: no cache, so nothing is remembered of a file; no library that hashes, and
 * sessions belong to a model by its digest. */
#include "base/sysinfo.h"

#include "base/file.h"
#include "engine/bnt_infer.h"
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

static enum bnt_status no_sessions(struct bnt_err *err)
{
    bnt_err_set(err, BNT_E_UNSUPPORTED, "this build neither hashes models nor keeps sessions");
    bnt_err_hint(err, "use --session-save and --session-load with a native bnt");
    return BNT_E_UNSUPPORTED;
}

enum bnt_status bnt_digest_of_file(const char *path, const volatile sig_atomic_t *interrupted,
                                   char hex[BNT_SHA256_HEX], bool *hashed, struct bnt_err *err)
{
    (void)path, (void)interrupted, (void)hex, (void)hashed;
    return no_sessions(err);
}

/* Asked for a session alone, before there is one. */
enum bnt_status bnt_file_may_write(const char *target, struct bnt_err *err)
{
    (void)target;
    return no_sessions(err);
}

enum bnt_status bnt_session_check_kept(const struct bnt_session *s, const char *path,
                                       struct bnt_err *err)
{
    (void)s, (void)path;
    return no_sessions(err);
}

enum bnt_status bnt_session_save(struct bnt_session *s, const char *path, const char *digest,
                                 struct bnt_err *err)
{
    (void)s, (void)path, (void)digest;
    return no_sessions(err);
}

enum bnt_status bnt_session_restore(struct bnt_session *s, const char *path, const char *digest,
                                    struct bnt_err *err)
{
    (void)s, (void)path, (void)digest;
    return no_sessions(err);
}

#endif
