/* Guards what scripts and workflows depend on: the output and the exit codes of bnt fetch, bnt path
 * and bnt cache. */
#include "testkit/suite.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "testkit/suites/cache_fixture.h"

/* Run, expect the exit code, and drop the output. */
static void bnt_exits(int exit, const char *const *words)
{
    struct suite_output o;
    fixture_bnt(&o, exit, words);
    suite_output_release(&o);
}
#define BNT_EXITS(code, ...) bnt_exits((code), (const char *const[]){__VA_ARGS__, NULL})

/* Standard output as one JSON value, whole. */
static json_t *json_of(const struct suite_output *o)
{
    json_error_t error;
    json_t *value = json_loads(o->out, JSON_REJECT_DUPLICATES, &error);
    if (!value) {
        fail_msg("%s in: %s", error.text, o->out);
    }
    return value;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

/* Path of a cached model, as bnt path prints it. */
static void path_of(const char *name, char path[BNT_PATH_MAX])
{
    struct suite_output o;
    FIXTURE_BNT(&o, 0, "path", name);
    assert_int_equal(bnt_path_format(path, NULL, "%.*s", (int)strcspn(o.out, "\n"), o.out), BNT_OK);
    suite_output_release(&o);
}

static void fetch_prints_the_path_and_path_finds_it(void **state)
{
    (void)state;
    struct suite_output first, second, path;
    char hex[BNT_SHA256_HEX];
    FIXTURE_BNT(&first, 0, "fetch", "bundled:");
    FIXTURE_BNT(&second, 0, "fetch", "bundled:");
    FIXTURE_BNT(&path, 0, "path", "tinystories-bitnet");
    assert_string_equal(first.out, path.out);
    assert_string_equal(second.out, path.out);
    assert_null(strstr(first.err, "already"));
    assert_non_null(strstr(second.err, "in the cache already"));
    assert_string_equal(path.err, "");
    path.out[strcspn(path.out, "\n")] = '\0';
    assert_int_equal(bnt_sha256_file(path.out, NULL, NULL, hex, NULL), BNT_OK);
    assert_non_null(strstr(path.out, hex)); /* the file is named by its content */
    suite_output_release(&first);
    suite_output_release(&second);
    suite_output_release(&path);
}

static void quiet_fetch_says_nothing(void **state)
{
    (void)state;
    struct suite_output o;
    for (int i = 0; i < 2; i++) {
        FIXTURE_BNT(&o, 0, "fetch", "-q", "bundled:");
        assert_string_equal(o.err, "");
        suite_output_release(&o);
    }
}

static void json_is_one_value_that_agrees(void **state)
{
    (void)state;
    struct suite_output o;
    char path[BNT_PATH_MAX];
    FIXTURE_BNT(&o, 0, "fetch", "--json", "bundled:");
    char *last = o.out + strlen(o.out) - 1; /* the result, after the events */
    while (last > o.out && last[-1] != '\n') {
        last--;
    }
    memmove(o.out, last, strlen(last) + 1);
    json_t *fetched = json_of(&o);
    suite_output_release(&o);
    path_of("tinystories-bitnet", path);
    assert_string_equal(text_of(fetched, "path"), path);
    assert_string_equal(text_of(fetched, "source"), "bundled:");
    assert_true(json_is_false(json_object_get(fetched, "hit")));
    FIXTURE_BNT(&o, 0, "cache", "ls", "--json");
    json_t *list = json_of(&o);
    suite_output_release(&o);
    assert_int_equal(json_array_size(list), 1);
    static const char *const keys[] = {"name", "digest", "path", "source"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_string_equal(text_of(json_array_get(list, 0), keys[i]), text_of(fetched, keys[i]));
    }
    FIXTURE_BNT(&o, 0, "cache", "verify", "--json");
    json_t *verified = json_of(&o);
    suite_output_release(&o);
    assert_int_equal(json_integer_value(json_object_get(verified, "checked")), 1);
    assert_int_equal(json_integer_value(json_object_get(verified, "problems")), 0);
    json_decref(fetched);
    json_decref(list);
    json_decref(verified);
}

static void empty_cache_is_an_empty_list(void **state)
{
    (void)state;
    struct suite_output o;
    FIXTURE_BNT(&o, 0, "cache", "ls", "--json");
    json_t *list = json_of(&o);
    assert_true(json_is_array(list));
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    suite_output_release(&o);
}

static void exit_codes_tell_the_cause(void **state)
{
    (void)state;
    static const char other_digest[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    char file[BNT_PATH_MAX];
    fixture_write(fixture_path(file, "m.gguf"), "bytes");
    BNT_EXITS(BNT_E_USAGE, "fetch", "-q");
    BNT_EXITS(BNT_E_USAGE, "fetch", "m.gguf", "m.gguf", "--name", "x");
    BNT_EXITS(BNT_E_USAGE, "fetch", "http://127.0.0.1:1/m.gguf");
    BNT_EXITS(BNT_E_USAGE, "fetch", "m.gguf", "--name", "a/b");
    BNT_EXITS(BNT_E_NOT_FOUND, "fetch", "absent.gguf");
    BNT_EXITS(BNT_E_NOT_FOUND, "path", "m");
    BNT_EXITS(BNT_E_UNSUPPORTED, "fetch", "gopher://h/m");
    BNT_EXITS(BNT_E_DIGEST, "fetch", "m.gguf", "--sha256", other_digest);
    BNT_EXITS(BNT_E_NETWORK, "fetch", "https://127.0.0.1:1/m.gguf");
    BNT_EXITS(BNT_E_OFFLINE, "fetch", "--offline", "https://127.0.0.1:1/m.gguf");
    BNT_EXITS(BNT_E_NOT_FOUND, "path", "m");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf");
    BNT_EXITS(BNT_OK, "path", "m");
}

static void verify_tells_damage_and_how_to_heal_it(void **state)
{
    (void)state;
    struct suite_output o;
    char path[BNT_PATH_MAX], file[BNT_PATH_MAX];
    fixture_write(fixture_path(file, "m.gguf"), "some bytes");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf");
    BNT_EXITS(BNT_OK, "fetch", "bundled:");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf", "--name", "same");
    FIXTURE_BNT(&o, 0, "cache", "verify");
    assert_string_equal(o.out, "3 checked, 3 ok, 0 corrupt, 0 missing\n");
    suite_output_release(&o);
    path_of("m", path);
    assert_int_equal(chmod(path, 0644), 0);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fputc('S', f), 'S');
    assert_int_equal(fclose(f), 0);
    FIXTURE_BNT(&o, BNT_E_DIGEST, "cache", "verify");
    assert_string_equal(o.out, "3 checked, 1 ok, 2 corrupt, 0 missing\n");
    assert_non_null(strstr(o.err, "m is corrupt: sha256 differs"));
    assert_non_null(strstr(o.err, "bnt fetch --force file:///"));
    suite_output_release(&o);
    BNT_EXITS(BNT_OK, "cache", "verify", "tinystories-bitnet");
    BNT_EXITS(BNT_OK, "fetch", "--force", "m.gguf");
    BNT_EXITS(BNT_OK, "cache", "verify");
    assert_int_equal(unlink(path), 0);
    BNT_EXITS(BNT_E_NOT_FOUND, "cache", "verify", "m");
    BNT_EXITS(BNT_E_NOT_FOUND, "cache", "verify", "absent");
}

static void rebuild_keeps_the_models(void **state)
{
    (void)state;
    struct suite_output o;
    char path[BNT_PATH_MAX], index[BNT_PATH_MAX];
    BNT_EXITS(BNT_OK, "fetch", "bundled:");
    path_of("tinystories-bitnet", path);
    const char *digest = strrchr(path, '/') + 1;
    FIXTURE_BNT(&o, 0, "cache", "dir");
    assert_int_equal(
        bnt_path_format(index, NULL, "%.*s/index.db", (int)strcspn(o.out, "\n"), o.out), BNT_OK);
    suite_output_release(&o);
    FILE *f = fopen(index, "r+");
    assert_non_null(f);
    assert_true(fputs("garbage over the header", f) >= 0);
    assert_int_equal(fclose(f), 0);
    BNT_EXITS(BNT_E_FILE, "path", "tinystories-bitnet");
    BNT_EXITS(BNT_OK, "cache", "rebuild");
    BNT_EXITS(BNT_OK, "path", digest);
    BNT_EXITS(BNT_OK, "path", "tinystories-bitnet");
}

static void who_meets_a_rebuild_is_told_to_come_again(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    uint64_t blobs = 0;
    struct bnt_cache_entry e;
    struct bnt_err err = {0};
    struct bnt_cache *c = NULL;
    fixture_write(fixture_path(file, "m.gguf"), "some bytes");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf");
    assert_int_equal(bnt_cache_open(NULL, &c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_find(c, "m", &e, NULL), BNT_OK);
    assert_int_equal(bnt_cache_rebuild(NULL, &blobs, NULL), BNT_OK);
    assert_int_equal(bnt_cache_set_name(c, &e, &err), BNT_E_FAILED);
    assert_non_null(strstr(err.hint, "made anew"));
    bnt_cache_close(c);
}

static void pin_rm_and_gc_say_what_they_did(void **state)
{
    (void)state;
    struct suite_output o;
    char file[BNT_PATH_MAX];
    fixture_write(fixture_path(file, "m.gguf"), "some bytes");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf");
    BNT_EXITS(BNT_OK, "fetch", "bundled:");
    BNT_EXITS(BNT_E_USAGE, "cache", "rm");
    FIXTURE_BNT(&o, BNT_E_NOT_FOUND, "cache", "rm", "absent");
    assert_non_null(strstr(o.err, "hint: bnt cache ls "));
    assert_null(strstr(o.err, "bnt fetch"));
    suite_output_release(&o);
    BNT_EXITS(BNT_E_NOT_FOUND, "cache", "pin", "absent");
    BNT_EXITS(BNT_OK, "cache", "pin", "m");
    BNT_EXITS(BNT_E_FAILED, "cache", "rm", "m");
    BNT_EXITS(BNT_E_USAGE, "cache", "gc", "--max-age", "7");
    FIXTURE_BNT(&o, 0, "cache", "gc", "--max-size", "1", "--json");
    json_t *report = json_of(&o);
    assert_int_equal(json_integer_value(json_object_get(report, "removed")), 1);
    assert_int_equal(json_integer_value(json_object_get(report, "bytes_kept")), 10);
    assert_true(json_is_true(json_object_get(report, "unmet")));
    assert_int_equal(json_array_size(json_object_get(report, "models")), 2);
    json_decref(report);
    suite_output_release(&o);
    BNT_EXITS(BNT_E_NOT_FOUND, "path", "tinystories-bitnet");
    BNT_EXITS(BNT_OK, "path", "m");
    FIXTURE_BNT(&o, 0, "cache", "stats", "--json");
    json_t *stats = json_of(&o);
    assert_int_equal(json_integer_value(json_object_get(stats, "models")), 1);
    assert_int_equal(json_integer_value(json_object_get(stats, "bytes")), 10);
    assert_int_equal(json_integer_value(json_object_get(stats, "pinned_bytes")), 10);
    json_decref(stats);
    suite_output_release(&o);
    BNT_EXITS(BNT_OK, "cache", "unpin", "m");
    FIXTURE_BNT(&o, BNT_E_NOT_FOUND, "path", "n");
    assert_non_null(strstr(o.err, "run: bnt fetch SOURCE --name n "));
    suite_output_release(&o);
    FIXTURE_BNT(&o, BNT_E_NOT_FOUND, "path", "n.gguf"); /* which no model can be called */
    assert_non_null(strstr(o.err, "run: bnt fetch SOURCE "));
    assert_null(strstr(o.err, "--name"));
    suite_output_release(&o);
    BNT_EXITS(BNT_E_USAGE, "cache", "gc", "--max-size", "some");
    BNT_EXITS(BNT_OK, "cache", "gc", "--max-size", "0");
    BNT_EXITS(BNT_E_NOT_FOUND, "path", "m");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf");
    BNT_EXITS(BNT_OK, "cache", "rm", "m");
    BNT_EXITS(BNT_E_NOT_FOUND, "path", "m");
}

static void gc_keeps_what_the_lock_file_names(void **state)
{
    (void)state;
    struct suite_output o;
    char file[BNT_PATH_MAX], hex[BNT_SHA256_HEX], text[256];
    fixture_digest("some bytes", hex);
    snprintf(text, sizeof text, "{\"files\": [{\"sha256\": \"%s\"}]}\n", hex);
    fixture_write(fixture_path(file, "bnt.lock"), text);
    fixture_write(fixture_path(file, "m.gguf"), "some bytes");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf");
    FIXTURE_BNT(&o, 0, "cache", "gc", "--max-size", "1");
    assert_non_null(strstr(o.out, "lock file"));
    assert_non_null(strstr(o.err, "more than the limits allow"));
    suite_output_release(&o);
    BNT_EXITS(BNT_OK, "path", "m");
    BNT_EXITS(BNT_E_NOT_FOUND, "cache", "gc", "--lock", "absent.lock");
    BNT_EXITS(BNT_E_USAGE, "cache", "gc", "--cold", "http://127.0.0.1:1");
    assert_int_equal(unlink(fixture_path(file, "bnt.lock")), 0);
    BNT_EXITS(BNT_OK, "cache", "gc", "--max-size", "1");
    BNT_EXITS(BNT_E_NOT_FOUND, "path", "m");
}

/* The key of a lock file is that of the models it leads to, whatever else the file says. */
static void key_follows_the_content(void **state)
{
    (void)state;
    struct suite_output by_lock, by_name, other;
    char file[BNT_PATH_MAX], a[BNT_SHA256_HEX], b[BNT_SHA256_HEX], c[BNT_SHA256_HEX], text[512];
    fixture_digest("some bytes", a);
    fixture_digest("other bytes", b);
    fixture_write(fixture_path(file, "m.gguf"), "some bytes");
    fixture_write(fixture_path(file, "n.gguf"), "other bytes");
    BNT_EXITS(BNT_E_NOT_FOUND, "cache", "key");
    fixture_digest("a chunk tree, a manifest", c);
    snprintf(text, sizeof text,
             "{\"x\": \"%s\", \"again\": \"%s\", \"tree\": \"%s\", \"y\": \"sha256:%s\",\n"
             "\"revision\": \"sha256:%s\", \"tree\":\"%s\"}\n",
             b, b, c, a, c, c);
    fixture_write(fixture_path(file, "bnt.lock"), text);
    FIXTURE_BNT(&by_lock, 0, "cache", "key");
    BNT_EXITS(BNT_OK, "fetch", "m.gguf");
    BNT_EXITS(BNT_OK, "fetch", "n.gguf");
    FIXTURE_BNT(&by_name, 0, "cache", "key", "m", "n");
    FIXTURE_BNT(&other, 0, "cache", "key", "m");
    BNT_EXITS(BNT_E_USAGE, "cache", "key", "--lock", "bnt.lock", "m");
    assert_string_equal(by_lock.out, by_name.out);
    assert_string_not_equal(by_lock.out, other.out);
    suite_output_release(&by_lock);
    suite_output_release(&by_name);
    suite_output_release(&other);
}

/* What cannot be looked into is not called empty. */
static void folder_that_cannot_be_entered_is_an_error(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_cache *c = NULL;
    struct bnt_err err = {0};
    assert_int_equal(mkdir(fixture_path(dir, "closed"), 0), 0);
    assert_true(fixture_drop_capabilities());
    assert_int_equal(bnt_cache_open(fixture_path(dir, "closed/c"), &c, &err), BNT_E_FAILED);
    assert_non_null(strstr(err.msg, "Permission denied"));
    assert_non_null(strstr(err.hint, "BNT_CACHE_DIR"));
    assert_int_equal(rmdir(fixture_path(dir, "closed")), 0);
}

/* A path is bytes; JSON and the records of names are UTF-8. */
static void names_that_are_no_utf8_are_shown_and_kept(void **state)
{
    (void)state;
    char model[BNT_PATH_MAX], dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct suite_output o;
    fixture_write(fixture_path(model, "mod\xe9le.gguf"), "bytes");
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c\xe9"), 1), 0);
    FIXTURE_BNT(&o, 0, "fetch", model, "--json");
    assert_non_null(strstr(o.out, "\"event\":\"done\",\"name\":\"mod-le\",\"path\":"));
    assert_non_null(strstr(o.out, "/c\xef\xbf\xbd/blobs/"));
    suite_output_release(&o);
    FIXTURE_BNT(&o, 0, "cache", "ls", "--json");
    json_t *list = json_of(&o);
    assert_string_equal(text_of(json_array_get(list, 0), "file_name"), "mod%E9le.gguf");
    json_decref(list);
    suite_output_release(&o);
    BNT_EXITS(0, "cache", "export", fixture_path(path, "x.tar"));
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "other"), 1), 0);
    BNT_EXITS(0, "cache", "import", path);
    BNT_EXITS(0, "path", "mod-le");
    BNT_EXITS(BNT_E_USAGE, "fetch", "https://example.org/mod\xe9le.gguf");
    BNT_EXITS(BNT_E_USAGE, "fetch", "hf://org/repo/mod%E9le.gguf");
}

