/* Guards the cache: a blob that is found but is not whole, a name that leads to other bytes than it
 * did, damage that nobody notices, processes that spoil each other's index. */
#include "testkit/suite.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "cache/commands.h"
#include "cache/index.h"
#include "cache/store.h"
#include "testkit/suites/cache_fixture.h"

/* ---- what the bodies share ---- */

#define HEX_A8 "aaaaaaaa"
#define HEX_56(c) c c c c c c c c c c c c c c
#define FAKE_1 HEX_A8 HEX_56("1111")
#define FAKE_2 HEX_A8 HEX_56("2222")

static void fill_entry(struct bnt_cache_entry *e, const char *name, const char *text)
{
    *e = (struct bnt_cache_entry){0};
    snprintf(e->name, sizeof e->name, "%s", name);
    snprintf(e->source, sizeof e->source, "file:///test/%s", name);
    snprintf(e->file_name, sizeof e->file_name, "%s.gguf", name);
    fixture_digest(text, e->digest);
}

/* Add `text` under `name`; the status of the first step that fails. */
static enum bnt_status try_add(struct bnt_cache *c, struct bnt_cache_entry *e, const char *text)
{
    struct bnt_cache_temp t;
    enum bnt_status st = bnt_cache_temp_open(c, &t, NULL);
    if (st == BNT_OK) {
        st = bnt_write_all(t.fd, text, strlen(text), "test", NULL);
    }
    if (st == BNT_OK) {
        st = bnt_cache_add(c, &t, e, NULL);
    }
    bnt_cache_temp_release(&t);
    return st;
}

static struct bnt_cache_entry add(struct bnt_cache *c, const char *name, const char *text)
{
    struct bnt_cache_entry e;
    fill_entry(&e, name, text);
    assert_int_equal(try_add(c, &e, text), BNT_OK);
    return e;
}

static void blob_path(struct bnt_cache *c, const char *key, char path[BNT_PATH_MAX])
{
    struct bnt_cache_entry e;
    assert_int_equal(bnt_cache_find(c, key, &e, NULL), BNT_OK);
    assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
}

static enum bnt_cache_health health_of(struct bnt_cache *c, const char *key)
{
    struct bnt_cache_entry e;
    enum bnt_cache_health h = BNT_CACHE_OK;
    assert_int_equal(bnt_cache_find(c, key, &e, NULL), BNT_OK);
    assert_int_equal(bnt_cache_verify(c, &e, NULL, NULL, &h, NULL), BNT_OK);
    return h;
}

/* Run `body` in a child that then dies by SIGKILL: nothing is flushed, closed or removed. */
static void run_and_kill(void (*body)(int), int argument)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body(argument);
        raise(SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- finding ---- */

static void finds_by_name_digest_and_prefix(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add(c, "one", "first"), got;
    add(c, "two", "second");
    char prefix[BNT_SHA256_HEX], upper[BNT_SHA256_HEX], path[BNT_PATH_MAX];
    snprintf(prefix, sizeof prefix, "%.8s", e.digest);
    for (size_t i = 0; i < sizeof upper; i++) {
        upper[i] = (char)(e.digest[i] >= 'a' ? e.digest[i] - 'a' + 'A' : e.digest[i]);
    }
    const char *keys[] = {"one", e.digest, prefix, upper};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(bnt_cache_lookup(c, keys[i], &got, path, NULL), BNT_OK);
        assert_string_equal(got.name, "one");
        assert_string_equal(got.digest, e.digest);
        assert_string_equal(got.source, "file:///test/one");
        assert_string_equal(got.file_name, "one.gguf");
        assert_int_equal(got.size, 5);
        assert_true(got.fetched_s > 0 && got.verified_s > 0);
        fixture_assert_holds(path, "first");
    }
    struct stat sb;
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 07777, 0444);
    prefix[7] = '\0';
    assert_int_equal(bnt_cache_lookup(c, prefix, &got, path, NULL), BNT_E_NOT_FOUND);
    bnt_cache_close(c);
}

static void unknown_name_tells_the_nearest(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e;
    struct bnt_err err = {0};
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_cache_lookup(c, "bitnet", &e, path, &err), BNT_E_NOT_FOUND);
    assert_non_null(strstr(err.hint, "bnt fetch"));
    add(c, "bitnet-2b", "x");
    add(c, "falcon3", "y");
    err = (struct bnt_err){0};
    assert_int_equal(bnt_cache_lookup(c, "bitnet-2", &e, path, &err), BNT_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "bitnet-2b"));
    assert_null(strstr(err.msg, "falcon3"));
    bnt_cache_close(c);
}

