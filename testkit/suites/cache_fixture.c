/* Files and a cache in the test's scratch folder. */
#include "testkit/suites/cache_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "testkit/suite.h"

const char *fixture_path(char out[BNT_PATH_MAX], const char *relative)
{
    assert_int_equal(bnt_path_format(out, NULL, "%s/%s", suite_scratch(), relative), BNT_OK);
    return out;
}

void fixture_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

void fixture_assert_holds(const char *path, const char *text)
{
    struct bnt_buf b = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(path, &b, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&b), text);
    bnt_buf_release(&b);
}

void fixture_digest(const char *text, char hex[BNT_SHA256_HEX])
{
    struct bnt_sha256 *d;
    assert_int_equal(bnt_sha256_new(&d, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_update(d, text, strlen(text), NULL), BNT_OK);
    assert_int_equal(bnt_sha256_hex(d, hex, NULL), BNT_OK);
    bnt_sha256_free(d);
}

struct bnt_cache *fixture_cache(void)
{
    char dir[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_cache *c = NULL;
    if (bnt_cache_open(fixture_path(dir, "c"), &c, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return c;
}

void fixture_assert_empty(struct bnt_cache *c)
{
    char tmp[BNT_PATH_MAX];
    struct bnt_cache_list list;
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    assert_int_equal(list.n, 0);
    bnt_cache_list_release(&list);
    if (rmdir(fixture_path(tmp, "c/tmp")) != 0) { /* fails when there is anything in it */
        assert_int_equal(errno, ENOENT);
    }
}
