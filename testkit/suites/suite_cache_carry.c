/* Guards export and import: a model that enters with other bytes than its name says, a member of an
 * archive that writes outside the cache, a name that is moved by an import, an archive that other
 * tars cannot read, a cut archive that counts as whole. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/bnt_cache.h"
#include "cache/tar.h"
#include "testkit/suites/cache_fixture.h"

static void export_all(struct bnt_cache *c, const char *path)
{
    struct bnt_cache_list list;
    struct bnt_err err = {0};
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    if (bnt_cache_export(c, &list, path, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    bnt_cache_list_release(&list);
}

/* Another cache, in <scratch>/to. */
static struct bnt_cache *open_target(void)
{
    char dir[BNT_PATH_MAX];
    struct bnt_cache *c = NULL;
    assert_int_equal(bnt_cache_open(fixture_path(dir, "to"), &c, NULL), BNT_OK);
    return c;
}

/* Two models, one of them with two names, and the archive of them. */
static void make_archive(char path[BNT_PATH_MAX])
{
    struct bnt_cache *c = fixture_cache();
    fixture_add(c, "one", "content of one");
    fixture_add(c, "uno", "content of one");
    fixture_add(c, "two", "content of two");
    export_all(c, fixture_path(path, "x.tar"));
    bnt_cache_close(c);
}

static void import_brings_models_and_names(void **state)
{
    (void)state;
    char archive[BNT_PATH_MAX], again[BNT_PATH_MAX], path[BNT_PATH_MAX];
    static const char *const names[] = {"one", "uno", "two"};
    struct bnt_cache_import r;
    struct bnt_mapping a, b;
    make_archive(archive);
    struct bnt_cache *to = open_target();
    assert_int_equal(bnt_cache_import_file(to, archive, &r, NULL), BNT_OK);
    assert_int_equal(r.n_models, 2);
    assert_int_equal(r.n_names, 3);
    assert_int_equal(r.n_taken, 0);
    for (size_t i = 0; i < 3; i++) {
        struct bnt_cache_entry e;
        char source[64];
        assert_int_equal(bnt_cache_lookup(to, names[i], &e, path, NULL), BNT_OK);
        fixture_assert_holds(path, i < 2 ? "content of one" : "content of two");
        snprintf(source, sizeof source, "file:///test/%s", names[i]);
        assert_string_equal(e.source, source);
    }
    assert_int_equal(bnt_cache_import_file(to, archive, &r, NULL), BNT_OK);
    assert_int_equal(r.n_models + r.n_names + r.n_taken, 0);
    export_all(to, fixture_path(again, "y.tar")); /* the same content, the same bytes */
    assert_int_equal(bnt_map_file(archive, &a, NULL), BNT_OK);
    assert_int_equal(bnt_map_file(again, &b, NULL), BNT_OK);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, (size_t)a.size);
    bnt_unmap(&a);
    bnt_unmap(&b);
    bnt_cache_close(to);
}

static void name_with_other_content_stays(void **state)
{
    (void)state;
    char archive[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct bnt_cache_import r;
    struct bnt_cache_entry e;
    make_archive(archive);
    struct bnt_cache *to = open_target();
    fixture_add(to, "one", "mine");
    assert_int_equal(bnt_cache_import_file(to, archive, &r, NULL), BNT_OK);
    assert_int_equal(r.n_taken, 1);
    assert_int_equal(r.n_names, 2);
    assert_int_equal(bnt_cache_lookup(to, "one", &e, path, NULL), BNT_OK);
    fixture_assert_holds(path, "mine");
    bnt_cache_close(to);
}

/* Offset of the first header whose name begins so. */
static off_t header_of(const char *archive, const char *name)
{
    struct bnt_mapping m;
    off_t at = -1;
    assert_int_equal(bnt_map_file(archive, &m, NULL), BNT_OK);
    for (uint64_t i = 0; at < 0 && i + TAR_BLOCK <= m.size; i += TAR_BLOCK) {
        if (strncmp((const char *)m.data + i, name, strlen(name)) == 0) {
            at = (off_t)i;
        }
    }
    bnt_unmap(&m);
    assert_true(at >= 0);
    return at;
}

/* Write a header over one that is there, with its sum made right again after `change`. */
static void change_header(const char *archive, off_t at, int type, const char *name)
{
    uint8_t block[TAR_BLOCK];
    int fd = open(archive, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, block, sizeof block, at), sizeof block);
    if (name) {
        memset(block, 0, 100);
        memcpy(block, name, strlen(name));
    }
    block[156] = (uint8_t)type;
    memset(block + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) {
        sum += block[i];
    }
    char text[8];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(block + 148, text, 7);
    assert_int_equal(pwrite(fd, block, sizeof block, at), sizeof block);
    close(fd);
}

static void nothing_leaves_the_cache(void **state)
{
    (void)state;
    static const struct {
        int type;
        const char *name;
        enum bnt_status status;
    } cases[] = {
        {'0', "../escaped", BNT_OK},
        {'0', "/tmp/bnt-escaped", BNT_OK},
        {'0', "blobs/sha256/../../escaped", BNT_OK},
        {'2', NULL, BNT_E_FILE}, /* symbolic link */
        {'1', NULL, BNT_E_FILE}, /* hard link */
        {'3', NULL, BNT_E_FILE}, /* device */
        {'6', NULL, BNT_E_FILE}, /* pipe */
    };
    char archive[BNT_PATH_MAX], path[BNT_PATH_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_cache_import r;
        make_archive(archive);
        change_header(archive, header_of(archive, "blobs/"), cases[i].type, cases[i].name);
        struct bnt_cache *to = open_target();
        assert_int_equal(bnt_cache_import_file(to, archive, &r, NULL), cases[i].status);
        assert_true(r.n_models <= 1);
        bnt_cache_close(to);
        assert_int_equal(access(fixture_path(path, "escaped"), F_OK), -1);
        assert_int_equal(access("/tmp/bnt-escaped", F_OK), -1);
    }
}

