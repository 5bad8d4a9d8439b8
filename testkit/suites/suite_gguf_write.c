/* Guards the writer of GGUF files: a file that its reader takes for another one, a half-written
 * file under the name of a whole one, a target that is gone because its successor failed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf_write.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/gguf_bytes.h"
#include "testkit/suites/mock_support.h"

/* Keys and tensors of g. */
static void plan_like(struct gguf_plan *p, const struct gguf *g)
{
    struct bnt_err err = {0};
    gplan_init(p);
    p->alignment = (uint32_t)g->alignment;
    for (uint64_t i = 0; i < g->n_kv; i++) {
        es_ok(gplan_put_copy(p, g, &g->kv[i], &err), &err);
    }
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        es_ok(gplan_copy_tensor(p, &g->tensors[i], &err), &err);
    }
}

static enum bnt_status write_like(const struct gguf *g, struct gguf_plan *p, const char *path,
                                  char digest[BNT_SHA256_HEX], struct bnt_err *err)
{
    struct gguf_writer w = {0};
    enum bnt_status st = gguf_writer_open(&w, p, path, err);
    for (uint64_t i = 0; st == BNT_OK && i < g->n_tensors; i++) {
        st = gguf_writer_copy(&w, g, &g->tensors[i], err);
    }
    if (st == BNT_OK) {
        st = gguf_writer_finish(&w, err);
    }
    if (st == BNT_OK) {
        st = gguf_writer_commit(&w, digest, err);
    }
    gguf_writer_release(&w);
    return st;
}

/* A copy of the whole, key by key and tensor by tensor, is the same file. */
static void a_copy_has_the_bytes_of_the_original(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct gguf *g;
    struct gguf_plan p;
    char original[BNT_SHA256_HEX], written[BNT_SHA256_HEX], read[BNT_SHA256_HEX];
    const char *path = ms_path("copy.gguf");
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_STREAM, &g, &err), &err);
    plan_like(&p, g);
    es_ok(write_like(g, &p, path, written, &err), &err);
    es_ok(bnt_sha256_file(suite_bundled_model(), NULL, NULL, original, &err), &err);
    es_ok(bnt_sha256_file(path, NULL, NULL, read, &err), &err);
    assert_string_equal(written, original);
    assert_string_equal(read, original);
    gplan_release(&p);
    gguf_close(g);
}

enum { N_VALUES = 3 };

/* One key of every kind and a tensor of halves, in either byte order, aligned to 64. */
static uint8_t *make_file(bool big, uint64_t *size)
{
    struct gguf_bytes f;
    gb_init(&f, big);
    gb_head(&f, 3, 2, 6);
    gb_key_u32(&f, "general.alignment", 64);
    gb_key_str(&f, "text", "word");
    gb_key(&f, "double", GGUF_F64);
    gb_f64(&f, 0.1);
    gb_key(&f, "short", GGUF_U16);
    gb_u16(&f, 0x1234);
    gb_key_array(&f, "texts", GGUF_STR, N_VALUES);
    for (int i = 0; i < N_VALUES; i++) {
        gb_str(&f, i == 1 ? "" : "two words");
    }
    gb_key_array(&f, "numbers", GGUF_I32, N_VALUES);
    for (int i = 0; i < N_VALUES; i++) {
        gb_u32(&f, (uint32_t)-i);
    }
    gb_tensor(&f, "halves", 5, 3, TENSOR_F16, 0);
    gb_tensor(&f, "floats", 2, 1, TENSOR_F32, 64);
    gb_pad(&f, 64);
    for (uint16_t i = 0; i < 15; i++) {
        gb_u16(&f, (uint16_t)(i * 321));
    }
    gb_pad(&f, 64);
    gb_f32(&f, 1.5f);
    gb_f32(&f, -0.1f);
    gb_pad(&f, 64);
    *size = f.buf.len;
    uint8_t *copy = gb_exact_copy(&f.buf);
    gb_release(&f);
    return copy;
}