static void ambiguous_prefix_is_refused(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    const char *digests[] = {FAKE_1, FAKE_2};
    for (size_t i = 0; i < 2; i++) {
        fill_entry(&e, i ? "b" : "a", "same");
        memcpy(e.digest, digests[i], sizeof e.digest);
        assert_int_equal(try_add(c, &e, "same"), BNT_OK);
    }
    assert_int_equal(bnt_cache_lookup(c, HEX_A8, &e, path, NULL), BNT_E_USAGE);
    assert_int_equal(bnt_cache_lookup(c, HEX_A8 "2", &e, path, NULL), BNT_OK);
    assert_string_equal(e.name, "b");
    bnt_cache_close(c);
}

static void two_names_of_one_blob_are_not_ambiguous(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add(c, "zebra", "same"), got;
    struct bnt_cache_list list;
    char path[BNT_PATH_MAX];
    add(c, "ant", "same");
    assert_int_equal(bnt_cache_lookup(c, e.digest, &got, path, NULL), BNT_OK);
    assert_string_equal(got.name, "ant");
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.at[0].name, "ant");
    assert_string_equal(list.at[1].name, "zebra");
    bnt_cache_list_release(&list);
    bnt_cache_close(c);
}

static void name_moves_and_the_old_blob_stays(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry old = add(c, "m", "old"), got;
    char path[BNT_PATH_MAX];
    add(c, "m", "new");
    assert_int_equal(bnt_cache_lookup(c, "m", &got, path, NULL), BNT_OK);
    fixture_assert_holds(path, "new");
    assert_int_equal(bnt_cache_lookup(c, old.digest, &got, path, NULL), BNT_OK);
    assert_string_equal(got.name, "");
    fixture_assert_holds(path, "old");
    bnt_cache_close(c);
}

static void refuses_names_that_look_like_something_else(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool ok;
    } cases[] = {
        {"bitnet-2b", true}, {"A.b_c+d-9", true}, {"x", true},      {"", false},
        {".hidden", false},  {"-f", false},       {"a/b", false},   {"m.gguf", false},
        {"m.GGUF", false},   {"a b", false},      {"a\nb", false},  {"caf\xc3\xa9", false},
        {"bundled:", false}, {"gguf", true},      {".gguf", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (bnt_cache_name_ok(cases[i].name) != cases[i].ok) {
            fail_msg("'%s' should %sbe a name", cases[i].name, cases[i].ok ? "" : "not ");
        }
    }
    char longest[BNT_CACHE_NAME_MAX + 1];
    memset(longest, 'x', sizeof longest);
    longest[BNT_CACHE_NAME_MAX - 1] = '\0';
    assert_true(bnt_cache_name_ok(longest));
    longest[BNT_CACHE_NAME_MAX - 1] = 'x';
    longest[BNT_CACHE_NAME_MAX] = '\0';
    assert_false(bnt_cache_name_ok(longest));
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e;
    fill_entry(&e, "a/b", "text");
    assert_int_equal(try_add(c, &e, "text"), BNT_E_USAGE);
    bnt_cache_close(c);
}

static void look_up_does_not_make_the_folder(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e;
    struct bnt_cache_list list;
    assert_int_equal(bnt_cache_lookup(c, "x", &e, path, NULL), BNT_E_NOT_FOUND);
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    assert_int_equal(list.n, 0);
    bnt_cache_list_release(&list);
    bnt_cache_close(c);
    assert_int_equal(access(fixture_path(dir, "c"), F_OK), -1);
}

