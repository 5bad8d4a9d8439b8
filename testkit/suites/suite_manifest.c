/* Guards bnt.yml: a misspelled key that silently wishes for nothing, a hostile file that costs
 * memory, an error that does not say where, a file name that leads out of its source. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fetch/manifest.h"
#include "testkit/suites/cache_fixture.h"

static const char digest[] = "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162";

static enum bnt_status read_manifest(struct manifest *m, const char *text, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    fixture_write(fixture_path(path, MANIFEST_FILE), text);
    return manifest_read(m, path, err);
}

static void whole_manifest_is_read(void **state)
{
    (void)state;
    struct manifest m;
    struct bnt_err err = {0};
    char text[1024], place[BNT_CACHE_SOURCE_MAX];
    snprintf(text, sizeof text,
             "# what we use\nmodels:\n  z-one:\n    source: https://h/m.gguf\n"
             "    mirrors: [https://a/m.gguf, https://b/m.gguf]\n    sha256: %s\n"
             "    size: 12\n    license: mit\n    groups:\n      - ci\n      - nightly\n"
             "  a-two:\n    source: \"models/\"\n    files:\n      - x y.gguf\n"
             "      - {path: sub/tokenizer.json, sha256: %s, size: 3}\n"
             "  web:\n    source: https://h/repo/\n    files: [a b/c.gguf]\n",
             digest, digest);
    if (read_manifest(&m, text, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(m.n_models, 3);
    const struct manifest_model *one = manifest_model(&m, "z-one"), *two = &m.models[0];
    assert_string_equal(two->name, "a-two"); /* sorted */
    assert_int_equal(one->line, 3);
    assert_int_equal(one->n_files, 1);
    assert_string_equal(one->files[0].sha256, digest);
    assert_int_equal(one->files[0].size, 12);
    assert_string_equal(one->files[0].cache_name, "z-one");
    assert_string_equal(one->mirrors.at[1].at, "https://b/m.gguf");
    assert_string_equal(one->license.at, "mit");
    assert_true(manifest_in_group(one, "nightly"));
    assert_false(manifest_in_group(one, "night"));
    assert_false(manifest_in_group(two, "ci"));
    assert_string_equal(two->files[0].cache_name, "a-two");
    assert_string_equal(two->files[1].cache_name, "a-two.sub-tokenizer.json");
    assert_int_equal(two->files[1].size, 3);
    assert_int_equal(manifest_place(two, 0, NULL, place, NULL), BNT_OK);
    assert_string_equal(place, "models/x y.gguf");
    assert_int_equal(manifest_source(&m, two, 0, NULL, place, NULL), BNT_OK);
    assert_int_equal(place[0], '/');
    assert_non_null(strstr(place, "/models/x y.gguf"));
    assert_int_equal(manifest_source(&m, manifest_model(&m, "web"), 0, NULL, place, NULL), BNT_OK);
    assert_string_equal(place, "https://h/repo/a%20b/c.gguf");
    assert_null(manifest_model(&m, "three"));
    struct bnt_err far = {0};
    memset(m.dir + 1, 'd', BNT_CACHE_SOURCE_MAX);
    m.dir[BNT_CACHE_SOURCE_MAX] = '\0';
    assert_int_equal(manifest_source(&m, two, 0, NULL, place, &far), BNT_E_USAGE);
    assert_non_null(strstr(far.msg, "models/ leads to a place of more than 2047 bytes"));
    manifest_release(&m);
}

#define ONE "models:\n  m:\n    source: x\n"