static const struct suite_test tests[] = {
    {.name = "cache_cli_folder_that_cannot_be_entered_is_an_error",
     .body = folder_that_cannot_be_entered_is_an_error},
    {.name = "cache_cli_names_that_are_no_utf8_are_shown_and_kept",
     .body = names_that_are_no_utf8_are_shown_and_kept},
    {.name = "cache_cli_fetch_prints_the_path_and_path_finds_it",
     .body = fetch_prints_the_path_and_path_finds_it},
    {.name = "cache_cli_quiet_fetch_says_nothing", .body = quiet_fetch_says_nothing},
    {.name = "cache_cli_json_is_one_value_that_agrees", .body = json_is_one_value_that_agrees},
    {.name = "cache_cli_empty_cache_is_an_empty_list", .body = empty_cache_is_an_empty_list},
    {.name = "cache_cli_exit_codes_tell_the_cause",
     .body = exit_codes_tell_the_cause,
     .timeout_ms = 30000},
    {.name = "cache_cli_verify_tells_damage_and_how_to_heal_it",
     .body = verify_tells_damage_and_how_to_heal_it},
    {.name = "cache_cli_rebuild_keeps_the_models", .body = rebuild_keeps_the_models},
    {.name = "cache_cli_who_meets_a_rebuild_is_told_to_come_again",
     .body = who_meets_a_rebuild_is_told_to_come_again},
    {.name = "cache_cli_pin_rm_and_gc_say_what_they_did", .body = pin_rm_and_gc_say_what_they_did},
    {.name = "cache_cli_gc_keeps_what_the_lock_file_names",
     .body = gc_keeps_what_the_lock_file_names},
    {.name = "cache_cli_key_follows_the_content", .body = key_follows_the_content},
    {0},
};
const struct suite suite_cache_cli = {"cache_cli", tests, "digest_unchecked"};
