/* What was found out about a file, remembered in the cache's folder facts/ so that a gigabyte is
 * read once and not at every run: its SHA-256, the packing of its I2_S weights.
 *
 * A fact is keyed by what the kernel tells of the file: device, inode, size, and the times of the
 * last change of content and of inode, to the nanosecond. Any difference makes it worthless, and it
 * is never written for a file that changed a moment ago (50 ms; two seconds where times are whole
 * seconds): a further change could leave those times as they are. */
#ifndef BNT_FILE_FACTS_H
#define BNT_FILE_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"

struct bnt_file_id {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
};

#define BNT_FACT_MAX 96 /* bytes of a value with its terminator */

/* False when path is no regular file. */
bool bnt_file_identify(const char *path, struct bnt_file_id *id);

/* The same file, unchanged. */
bool bnt_file_same(const struct bnt_file_id *a, const struct bnt_file_id *b);

/* Whether a fact of the file can be remembered now: it did not change a moment ago. */
bool bnt_file_settled(const struct bnt_file_id *id);
/* Wait until one can, if that is a matter of the 50 ms. */
void bnt_file_settle(const struct bnt_file_id *id);

/* A remembered value, if there is one that holds. Never fails: no fact is no answer. */
bool bnt_fact_get(const struct bnt_file_id *id, const char *key, char value[BNT_FACT_MAX]);
/* Remember, best effort: a cache that cannot be written is no error. value: one line of text. */
void bnt_fact_put(const struct bnt_file_id *id, const char *key, const char *value);

/* The remembered digest ("sha256"), else hash the file and remember. *hashed: the file was read.
 * interrupted: NULL, or non-zero stops. Errors: those of bnt_sha256_file; FAILED when the file
 * changed meanwhile.
 */
enum bnt_status bnt_digest_of_file(const char *path, const volatile sig_atomic_t *interrupted,
                                   char hex[BNT_SHA256_HEX], bool *hashed, struct bnt_err *err);

#endif