static void folder_follows_the_environment(void **state)
{
    (void)state;
    static const struct {
        const char *own, *xdg, *home, *want;
    } cases[] = {
        {"/a/b", "/x", "/h", "/a/b"},        {NULL, "/x", "/h", "/x/bnt"},
        {"", "/x", "/h", "/x/bnt"},          {NULL, "relative", "/h", "/h/.cache/bnt"},
        {NULL, NULL, "/h", "/h/.cache/bnt"}, {NULL, "x", "h", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *names[] = {"BNT_CACHE_DIR", "XDG_CACHE_HOME", "HOME"};
        const char *values[] = {cases[i].own, cases[i].xdg, cases[i].home};
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(values[k] ? setenv(names[k], values[k], 1) : unsetenv(names[k]), 0);
        }
        char dir[BNT_PATH_MAX] = "";
        enum bnt_status st = bnt_cache_dir(dir, NULL);
        assert_int_equal(st, cases[i].want ? BNT_OK : BNT_E_USAGE);
        assert_string_equal(dir, cases[i].want ? cases[i].want : "");
    }
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(setenv("BNT_CACHE_DIR", "rel", 1), 0);
    char dir[BNT_PATH_MAX];
    assert_int_equal(bnt_cache_dir(dir, NULL), BNT_OK);
    assert_int_equal(dir[0], '/');
}

static void resolves_what_a_user_types_after_m(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], file[BNT_PATH_MAX], plain[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add(c, "cached", "bytes");
    bnt_cache_close(c);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    fixture_write(fixture_path(file, "m.gguf"), "GGUF");
    fixture_write(fixture_path(plain, "plain"), "GGUF");
    assert_int_equal(chdir(suite_scratch()), 0);
    const struct {
        const char *name;
        enum bnt_status status;
        const char *path, *digest; /* NULL: not looked at */
    } cases[] = {
        {NULL, BNT_OK, suite_bundled_model(), ""},
        {"bundled:", BNT_OK, suite_bundled_model(), ""},
        {file, BNT_OK, file, ""},
        {"m.gguf", BNT_OK, "m.gguf", ""},
        {"plain", BNT_OK, "plain", ""},
        {"cached", BNT_OK, NULL, e.digest},
        {e.digest, BNT_OK, NULL, e.digest},
        {"c", BNT_E_NOT_FOUND, NULL, NULL}, /* a folder of that name is there */
        {"absent", BNT_E_NOT_FOUND, NULL, NULL},
        {"absent.gguf", BNT_E_NOT_FOUND, NULL, NULL},
        {"./absent", BNT_E_NOT_FOUND, NULL, NULL},
        {".", BNT_E_NOT_FOUND, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_model_ref ref;
        struct bnt_err err = {0};
        enum bnt_status st = cache_resolve_model(NULL, cases[i].name, &ref, &err);
        if (st != cases[i].status) {
            fail_msg("%s: status %d, %s", cases[i].name, st, err.msg);
        }
        if (cases[i].path) {
            assert_string_equal(ref.path, cases[i].path);
        }
        if (cases[i].digest) {
            assert_string_equal(ref.digest, cases[i].digest);
            assert_string_equal(ref.kind, "real");
        }
    }
}

/* ---- death and damage ---- */

static void failed_rename_leaves_no_row(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e, got;
    bool found = true;
    fill_entry(&e, "m", "bytes");
    assert_int_equal(store_blob_path(fixture_path(dir, "c"), e.digest, path, NULL), BNT_OK);
    assert_int_equal(bnt_mkdirs(path, NULL), BNT_OK); /* a folder where the blob should go */
    assert_int_equal(try_add(c, &e, "bytes"), BNT_E_FAILED);
    assert_int_equal(bnt_cache_find_name(c, "m", &got, &found, NULL), BNT_OK);
    assert_false(found);
    bnt_cache_close(c);
}

static void change_of_the_index_excludes_others_from_its_beginning(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct cache_index *ix;
    sqlite3 *other;
    bool fresh = false;
    assert_int_equal(index_open(fixture_path(path, "index.db"), &ix, &fresh, NULL), BNT_OK);
    assert_true(fresh);
    assert_int_equal(index_commit(ix, NULL), BNT_OK);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(index_begin(ix, NULL), BNT_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_BUSY);
    index_rollback(ix);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    index_close(ix);
}

/* Up to `steps` of an addition of "text", as a killed process leaves them. */
static void part_of_an_addition(int steps)
{
    char dir[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    struct bnt_cache_temp t;
    uint64_t size = 0;
    fixture_digest("text", hex);
    fixture_path(dir, "c");
    assert_int_equal(store_temp_open(dir, &t, NULL), BNT_OK);
    assert_int_equal(bnt_write_all(t.fd, "text", 4, "test", NULL), BNT_OK);
    if (steps >= 1) {
        assert_int_equal(store_seal(&t, &size, NULL), BNT_OK);
    }
    if (steps >= 2) {
        assert_int_equal(store_make_folder(dir, hex, NULL), BNT_OK);
    }
    if (steps >= 3) {
        assert_int_equal(store_publish(dir, &t, hex, NULL), BNT_OK);
    }
}

static void death_at_any_step_leaves_no_half_blob(void **state)
{
    (void)state;
    char hex[BNT_SHA256_HEX], path[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    struct bnt_cache_entry e;
    fixture_path(dir, "c");
    fixture_digest("text", hex);
    for (int steps = 0; steps < 3; steps++) {
        run_and_kill(part_of_an_addition, steps);
        struct bnt_cache *c = fixture_cache();
        assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
        assert_int_equal(bnt_cache_lookup(c, hex, &e, path, NULL), BNT_E_NOT_FOUND);
        bnt_cache_close(c);
    }
    run_and_kill(part_of_an_addition, 3);
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_lookup(c, hex, &e, path, NULL), BNT_E_NOT_FOUND);
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_lookup(c, hex, &e, path, NULL), BNT_OK);
    assert_int_equal(health_of(c, hex), BNT_CACHE_OK);
    bnt_cache_close(c);
}

/* Files of a flat folder. */
static size_t count_files(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

static void sweep_takes_only_what_is_old_and_without_an_owner(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], tmp[BNT_PATH_MAX];
    struct bnt_cache_temp mine;
    fixture_path(dir, "c");
    fixture_path(tmp, "c/tmp");
    run_and_kill(part_of_an_addition, 0);
    run_and_kill(part_of_an_addition, 1);
    assert_int_equal(store_temp_open(dir, &mine, NULL), BNT_OK);
    int64_t now_s = bnt_clock_unix_s();
    assert_int_equal(count_files(tmp), 3);
    assert_int_equal(store_temp_sweep(dir, now_s, NULL), BNT_OK);
    assert_int_equal(count_files(tmp), 3);
    assert_int_equal(store_temp_sweep(dir, now_s + STORE_TEMP_AGE_S + 60, NULL), BNT_OK);
    assert_int_equal(count_files(tmp), 1);
    assert_int_equal(access(mine.path, F_OK), 0);
    bnt_cache_temp_release(&mine);
    assert_int_equal(count_files(tmp), 0);
}

static void flip_byte(const char *path)
{
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_RDWR);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, 2), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 2), 1);
    close(fd);
}

