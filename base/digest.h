/* SHA-256 (FIPS 180-4) by OpenSSL. */
#ifndef BNT_DIGEST_H
#define BNT_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define BNT_SHA256_HEX 65 /* 64 lower-case hex digits and the terminator */

#define BNT_SHA256_BYTES 32

struct bnt_sha256; /* one running digest; single-threaded */

enum bnt_status bnt_sha256_new(struct bnt_sha256 **out, struct bnt_err *err);
enum bnt_status bnt_sha256_update(struct bnt_sha256 *d, const void *bytes, size_t n,
                                  struct bnt_err *err);
/* Finish into lower-case hex. The digest can only be freed afterwards. */
enum bnt_status bnt_sha256_hex(struct bnt_sha256 *d, char hex[BNT_SHA256_HEX], struct bnt_err *err);
/* The same as 32 bytes. */
enum bnt_status bnt_sha256_raw(struct bnt_sha256 *d, uint8_t raw[BNT_SHA256_BYTES],
                               struct bnt_err *err);
/* 32 bytes as lower-case hex. */
void bnt_sha256_print(const uint8_t raw[BNT_SHA256_BYTES], char hex[BNT_SHA256_HEX]);
/* The chaining value H of FIPS 180-4, big-endian: after a whole number of 64-byte blocks, and
 * before the digest is finished. */
void bnt_sha256_state(const struct bnt_sha256 *d, uint8_t state[BNT_SHA256_BYTES]);
/* Go on from such a state, `done` bytes into the content. */
enum bnt_status bnt_sha256_resume(const uint8_t state[BNT_SHA256_BYTES], uint64_t done,
                                  struct bnt_sha256 **out, struct bnt_err *err);
void bnt_sha256_free(struct bnt_sha256 *d); /* NULL is fine */

/* Digest of n bytes. */
enum bnt_status bnt_sha256_text(const void *bytes, size_t n, char hex[BNT_SHA256_HEX],
                                struct bnt_err *err);

/* Called now and then with the bytes done so far; a non-zero return stops with BNT_E_INTERRUPTED.
 */
typedef int bnt_digest_progress_fn(void *ctx, uint64_t done_bytes);

/* One that stops once the flag of an interruption is set; ctx is the flag, or NULL. */
int bnt_digest_stop(void *interrupted, uint64_t done_bytes);

/* Digest of a file's content. progress may be NULL. */
enum bnt_status bnt_sha256_file(const char *path, bnt_digest_progress_fn *progress, void *ctx,
                                char hex[BNT_SHA256_HEX], struct bnt_err *err);

/* True for exactly 64 hex digits of either case. */
bool bnt_sha256_is_hex(const char *text);

#endif
