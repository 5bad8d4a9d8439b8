/* SHA-256 by OpenSSL; its failures become statuses here. */
#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crypto_lib.h"
#include "base/fault.h"

enum { READ_BYTES = 1 << 16, RAW_BYTES = BNT_SHA256_BYTES, WORDS = RAW_BYTES / 4 };

struct bnt_sha256 {
    const struct crypto_lib *lib;
    SHA256_CTX ctx;
};

enum bnt_status bnt_sha256_new(struct bnt_sha256 **out, struct bnt_err *err)
{
    const struct crypto_lib *lib = NULL;
    enum bnt_status st = crypto_lib_load(&lib, err);
    if (st != BNT_OK) {
        return st;
    }
    struct bnt_sha256 *d = calloc(1, sizeof *d);
    if (!d) {
        return bnt_err_nomem(err, "a digest", sizeof *d);
    }
    d->lib = lib;
    if (lib->sha256_init(&d->ctx) != 1) {
        free(d);
        return bnt_err_set(err, BNT_E_INTERNAL, "OpenSSL offers no SHA-256");
    }
    *out = d;
    return BNT_OK;
}

enum bnt_status bnt_sha256_resume(const uint8_t state[BNT_SHA256_BYTES], uint64_t done,
                                  struct bnt_sha256 **out, struct bnt_err *err)
{
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    if (st != BNT_OK) {
        return st;
    }
    for (int i = 0; i < WORDS; i++) {
        const uint8_t *b = state + 4 * (size_t)i;
        d->ctx.h[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    done = BNT_FAULT(chain_position) ? 0 : done;
    d->ctx.Nl = (uint32_t)(done << 3); /* counted in bits */
    d->ctx.Nh = (uint32_t)(done >> 29);
    *out = d;
    return BNT_OK;
}

void bnt_sha256_state(const struct bnt_sha256 *d, uint8_t state[BNT_SHA256_BYTES])
{
    for (int i = 0; i < WORDS; i++) {
        for (int k = 0; k < 4; k++) {
            state[4 * i + k] = (uint8_t)(d->ctx.h[i] >> (24 - 8 * k));
        }
    }
}

enum bnt_status bnt_sha256_update(struct bnt_sha256 *d, const void *bytes, size_t n,
                                  struct bnt_err *err)
{
    if (d->lib->sha256_update(&d->ctx, bytes, n) != 1) {
        return bnt_err_set(err, BNT_E_INTERNAL, "SHA-256 update failed");
    }
    return BNT_OK;
}

enum bnt_status bnt_sha256_raw(struct bnt_sha256 *d, uint8_t raw[BNT_SHA256_BYTES],
                               struct bnt_err *err)
{
    if (d->lib->sha256_final(raw, &d->ctx) != 1) {
        return bnt_err_set(err, BNT_E_INTERNAL, "SHA-256 final failed");
    }
    return BNT_OK;
}

void bnt_sha256_print(const uint8_t raw[BNT_SHA256_BYTES], char hex[BNT_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < RAW_BYTES; i++) {
        hex[2 * i] = digits[raw[i] >> 4];
        hex[2 * i + 1] = digits[raw[i] & 15];
    }
    hex[2 * RAW_BYTES] = '\0';
}

enum bnt_status bnt_sha256_hex(struct bnt_sha256 *d, char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    uint8_t raw[RAW_BYTES];
    enum bnt_status st = bnt_sha256_raw(d, raw, err);
    if (st == BNT_OK) {
        bnt_sha256_print(raw, hex);
    }
    return st;
}

void bnt_sha256_free(struct bnt_sha256 *d)
{
    free(d);
}

enum bnt_status bnt_sha256_text(const void *bytes, size_t n, char hex[BNT_SHA256_HEX],
                                struct bnt_err *err)
{
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    if (st == BNT_OK) {
        st = bnt_sha256_update(d, bytes, n, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, hex, err);
    }
    bnt_sha256_free(d);
    return st;
}

int bnt_digest_stop(void *interrupted, uint64_t done_bytes)
{
    (void)done_bytes;
    return bnt_err_interrupted(interrupted, NULL) != BNT_OK;
}

static enum bnt_status hash_fd(int fd, const char *path, struct bnt_sha256 *d,
                               bnt_digest_progress_fn *progress, void *ctx, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    uint64_t done = 0;
    unsigned char *chunk = malloc(READ_BYTES);
    if (!chunk) {
        return bnt_err_nomem(err, "a read buffer", READ_BYTES);
    }
    while (st == BNT_OK) {
        ssize_t n = read(fd, chunk, READ_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            st = bnt_err_errno(err, "cannot read %s", path);
        }
        if (n <= 0) {
            break;
        }
        st = bnt_sha256_update(d, chunk, (size_t)n, err);
        done += (uint64_t)n;
        if (st == BNT_OK && progress && progress(ctx, done)) {
            st = bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted while hashing %s", path);
        }
    }
    free(chunk);
    return st;
}

enum bnt_status bnt_sha256_file(const char *path, bnt_digest_progress_fn *progress, void *ctx,
                                char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    struct bnt_sha256 *d = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return bnt_err_errno(err, "cannot open %s", path);
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    enum bnt_status st = bnt_sha256_new(&d, err);
    if (st == BNT_OK) {
        st = hash_fd(fd, path, d, progress, ctx, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, hex, err);
    }
    bnt_sha256_free(d);
    close(fd);
    return st;
}

bool bnt_sha256_is_hex(const char *text)
{
    return strlen(text) == 2 * RAW_BYTES && strspn(text, "0123456789abcdefABCDEF") == 2 * RAW_BYTES;
}
