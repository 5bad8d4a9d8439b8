/* Guards what stands between a model and its reader: a stop string shown in part, a broken answer
 * that passes, a digest remembered for a file that has changed, a mock that passes for a model. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/file_facts.h"
#include "engine/model_arg.h"
#include "engine/quality.h"
#include "engine/stop.h"

/* ---- Stop strings. */

static const struct {
    const char *text, *stops[4];
    const char *shown;
    int hit;
} stop_cases[] = {
    {"Hello world", {"wor", NULL}, "Hello ", 0},
    {"Hello world", {"xyz", NULL}, "Hello world", -1},
    {"aaab", {"aab", NULL}, "a", 0}, /* the prefix overlaps itself */
    {"ababac", {"abac", NULL}, "ab", 0},
    {"x\n\n", {"\n\n\n", NULL}, "x\n\n", -1}, /* held back, then released at the end */
    {"xabcd", {"bc", "abcd", NULL}, "xa", 0}, /* the first to be complete wins */
    {"xabcd", {"cd", "abcd", NULL}, "x", 1},  /* of those that end together the longest */
    {"User: a User", {"User:", "User: b", NULL}, "", 0},
    {"caf\xc3\xa9 cr\xc3\xa8me", {"\xc3\xa8", NULL}, "caf\xc3\xa9 cr", 0},
    {"anything", {NULL}, "anything", -1},
    {"", {"a", NULL}, "", -1},
};

/* Feed `text` in pieces of `step` bytes; what is shown so far must never run ahead of the expected
 * text. */
static void check_stop(size_t k, size_t step)
{
    size_t n = 0;
    while (stop_cases[k].stops[n] != NULL) {
        n++;
    }
    struct bnt_stop *s = NULL;
    struct bnt_buf out = BNT_BUF(1000);
    int hit = -1;
    const char *text = stop_cases[k].text;
    size_t len = strlen(text);
    assert_int_equal(bnt_stop_new(stop_cases[k].stops, n, &s, NULL), BNT_OK);
    for (size_t i = 0; i < len && hit < 0; i += step) {
        size_t piece = len - i < step ? len - i : step;
        assert_int_equal(bnt_stop_push(s, text + i, piece, &out, &hit, NULL), BNT_OK);
        assert_true(out.len <= strlen(stop_cases[k].shown));
        assert_memory_equal(bnt_buf_view(&out), stop_cases[k].shown, out.len);
    }
    if (hit < 0) {
        assert_int_equal(bnt_stop_flush(s, &out, NULL), BNT_OK);
    }
    assert_int_equal(hit, stop_cases[k].hit);
    assert_string_equal(bnt_buf_view(&out), stop_cases[k].shown);
    bnt_buf_release(&out);
    bnt_stop_free(s);
}

static void stop_does_not_depend_on_the_pieces(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof(stop_cases) / sizeof(*stop_cases); k++) {
        for (size_t step = 1; step <= 12; step++) {
            check_stop(k, step);
        }
    }
}

/* Against a plain search over random texts of two letters. */
static void stop_equals_a_plain_search(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int trial = 0; trial < 500; trial++) {
        char text[65] = "", stop[6] = "";
        for (int i = 0; i < 64; i++) {
            text[i] = (char)('a' + rand_r(&seed) % 2);
        }
        size_t len = (unsigned)rand_r(&seed) % 5 + 1;
        for (size_t i = 0; i < len; i++) {
            stop[i] = (char)('a' + rand_r(&seed) % 2);
        }
        const char *found = strstr(text, stop);
        size_t expected = found != NULL ? (size_t)(found - text) : 64;
        const char *stops[] = {stop};
        struct bnt_stop *s = NULL;
        struct bnt_buf out = BNT_BUF(100);
        int hit;
        assert_int_equal(bnt_stop_new(stops, 1, &s, NULL), BNT_OK);
        assert_int_equal(bnt_stop_push(s, text, 64, &out, &hit, NULL), BNT_OK);
        assert_int_equal(hit, found != NULL ? 0 : -1);
        if (hit < 0) {
            assert_int_equal(bnt_stop_flush(s, &out, NULL), BNT_OK);
        }
        assert_int_equal(out.len, expected);
        assert_memory_equal(bnt_buf_view(&out), text, expected);
        bnt_buf_release(&out);
        bnt_stop_free(s);
    }
}