static void verify_finds_every_kind_of_damage(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_cache_entry e;
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    add(c, "good", "good bytes");
    add(c, "flipped", "flipped bytes");
    add(c, "short", "short bytes");
    add(c, "gone", "gone bytes");
    blob_path(c, "flipped", path);
    flip_byte(path);
    blob_path(c, "short", path);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(truncate(path, 3), 0);
    blob_path(c, "gone", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK); /* must not take the damage for the truth */
    assert_int_equal(health_of(c, "good"), BNT_CACHE_OK);
    assert_int_equal(health_of(c, "flipped"), BNT_CACHE_CORRUPT);
    assert_int_equal(health_of(c, "short"), BNT_CACHE_SIZE_DIFFERS);
    assert_int_equal(health_of(c, "gone"), BNT_CACHE_MISSING);
    assert_int_equal(bnt_cache_lookup(c, "short", &e, path, NULL), BNT_E_DIGEST);
    assert_int_equal(bnt_cache_lookup(c, "gone", &e, path, &err), BNT_E_NOT_FOUND);
    assert_non_null(strstr(err.hint, "bnt fetch --force file:///test/gone"));
    bnt_cache_close(c);
}

static void adding_again_heals(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    add(c, "m", "precious bytes");
    blob_path(c, "m", path);
    flip_byte(path);
    assert_int_equal(health_of(c, "m"), BNT_CACHE_CORRUPT);
    add(c, "m", "precious bytes");
    assert_int_equal(health_of(c, "m"), BNT_CACHE_OK);
    fixture_assert_holds(path, "precious bytes");
    bnt_cache_close(c);
}

static int stop_at_once(void *ctx, uint64_t done_bytes)
{
    (void)ctx, (void)done_bytes;
    return 1;
}

static void verify_can_be_interrupted(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add(c, "m", "some bytes");
    enum bnt_cache_health h = BNT_CACHE_OK;
    assert_int_equal(bnt_cache_verify(c, &e, stop_at_once, NULL, &h, NULL), BNT_E_INTERRUPTED);
    bnt_cache_close(c);
}

