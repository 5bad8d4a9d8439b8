/* Guards fetching without a network: a source that is misread, a file that is taken for unchanged,
 * a name that is lost to another source. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/bnt_cache.h"
#include "fetch/bnt_fetch.h"
#include "fetch/sink.h"
#include "fetch/source.h"
#include "testkit/suites/cache_fixture.h"

/* ---- what the bodies share ---- */

static const char body[] = "the bytes of a model, as far as fetch is concerned";
enum { BODY_BYTES = sizeof body - 1 };

static enum bnt_status get(struct bnt_cache *c, const char *source, struct bnt_fetch_result *r)
{
    const struct bnt_fetch_opts plain = {0};
    return bnt_fetch(c, source, &plain, r, NULL);
}

static void assert_blob_is(const struct bnt_fetch_result *r, const char *text)
{
    fixture_assert_holds(r->path, text);
    assert_int_equal(r->entry.size, strlen(text));
}

/* ---- sources ---- */

static void sources_mean_what_they_say(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX], file_url[BNT_PATH_MAX + 16], spaced[BNT_PATH_MAX];
    fixture_write(fixture_path(file, "m.gguf"), "x");
    fixture_write(fixture_path(spaced, "a b.gguf"), "x");
    snprintf(file_url, sizeof file_url, "file://localhost%s", file);
    const struct {
        const char *text;
        enum bnt_status status;
        enum source_kind kind;
        const char *name;
    } cases[] = {
        {"bundled:", BNT_OK, SOURCE_BUNDLED, "tinystories-bitnet"},
        {file, BNT_OK, SOURCE_FILE, "m"},
        {file_url, BNT_OK, SOURCE_FILE, "m"},
        {spaced, BNT_OK, SOURCE_FILE, "a-b"},
        {"https://h/a/ggml-model-i2_s.gguf", BNT_OK, SOURCE_HTTPS, "ggml-model-i2_s"},
        {"HTTPS://h/m.GGUF?x=1#y", BNT_OK, SOURCE_HTTPS, "m"},
        {"https://h:81/a%20b.gguf", BNT_OK, SOURCE_HTTPS, "a-b"},
        {"https://h/", BNT_OK, SOURCE_HTTPS, ""},
        {"https://h", BNT_OK, SOURCE_HTTPS, ""},
        {"http://h/m", BNT_OK, SOURCE_HTTP, "m"},
        {"https:///m", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"https://user:secret@h/m", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"https://h/a b", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"https://h/a\r\nX: y", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"bundled:x", BNT_E_USAGE, SOURCE_BUNDLED, NULL},
        {"file://relative", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"file:///a%2", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"file:///a%00b", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"ftp://h/m", BNT_E_UNSUPPORTED, SOURCE_FILE, NULL},
        {"./absent.gguf", BNT_E_NOT_FOUND, SOURCE_FILE, NULL},
        {"file:///absent.gguf", BNT_E_NOT_FOUND, SOURCE_FILE, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source s;
        struct bnt_err err = {0};
        enum bnt_status st = source_parse(cases[i].text, &s, &err);
        if (st != cases[i].status || err.status != cases[i].status) {
            fail_msg("'%s': status %d, %s", cases[i].text, st, err.msg);
        }
        assert_null(strstr(err.msg, "secret"));
        if (st == BNT_OK) {
            assert_int_equal(s.kind, cases[i].kind);
            assert_string_equal(s.name, cases[i].name);
        }
    }
}

static void file_source_is_shown_as_a_url_that_leads_back(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    struct source s, again;
    fixture_write(fixture_path(file, "50% & more?.gguf"), "x");
    assert_int_equal(source_parse(file, &s, NULL), BNT_OK);
    assert_non_null(strstr(s.shown, "50%25%20%26%20more%3F.gguf"));
    assert_int_equal(source_parse(s.shown, &again, NULL), BNT_OK);
    assert_string_equal(again.path, s.path);
    assert_string_equal(again.shown, s.shown);
}

/* ---- files ---- */

