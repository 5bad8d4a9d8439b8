/* The SHA-256 of a file, remembered beside the cache so that a gigabyte is hashed once and not at
 * every run.
 *
 * A sidecar is a small text file in $BNT_CACHE_DIR/digests, else $XDG_CACHE_HOME/bnt/digests, else
 * ~/.cache/bnt/digests. It is keyed by what the kernel tells of the file: device, inode, size, and
 * the times of the last change of content and of inode, to the nanosecond. Any difference makes it
 * worthless, and it is never written for a file that changed in the last two seconds or while it
 * was hashed: a further change could leave those times as they are. */
#ifndef BNT_DIGEST_SIDECAR_H
#define BNT_DIGEST_SIDECAR_H

#include <stdbool.h>

#include "base/digest.h"
#include "base/status.h"

/* The remembered digest of path, if there is one that holds. Never fails: no sidecar is no answer.
 */
bool bnt_digest_sidecar_get(const char *path, char hex[BNT_SHA256_HEX]);

/* The remembered digest, else hash the file and remember (best effort: an unwritable cache is no
 * error). *hashed: the file was read. progress may be NULL. Errors: those of bnt_sha256_file;
 * FAILED when the file changed meanwhile. */
enum bnt_status bnt_digest_of_file(const char *path, bnt_digest_progress_fn *progress, void *ctx,
                                   char hex[BNT_SHA256_HEX], bool *hashed, struct bnt_err *err);

#endif
