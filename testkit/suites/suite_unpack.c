/* Guards unpacking: an archive that writes outside its folder, makes a link or a device, fills the
 * disk, or leaves half of itself behind. */
#include "testkit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/unpack.h"
#include "testkit/suites/cache_fixture.h"

enum { BLOCK = 512 };
static const struct unpack_limits usual = UNPACK_LIMITS;

/* An entry of a tar file: its header's type ('0' file, '1' hard link, '2' symbolic link, '3'
 * device, '5' folder, '6' pipe), and its bytes. */
struct entry {
    const char *path;
    char type;
    const char *link, *content;
};

static void put_octal(char *to, size_t size, unsigned long value)
{
    for (size_t i = size - 1; i-- > 0; value /= 8) {
        to[i] = (char)('0' + value % 8);
    }
}

static void write_entry(FILE *f, const struct entry *e)
{
    char block[BLOCK] = {0};
    size_t size = e->content ? strlen(e->content) : 0;
    assert_true(strlen(e->path) < 100);
    memcpy(block, e->path, strlen(e->path));
    put_octal(block + 100, 8, 0644);
    put_octal(block + 108, 8, 0);
    put_octal(block + 116, 8, 0);
    put_octal(block + 124, 12, size);
    put_octal(block + 136, 12, 0);
    memset(block + 148, ' ', 8);
    block[156] = e->type;
    if (e->link) {
        memcpy(block + 157, e->link, strlen(e->link));
    }
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
    put_octal(block + 329, 8, 1);
    put_octal(block + 337, 8, 3);
    unsigned sum = 0;
    for (size_t i = 0; i < BLOCK; i++) {
        sum += (unsigned char)block[i];
    }
    put_octal(block + 148, 7, sum);
    assert_int_equal(fwrite(block, 1, BLOCK, f), BLOCK);
    if (size) {
        memset(block, 0, BLOCK);
        memcpy(block, e->content, size);
        assert_int_equal(fwrite(block, 1, BLOCK, f), BLOCK);
    }
}

static void write_tar(const char *path, const struct entry *entries, size_t n)
{
    static const char end[2 * BLOCK];
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) {
        write_entry(f, &entries[i]);
    }
    assert_int_equal(fwrite(end, 1, sizeof end, f), sizeof end);
    assert_int_equal(fclose(f), 0);
}

/* How many things lie in the test's folder. */
static size_t things(void)
{
    size_t n = 0;
    DIR *d = opendir(suite_scratch());
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(d);
    return n;
}

static enum bnt_status unpack_here(const char *archive, const struct unpack_limits *limits,
                                   struct bnt_err *err)
{
    char folder[BNT_PATH_MAX];
    struct unpack_count count;
    *err = (struct bnt_err){0};
    return unpack(archive, fixture_path(folder, "out"), limits, NULL, &count, err);
}

static void assert_good(const char *archive)
{
    char path[BNT_PATH_MAX];
    struct bnt_err err;
    struct stat sb;
    if (unpack_here(archive, &usual, &err) != BNT_OK) {
        fail_msg("%s: %s", archive, err.msg);
    }
    fixture_assert_holds(fixture_path(path, "out/m.gguf"), "model");
    fixture_assert_holds(fixture_path(path, "out/sub/tokenizer.json"), "{}");
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 07111, 0);
}

static void tar_is_unpacked(void **state)
{
    (void)state;
    static const struct entry entries[] = {
        {"./", '5', NULL, NULL},       {"./m.gguf", '0', NULL, "model"},
        {"sub/", '5', NULL, NULL},     {"sub/tokenizer.json", '0', NULL, "{}"},
        {"deep/er/x", '0', NULL, "x"},
    };
    char path[BNT_PATH_MAX];
    write_tar(fixture_path(path, "a.tar"), entries, 5);
    assert_good(path);
    assert_int_equal(things(), 2);
    struct bnt_err err;
    assert_int_equal(unpack_here(path, &usual, &err), BNT_E_USAGE); /* into what is there */
    assert_int_equal(things(), 2);
}