static void file_is_copied_once_and_again_when_it_changes(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(file, "m.gguf"), "version 1");
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_false(r.hit);
    assert_string_equal(r.entry.name, "m");
    assert_string_equal(r.entry.file_name, "m.gguf");
    assert_blob_is(&r, "version 1");
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_true(r.hit);
    assert_blob_is(&r, "version 1");
    fixture_write(file, "the second version");
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_false(r.hit);
    assert_blob_is(&r, "the second version");
    bnt_cache_close(c);
}

static void bundled_model_enters_under_its_name(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    char hex[BNT_SHA256_HEX];
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(get(c, "bundled:", &r), BNT_OK);
    assert_string_equal(r.entry.name, BNT_FETCH_BUNDLED_NAME);
    assert_string_equal(r.entry.source, "bundled:");
    assert_int_equal(bnt_sha256_file(suite_bundled_model(), NULL, NULL, hex, NULL), BNT_OK);
    assert_string_equal(r.entry.digest, hex);
    assert_int_equal(get(c, "bundled:", &r), BNT_OK);
    assert_true(r.hit);
    bnt_cache_close(c);
}

static void lost_blob_is_not_a_hit(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(file, "m.gguf"), body);
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_int_equal(unlink(r.path), 0);
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_false(r.hit);
    assert_blob_is(&r, body);
    bnt_cache_close(c);
}

static void what_is_no_file_or_empty_is_refused(void **state)
{
    (void)state;
    char empty[BNT_PATH_MAX], fifo[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(empty, "empty.gguf"), "");
    assert_int_equal(mkfifo(fixture_path(fifo, "fifo"), 0600), 0);
    assert_int_equal(get(c, empty, &r), BNT_E_FILE);
    assert_int_equal(get(c, fifo, &r), BNT_E_FILE);
    assert_int_equal(get(c, suite_scratch(), &r), BNT_E_FILE);
    fixture_assert_empty(c);
    bnt_cache_close(c);
}

static void local_fetch_does_not_load_libcurl(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    struct bnt_buf maps = BNT_BUF(4 << 20);
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(get(c, "bundled:", &r), BNT_OK);
    assert_int_equal(bnt_file_read("/proc/self/maps", &maps, NULL), BNT_OK);
    assert_null(strstr(bnt_buf_view(&maps), "libcurl"));
    bnt_buf_release(&maps);
    bnt_cache_close(c);
}

/* ---- digests and names ---- */

static void right_digest_in_either_case_is_accepted(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(file, "m.gguf"), body);
    fixture_digest(body, hex);
    for (char *p = hex; *p; p++) {
        *p = (char)(*p >= 'a' ? *p - 'a' + 'A' : *p);
    }
    assert_int_equal(bnt_fetch(c, file, &(struct bnt_fetch_opts){.sha256 = hex}, &r, NULL), BNT_OK);
    assert_blob_is(&r, body);
    hex[63] = 'g';
    assert_int_equal(bnt_fetch(c, file, &(struct bnt_fetch_opts){.sha256 = hex}, &r, NULL),
                     BNT_E_USAGE);
    hex[63] = '\0';
    assert_int_equal(bnt_fetch(c, file, &(struct bnt_fetch_opts){.sha256 = hex}, &r, NULL),
                     BNT_E_USAGE);
    bnt_cache_close(c);
}