static void what_is_wrong_is_named_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *what, *hint;
    } cases[] = {
        {"", "bnt.yml:1:1: ", "no models", "models:"},
        {"# nothing\n", "bnt.yml:1:1: ", "no models", "models:"},
        {"modles:\n  m:\n    source: x\n", "bnt.yml:1:1: ", "unknown key 'modles'", "'models'"},
        {ONE "    sorce: y\n", "bnt.yml:4:5: ", "unknown key 'sorce'", "'source'"},
        {ONE "    mirror: y\n", "bnt.yml:4:5: ", "unknown key 'mirror'", "'mirrors'"},
        {ONE "    zzzzzzzzz: y\n", "bnt.yml:4:5: ", "unknown key", "docs/manifest.md"},
        {ONE "    source: y\n", "bnt.yml:4:5: ", "twice", "line 3"},
        {ONE "  m:\n    source: y\n", "bnt.yml:4:3: ", "twice", "line 2"},
        {"models: [a]\n", "bnt.yml:1:9: ", "models is a list, not a map", ""},
        {"models:\n", "bnt.yml:1:8: ", "models has no value", ""},
        {"models:\n  m: text\n", "bnt.yml:2:6: ", "m is a text, not a map", ""},
        {"models:\n  m: {}\n", "bnt.yml:2:3: ", "m has no source", ""},
        {"models:\n  m:\n    source: [x]\n", "bnt.yml:3:13: ", "source is a list", ""},
        {"models:\n  m:\n    source:\n", "bnt.yml:3:12: ", "source has no value", ""},
        {"models:\n  m:\n    source: ''\n", "bnt.yml:3:13: ", "source is empty", ""},
        {"models:\n  m:\n    source: ~\n", "bnt.yml:3:13: ", "no value", ""},
        {"models:\n  a/b:\n    source: x\n", "bnt.yml:2:3: ", "cannot be the name", "letters"},
        {ONE "    mirrors: y\n", "bnt.yml:4:14: ", "mirrors is a text, not a list", ""},
        {ONE "    mirrors: [[y]]\n", "bnt.yml:4:15: ", "an item is a list", ""},
        {ONE "    sha256: 12\n", "bnt.yml:4:13: ", "not a sha256", "64 hex"},
        {ONE "    update: weekly\n", "bnt.yml:4:13: ", "no policy", "never|if-missing|daily"},
        {ONE "    requires: {memory: much}\n", "bnt.yml:4:24: ", "'much' is not a size", "20GB"},
        {ONE "    requires: {memory: 0}\n", "bnt.yml:4:24: ", "not a size", ""},
        {ONE "    requires: {ram: 4G}\n", "bnt.yml:4:16: ", "unknown key 'ram'", ""},
        {ONE "    requires: {cpu: avx2}\n", "bnt.yml:4:21: ", "a text, not a list", ""},
        {ONE "    requires: {target: riscv}\n", "bnt.yml:4:24: ", "not known", "wasm32"},
        {"timeout: 8d\n" ONE, "bnt.yml:1:10: ", "8d is more than a week", ""},
        {"timeout: 900\n" ONE, "bnt.yml:1:10: ", "'900' is not a time", "s, m, h or d"},
        {"cache: {max_size: -1}\n" ONE, "bnt.yml:1:19: ", "not a size", ""},
        {"cache: {max_age: 30}\n" ONE, "bnt.yml:1:18: ", "not a time", ""},
        {"cache: {keep_latest: two}\n" ONE, "bnt.yml:1:22: ", "not a number", ""},
        {"cache: {max-size: 1G}\n" ONE, "bnt.yml:1:9: ", "unknown key", "'max_size'"},
        {"cache: 1G\n" ONE, "bnt.yml:1:8: ", "a text, not a map", ""},
        {ONE "    size: 1.2G\n", "bnt.yml:4:11: ", "not a number of bytes", ""},
        {ONE "    size: -1\n", "bnt.yml:4:11: ", "not a number of bytes", ""},
        {ONE "    size: 0\n", "bnt.yml:4:11: ", "not a number of bytes", ""},
        {ONE "    size: 99999999999999999999\n", "bnt.yml:4:11: ", "not a number", ""},
        {ONE "    files: []\n", "bnt.yml:4:12: ", "files is empty", ""},
        {ONE "    files: [../a]\n", "bnt.yml:4:13: ", "does not lie below", ""},
        {ONE "    files: [a/../../b]\n", "bnt.yml:4:13: ", "does not lie below", ""},
        {ONE "    files: [/etc/passwd]\n", "bnt.yml:4:13: ", "does not lie below", ""},
        {ONE "    files: [a//b]\n", "bnt.yml:4:13: ", "does not lie below", ""},
        {ONE "    files: [a/.]\n", "bnt.yml:4:13: ", "does not lie below", ""},
        {ONE "    files: ['a\\b']\n", "bnt.yml:4:13: ", "does not lie below", ""},
        {ONE "    files: [{size: 1}]\n", "bnt.yml:4:13: ", "without a path", ""},
        {ONE "    files: [a, b/c, b-c]\n", "bnt.yml:4:21: ", "would both be called m.b-c", ""},
        {ONE "    files: [a]\n    size: 4\n", "bnt.yml:2:3: ", "size beside them", "below files"},
        {ONE "    files: [a, n.gguf]\n  m.n:\n    source: y\n",
         "bnt.yml:4:16: ", "called m.n in the cache, as a file of m.n is", ""},
        {ONE "    files: [a, n.c]\n  m.n:\n    source: y\n    files: [b, c]\n",
         "bnt.yml:4:16: ", "called m.n.c in the cache, as a file of m.n is", ""},
        {"models:\n  m:\n    source: 'bundled:'\n    files: [a]\n",
         "bnt.yml:3:13: ", "not a folder", ""},
        {"models:\n  m:\n    source: https://h/d?x=1\n    files: [a]\n",
         "bnt.yml:3:13: ", "not a folder", ""},
        {"models:\n  m: &a {source: x}\n", "bnt.yml:2:6: ", "an anchor", ""},
        {"models:\n  m: *a\n", "bnt.yml:2:6: ", "an alias", ""},
        {"models:\n  m: !t {source: x}\n", "bnt.yml:2:6: ", "a tag", ""},
        {"models:\n  ? [a]\n  : b\n", "bnt.yml:2:5: ", "not a text", ""},
        {ONE "    license: \"a\\0b\"\n", "bnt.yml:4:14: ", "control character", ""},
        {ONE "    license: |\n      a\n      b\n", "bnt.yml:4:14: ", "line break", ""},
        {ONE "---\nmodels: {}\n", "bnt.yml:4:1: ", "a second document", ""},
        {"models:\n\tm: x\n", "bnt.yml:2:1: ", "", "blanks"},
        {"models: {m: {source: x}\n", "bnt.yml:2:1: ", "", ""},
        {"models: {m: {source: [[[[[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]]]]}}\n",
         "bnt.yml:1:43: ", "deep", ""},
        {ONE "    license: 'm\xe9'\n", "bnt.yml:4:17: ", "UTF-8 octet", "UTF-8"},
        {ONE "    license: \x01\n", "bnt.yml:4:14: ", "control characters", ""},
        {"text\n", "bnt.yml:1:1: ", "a text, not a map", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct manifest m;
        struct bnt_err err = {0};
        enum bnt_status st = read_manifest(&m, cases[i].text, &err);
        if (st != BNT_E_FILE || strncmp(err.msg, cases[i].where, strlen(cases[i].where)) != 0 ||
            !strstr(err.msg, cases[i].what) || !strstr(err.hint, cases[i].hint)) {
            fail_msg("%s: status %d, %s (%s)", cases[i].text, st, err.msg, err.hint);
        }
    }
}

