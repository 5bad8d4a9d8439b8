/* Makes the tiny models whose digests are recorded and prints what sha256sum -c wants to know, so
 * that a processor that this machine has not can be asked under qemu: `make check-mock`.
 *
 *     check_mock FOLDER
 *
 * libcrypto is not there for the other processor, so that the digests of bnt_mock_make are empty
 * here. */
#include <stdio.h>

#include "base/file.h"
#include "mock/bnt_mock.h"

static const struct {
    struct bnt_mock_recipe recipe;
    const char *digest;
} recorded[] = {
#define R(digest, ...)                                                                             \
    {                                                                                              \
        {__VA_ARGS__}, digest                                                                      \
    }
#include "mock/check/digests.inc"
#undef R
};

enum bnt_status bnt_sha256_new(struct bnt_sha256 **out, struct bnt_err *err)
{
    (void)err;
    *out = NULL;
    return BNT_OK;
}

enum bnt_status bnt_sha256_update(struct bnt_sha256 *d, const void *bytes, size_t n,
                                  struct bnt_err *err)
{
    (void)d;
    (void)bytes;
    (void)n;
    (void)err;
    return BNT_OK;
}

enum bnt_status bnt_sha256_hex(struct bnt_sha256 *d, char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    (void)d;
    (void)err;
    hex[0] = '\0';
    return BNT_OK;
}

void bnt_sha256_free(struct bnt_sha256 *d)
{
    (void)d;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof recorded / sizeof recorded[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_mock_made made;
        char path[BNT_PATH_MAX];
        enum bnt_status st = bnt_path_format(path, &err, "%s/%zu.gguf", argv[1], i);
        if (st == BNT_OK) {
            st = bnt_mock_make(&recorded[i].recipe, path, &made, &err);
        }
        if (st != BNT_OK) {
            fprintf(stderr, "%s\n", err.msg);
            return (int)st;
        }
        printf("%s  %s\n", recorded[i].digest, path);
    }
    return argc == 2 ? 0 : BNT_E_USAGE;
}