static void stop_refuses_empty_and_overlong(void **state)
{
    (void)state;
    char longest[BNT_STOP_MAX_BYTES + 2];
    memset(longest, 'x', sizeof(longest));
    longest[BNT_STOP_MAX_BYTES + 1] = '\0';
    const char *bad[][2] = {{"ok", ""}, {"ok", longest}};
    for (int i = 0; i < 2; i++) {
        struct bnt_stop *s = NULL;
        struct bnt_err err = {0};
        assert_int_equal(bnt_stop_new(bad[i], 2, &s, &err), BNT_E_USAGE);
        assert_non_null(strstr(err.msg, "stop string 2"));
    }
    longest[BNT_STOP_MAX_BYTES] = '\0';
    const char *good[] = {longest};
    struct bnt_stop *s = NULL;
    struct bnt_buf out = BNT_BUF(5000);
    int hit;
    assert_int_equal(bnt_stop_new(good, 1, &s, NULL), BNT_OK);
    assert_int_equal(bnt_stop_push(s, "y", 1, &out, &hit, NULL), BNT_OK);
    assert_int_equal(bnt_stop_push(s, longest, BNT_STOP_MAX_BYTES, &out, &hit, NULL), BNT_OK);
    assert_int_equal(hit, 0);
    assert_string_equal(bnt_buf_view(&out), "y");
    bnt_buf_release(&out);
    bnt_stop_free(s);
}

/* ---- Quality. */

static enum bnt_status judge(const int32_t *ids, size_t n, const char *text, size_t len, bool cut,
                             const char *word)
{
    struct bnt_err err = {0};
    enum bnt_status st = bnt_quality_answer(ids, n, text, len, cut, &err);
    if (st != BNT_OK && strstr(err.msg, word) == NULL) {
        fail_msg("'%s' does not say '%s'", err.msg, word);
    }
    return st;
}

static void quality_tells_broken_text(void **state)
{
    (void)state;
    static const int32_t ids[] = {1, 2, 3};
    static const struct {
        const char *text;
        bool cut;
        enum bnt_status expected;
        const char *word;
    } cases[] = {
        {"Hello", false, BNT_OK, ""},
        {"", false, BNT_E_QUALITY, "empty"},
        {" \n\t ", false, BNT_E_QUALITY, "empty"},
        {"caf\xc3\xa9", false, BNT_OK, ""},
        {"caf\xc3", true, BNT_OK, ""}, /* cut inside a letter by the length limit */
        {"caf\xc3", false, BNT_E_QUALITY, "UTF-8 at byte 3"},
        {"a\xf0\x9f\x98", true, BNT_OK, ""},
        {"a\xff", true, BNT_E_QUALITY, "0xff"}, /* never becomes valid */
        {"\xc3(x", true, BNT_E_QUALITY, "byte 0"},
        {"a\xed\xa0", true, BNT_E_QUALITY, "byte 1"}, /* would become a surrogate */
        {"a\xe0\x80", true, BNT_E_QUALITY, "byte 1"}, /* would become an overlong form */
        {"a\xf4\x90", true, BNT_E_QUALITY, "byte 1"}, /* would lie past the last code point */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(
            judge(ids, 3, cases[i].text, strlen(cases[i].text), cases[i].cut, cases[i].word),
            cases[i].expected);
    }
}

static void quality_tells_endless_repetition(void **state)
{
    (void)state;
    int32_t ids[200];
    static const struct {
        size_t period, times;
        enum bnt_status expected;
    } cases[] = {
        {1, BNT_QUALITY_SPAN - 1, BNT_OK},
        {1, BNT_QUALITY_SPAN, BNT_E_QUALITY},
        {3, 7, BNT_OK},
        {3, 8, BNT_E_QUALITY},
        {20, 3, BNT_OK},
        {20, 4, BNT_E_QUALITY},
        {BNT_QUALITY_BLOCK, 4, BNT_E_QUALITY},
        {BNT_QUALITY_BLOCK + 1, 4, BNT_OK},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        size_t n = 0;
        for (int32_t k = 0; k < 10; k++) { /* an opening that does not repeat, and an end */
            ids[n++] = 1000 + k;
        }
        for (size_t k = 0; k < cases[i].period * cases[i].times; k++) {
            ids[n++] = (int32_t)(k % cases[i].period);
        }
        ids[n++] = 2000;
        assert_int_equal(judge(ids, n, "text", 4, false, "repetition"), cases[i].expected);
    }
}

