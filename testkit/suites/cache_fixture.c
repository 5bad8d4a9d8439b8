/* Files and a cache in the test's scratch folder. */
#include "testkit/suites/cache_fixture.h"

#include <errno.h>
#include <linux/capability.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "testkit/suite.h"

enum { FIXTURE_WORDS_MAX = 16 };

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

void fixture_file(const char *relative, const char *text)
{
    char path[BNT_PATH_MAX];
    fixture_write(fixture_path(path, relative), text);
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

struct bnt_cache_entry fixture_add(struct bnt_cache *c, const char *name, const char *text)
{
    struct bnt_cache_entry e = {0};
    struct bnt_cache_temp t;
    snprintf(e.name, sizeof e.name, "%s", name);
    snprintf(e.source, sizeof e.source, "file:///test/%s", name);
    snprintf(e.file_name, sizeof e.file_name, "%s.gguf", name);
    fixture_digest(text, e.digest);
    assert_int_equal(bnt_cache_temp_open(c, &t, NULL), BNT_OK);
    assert_int_equal(bnt_write_all(t.fd, text, strlen(text), "test", NULL), BNT_OK);
    assert_int_equal(bnt_cache_add(c, &t, &e, NULL), BNT_OK);
    bnt_cache_temp_release(&t);
    return e;
}

const char *fixture_sql_text(const char *statement)
{
    static char text[256];
    char index[BNT_PATH_MAX];
    sqlite3 *db;
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_open(fixture_path(index, "c/index.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, statement, -1, &q, NULL), SQLITE_OK);
    const char *first =
        sqlite3_step(q) == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;
    snprintf(text, sizeof text, "%s", first ? first : "");
    assert_int_equal(sqlite3_finalize(q), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return text;
}

int fixture_sql(const char *statement)
{
    const char *text = fixture_sql_text(statement);
    char *end;
    long long value = strtoll(text, &end, 10);
    assert_true(*end == '\0'); /* no row at all counts as 0 */
    return (int)value;
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

bool fixture_drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    return syscall(SYS_capset, &header, none) == 0;
}

void fixture_bnt(struct suite_output *o, int exit, const char *const *words)
{
    const char *argv[FIXTURE_WORDS_MAX + 2] = {suite_bnt()};
    for (size_t n = 0; words[n]; n++) {
        assert_true(n < FIXTURE_WORDS_MAX);
        argv[n + 1] = words[n];
    }
    suite_run(argv, suite_scratch(), 0, o);
    if (o->exit != exit) {
        fail_msg("bnt %s: exit %d, not %d\n%s%s", words[0], o->exit, exit, o->out, o->err);
    }
}

void fixture_trust(const char *one, const char *two)
{
    char both[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(1 << 16);
    assert_int_equal(bnt_file_read(one, &text, NULL), BNT_OK);
    assert_int_equal(bnt_file_read(two, &text, NULL), BNT_OK);
    fixture_write(fixture_path(both, "both.pem"), bnt_buf_view(&text));
    bnt_buf_release(&text);
    assert_int_equal(setenv("SSL_CERT_FILE", both, 1), 0);
}