/* Many small values, deep lists and a large file end in an error, not in memory. */
static void hostile_sizes_are_refused(void **state)
{
    (void)state;
    struct manifest m;
    struct bnt_err err = {0};
    char *text = malloc(YAML_TREE_MAX_BYTES + 2);
    assert_non_null(text);
    size_t n = (size_t)snprintf(text, YAML_TREE_MAX_BYTES, "models:\n  m:\n    groups: [");
    size_t begin = n;
    for (unsigned i = 0; i < YAML_TREE_MAX_NODES + 10; i++) {
        memcpy(text + n, "a,", 2);
        n += 2;
    }
    snprintf(text + n, 4, "]\n");
    assert_int_equal(read_manifest(&m, text, &err), BNT_E_FILE);
    assert_non_null(strstr(err.msg, "too many values"));
    memset(text + begin, '[', 100000);
    text[begin + 100000] = '\0';
    err = (struct bnt_err){0};
    assert_int_equal(read_manifest(&m, text, &err), BNT_E_FILE);
    assert_non_null(strstr(err.msg, "too deeply"));
    memset(text, '#', YAML_TREE_MAX_BYTES + 1);
    text[YAML_TREE_MAX_BYTES + 1] = '\0';
    assert_int_not_equal(read_manifest(&m, text, NULL), BNT_OK);
    free(text);
}

/* Every cut of a good manifest is read or refused, and leaves nothing behind. */
static void cut_manifest_is_no_danger(void **state)
{
    (void)state;
    static const char whole[] = "models:\n  m:\n    source: 'a b'\n    mirrors: [x, \"y\\u00e9\"]\n"
                                "    files:\n      - {path: a, size: 3}\n";
    char text[sizeof whole];
    for (size_t n = 0; n < sizeof whole; n++) {
        struct manifest m;
        snprintf(text, n + 1, "%s", whole);
        enum bnt_status st = read_manifest(&m, text, NULL);
        assert_true(st == BNT_OK || st == BNT_E_FILE);
        if (st == BNT_OK) {
            manifest_release(&m);
        }
    }
}

static void nearest_manifest_above_is_found(void **state)
{
    (void)state;
    char outer[BNT_PATH_MAX], inner[BNT_PATH_MAX], path[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    bool found = false;
    assert_int_equal(mkdir(fixture_path(dir, "a"), 0777), 0);
    assert_int_equal(mkdir(fixture_path(dir, "a/b"), 0777), 0);
    fixture_write(fixture_path(outer, MANIFEST_FILE), ONE);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(manifest_find(path, &found, NULL), BNT_OK);
    assert_true(found);
    assert_string_equal(path, outer);
    fixture_write(fixture_path(inner, "a/" MANIFEST_FILE), ONE);
    assert_int_equal(manifest_find(path, &found, NULL), BNT_OK);
    assert_string_equal(path, inner);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(manifest_find(path, &found, NULL), BNT_OK);
    assert_false(found);
}

static const struct suite_test tests[] = {
    {.name = "manifest_whole_is_read", .body = whole_manifest_is_read},
    {.name = "manifest_what_is_wrong_is_named_with_its_place",
     .body = what_is_wrong_is_named_with_its_place},
    {.name = "manifest_hostile_sizes_are_refused", .body = hostile_sizes_are_refused},
    {.name = "manifest_cut_is_no_danger", .body = cut_manifest_is_no_danger},
    {.name = "manifest_nearest_above_is_found", .body = nearest_manifest_above_is_found},
    {0},
};
const struct suite suite_manifest = {"manifest", tests, "manifest_key"};