/* No block repeats, but there is nothing new either. */
static void quality_tells_poverty(void **state)
{
    (void)state;
    int32_t ids[300];
    unsigned seed = 7;
    for (int i = 0; i < 300; i++) {
        ids[i] = rand_r(&seed) / 64 % 5;
    }
    assert_int_equal(judge(ids, 300, "text", 4, false, "different"), BNT_E_QUALITY);
    for (int i = 0; i < 300; i++) {
        ids[i] = rand_r(&seed) / 64 % 50;
    }
    assert_int_equal(judge(ids, 300, "text", 4, false, ""), BNT_OK);
}

static void quality_finds_broken_logits(void **state)
{
    (void)state;
    float logits[] = {1, -INFINITY, 3};
    assert_int_equal(bnt_quality_logits(logits, 3, NULL), BNT_OK);
    static const float broken[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        struct bnt_err err = {0};
        logits[2] = broken[i];
        assert_int_equal(bnt_quality_logits(logits, 3, &err), BNT_E_INFERENCE);
        assert_non_null(strstr(err.msg, "id 2"));
    }
}

/* ---- Remembered digests. */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Date a file's content back, so that it counts as settled; the inode's time cannot be set, hence
 * the fake clock. */
static void date_back(const char *path, time_t mtime)
{
    struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime, .tv_nsec = 123}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool remembers_digest(const char *path)
{
    struct bnt_file_id id;
    char value[BNT_FACT_MAX];
    return bnt_file_identify(path, &id) && bnt_fact_get(&id, "sha256", value);
}

static void digest_is_remembered_only_while_it_holds(void **state)
{
    (void)state;
    static const char abc[] =
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; /* FIPS 180-4 */
    char path[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    bool hashed;
    assert_int_equal(bnt_path_format(path, NULL, "%s/file", suite_scratch()), BNT_OK);
    setenv("BNT_CACHE_DIR", suite_scratch(), 1);
    bnt_clock_fake((uint64_t)bnt_clock_unix_ns()); /* the file stays young */
    write_file(path, "abc");
    assert_int_equal(bnt_digest_of_file(path, NULL, hex, &hashed, NULL), BNT_OK);
    assert_string_equal(hex, abc);
    assert_true(hashed);
    assert_false(remembers_digest(path)); /* too young to be remembered */

    bnt_clock_fake((uint64_t)(bnt_clock_unix_s() + 60) * 1000000000u); /* a minute later */
    assert_int_equal(bnt_digest_of_file(path, NULL, hex, &hashed, NULL), BNT_OK);
    assert_true(hashed);
    assert_int_equal(bnt_digest_of_file(path, NULL, hex, &hashed, NULL), BNT_OK);
    assert_false(hashed);
    assert_string_equal(hex, abc);
    assert_true(remembers_digest(path));

    write_file(path, "abd"); /* same size and inode; the time of content cannot hide it either */
    date_back(path, 1000000000);
    assert_false(remembers_digest(path));
    assert_int_equal(bnt_digest_of_file(path, NULL, hex, &hashed, NULL), BNT_OK);
    assert_true(hashed);
    assert_string_not_equal(hex, abc);
}

static void digest_survives_a_broken_sidecar(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], sidecar[BNT_PATH_MAX], hex[BNT_SHA256_HEX], first[BNT_SHA256_HEX];
    struct stat sb;
    bool hashed;
    assert_int_equal(bnt_path_format(path, NULL, "%s/file", suite_scratch()), BNT_OK);
    setenv("BNT_CACHE_DIR", suite_scratch(), 1);
    write_file(path, "some content");
    bnt_clock_fake((uint64_t)(bnt_clock_unix_s() + 60) * 1000000000u);
    assert_int_equal(bnt_digest_of_file(path, NULL, first, &hashed, NULL), BNT_OK);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(bnt_path_format(sidecar, NULL, "%s/facts/%llx-%llx.sha256", suite_scratch(),
                                     (unsigned long long)sb.st_dev, (unsigned long long)sb.st_ino),
                     BNT_OK);
    struct bnt_buf good = BNT_BUF(4096);
    assert_int_equal(bnt_file_read(sidecar, &good, NULL), BNT_OK);
    for (size_t cut = 0; cut < good.len; cut += 7) { /* truncated anywhere */
        char text[4096];
        snprintf(text, sizeof(text), "%.*s", (int)cut, good.data);
        chmod(sidecar, 0644);
        write_file(sidecar, text);
        assert_false(remembers_digest(path));
    }
    bnt_buf_release(&good);
    assert_int_equal(bnt_digest_of_file(path, NULL, hex, &hashed, NULL), BNT_OK);
    assert_true(hashed);
    assert_string_equal(hex, first);
    setenv("BNT_CACHE_DIR", "/proc/no/such/folder", 1); /* nowhere to remember: no error */
    assert_int_equal(bnt_digest_of_file(path, NULL, hex, &hashed, NULL), BNT_OK);
    assert_true(hashed);
}