static void gzip_is_unpacked(void **state)
{
    (void)state;
    assert_good(suite_source("testkit/data/archive/good.tar.gz"));
}

static void zstd_is_unpacked(void **state)
{
    (void)state;
    assert_good(suite_source("testkit/data/archive/good.tar.zst"));
}

static void zip_is_unpacked(void **state)
{
    (void)state;
    assert_good(suite_source("testkit/data/archive/good.zip"));
}

/* U+00FC and ".gguf", with the flag that its name is UTF-8, as most writers of zip set it. */
static void name_of_utf8_is_kept_in_any_locale(void **state)
{
    (void)state;
    static const unsigned char zip[] = {
        0x50, 0x4b, 0x03, 0x04, 0x14, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x21, 0x00, 0xd9,
        0x72, 0x95, 0xd7, 0x05, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00,
        0xc3, 0xbc, 0x2e, 0x67, 0x67, 0x75, 0x66, 0x6d, 0x6f, 0x64, 0x65, 0x6c, 0x50, 0x4b, 0x01,
        0x02, 0x14, 0x03, 0x14, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x21, 0x00, 0xd9, 0x72,
        0x95, 0xd7, 0x05, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x01, 0x00, 0x00, 0x00, 0x00, 0xc3, 0xbc,
        0x2e, 0x67, 0x67, 0x75, 0x66, 0x50, 0x4b, 0x05, 0x06, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x01, 0x00, 0x35, 0x00, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    char path[BNT_PATH_MAX];
    struct bnt_err err;
    FILE *f = fopen(fixture_path(path, "a.zip"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(zip, 1, sizeof zip, f), sizeof zip);
    assert_int_equal(fclose(f), 0);
    if (unpack_here(path, &usual, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    fixture_assert_holds(fixture_path(path, "out/\xc3\xbc.gguf"), "model");
}

static int no_sync(enum bnt_file_step step, size_t *n)
{
    (void)n;
    return step == BNT_FILE_SYNC ? ENOSPC : 0;
}

static void folder_appears_when_it_is_on_the_disk(void **state)
{
    (void)state;
    static const struct entry one[] = {{"a", '0', NULL, "12345"}};
    char path[BNT_PATH_MAX];
    struct bnt_err err;
    write_tar(fixture_path(path, "a.tar"), one, 1);
    bnt_file_fault(no_sync);
    assert_int_equal(unpack_here(path, &usual, &err), BNT_E_NO_SPACE);
    bnt_file_fault(NULL);
    assert_int_equal(things(), 1);
}

static void escapes_are_refused_and_leave_nothing(void **state)
{
    (void)state;
    static const struct entry bad[] = {
        {"../up", '0', NULL, "x"},
        {"a/../../up", '0', NULL, "x"},
        {"a/..", '5', NULL, NULL},
        {"..", '5', NULL, NULL},
        {"a/./b", '0', NULL, "x"},
        {"a//b", '0', NULL, "x"},
        {"a\\..\\b", '0', NULL, "x"},
        {"/tmp/bnt-escape", '0', NULL, "x"},
        {"//tmp/bnt-escape", '0', NULL, "x"},
        {"link", '2', "/etc", NULL},
        {"link", '2', "..", NULL},
        {"hard", '1', "m.gguf", NULL},
        {"hard", '1', "/etc/passwd", NULL},
        {"hard", '1', "m.gguf", "with content"},
        {"device", '3', NULL, NULL},
        {"block", '4', NULL, NULL},
        {"pipe", '6', NULL, NULL},
        {"m.gguf", '0', NULL, "again"},
        {"m.gguf/below", '0', NULL, "x"},
        {"1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9", '0', NULL, "x"},
    };
    char path[BNT_PATH_MAX];
    struct bnt_err err;
    fixture_path(path, "a.tar");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct entry entries[] = {{"m.gguf", '0', NULL, "model"}, bad[i]};
        write_tar(path, entries, 2);
        enum bnt_status st = unpack_here(path, &usual, &err);
        if (st != BNT_E_FILE) {
            fail_msg("%s %c: status %d %s", bad[i].path, bad[i].type, st, err.msg);
        }
        assert_int_equal(things(), 1);
        assert_int_not_equal(access("/tmp/bnt-escape", F_OK), 0);
    }
    const char *zips[] = {"up.zip", "link.zip"};
    for (size_t i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "testkit/data/archive/%s", zips[i]);
        assert_int_equal(unpack_here(suite_source(name), &usual, &err), BNT_E_FILE);
        assert_int_equal(things(), 1);
    }
}

/* A link and then a file below it: the way out that a check of paths alone does not see. */
static void file_below_a_link_is_not_written(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], victim[BNT_PATH_MAX];
    struct bnt_err err;
    assert_int_equal(mkdir(fixture_path(victim, "victim"), 0777), 0);
    assert_true(strlen(victim) < 100);
    const struct entry entries[] = {{"d", '2', victim, NULL}, {"d/x", '0', NULL, "x"}};
    write_tar(fixture_path(path, "a.tar"), entries, 2);
    assert_int_equal(unpack_here(path, &usual, &err), BNT_E_FILE);
    assert_int_equal(rmdir(victim), 0); /* still empty */
}

static void limits_end_a_bomb(void **state)
{
    (void)state;
    static const struct entry two[] = {{"a", '0', NULL, "12345"}, {"b", '0', NULL, "12345"}};
    char path[BNT_PATH_MAX];
    struct bnt_err err;
    assert_int_equal(unpack_here(suite_source("testkit/data/archive/bomb.tar.zst"), &usual, &err),
                     BNT_E_FILE);
    assert_non_null(strstr(err.msg, "grows too much"));
    assert_int_equal(things(), 0);
    write_tar(fixture_path(path, "a.tar"), two, 2);
    struct unpack_limits few = usual;
    few.entries = 1;
    assert_int_equal(unpack_here(path, &few, &err), BNT_E_FILE);
    assert_non_null(strstr(err.msg, "more entries"));
    few = usual;
    few.bytes = 9;
    assert_int_equal(unpack_here(path, &few, &err), BNT_E_FILE);
    assert_non_null(strstr(err.msg, "more bytes"));
    assert_int_equal(things(), 1);
    few.bytes = 10;
    assert_int_equal(unpack_here(path, &few, &err), BNT_OK);
}

/* A folder beside the new one, as unpacking makes it: of this age and mode, with a file in it. */
static void make_left(const char *name, int64_t age_s, unsigned mode)
{
    char path[BNT_PATH_MAX], file[BNT_PATH_MAX];
    assert_int_equal(mkdir(fixture_path(path, name), 0700), 0);
    assert_int_equal(bnt_path_format(file, NULL, "%s/part", path), BNT_OK);
    fixture_write(file, "half");
    const struct timespec then = {.tv_sec = (time_t)(bnt_clock_unix_s() - age_s)};
    assert_int_equal(utimensat(AT_FDCWD, path, (const struct timespec[]){then, then}, 0), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void what_a_dead_process_left_goes_with_the_next(void **state)
{
    (void)state;
    static const struct entry entries[] = {{"m.gguf", '0', NULL, "model"}};
    static const struct {
        const char *name;
        int64_t age_s;
        unsigned mode;
        bool stays;
    } cases[] = {
        {"out.unpack-aBc123", 4000, 0700, false},  {"out.unpack-locked", 4000, 0700, true},
        {"out.unpack-young1", 3000, 0700, true},   {"out.unpack-mine99", 4000, 0755, true},
        {"other.unpack-aBc123", 4000, 0700, true}, {"out.unpack-aBc1234", 4000, 0700, true},
    };
    char archive[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct unpack_count count;
    write_tar(fixture_path(archive, "a.tar"), entries, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_left(cases[i].name, cases[i].age_s, cases[i].mode);
    }
    const int lock = open(fixture_path(path, cases[1].name), O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(unpack(archive, fixture_path(path, "out/"), &usual, NULL, &count, NULL), 0);
    close(lock);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if ((access(fixture_path(path, cases[i].name), F_OK) == 0) != cases[i].stays) {
            fail_msg("%s %s", cases[i].name, cases[i].stays ? "is gone" : "is there");
        }
    }
}

static void what_is_no_archive_or_cut_is_refused(void **state)
{
    (void)state;
    static const struct entry one[] = {{"a", '0', NULL, "12345"}};
    char path[BNT_PATH_MAX];
    struct bnt_err err;
    fixture_write(fixture_path(path, "a.tar"), "not an archive, only some text in a file");
    assert_int_equal(unpack_here(path, &usual, &err), BNT_E_FILE);
    fixture_write(path, "");
    assert_int_equal(unpack_here(path, &usual, &err), BNT_E_FILE);
    write_tar(path, one, 1);
    assert_int_equal(truncate(path, BLOCK + 3), 0);
    assert_int_equal(unpack_here(path, &usual, &err), BNT_E_FILE);
    assert_int_equal(things(), 1);
}

static void command_unpacks_what_it_fetched(void **state)
{
    (void)state;
    static const struct entry bad[] = {{"../x", '0', NULL, "x"}};
    char path[BNT_PATH_MAX], archive[BNT_PATH_MAX], out[BNT_PATH_MAX];
    struct suite_output o;
    snprintf(archive, sizeof archive, "%s", suite_source("testkit/data/archive/good.zip"));
    fixture_path(out, "models");
    const char *const good[] = {suite_bnt(), "fetch", "-q", archive, "--unpack", out, NULL};
    suite_run(good, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, 0);
    assert_int_equal(strncmp(o.out, out, strlen(out)), 0);
    suite_output_release(&o);
    fixture_assert_holds(fixture_path(path, "models/m.gguf"), "model");
    suite_run(good, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
    write_tar(fixture_path(path, "bad.tar"), bad, 1);
    fixture_path(out, "others");
    const char *const escape[] = {suite_bnt(), "fetch", path, "--unpack", out, NULL};
    suite_run(escape, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, BNT_E_FILE);
    assert_string_equal(o.out, "");
    suite_output_release(&o);
    assert_int_not_equal(access(out, F_OK), 0);
}

static const struct suite_test tests[] = {
    {.name = "unpack_tar", .body = tar_is_unpacked},
    {.name = "unpack_gzip", .body = gzip_is_unpacked, .needs = "source"},
    {.name = "unpack_zstd", .body = zstd_is_unpacked, .needs = "source"},
    {.name = "unpack_zip", .body = zip_is_unpacked, .needs = "source"},
    {.name = "unpack_name_of_utf8_is_kept_in_any_locale",
     .body = name_of_utf8_is_kept_in_any_locale},
    {.name = "unpack_folder_appears_when_it_is_on_the_disk",
     .body = folder_appears_when_it_is_on_the_disk},
    {.name = "unpack_escapes_are_refused_and_leave_nothing",
     .body = escapes_are_refused_and_leave_nothing,
     .needs = "source"},
    {.name = "unpack_file_below_a_link_is_not_written", .body = file_below_a_link_is_not_written},
    {.name = "unpack_limits_end_a_bomb", .body = limits_end_a_bomb, .needs = "source"},
    {.name = "unpack_what_is_no_archive_or_cut_is_refused",
     .body = what_is_no_archive_or_cut_is_refused},
    {.name = "unpack_what_a_dead_process_left_goes_with_the_next",
     .body = what_a_dead_process_left_goes_with_the_next},
    {.name = "unpack_command_unpacks_what_it_fetched",
     .body = command_unpacks_what_it_fetched,
     .needs = "source"},
    {0},
};
const struct suite suite_unpack = {"unpack", tests, "archive_path unpack_left"};