/* What a big-endian file becomes is, byte for byte, its little-endian twin. */
static void a_file_of_foreign_byte_order_becomes_its_twin(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct gguf *g;
    struct gguf_plan p;
    uint64_t size;
    uint8_t *big = make_file(true, &size), *little = make_file(false, &size);
    const char *path = ms_path("little.gguf");
    es_ok(gguf_open_memory(big, size, "big", &g, &err), &err);
    plan_like(&p, g);
    es_ok(write_like(g, &p, path, NULL, &err), &err);
    struct bnt_mapping map;
    es_ok(bnt_map_file(path, &map, &err), &err);
    assert_int_equal(map.size, size);
    assert_memory_equal(map.data, little, size);
    bnt_unmap(&map);
    gplan_release(&p);
    gguf_close(g);
    free(big);
    free(little);
}

/* ---- what must not come out ---- */

static void plan_two(struct gguf_plan *p)
{
    struct bnt_err err = {0};
    gplan_init(p);
    es_ok(gplan_put_u32(p, "n", 1, &err), &err);
    es_ok(gplan_add_tensor(p, "a", TENSOR_F32, 4, 1, &err), &err);
    es_ok(gplan_add_tensor(p, "b", TENSOR_F32, 4, 2, &err), &err);
}

/* A step of a writer that goes wrong: bytes of "a" and of "b", which begins first, whether to end
 * early. */
struct slip {
    const char *first, *second, *word;
    size_t n_a, n_b;
};

static enum bnt_status run_slip(struct gguf_writer *w, const struct slip *s, struct bnt_err *err)
{
    static const uint8_t zeros[64];
    enum bnt_status st = gguf_writer_begin(w, s->first, err);
    if (st == BNT_OK) {
        st = gguf_writer_put(w, zeros, s->n_a, err);
    }
    if (st == BNT_OK && s->second) {
        st = gguf_writer_begin(w, s->second, err);
    }
    if (st == BNT_OK && s->second) {
        st = gguf_writer_put(w, zeros, s->n_b, err);
    }
    return st == BNT_OK ? gguf_writer_finish(w, err) : st;
}

static void what_the_plan_does_not_say_is_not_written(void **state)
{
    (void)state;
    static const struct slip slips[] = {
        {"b", NULL, "comes after", 0, 0},           {"a", "b", "lacks 4 bytes", 12, 32},
        {"a", "b", "has room for 16 bytes", 17, 0}, {"a", "b", "lacks 1 bytes", 16, 31},
        {"a", "a", "comes after", 16, 0},           {"a", NULL, "1 of 2 tensors", 16, 0}};
    for (size_t i = 0; i < sizeof slips / sizeof slips[0]; i++) {
        struct bnt_err err = {0};
        struct gguf_writer w = {0};
        struct gguf_plan p;
        plan_two(&p);
        const char *path = ms_path("slip.gguf");
        es_ok(gguf_writer_open(&w, &p, path, &err), &err);
        assert_int_equal(run_slip(&w, &slips[i], &err), BNT_E_INTERNAL);
        assert_non_null(strstr(err.msg, slips[i].word));
        gguf_writer_release(&w);
        gplan_release(&p);
    }
}

static void a_plan_that_no_reader_takes_is_refused(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct gguf_writer w = {0};
    struct gguf_plan p;
    plan_two(&p);
    es_ok(gplan_add_tensor(&p, "a", TENSOR_F32, 4, 1, &err), &err);
    assert_int_equal(gguf_writer_open(&w, &p, ms_path("twice.gguf"), &err), BNT_E_USAGE);
    gguf_writer_release(&w);
    gplan_drop_tensor(&p, "a");
    es_ok(gplan_add_raw(&p, "n", "\4\0\0\0\0\0\0\0", 8, NULL), &err);
    assert_int_equal(gguf_writer_open(&w, &p, ms_path("twice.gguf"), NULL), BNT_E_USAGE);
    gguf_writer_release(&w);
    gplan_drop(&p, "n");
    p.alignment = 24;
    assert_int_equal(gguf_writer_open(&w, &p, ms_path("twice.gguf"), NULL), BNT_E_USAGE);
    gguf_writer_release(&w);
    gplan_release(&p);
}