/* ---- Real or mock. */

static const char *kind_in_play;

static enum bnt_status fake_resolve(const struct bnt_app *app, const char *name,
                                    struct bnt_model_ref *out, struct bnt_err *err)
{
    (void)app;
    (void)err;
    *out = (struct bnt_model_ref){.kind = kind_in_play};
    snprintf(out->path, sizeof(out->path), "%s", name != NULL ? name : "bundled");
    return BNT_OK;
}

static void mock_never_passes_for_a_model(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        bool real_model, allow_mock;
        enum bnt_status resolved, ended;
    } cases[] = {
        {"real", false, false, BNT_OK, BNT_OK},
        {"real", true, false, BNT_OK, BNT_OK},
        {"real", false, true, BNT_OK, BNT_OK},
        {"tiny", false, false, BNT_E_NOT_FOUND, BNT_OK},
        {"tiny", true, false, BNT_E_NOT_FOUND, BNT_OK},
        {"tiny", false, true, BNT_OK, BNT_E_MOCK_USED},
        {"scripted", false, true, BNT_OK, BNT_E_MOCK_USED},
        {"real", true, true, BNT_E_USAGE, BNT_OK},
    };
    struct bnt_app app = {.resolve_model = fake_resolve};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct bnt_model_arg arg = {"some.gguf", cases[i].real_model, cases[i].allow_mock};
        struct bnt_model_ref ref;
        struct bnt_err err = {0};
        bool mock = true;
        kind_in_play = cases[i].kind;
        assert_int_equal(bnt_model_arg_resolve(&app, &arg, &ref, &mock, &err), cases[i].resolved);
        assert_int_equal(mock, cases[i].ended == BNT_E_MOCK_USED);
        assert_int_equal(bnt_model_arg_exit(BNT_OK, mock), cases[i].ended);
        assert_int_equal(bnt_model_arg_exit(BNT_E_QUALITY, mock), BNT_E_QUALITY);
        if (cases[i].resolved == BNT_E_NOT_FOUND) {
            assert_non_null(strstr(err.msg, "tiny"));
        }
    }
}

static const struct suite_test tests[] = {
    {.name = "stop_does_not_depend_on_the_pieces", .body = stop_does_not_depend_on_the_pieces},
    {.name = "stop_equals_a_plain_search", .body = stop_equals_a_plain_search},
    {.name = "stop_refuses_empty_and_overlong", .body = stop_refuses_empty_and_overlong},
    {.name = "quality_tells_broken_text", .body = quality_tells_broken_text},
    {.name = "quality_tells_endless_repetition", .body = quality_tells_endless_repetition},
    {.name = "quality_tells_poverty", .body = quality_tells_poverty},
    {.name = "quality_finds_broken_logits", .body = quality_finds_broken_logits},
    {.name = "digest_is_remembered_only_while_it_holds",
     .body = digest_is_remembered_only_while_it_holds},
    {.name = "digest_survives_a_broken_sidecar", .body = digest_survives_a_broken_sidecar},
    {.name = "mock_never_passes_for_a_model", .body = mock_never_passes_for_a_model},
    {0},
};

const struct suite suite_output = {"output", tests, "stop_across_tokens repetition nan_logits"};
