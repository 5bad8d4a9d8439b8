/* Digests remembered by a file's identity and times. Owns the folder digests/ of the cache.
 *
 * A sidecar's name is "<device>-<inode>", hexadecimal; its one line is
 *     bnt-digest 1 <size> <mtime ns> <ctime ns> <sha256>
 * Writers replace it whole, so readers see an old line or a new one. */
#include "engine/digest_sidecar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"

/* Times of a file system may be as coarse as this: a file younger than it could change without a
 * trace. */
enum { SETTLE_S = 2, LINE_MAX_BYTES = 256 };

struct identity {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
};

static bool identify(const char *path, struct identity *id)
{
    struct stat sb;
    if (stat(path, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        return false;
    }
    *id = (struct identity){
        .dev = (uint64_t)sb.st_dev,
        .ino = (uint64_t)sb.st_ino,
        .size = (uint64_t)sb.st_size,
        .mtime_ns = (int64_t)sb.st_mtim.tv_sec * 1000000000 + sb.st_mtim.tv_nsec,
        .ctime_ns = (int64_t)sb.st_ctim.tv_sec * 1000000000 + sb.st_ctim.tv_nsec,
    };
    return true;
}

static bool same(const struct identity *a, const struct identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

static bool settled(const struct identity *id)
{
    int64_t newest_ns = id->mtime_ns > id->ctime_ns ? id->mtime_ns : id->ctime_ns;
    return newest_ns / 1000000000 + SETTLE_S < bnt_clock_unix_s();
}

static enum bnt_status folder(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    const char *cache = getenv("BNT_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (cache != NULL && cache[0] != '\0') {
        return bnt_path_format(out, err, "%s/digests", cache);
    }
    if (xdg != NULL && xdg[0] == '/') {
        return bnt_path_format(out, err, "%s/bnt/digests", xdg);
    }
    if (home != NULL && home[0] == '/') {
        return bnt_path_format(out, err, "%s/.cache/bnt/digests", home);
    }
    return bnt_err_set(err, BNT_E_NOT_FOUND, "no folder for a cache: set BNT_CACHE_DIR");
}

static enum bnt_status sidecar_path(const struct identity *id, char out[BNT_PATH_MAX],
                                    struct bnt_err *err)
{
    char dir[BNT_PATH_MAX];
    enum bnt_status st = folder(dir, err);
    return st == BNT_OK
               ? bnt_path_format(out, err, "%s/%" PRIx64 "-%" PRIx64, dir, id->dev, id->ino)
               : st;
}

/* What a sidecar of this identity says before the digest. */
static int line_head(const struct identity *id, char out[LINE_MAX_BYTES])
{
    return snprintf(out, LINE_MAX_BYTES, "bnt-digest 1 %" PRIu64 " %" PRId64 " %" PRId64 " ",
                    id->size, id->mtime_ns, id->ctime_ns);
}

static bool recall(const struct identity *id, char hex[BNT_SHA256_HEX])
{
    char path[BNT_PATH_MAX], head[LINE_MAX_BYTES];
    struct bnt_buf line = BNT_BUF(LINE_MAX_BYTES);
    bool ok = sidecar_path(id, path, NULL) == BNT_OK && bnt_file_read(path, &line, NULL) == BNT_OK;
    size_t n = (size_t)line_head(id, head);
    ok = ok && line.len == n + BNT_SHA256_HEX && memcmp(line.data, head, n) == 0 &&
         line.data[line.len - 1] == '\n';
    if (ok) {
        char found[BNT_SHA256_HEX];
        memcpy(found, line.data + n, BNT_SHA256_HEX - 1);
        found[BNT_SHA256_HEX - 1] = '\0';
        ok = bnt_sha256_is_hex(found);
        if (ok) {
            memcpy(hex, found, BNT_SHA256_HEX);
        }
    }
    bnt_buf_release(&line);
    return ok;
}

static void remember(const struct identity *id, const char hex[BNT_SHA256_HEX])
{
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX], line[LINE_MAX_BYTES + BNT_SHA256_HEX + 1];
    if (!settled(id) || folder(dir, NULL) != BNT_OK || sidecar_path(id, path, NULL) != BNT_OK ||
        bnt_mkdirs(dir, NULL) != BNT_OK) {
        return;
    }
    int n = line_head(id, line);
    n += snprintf(line + n, sizeof(line) - (size_t)n, "%s\n", hex);
    struct bnt_durable d;
    if (bnt_durable_open(&d, path, NULL) != BNT_OK) {
        return;
    }
    if (bnt_durable_write(&d, line, (size_t)n, NULL) == BNT_OK) {
        bnt_durable_commit(&d, 0644, NULL);
    }
    bnt_durable_release(&d);
}

bool bnt_digest_sidecar_get(const char *path, char hex[BNT_SHA256_HEX])
{
    struct identity id;
    return identify(path, &id) && recall(&id, hex);
}

enum bnt_status bnt_digest_of_file(const char *path, bnt_digest_progress_fn *progress, void *ctx,
                                   char hex[BNT_SHA256_HEX], bool *hashed, struct bnt_err *err)
{
    struct identity before, after;
    *hashed = false;
    bool known = identify(path, &before);
    if (known && recall(&before, hex)) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_sha256_file(path, progress, ctx, hex, err);
    if (st != BNT_OK) {
        return st;
    }
    *hashed = true;
    if (known && identify(path, &after)) {
        if (!same(&before, &after)) {
            return bnt_err_set(err, BNT_E_FAILED, "%s: changed while it was hashed", path);
        }
        remember(&before, hex);
    }
    return BNT_OK;
}