static void wrong_bytes_do_not_enter(void **state)
{
    (void)state;
    char archive[BNT_PATH_MAX];
    struct bnt_cache_import r;
    struct bnt_err err = {0};
    make_archive(archive);
    int fd = open(archive, O_RDWR);
    assert_int_equal(pwrite(fd, "C", 1, header_of(archive, "blobs/") + TAR_BLOCK), 1);
    close(fd);
    struct bnt_cache *to = open_target();
    assert_int_equal(bnt_cache_import_file(to, archive, &r, &err), BNT_E_DIGEST);
    assert_non_null(strstr(err.msg, "x.tar"));
    assert_int_equal(r.n_models, 0);
    bnt_cache_close(to);
}

static void cut_archives_are_told(void **state)
{
    (void)state;
    char archive[BNT_PATH_MAX];
    struct stat sb;
    struct bnt_cache_import r;
    make_archive(archive);
    assert_int_equal(stat(archive, &sb), 0);
    struct bnt_cache *to = open_target();
    for (off_t size = 0; size < sb.st_size - 2 * TAR_BLOCK; size += 211) {
        make_archive(archive);
        assert_int_equal(truncate(archive, size), 0);
        assert_int_equal(bnt_cache_import_file(to, archive, &r, NULL), BNT_E_FILE);
        assert_int_equal(r.n_names, 0);
    }
    make_archive(archive);
    assert_int_equal(bnt_cache_import_file(to, archive, &r, NULL), BNT_OK); /* finishes it */
    assert_int_equal(r.n_names, 3);
    bnt_cache_close(to);
}

static void headers_hold_every_size(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 511, 8589934591u, 8589934592u, 1ull << 45};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t block[TAR_BLOCK];
        struct tar_member m;
        assert_int_equal(tar_header("blobs/x", sizes[i], block, NULL), BNT_OK);
        assert_int_equal(tar_parse(block, &m, NULL), BNT_OK);
        assert_true(m.regular && !m.end && m.size == sizes[i]);
        assert_string_equal(m.name, "blobs/x");
        block[0] ^= 1;
        assert_int_equal(tar_parse(block, &m, NULL), BNT_E_FILE);
    }
}

/* The tar of the system lists and repacks it, and what that one makes comes in as well. */
static void other_tars_read_and_write_it(void **state)
{
    (void)state;
    char archive[BNT_PATH_MAX], repacked[BNT_PATH_MAX];
    struct suite_output o;
    struct bnt_cache_import r;
    make_archive(archive);
    const char *unpack[] = {"/bin/tar", "-xf", archive, NULL};
    const char *pack[] = {"/bin/tar", "-cf", "z.tar", "./blobs", "./bnt-cache.json", NULL};
    suite_run(unpack, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("%s", o.err);
    }
    suite_output_release(&o);
    suite_run(pack, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, 0);
    suite_output_release(&o);
    struct bnt_cache *to = open_target();
    assert_int_equal(bnt_cache_import_file(to, fixture_path(repacked, "z.tar"), &r, NULL), BNT_OK);
    assert_int_equal(r.n_models, 2);
    assert_int_equal(r.n_names, 3);
    bnt_cache_close(to);
}

static void commands_carry_a_model(void **state)
{
    (void)state;
    char to[BNT_PATH_MAX];
    static const struct {
        const char *words[5];
        int exit;
        bool target;
    } steps[] = {
        {{"fetch", "-q", "bundled:"}, BNT_OK, false},
        {{"cache", "export", "m.tar", "absent"}, BNT_E_NOT_FOUND, false},
        {{"cache", "export"}, BNT_E_USAGE, false},
        {{"cache", "export", "m.tar", "tinystories-bitnet"}, BNT_OK, false},
        {{"cache", "import", "absent.tar"}, BNT_E_NOT_FOUND, true},
        {{"cache", "import", "m.tar"}, BNT_OK, true},
        {{"path", "tinystories-bitnet"}, BNT_OK, true},
        {{"cache", "verify"}, BNT_OK, true},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const char *argv[7] = {suite_bnt()};
        struct suite_output o;
        memcpy(argv + 1, steps[i].words, sizeof steps[i].words);
        if (steps[i].target) {
            assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(to, "other"), 1), 0);
        }
        suite_run(argv, suite_scratch(), 0, &o);
        if (o.exit != steps[i].exit) {
            fail_msg("step %zu: exit %d: %s", i, o.exit, o.err);
        }
        suite_output_release(&o);
    }
}

static const struct suite_test tests[] = {
    {.name = "cache_carry_import_brings_models_and_names", .body = import_brings_models_and_names},
    {.name = "cache_carry_name_with_other_content_stays", .body = name_with_other_content_stays},
    {.name = "cache_carry_nothing_leaves_the_cache", .body = nothing_leaves_the_cache},
    {.name = "cache_carry_wrong_bytes_do_not_enter", .body = wrong_bytes_do_not_enter},
    {.name = "cache_carry_cut_archives_are_told",
     .body = cut_archives_are_told,
     .timeout_ms = 30000},
    {.name = "cache_carry_headers_hold_every_size", .body = headers_hold_every_size},
    {.name = "cache_carry_other_tars_read_and_write_it", .body = other_tars_read_and_write_it},
    {.name = "cache_carry_commands_carry_a_model", .body = commands_carry_a_model},
    {0},
};
const struct suite suite_cache_carry = {"cache_carry", tests, "import_unchecked"};