static void missing_index_is_made_from_the_store(void **state)
{
    (void)state;
    char index[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add(c, "m", "bytes"), got;
    bnt_cache_close(c);
    assert_int_equal(unlink(fixture_path(index, "c/index.db")), 0);
    c = fixture_cache();
    assert_int_equal(bnt_cache_lookup(c, e.digest, &got, path, NULL), BNT_OK);
    assert_string_equal(got.name, "m");
    assert_int_equal(got.size, 5);
    assert_int_equal(got.verified_s, 0);
    assert_int_equal(health_of(c, e.digest), BNT_CACHE_OK);
    bnt_cache_close(c);
}

/* What the index said of names is said again by a new one, and nothing else. */
static void names_come_back_with_a_new_index(void **state)
{
    (void)state;
    char at[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    struct bnt_cache_entry got, moved;
    bool blob = false, found = true;
    uint64_t blobs = 0;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry first = add(c, "first", "bytes");
    add(c, "gone", "other bytes");
    add(c, "moved", "third bytes");
    moved = add(c, "moved", "fourth bytes");
    snprintf(first.name, sizeof first.name, "second");
    assert_int_equal(bnt_cache_set_name(c, &first, NULL), BNT_OK);
    snprintf(first.name, sizeof first.name, "short-lived");
    assert_int_equal(bnt_cache_set_name(c, &first, NULL), BNT_OK);
    assert_int_equal(bnt_cache_remove(c, "short-lived", &got, &blob, NULL), BNT_OK);
    assert_int_equal(bnt_cache_remove(c, "gone", &got, &blob, NULL), BNT_OK);
    assert_true(blob);
    bnt_cache_close(c);
    fixture_write(fixture_path(at, "c/names/damaged.json"), "{\"schema\": 1, \"name\"");
    fixture_write(fixture_path(at, "c/names/not a name.json"), "{}");
    assert_int_equal(bnt_cache_rebuild(fixture_path(dir, "c"), &blobs, NULL), BNT_OK);
    c = fixture_cache();
    assert_int_equal(fixture_sql("SELECT count(*) FROM name"), 3);
    assert_int_equal(bnt_cache_find_name(c, "second", &got, &found, NULL), BNT_OK);
    assert_true(found);
    assert_string_equal(got.digest, first.digest);
    assert_string_equal(got.source, "file:///test/first");
    assert_true(got.fetched_s > 0);
    assert_int_equal(bnt_cache_find_name(c, "moved", &got, &found, NULL), BNT_OK);
    assert_string_equal(got.digest, moved.digest);
    bnt_cache_close(c);
}

/* Names of an index that is older than records get them with the next collection. */
static void older_names_get_their_records(void **state)
{
    (void)state;
    char record[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    struct bnt_cache_entry got;
    bool found = false;
    uint64_t blobs = 0;
    struct bnt_cache *c = fixture_cache();
    add(c, "m", "bytes");
    assert_int_equal(unlink(fixture_path(record, "c/names/m.json")), 0);
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
    assert_int_equal(access(record, R_OK), 0);
    bnt_cache_close(c);
    assert_int_equal(bnt_cache_rebuild(fixture_path(dir, "c"), &blobs, NULL), BNT_OK);
    c = fixture_cache();
    assert_int_equal(bnt_cache_find_name(c, "m", &got, &found, NULL), BNT_OK);
    assert_true(found);
    bnt_cache_close(c);
}

static void damaged_index_is_told_and_rebuilt(void **state)
{
    (void)state;
    char index[BNT_PATH_MAX], dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add(c, "m", "bytes"), got;
    uint64_t blobs = 0;
    bnt_cache_close(c);
    fixture_write(fixture_path(index, "c/index.db"), "this is not a database, and never was one\n");
    assert_int_equal(bnt_cache_open(fixture_path(dir, "c"), &c, &err), BNT_E_FILE);
    assert_null(c);
    assert_non_null(strstr(err.msg, "index.db"));
    assert_non_null(strstr(err.hint, "bnt cache rebuild"));
    assert_int_equal(bnt_cache_rebuild(dir, &blobs, NULL), BNT_OK);
    assert_int_equal(blobs, 1);
    assert_int_equal(access(fixture_path(index, "c/index.db.damaged"), F_OK), 0);
    c = fixture_cache();
    assert_int_equal(bnt_cache_lookup(c, e.digest, &got, path, NULL), BNT_OK);
    bnt_cache_close(c);
}

static void foreign_rows_are_refused(void **state)
{
    (void)state;
    static const char *const statements[] = {
        "UPDATE name SET name = '../../x'", /* whose row goes with the digest's */
        "UPDATE blob SET digest = '../' || substr(digest, 4)", "DROP TABLE name"};
    struct bnt_cache_list list;
    struct bnt_cache *c = fixture_cache();
    add(c, "m", "bytes");
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        struct bnt_err err = {0};
        fixture_sql(statements[i]);
        assert_true(bnt_cache_list(c, &list, &err) == BNT_E_FILE && strstr(err.hint, "rebuild"));
    }
    bnt_cache_close(c);
}

static void index_of_a_newer_program_is_refused(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    add(c, "m", "bytes");
    bnt_cache_close(c);
    assert_int_equal(fixture_sql("PRAGMA user_version"), INDEX_SCHEMA);
    fixture_sql("PRAGMA user_version = -7");
    bnt_cache_open(fixture_path(dir, "c"), &c, &err);
    assert_true(err.status == BNT_E_FILE && strstr(err.msg, "schema -7"));
    err = (struct bnt_err){0};
    fixture_sql("PRAGMA user_version = 99");
    assert_int_equal(bnt_cache_open(fixture_path(dir, "c"), &c, &err), BNT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "schema 99"));
}

static void read_only_cache_answers(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    add(c, "m", "bytes");
    bnt_cache_close(c);
    fixture_path(dir, "c");
    assert_int_equal(chmod(dir, 0555), 0);
    static const char *const parts[] = {"c/tmp", "c/index.db", "c/index.db-journal"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        assert_int_equal(chmod(fixture_path(path, parts[i]), i == 0 ? 0555 : 0444), 0);
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool ok = fixture_drop_capabilities() && bnt_cache_open(dir, &c, NULL) == BNT_OK;
        struct bnt_cache_entry e;
        enum bnt_cache_health h = BNT_CACHE_CORRUPT;
        ok = ok && bnt_cache_lookup(c, "m", &e, path, NULL) == BNT_OK &&
             bnt_cache_verify(c, &e, NULL, NULL, &h, NULL) == BNT_OK && h == BNT_CACHE_OK;
        struct bnt_cache_temp t;
        ok = ok && bnt_cache_temp_open(c, &t, NULL) != BNT_OK;
        _exit(ok ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(dir, 0755), 0); /* or the scratch folder could not be removed */
    assert_int_equal(chmod(fixture_path(path, "c/tmp"), 0755), 0);
    assert_int_equal(status, 0);
}

/* ---- many processes ---- */

enum { WRITERS = 8, BLOBS_EACH = 6 };

/* What writer `w` adds: blobs of its own, and one that all of them add under one name. */
static void writer(int w)
{
    struct bnt_cache *c = fixture_cache();
    for (int i = 0; i < BLOBS_EACH; i++) {
        char name[64], text[64];
        snprintf(name, sizeof name, "w%d-%d", w, i);
        snprintf(text, sizeof text, "blob %d of writer %d", i, w);
        add(c, name, text);
        add(c, "shared", "the same for all");
    }
    bnt_cache_close(c);
}

static void many_writers_lose_nothing(void **state)
{
    (void)state;
    pid_t children[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        children[w] = fork();
        assert_true(children[w] >= 0);
        if (children[w] == 0) {
            writer(w);
            _exit(0);
        }
    }
    for (int w = 0; w < WRITERS; w++) {
        int status = 1;
        assert_int_equal(waitpid(children[w], &status, 0), children[w]);
        assert_int_equal(status, 0);
    }
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_list list;
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    assert_int_equal(list.n, WRITERS * BLOBS_EACH + 1);
    for (size_t i = 0; i < list.n; i++) {
        assert_true(list.at[i].name[0] != '\0');
        assert_int_equal(health_of(c, list.at[i].name), BNT_CACHE_OK);
    }
    bnt_cache_list_release(&list);
    bnt_cache_close(c);
    char tmp[BNT_PATH_MAX];
    assert_int_equal(count_files(fixture_path(tmp, "c/tmp")), 0);
}

enum { KILLS = 60, KILL_AFTER_MAX_US = 12000 };

/* Adds and adds, until it is killed. */
static void endless_writer(unsigned seed)
{
    struct bnt_cache *c = fixture_cache();
    for (unsigned i = 0;; i++) {
        char name[64], text[64];
        snprintf(name, sizeof name, "n%u", i % 4);
        snprintf(text, sizeof text, "round %u of %u", i, seed);
        add(c, name, text);
    }
}

static void assert_every_name_has_its_blob(void)
{
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_list list;
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    for (size_t i = 0; i < list.n; i++) {
        assert_int_equal(health_of(c, list.at[i].digest), BNT_CACHE_OK);
    }
    bnt_cache_list_release(&list);
    bnt_cache_close(c);
}

static void survives_kill_during_any_write(void **state)
{
    (void)state;
    unsigned seed = (unsigned)bnt_clock_now_ns();
    print_message("seed %u\n", seed);
    for (int i = 0; i < KILLS; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            endless_writer(seed + (unsigned)i);
        }
        bnt_clock_sleep_ns(1000ull * ((unsigned)rand_r(&seed) % KILL_AFTER_MAX_US));
        assert_int_equal(kill(child, SIGKILL), 0);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    assert_every_name_has_its_blob();
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
}

static const struct suite_test tests[] = {
    {.name = "cache_finds_by_name_digest_and_prefix", .body = finds_by_name_digest_and_prefix},
    {.name = "cache_unknown_name_tells_the_nearest", .body = unknown_name_tells_the_nearest},
    {.name = "cache_ambiguous_prefix_is_refused", .body = ambiguous_prefix_is_refused},
    {.name = "cache_two_names_of_one_blob_are_not_ambiguous",
     .body = two_names_of_one_blob_are_not_ambiguous},
    {.name = "cache_name_moves_and_the_old_blob_stays", .body = name_moves_and_the_old_blob_stays},
    {.name = "cache_refuses_names_that_look_like_something_else",
     .body = refuses_names_that_look_like_something_else},
    {.name = "cache_look_up_does_not_make_the_folder", .body = look_up_does_not_make_the_folder},
    {.name = "cache_folder_follows_the_environment", .body = folder_follows_the_environment},
    {.name = "cache_resolves_what_a_user_types_after_m",
     .body = resolves_what_a_user_types_after_m,
     .keeps_fds = true},
    {.name = "cache_failed_rename_leaves_no_row", .body = failed_rename_leaves_no_row},
    {.name = "cache_change_of_the_index_excludes_others_from_its_beginning",
     .body = change_of_the_index_excludes_others_from_its_beginning},
    {.name = "cache_death_at_any_step_leaves_no_half_blob",
     .body = death_at_any_step_leaves_no_half_blob},
    {.name = "cache_sweep_takes_only_what_is_old_and_without_an_owner",
     .body = sweep_takes_only_what_is_old_and_without_an_owner},
    {.name = "cache_verify_finds_every_kind_of_damage", .body = verify_finds_every_kind_of_damage},
    {.name = "cache_adding_again_heals", .body = adding_again_heals},
    {.name = "cache_verify_can_be_interrupted", .body = verify_can_be_interrupted},
    {.name = "cache_names_come_back_with_a_new_index", .body = names_come_back_with_a_new_index},
    {.name = "cache_older_names_get_their_records", .body = older_names_get_their_records},
    {.name = "cache_missing_index_is_made_from_the_store",
     .body = missing_index_is_made_from_the_store},
    {.name = "cache_damaged_index_is_told_and_rebuilt", .body = damaged_index_is_told_and_rebuilt},
    {.name = "cache_foreign_rows_are_refused", .body = foreign_rows_are_refused},
    {.name = "cache_index_of_a_newer_program_is_refused",
     .body = index_of_a_newer_program_is_refused},
    {.name = "cache_read_only_cache_answers", .body = read_only_cache_answers},
    {.name = "cache_many_writers_lose_nothing",
     .body = many_writers_lose_nothing,
     .timeout_ms = 60000},
    {.name = "cache_survives_kill_during_any_write",
     .body = survives_kill_during_any_write,
     .timeout_ms = 60000},
    {0},
};
const struct suite suite_cache = {"cache", tests, "verify_blind index_row"};
