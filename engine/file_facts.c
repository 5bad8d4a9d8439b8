/* Facts remembered by a file's identity and times. Owns the folder facts/ of the cache.
 *
 * A fact's file is named "<device>-<inode>.<key>", hexadecimal; its one line is
 *     bnt-fact 1 <size> <mtime ns> <ctime ns> <value>
 * Writers replace it whole, so readers see an old line or a new one. */
#include "engine/file_facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/cache_dir.h"
#include "base/clock.h"
#include "base/file.h"

/* Times of a file system may be as coarse as this: a file younger than it could change without a
 * trace. Times with parts of a second are ticks of a kernel, at most 10 ms. */
#define SETTLE_NS INT64_C(2000000000)
#define SETTLE_FINE_NS INT64_C(50000000)
enum { LINE_MAX_BYTES = 256 };

bool bnt_file_identify(const char *path, struct bnt_file_id *id)
{
    struct stat sb;
    if (stat(path, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        return false;
    }
    *id = (struct bnt_file_id){
        .dev = (uint64_t)sb.st_dev,
        .ino = (uint64_t)sb.st_ino,
        .size = (uint64_t)sb.st_size,
        .mtime_ns = (int64_t)sb.st_mtim.tv_sec * 1000000000 + sb.st_mtim.tv_nsec,
        .ctime_ns = (int64_t)sb.st_ctim.tv_sec * 1000000000 + sb.st_ctim.tv_nsec,
    };
    return true;
}

bool bnt_file_same(const struct bnt_file_id *a, const struct bnt_file_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

/* How long it is until a file has settled, not above 0 when it has. */
static int64_t settles_in_ns(const struct bnt_file_id *id)
{
    int64_t newest_ns = id->mtime_ns > id->ctime_ns ? id->mtime_ns : id->ctime_ns;
    bool fine = id->mtime_ns % 1000000000 != 0 && id->ctime_ns % 1000000000 != 0;
    return newest_ns + (fine ? SETTLE_FINE_NS : SETTLE_NS) + 1 - bnt_clock_unix_ns();
}

bool bnt_file_settled(const struct bnt_file_id *id)
{
    return settles_in_ns(id) <= 0;
}

void bnt_file_settle(const struct bnt_file_id *id)
{
    int64_t ns = settles_in_ns(id);
    if (ns > 0 && ns <= SETTLE_FINE_NS + 1) {
        bnt_clock_sleep_ns((uint64_t)ns);
    }
}

static enum bnt_status folder(char out[BNT_PATH_MAX])
{
    char cache[BNT_PATH_MAX];
    enum bnt_status st = bnt_cache_dir(cache, NULL);
    return st == BNT_OK ? bnt_path_format(out, NULL, "%s/facts", cache) : st;
}

static enum bnt_status fact_path(const struct bnt_file_id *id, const char *key,
                                 char out[BNT_PATH_MAX])
{
    char dir[BNT_PATH_MAX];
    enum bnt_status st = folder(dir);
    return st == BNT_OK ? bnt_path_format(out, NULL, "%s/%" PRIx64 "-%" PRIx64 ".%s", dir, id->dev,
                                          id->ino, key)
                        : st;
}

/* What the line says before the value. */
static size_t line_head(const struct bnt_file_id *id, char out[LINE_MAX_BYTES])
{
    return (size_t)snprintf(out, LINE_MAX_BYTES, "bnt-fact 1 %" PRIu64 " %" PRId64 " %" PRId64 " ",
                            id->size, id->mtime_ns, id->ctime_ns);
}

bool bnt_fact_get(const struct bnt_file_id *id, const char *key, char value[BNT_FACT_MAX])
{
    char path[BNT_PATH_MAX], head[LINE_MAX_BYTES];
    struct bnt_buf line = BNT_BUF(LINE_MAX_BYTES);
    bool ok = fact_path(id, key, path) == BNT_OK && bnt_file_read(path, &line, NULL) == BNT_OK;
    size_t n = line_head(id, head);
    ok = ok && line.len > n + 1 && line.len - n <= BNT_FACT_MAX &&
         memcmp(line.data, head, n) == 0 && line.data[line.len - 1] == '\n';
    if (ok) {
        snprintf(value, BNT_FACT_MAX, "%.*s", (int)(line.len - n - 1), line.data + n);
    }
    bnt_buf_release(&line);
    return ok;
}

void bnt_fact_put(const struct bnt_file_id *id, const char *key, const char *value)
{
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX], line[LINE_MAX_BYTES + BNT_FACT_MAX];
    size_t n = line_head(id, line);
    n += (size_t)snprintf(line + n, sizeof line - n, "%s\n", value);
    if (bnt_file_settled(id) && folder(dir) == BNT_OK && fact_path(id, key, path) == BNT_OK &&
        bnt_mkdirs(dir, NULL) == BNT_OK) {
        bnt_file_write(path, line, n, NULL);
    }
}

/* Mapped, since reading would copy all of it. */
static enum bnt_status hash_mapped(const struct bnt_mapping *map,
                                   const volatile sig_atomic_t *interrupted,
                                   char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    enum { PIECE_BYTES = 16 << 20 };
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    for (uint64_t at = 0; st == BNT_OK && at < map->size; at += PIECE_BYTES) {
        const uint64_t left = map->size - at, n = left < PIECE_BYTES ? left : PIECE_BYTES;
        st = bnt_sha256_update(d, map->data + at, (size_t)n, err);
        st = st == BNT_OK ? bnt_err_interrupted(interrupted, err) : st;
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, hex, err);
    }
    bnt_sha256_free(d);
    return st;
}

static enum bnt_status hash_whole(const char *path, const volatile sig_atomic_t *interrupted,
                                  char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    struct bnt_mapping map;
    if (bnt_map_file(path, &map, NULL) != BNT_OK) {
        return bnt_sha256_file(path, bnt_digest_stop, (void *)(uintptr_t)interrupted, hex, err);
    }
    enum bnt_status st = hash_mapped(&map, interrupted, hex, err);
    bnt_unmap(&map);
    return st;
}

enum bnt_status bnt_digest_of_file(const char *path, const volatile sig_atomic_t *interrupted,
                                   char hex[BNT_SHA256_HEX], bool *hashed, struct bnt_err *err)
{
    struct bnt_file_id before, after;
    char value[BNT_FACT_MAX];
    *hashed = false;
    bool known = bnt_file_identify(path, &before);
    if (known && bnt_fact_get(&before, "sha256", value) && bnt_sha256_is_hex(value)) {
        memcpy(hex, value, BNT_SHA256_HEX);
        return BNT_OK;
    }
    enum bnt_status st = hash_whole(path, interrupted, hex, err);
    if (st != BNT_OK) {
        return st;
    }
    *hashed = true;
    if (known && bnt_file_identify(path, &after)) {
        if (!bnt_file_same(&before, &after)) {
            return bnt_err_set(err, BNT_E_FAILED, "%s: changed while it was hashed", path);
        }
        bnt_fact_put(&before, "sha256", hex);
    }
    return BNT_OK;
}