/* ---- a disk that fails ---- */

static int steps_left;

static int fail_at_last(enum bnt_file_step step, size_t *n)
{
    (void)step;
    (void)n;
    return --steps_left == 0 ? ENOSPC : 0;
}

/* The three bytes that stood there, which only a write that succeeded must have replaced, or all of
 * the new file: the last step comes after its renaming. */
static bool is_old_or_whole(const char *path, bool must_be_new, uint64_t size)
{
    struct bnt_buf found = BNT_BUF(4096);
    struct bnt_err err = {0};
    es_ok(bnt_file_read(path, &found, &err), &err);
    bool old = found.len == 3 && memcmp(found.data, "old", 3) == 0, whole = found.len == size;
    bnt_buf_release(&found);
    return whole || (old && !must_be_new);
}

/* Whichever step fails, what stood there before still does, and nothing else stays. */
static void a_failing_disk_leaves_the_old_file(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct gguf *g;
    struct gguf_plan p;
    const char *path = ms_path("target.gguf");
    uint64_t size;
    uint8_t *bytes = make_file(false, &size);
    es_ok(gguf_open_memory(bytes, size, "small", &g, &err), &err);
    plan_like(&p, g);
    enum bnt_status st = BNT_E_FAILED;
    for (int fail_at = 1; st != BNT_OK; fail_at++) {
        assert_true(fail_at < 100);
        struct bnt_durable d;
        es_ok(bnt_durable_open(&d, path, &err), &err);
        es_ok(bnt_durable_write(&d, "old", 3, &err), &err);
        es_ok(bnt_durable_commit(&d, 0644, &err), &err);
        bnt_durable_release(&d);
        steps_left = fail_at;
        bnt_file_fault(fail_at_last);
        st = write_like(g, &p, path, NULL, NULL);
        bnt_file_fault(NULL);
        assert_true(st == BNT_OK || st == BNT_E_NO_SPACE);
        assert_true(is_old_or_whole(path, st == BNT_OK, size));
    }
    gplan_release(&p);
    gguf_close(g);
    free(bytes);
}

static void an_interrupted_writer_says_so(void **state)
{
    (void)state;
    static const volatile sig_atomic_t now = 1;
    struct bnt_err err = {0};
    struct gguf_writer w = {.interrupted = &now};
    struct gguf_plan p;
    plan_two(&p);
    assert_int_equal(gguf_writer_open(&w, &p, ms_path("i.gguf"), &err), BNT_E_INTERRUPTED);
    gguf_writer_release(&w);
    gplan_release(&p);
}

static const struct suite_test tests[] = {
    {.name = "gguf_write_a_copy_has_the_bytes_of_the_original",
     .body = a_copy_has_the_bytes_of_the_original},
    {.name = "gguf_write_a_file_of_foreign_byte_order_becomes_its_twin",
     .body = a_file_of_foreign_byte_order_becomes_its_twin},
    {.name = "gguf_write_what_the_plan_does_not_say_is_not_written",
     .body = what_the_plan_does_not_say_is_not_written},
    {.name = "gguf_write_a_plan_that_no_reader_takes_is_refused",
     .body = a_plan_that_no_reader_takes_is_refused},
    {.name = "gguf_write_a_failing_disk_leaves_the_old_file",
     .body = a_failing_disk_leaves_the_old_file},
    {.name = "gguf_write_an_interrupted_writer_says_so", .body = an_interrupted_writer_says_so},
    {0},
};
const struct suite suite_gguf_write = {"gguf_write", tests, "gguf_write_pad"};