static void name_of_another_source_is_not_taken(void **state)
{
    (void)state;
    char one[BNT_PATH_MAX], two[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(one, "one.gguf"), "one");
    fixture_write(fixture_path(two, "two.gguf"), "two");
    struct bnt_fetch_opts o = {.name = "m"};
    assert_int_equal(bnt_fetch(c, one, &o, &r, NULL), BNT_OK);
    assert_int_equal(bnt_fetch(c, two, &o, &r, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--force"));
    o.force = true;
    assert_int_equal(bnt_fetch(c, two, &o, &r, NULL), BNT_OK);
    assert_string_equal(r.entry.name, "m");
    assert_blob_is(&r, "two");
    bnt_cache_close(c);
}

static void bad_or_missing_name_is_a_usage_error(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_fetch(c, "bundled:", &(struct bnt_fetch_opts){.name = "a/b"}, &r, NULL),
                     BNT_E_USAGE);
    assert_int_equal(bnt_fetch(c, "https://127.0.0.1/", &(struct bnt_fetch_opts){0}, &r, &err),
                     BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--name"));
    fixture_assert_empty(c);
    bnt_cache_close(c);
}

/* ---- the disk ---- */

static void full_disk_is_no_space(void **state)
{
    (void)state;
    struct sink sink;
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {0};
    struct bnt_cache_temp full = {.fd = open("/dev/full", O_WRONLY | O_CLOEXEC)};
    assert_true(full.fd >= 0);
    assert_int_equal(sink_init(&sink, &full, &o, NULL), BNT_OK);
    assert_int_equal(sink_write(&sink, body, BODY_BYTES, &err), BNT_E_NO_SPACE);
    assert_non_null(strstr(err.hint, "BNT_CACHE_DIR"));
    assert_int_equal(sink.done, 0);
    bnt_cache_temp_release(&full);
}

/* A copy of 32 MiB on a file system that can share blocks takes room for its records alone. */
static void copy_shares_blocks_where_the_file_system_can(void **state)
{
    (void)state;
    static const char script[] =
        "truncate -s 400M disk; /usr/sbin/mkfs.xfs -q disk; mkdir m; mount -o loop disk m\n"
        "head -c 33554432 /dev/urandom >m/model; sync -f m; before=$(stat -f -c %f m)\n"
        "BNT_CACHE_DIR=m/cache \"$0\" fetch -q m/model --name model >path; sync -f m\n"
        "cmp m/model \"$(cat path)\"; after=$(stat -f -c %f m)\n"
        "[ \"$(sha256sum <m/model | cut -c 1-64)\" = \"$(basename \"$(cat path)\")\" ]\n"
        "echo $(((before - after) * $(stat -f -c %S m)))\n";
    struct suite_output o;
    suite_run((const char *const[]){"unshare", "-m", "sh", "-euc", script, suite_bnt(), NULL},
              suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("%s", o.err);
    }
    assert_in_range(strtoull(o.out, NULL, 10), 0, 8 << 20);
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "fetch_sources_mean_what_they_say", .body = sources_mean_what_they_say},
    {.name = "fetch_file_source_is_shown_as_a_url_that_leads_back",
     .body = file_source_is_shown_as_a_url_that_leads_back},
    {.name = "fetch_file_is_copied_once_and_again_when_it_changes",
     .body = file_is_copied_once_and_again_when_it_changes},
    {.name = "fetch_bundled_model_enters_under_its_name",
     .body = bundled_model_enters_under_its_name},
    {.name = "fetch_lost_blob_is_not_a_hit", .body = lost_blob_is_not_a_hit},
    {.name = "fetch_what_is_no_file_or_empty_is_refused",
     .body = what_is_no_file_or_empty_is_refused},
    {.name = "fetch_local_does_not_load_libcurl", .body = local_fetch_does_not_load_libcurl},
    {.name = "fetch_right_digest_in_either_case_is_accepted",
     .body = right_digest_in_either_case_is_accepted},
    {.name = "fetch_name_of_another_source_is_not_taken",
     .body = name_of_another_source_is_not_taken},
    {.name = "fetch_bad_or_missing_name_is_a_usage_error",
     .body = bad_or_missing_name_is_a_usage_error},
    {.name = "fetch_full_disk_is_no_space", .body = full_disk_is_no_space},
    {.name = "fetch_copy_shares_blocks_where_the_file_system_can",
     .body = copy_shares_blocks_where_the_file_system_can,
     .tier = SUITE_INTEGRATION,
     .needs = "xfs",
     .mounts = true},
    {0},
};
const struct suite suite_fetch = {"fetch", tests, "name_taken"};
