/* Guards what the GGUF fuzzer has learned: its first inputs are the files of gguf_cases.c, and
 * nothing that it ever kept (testkit/data/fuzz/gguf/) breaks the program again. */
#include "testkit/suite.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/fuzz/exercise_gguf.inc"
#include "testkit/suites/gguf_cases.h"

enum { FILE_MAX_BYTES = 64 << 20 };

static void write_seed(const char *path, const struct bnt_buf *bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bnt_buf_view(bytes), 1, bytes->len, f), bytes->len);
    assert_int_equal(fclose(f), 0);
}

static bool is_kept(const char *path, const struct bnt_buf *bytes)
{
    struct bnt_buf kept = BNT_BUF(FILE_MAX_BYTES);
    bool same = bnt_file_read(path, &kept, NULL) == BNT_OK && kept.len == bytes->len &&
                memcmp(bnt_buf_view(&kept), bnt_buf_view(bytes), kept.len) == 0;
    bnt_buf_release(&kept);
    return same;
}

/* The table of cases is where the fuzzer starts. To write its files anew after a change, create a
 * file WRITE beside them and run this test twice with BNT_TEST_CONFINE=0: it writes, removes WRITE
 * and fails, then passes. */
static void fuzz_seeds_are_the_cases(void **state)
{
    (void)state;
    static const char *const order = "testkit/data/fuzz/gguf/WRITE";
    bool write = access(suite_source(order), F_OK) == 0;
    for (const struct gguf_case *c = gguf_cases; c->name; c++) {
        struct gguf_bytes bytes;
        char relative[128];
        gb_init(&bytes, false);
        c->build(&bytes);
        snprintf(relative, sizeof relative, "testkit/data/fuzz/gguf/seed_%s", c->name);
        if (write) {
            write_seed(suite_source(relative), &bytes.buf);
        } else if (!is_kept(suite_source(relative), &bytes.buf)) {
            fail_msg("%s is not what gguf_cases.c builds: create %s and run this test twice with "
                     "BNT_TEST_CONFINE=0",
                     relative, order);
        }
        gb_release(&bytes);
    }
    if (write) {
        assert_int_equal(unlink(suite_source(order)), 0);
        fail_msg("the fuzzer's first inputs were written: run this test again");
    }
}

static void fuzz_corpus_is_survived(void **state)
{
    (void)state;
    char folder[BNT_PATH_MAX], path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(folder, NULL, "%s", suite_source("testkit/data/fuzz/gguf")),
                     BNT_OK);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    unsigned n = 0;
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] == '.') {
            continue;
        }
        struct bnt_buf kept = BNT_BUF(FILE_MAX_BYTES);
        assert_int_equal(bnt_path_format(path, NULL, "%s/%s", folder, e->d_name), BNT_OK);
        assert_int_equal(bnt_file_read(path, &kept, NULL), BNT_OK);
        uint8_t *copy = gb_exact_copy(&kept);
        struct bnt_err err = {0};
        exercise_gguf(copy, kept.len, &err);
        free(copy);
        bnt_buf_release(&kept);
        n++;
    }
    closedir(dir);
    assert_true(n >= 60);
}

static const struct suite_test tests[] = {
    {.name = "gguf_fuzz_seeds_are_the_cases", .body = fuzz_seeds_are_the_cases, .needs = "source"},
    {.name = "gguf_fuzz_corpus_is_survived",
     .body = fuzz_corpus_is_survived,
     .needs = "source",
     .timeout_ms = 120000},
    {0},
};
const struct suite suite_gguf_fuzz = {"gguf_fuzz", tests, "gguf_bounds"};
