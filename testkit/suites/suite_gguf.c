/* Guards against a model file that breaks the program or is misread: hostile numbers, files cut
 * anywhere, a wrong byte order, the two ways of reading that differ, and slow look-ups. The broken
 * files are in gguf_cases.c. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/fuzz/exercise_gguf.inc"
#include "testkit/suites/gguf_cases.h"

/* Sanitizers make everything several times slower; a limit on time only has a meaning without them.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWED = 20 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SLOWED = 20 };
#else
enum { SLOWED = 1 };
#endif
#else
enum { SLOWED = 1 };
#endif

/* ---- helpers ---- */

static void write_file(char path[BNT_PATH_MAX], const char *name, const void *bytes, size_t n)
{
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", suite_scratch(), name), BNT_OK);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static struct gguf *open_ok(const char *path, enum gguf_mode mode)
{
    struct gguf *g = NULL;
    struct bnt_err err = {0};
    if (gguf_open(path, mode, &g, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return g;
}

/* ---- refusals ---- */

static void check_refusal(const struct gguf_case *c, enum bnt_status st, const struct bnt_err *err)
{
    const struct gguf_fault_info *info = gguf_fault_info((int)c->fault);
    if (st != info->status || err->status != st || err->foreign != (int)c->fault ||
        !strstr(err->msg, c->says)) {
        fail_msg("%s: status %d, class %d, message '%s'; wanted status %d, class %s, '%s'", c->name,
                 (int)st, err->foreign, err->msg, (int)info->status, info->name, c->says);
    }
    assert_string_equal(err->domain, "gguf");
    assert_string_equal(err->hint, info->hint);
}

static void check_case(const struct gguf_case *c)
{
    struct gguf_bytes bytes;
    gb_init(&bytes, false);
    c->build(&bytes);
    uint8_t *copy = gb_exact_copy(&bytes.buf);
    char path[BNT_PATH_MAX];
    write_file(path, c->name, copy, bytes.buf.len);

    for (int way = 0; way < 3; way++) {
        struct gguf *g = NULL;
        struct bnt_err err = {0};
        enum bnt_status st =
            way == 0 ? gguf_open_memory(copy, bytes.buf.len, c->name, &g, &err)
                     : gguf_open(path, way == 1 ? GGUF_MODE_MAP : GGUF_MODE_STREAM, &g, &err);
        if (c->fault != GGUF_FAULT_NONE) {
            check_refusal(c, st, &err);
        } else if (st != BNT_OK) {
            fail_msg("%s: %s", c->name, err.msg);
        }
        gguf_close(g);
    }
    struct bnt_err err = {0};
    enum bnt_status st = exercise_gguf(copy, bytes.buf.len, &err);
    assert_int_equal(st == BNT_OK, c->fault == GGUF_FAULT_NONE);
    free(copy);
    gb_release(&bytes);
}

static void every_case_is_told_apart(void **state)
{
    (void)state;
    for (const struct gguf_case *c = gguf_cases; c->name; c++) {
        check_case(c);
    }
}

static void every_fault_has_its_row(void **state)
{
    (void)state;
    for (int f = GGUF_FAULT_HEADER; f < GGUF_N_FAULTS; f++) {
        const struct gguf_fault_info *info = gguf_fault_info(f);
        assert_true(info->name && info->name[0] && info->hint && info->hint[0]);
        assert_true(info->status == BNT_E_FILE || info->status == BNT_E_UNSUPPORTED);
        for (int other = GGUF_FAULT_HEADER; other < f; other++) {
            assert_string_not_equal(info->name, gguf_fault_info(other)->name);
        }
        struct bnt_err err = {0};
        assert_int_equal(gguf_fail(&err, (enum gguf_fault)f, "what %d", f), info->status);
        assert_string_equal(err.domain, "gguf");
        assert_int_equal(err.foreign, f);
        /* The first error wins. */
        gguf_fail(&err, GGUF_FAULT_NONE, "later");
        assert_int_equal(err.foreign, f);
        assert_int_equal(gguf_fail(NULL, (enum gguf_fault)f, "no place for it"), info->status);
    }
    assert_string_equal(gguf_fault_info(-1)->name, "none");
    assert_string_equal(gguf_fault_info(GGUF_N_FAULTS)->name, "none");
}

/* No beginning of a sound file is a sound file. */
static void every_cut_is_refused(void **state)
{
    (void)state;
    for (int big = 0; big < 2; big++) {
        struct gguf_bytes bytes;
        gb_init(&bytes, big != 0);
        gguf_case_everything(&bytes);
        for (size_t n = 0; n < bytes.buf.len; n++) {
            uint8_t *copy = malloc(n ? n : 1);
            assert_non_null(copy);
            memcpy(copy, bytes.buf.data, n);
            struct gguf *g;
            struct bnt_err err = {0};
            assert_int_not_equal(gguf_open_memory(copy, n, "cut", &g, &err), BNT_OK);
            assert_true(err.foreign == GGUF_FAULT_HEADER || err.foreign == GGUF_FAULT_SIZE ||
                        err.foreign == GGUF_FAULT_BOUNDS);
            free(copy);
        }
        gb_release(&bytes);
    }
}

/* A file with one byte changed is refused or can be read to its end. */
static void every_changed_byte_is_survived(void **state)
{
    (void)state;
    static const uint8_t changes[] = {0x01, 0x80, 0xff, 0x24};
    unsigned refused = 0;
    struct gguf_bytes bytes;
    gb_init(&bytes, false);
    gguf_case_everything(&bytes);
    uint8_t *copy = gb_exact_copy(&bytes.buf);
    for (size_t at = 0; at < bytes.buf.len; at++) {
        for (size_t i = 0; i < sizeof changes; i++) {
            struct bnt_err err = {0};
            copy[at] ^= changes[i];
            refused += exercise_gguf(copy, bytes.buf.len, &err) != BNT_OK;
            copy[at] ^= changes[i];
        }
    }
    assert_true(refused > 1000);
    free(copy);
    gb_release(&bytes);
}

/* ---- values ---- */

static void check_integers(const struct gguf *g)
{
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200},
                {"i8", -100},
                {"u16", 60000},
                {"i16", -30000},
                {"u32", 4000000000},
                {"i32", -2000000000},
                {"i64", -9000000000000000000}};
    uint64_t u;
    int64_t i;
    for (size_t k = 0; k < sizeof ints / sizeof ints[0]; k++) {
        assert_true(gguf_get_i64(g, ints[k].key, &i));
        assert_true(i == ints[k].value);
        assert_int_equal(gguf_get_u64(g, ints[k].key, &u), ints[k].value >= 0);
        if (ints[k].value >= 0) {
            assert_true(u == (uint64_t)ints[k].value);
        }
    }
    assert_true(gguf_get_u64(g, "u64", &u));
    assert_true(u == 18000000000000000000u);
    assert_false(gguf_get_i64(g, "u64", &i)); /* does not fit */
    assert_false(gguf_get_u64(g, "f32", &u));
    assert_false(gguf_get_u64(g, "str", &u));
    assert_false(gguf_get_u64(g, "bool", &u));
    assert_false(gguf_get_u64(g, "ints", &u));
    assert_false(gguf_get_u64(g, "absent", &u));
}

static void check_other_values(const struct gguf *g)
{
    double f;
    bool b;
    struct gguf_str s;
    assert_true(gguf_get_f64(g, "f32", &f) && f == 1.5);
    assert_true(gguf_get_f64(g, "f64", &f) && f == 0.1);
    assert_false(gguf_get_f64(g, "u8", &f));
    assert_true(gguf_get_bool(g, "bool", &b) && b);
    assert_false(gguf_get_bool(g, "u8", &b));
    assert_true(gguf_get_str(g, "str", &s) && gguf_str_eq(s, "text"));
    assert_false(gguf_str_eq(s, "tex") || gguf_str_eq(s, "text2"));
    assert_false(gguf_get_str(g, "strings", &s));
}

static void check_arrays(const struct gguf *g)
{
    struct gguf_iter it;
    struct gguf_str s;
    int64_t i;
    double f;
    static const char *const strings[] = {"alpha", "", "gamma"};
    assert_true(gguf_iter_begin(g, "strings", GGUF_STR, &it));
    for (int k = 0; k < 3; k++) {
        assert_int_equal(it.i, k);
        assert_true(gguf_iter_str(&it, &s) && gguf_str_eq(s, strings[k]));
    }
    assert_false(gguf_iter_str(&it, &s));
    assert_true(gguf_iter_begin(g, "ints", GGUF_I32, &it));
    assert_false(gguf_iter_str(&it, &s));
    assert_true(gguf_iter_i64(&it, &i) && i == 7);
    assert_true(gguf_iter_f64(&it, &f) && f == -7);
    assert_false(gguf_iter_i64(&it, &i));
    assert_true(gguf_iter_begin(g, "floats", GGUF_F32, &it));
    assert_false(gguf_iter_i64(&it, &i));
    assert_true(gguf_iter_f64(&it, &f) && f == 0.25);
    assert_true(gguf_iter_f64(&it, &f) && f == -3);
    assert_false(gguf_iter_f64(&it, &f));
    assert_true(gguf_iter_begin(g, "bools", GGUF_BOOL, &it));
    assert_true(gguf_iter_i64(&it, &i) && i == 0);
    assert_true(gguf_iter_i64(&it, &i) && i == 1);
    assert_true(gguf_iter_begin(g, "none", GGUF_STR, &it));
    assert_false(gguf_iter_str(&it, &s));
    assert_false(gguf_iter_begin(g, "ints", GGUF_U32, &it));
    assert_false(gguf_iter_begin(g, "str", GGUF_STR, &it));
    assert_false(gguf_iter_begin(g, "absent", GGUF_STR, &it));
    const struct gguf_kv *nested = gguf_find(g, "nested");
    assert_true(nested && nested->elem_type == GGUF_ARR && nested->n == 2);
    assert_int_equal(nested->raw_len, 12 + 3 + 12 + 8 + 4);
}

static void values_read_alike_in_both_byte_orders_and_versions(void **state)
{
    (void)state;
    static const char *const names[] = {"sound_everything", "sound_v2", "sound_v3_big",
                                        "sound_v2_big"};
    unsigned seen = 0;
    for (const struct gguf_case *c = gguf_cases; c->name; c++) {
        for (unsigned k = 0; k < 4; k++) {
            if (strcmp(c->name, names[k]) != 0) {
                continue;
            }
            struct gguf_bytes bytes;
            struct gguf *g = NULL;
            gb_init(&bytes, false);
            c->build(&bytes);
            assert_int_equal(gguf_open_memory(bytes.buf.data, bytes.buf.len, c->name, &g, NULL),
                             BNT_OK);
            assert_int_equal(g->version, k % 2 ? 2 : 3);
            assert_int_equal(g->big_endian, k / 2);
            assert_int_equal(g->n_kv, 20);
            check_integers(g);
            check_other_values(g);
            check_arrays(g);
            gguf_close(g);
            gb_release(&bytes);
            seen++;
        }
    }
    assert_int_equal(seen, 4);
}

/* ---- big-endian tensors ---- */

/* Where the types keep their numbers, written down here anew: pairs of offset and width in a block
 * (a row of 64 weights of IQ1_BN and IQ2_BN, four of IQ2_BN_R4), 0 width ends. */
static const struct swap_case {
    uint32_t type;
    uint32_t block_weights, block_bytes;
    uint8_t numbers[10];
    uint8_t rows; /* 0: one */
} swap_cases[] = {
    {0, 1, 4, {0, 4}, 0},
    {1, 1, 2, {0, 2}, 0},
    {2, 32, 18, {0, 2}, 0},
    {3, 32, 20, {0, 2, 2, 2}, 0},
    {6, 32, 22, {0, 2, 2, 4}, 0},
    {7, 32, 24, {0, 2, 2, 2, 4, 4}, 0},
    {8, 32, 34, {0, 2}, 0},
    {12, 256, 144, {0, 2, 2, 2}, 0},
    {13, 256, 176, {0, 2, 2, 2}, 0},
    {10, 256, 84, {80, 2, 82, 2}, 0},
    {11, 256, 110, {108, 2}, 0},
    {14, 256, 210, {208, 2}, 0},
    {20, 32, 18, {0, 2}, 0},
    {23, 256, 136, {0, 2, 2, 2}, 0},
    {30, 1, 2, {0, 2}, 0},
    {34, 256, 54, {52, 2}, 0},
    {35, 256, 66, {64, 2}, 0},
    {41, 128, 18, {0, 2}, 0},
    {42, 64, 18, {0, 2}, 0},
    {134, 64, 15, {0, 2}, 0},
    {135, 64, 20, {0, 4}, 0},
    {335, 64, 80, {0, 4, 4, 4, 8, 4, 12, 4}, 4},
};

static void reverse_bytes(uint8_t *p, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++) {
        uint8_t b = p[i];
        p[i] = p[n - 1 - i];
        p[n - 1 - i] = b;
    }
}

/* A big-endian file with one tensor; data: its bytes as they stand in the file. */
static struct gguf *open_big(struct gguf_bytes *bytes, uint64_t cols, uint64_t rows, uint32_t type,
                             const uint8_t *data, size_t n)
{
    struct gguf *g = NULL;
    struct bnt_err err = {0};
    gb_init(bytes, true);
    gb_head(bytes, 3, 1, 1);
    gb_key_str(bytes, "general.architecture", "bitnet");
    gb_tensor(bytes, "w", cols, rows, type, 0);
    gb_pad(bytes, 32);
    gb_raw(bytes, data, n);
    if (gguf_open_memory(bytes->buf.data, bytes->buf.len, "big", &g, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_null(gguf_tensor_view(g, &g->tensors[0]));
    return g;
}

static void check_swap(const struct swap_case *c)
{
    enum { BLOCKS = 3 };
    uint8_t host[BLOCKS * 256] = {0}, file[BLOCKS * 256], got[BLOCKS * 256];
    const size_t n = (size_t)BLOCKS * c->block_bytes;
    for (size_t i = 0; i < n; i++) {
        host[i] = (uint8_t)(i * 29 + 3);
    }
    memcpy(file, host, n);
    for (unsigned b = 0; b < BLOCKS; b++) {
        for (unsigned k = 0; c->numbers[k + 1]; k += 2) {
            reverse_bytes(file + b * c->block_bytes + c->numbers[k], c->numbers[k + 1]);
        }
    }
    struct gguf_bytes bytes;
    const uint64_t rows = BLOCKS * (c->rows ? c->rows : 1u);
    struct gguf *g = open_big(&bytes, c->block_weights, rows, c->type, file, n);
    const struct gguf_tensor *t = gguf_find_tensor(g, "w");
    assert_int_equal(gguf_tensor_read(g, t, 0, n, got, NULL), BNT_OK);
    assert_memory_equal(got, host, n);
    assert_int_equal(gguf_tensor_read(g, t, c->block_bytes, c->block_bytes, got, NULL), BNT_OK);
    assert_memory_equal(got, host + c->block_bytes, c->block_bytes);
    struct bnt_err err = {0};
    assert_int_equal(gguf_tensor_read(g, t, 1, c->block_bytes, got, &err), BNT_E_FILE);
    assert_int_equal(err.foreign, GGUF_FAULT_BOUNDS);
    gguf_close(g);
    gb_release(&bytes);
}

static void big_endian_blocks_come_in_host_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof swap_cases / sizeof swap_cases[0]; i++) {
        check_swap(&swap_cases[i]);
    }
}

static void big_endian_tails_come_in_host_order(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t cols, rows, size;
    } rows[] = {{36, 128, 2, 96}, {38, 64, 32, 544}, {39, 192, 64, 3296}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t host[4096] = {0}, file[4096], got[4096];
        const size_t size = rows[i].size, scale = size - 32;
        for (size_t k = 0; k < size; k++) {
            host[k] = (uint8_t)(k * 31 + 1);
        }
        memcpy(file, host, size);
        reverse_bytes(file + scale, 4);
        struct gguf_bytes bytes;
        struct gguf *g = open_big(&bytes, rows[i].cols, rows[i].rows, rows[i].type, file, size);
        const struct gguf_tensor *t = &g->tensors[0];
        assert_int_equal(t->size, size);
        assert_int_equal(gguf_tensor_read(g, t, 0, size, got, NULL), BNT_OK);
        assert_memory_equal(got, host, size);
        assert_int_equal(gguf_tensor_read(g, t, scale, 32, got, NULL), BNT_OK);
        assert_memory_equal(got, host + scale, 32);
        assert_int_equal(gguf_tensor_read(g, t, 5, 20, got, NULL), BNT_OK);
        assert_memory_equal(got, host + 5, 20);
        assert_int_equal(gguf_tensor_read(g, t, 0, scale + 2, got, NULL),
                         BNT_E_FILE); /* half a scale */
        gguf_close(g);
        gb_release(&bytes);
    }
}

/* ---- mapped and streamed ---- */

static void assert_same_str(struct gguf_str a, struct gguf_str b)
{
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
}

static void assert_same_file(const struct gguf *a, const struct gguf *b)
{
    assert_int_equal(a->n_kv, b->n_kv);
    assert_int_equal(a->n_tensors, b->n_tensors);
    assert_int_equal(a->data_offset, b->data_offset);
    assert_int_equal(a->file_size, b->file_size);
    for (uint64_t i = 0; i < a->n_kv; i++) {
        assert_same_str(a->kv[i].key, b->kv[i].key);
        assert_int_equal(a->kv[i].raw_len, b->kv[i].raw_len);
        assert_memory_equal(a->kv[i].raw, b->kv[i].raw, a->kv[i].raw_len);
    }
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        const struct gguf_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        assert_same_str(x->name, y->name);
        assert_int_equal(x->type, y->type);
        assert_int_equal(x->size, y->size);
        uint8_t *read = malloc(y->size);
        assert_non_null(read);
        assert_int_equal(gguf_tensor_read(b, y, 0, y->size, read, NULL), BNT_OK);
        assert_memory_equal(gguf_tensor_view(a, x), read, y->size);
        gguf_tensor_release(a, x);
        assert_memory_equal(gguf_tensor_view(a, x), read, y->size);
        gguf_tensor_release(b, y);
        free(read);
    }
}

static void check_modes_agree(const char *path)
{
    struct gguf *mapped = open_ok(path, GGUF_MODE_AUTO);
    struct gguf *streamed = open_ok(path, GGUF_MODE_STREAM);
    assert_true(mapped->mapped);
    assert_false(streamed->mapped);
    assert_null(mapped->n_tensors ? gguf_tensor_view(streamed, streamed->tensors) : NULL);
    assert_same_file(mapped, streamed);
    gguf_close(mapped);
    gguf_close(streamed);
}

static void mapped_and_streamed_agree_on_the_bundled_model(void **state)
{
    (void)state;
    check_modes_agree(suite_bundled_model());
    struct gguf *g = open_ok(suite_bundled_model(), GGUF_MODE_AUTO);
    struct gguf_str arch;
    assert_true(gguf_get_str(g, "general.architecture", &arch));
    assert_int_equal(g->n_tensors, 46);
    assert_int_equal(gguf_find_tensor(g, "blk.0.attn_q.weight")->type, TENSOR_I2_S);
    gguf_close(g);
}

static void shared_files_open(void **state)
{
    (void)state;
    static const char *const files[] = {"models/stories260K.gguf", "models/tinystories-bitnet.gguf",
                                        "tokenizers/ggml-vocab-falcon.gguf",
                                        "tokenizers/ggml-vocab-gpt-2.gguf",
                                        "tokenizers/ggml-vocab-llama-spm.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        check_modes_agree(suite_shared(files[i]));
    }
}

/* Address space that this process has in use, bytes. */
static rlim_t address_space(void)
{
    char line[128], *end;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    unsigned long long pages = strtoull(line, &end, 10);
    assert_true(end != line && *end == ' ');
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* A sparse file of 2 GiB that cannot be mapped within the limit; its one tensor's last weight is
 * known. */
static void auto_streams_when_the_mapping_is_refused(void **state)
{
    (void)state;
    const uint64_t rows = 1ull << 19, size = rows * 1024 * 4;
    const float last = 0.5f;
    struct gguf_bytes bytes;
    gb_init(&bytes, false);
    gb_head(&bytes, 3, 1, 0);
    gb_tensor(&bytes, "w", 1024, rows, TENSOR_F32, 0);
    gb_pad(&bytes, 32);
    char path[BNT_PATH_MAX];
    write_file(path, "large.gguf", bytes.buf.data, bytes.buf.len);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseeko(f, (off_t)(bytes.buf.len + size - 4), SEEK_SET), 0);
    assert_int_equal(fwrite(&last, 4, 1, f), 1);
    fclose(f);
    gb_release(&bytes);

    struct rlimit limit, old;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    limit = old;
    limit.rlim_cur = address_space() + (256u << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    struct gguf *g = NULL;
    struct bnt_err err = {0}, refused = {0};
    enum bnt_status mapped = gguf_open(path, GGUF_MODE_MAP, &g, &refused);
    enum bnt_status automatic = gguf_open(path, GGUF_MODE_AUTO, &g, &err);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_int_equal(mapped, BNT_E_MEMORY);
    assert_int_equal(automatic, BNT_OK);
    assert_false(g->mapped);
    float got = 0;
    assert_int_equal(gguf_tensor_read(g, &g->tensors[0], size - 4, 4, &got, &err), BNT_OK);
    assert_true(got == last);
    gguf_close(g);
}

static void a_file_cut_after_the_open_is_an_error(void **state)
{
    (void)state;
    struct gguf_bytes bytes;
    gb_init(&bytes, false);
    gguf_case_everything(&bytes);
    char path[BNT_PATH_MAX];
    write_file(path, "shrinks.gguf", bytes.buf.data, bytes.buf.len);
    struct gguf *g = open_ok(path, GGUF_MODE_STREAM);
    assert_int_equal(truncate(path, (off_t)g->data_offset + 8), 0);
    uint8_t data[96];
    struct bnt_err err = {0};
    assert_int_equal(gguf_tensor_read(g, &g->tensors[0], 0, 8, data, &err), BNT_OK);
    assert_int_equal(gguf_tensor_read(g, &g->tensors[0], 0, 96, data, &err), BNT_E_FILE);
    assert_int_equal(err.foreign, GGUF_FAULT_SIZE);
    assert_non_null(strstr(err.msg, "tensor f32"));
    gguf_close(g);
    gb_release(&bytes);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct gguf *g = NULL;
    for (enum gguf_mode mode = GGUF_MODE_AUTO; mode <= GGUF_MODE_STREAM; mode++) {
        struct bnt_err absent = {0}, folder = {0};
        assert_int_equal(gguf_open("/nonexistent/model.gguf", mode, &g, &absent), BNT_E_NOT_FOUND);
        assert_non_null(strstr(absent.msg, "/nonexistent/model.gguf"));
        assert_int_equal(gguf_open(suite_scratch(), mode, &g, &folder), BNT_E_FILE);
        assert_non_null(strstr(folder.msg, "not a regular file"));
    }
}

static void reads_outside_a_tensor_are_refused(void **state)
{
    (void)state;
    struct gguf *g = open_ok(suite_bundled_model(), GGUF_MODE_AUTO);
    const struct gguf_tensor *t = &g->tensors[0];
    uint8_t byte;
    struct bnt_err err = {0};
    assert_int_equal(gguf_tensor_read(g, t, t->size - 1, 1, &byte, &err), BNT_OK);
    assert_int_equal(gguf_tensor_read(g, t, t->size, 1, &byte, NULL), BNT_E_FILE);
    assert_int_equal(gguf_tensor_read(g, t, UINT64_MAX, 2, &byte, NULL), BNT_E_FILE);
    assert_int_equal(gguf_tensor_read(g, t, 1, UINT64_MAX, &byte, &err), BNT_E_FILE);
    assert_int_equal(err.foreign, GGUF_FAULT_BOUNDS);
    gguf_close(g);
}

/* A header of any length: where the data begin depends on the alignment for half of them. */
static void the_stated_alignment_places_the_data(void **state)
{
    (void)state;
    for (size_t filler = 0; filler < 64; filler++) {
        char text[65] = {0};
        memset(text, 'x', filler);
        struct gguf_bytes bytes;
        gb_init(&bytes, false);
        gb_head(&bytes, 3, 1, 2);
        gb_key_u32(&bytes, "general.alignment", 64);
        gb_key_str(&bytes, "filler", text);
        gb_tensor(&bytes, "value", 1, 1, TENSOR_F32, 0);
        gb_pad(&bytes, 64);
        gb_f32(&bytes, 7);
        struct gguf *g = NULL;
        struct bnt_err err = {0};
        float value = 0;
        if (gguf_open_memory(bytes.buf.data, bytes.buf.len, "aligned", &g, &err) != BNT_OK ||
            gguf_tensor_read(g, &g->tensors[0], 0, sizeof value, &value, &err) != BNT_OK) {
            fail_msg("%s", err.msg);
        }
        assert_true(value == 7);
        gguf_close(g);
        gb_release(&bytes);
    }
}

/* ---- many of everything ---- */

static void look_ups_stay_fast_at_the_ceiling(void **state)
{
    (void)state;
    struct gguf_bytes bytes;
    char name[32];
    gb_init(&bytes, false);
    gb_head(&bytes, 3, GGUF_MAX_TENSORS, GGUF_MAX_KV);
    for (unsigned i = 0; i < GGUF_MAX_KV; i++) {
        snprintf(name, sizeof name, "key.%u", i);
        gb_key_u32(&bytes, name, i);
    }
    for (unsigned i = 0; i < GGUF_MAX_TENSORS; i++) {
        snprintf(name, sizeof name, "blk.%u.weight", i);
        gb_tensor(&bytes, name, 8, 1, TENSOR_F32, 32ull * (GGUF_MAX_TENSORS - 1 - i));
    }
    gb_pad(&bytes, 32);
    gb_zeros(&bytes, 32ull * GGUF_MAX_TENSORS);
    struct gguf *g = NULL;
    uint64_t start = bnt_clock_now_ns();
    assert_int_equal(gguf_open_memory(bytes.buf.data, bytes.buf.len, "many", &g, NULL), BNT_OK);
    for (unsigned i = 0; i < GGUF_MAX_KV; i++) {
        uint64_t v;
        snprintf(name, sizeof name, "key.%u", i);
        assert_true(gguf_get_u64(g, name, &v) && v == i);
        snprintf(name, sizeof name, "blk.%u.weight", i);
        assert_ptr_equal(gguf_find_tensor(g, name), &g->tensors[i]);
        snprintf(name, sizeof name, "blk.%u.weigh", i);
        assert_null(gguf_find_tensor(g, name));
    }
    /* A linear search would take 65536 * 65536 comparisons, over ten seconds. */
    assert_true(bnt_clock_now_ns() - start < 1000000000ull * SLOWED);
    gguf_close(g);
    gb_release(&bytes);
}

/* With a little more address space each time: no memory is a status until there is enough. */
static void no_memory_is_a_status(void **state)
{
    (void)state;
    if (SLOWED > 1) {
        skip(); /* a sanitizer's allocator ends the process instead */
    }
    struct gguf_bytes bytes;
    char name[32];
    gb_init(&bytes, false);
    gb_head(&bytes, 3, GGUF_MAX_TENSORS, 0);
    for (unsigned i = 0; i < GGUF_MAX_TENSORS; i++) {
        snprintf(name, sizeof name, "%u", i);
        gb_tensor(&bytes, name, 1, 1, TENSOR_F32, 32ull * (GGUF_MAX_TENSORS - 1 - i));
    }
    gb_pad(&bytes, 32);
    gb_zeros(&bytes, 32ull * GGUF_MAX_TENSORS);
    struct rlimit old, limit;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    limit = old;
    unsigned refusals = 0;
    enum bnt_status st = BNT_E_MEMORY;
    for (rlim_t more = 0; st != BNT_OK && more < (64u << 20); more += 256u << 10) {
        struct gguf *g = NULL;
        struct bnt_err err = {0};
        limit.rlim_cur = address_space() + more;
        assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
        st = gguf_open_memory(bytes.buf.data, bytes.buf.len, "many", &g, &err);
        assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
        assert_true(st == BNT_OK || (st == BNT_E_MEMORY && strstr(err.msg, "out of memory")));
        refusals += st != BNT_OK;
        gguf_close(g);
    }
    assert_int_equal(st, BNT_OK);
    assert_true(refusals >= 4); /* infos, places, look-up table, extents */
    gb_release(&bytes);
}

/* The vocabulary of the 2B model: 128,256 tokens and 280,147 merges, 8 MB of header. */
static void the_official_vocabulary_opens_in_10_ms(void **state)
{
    (void)state;
    enum { TOKENS = 128256, MERGES = 280147, RUNS = 9 };
    struct gguf_bytes bytes;
    char text[32], path[BNT_PATH_MAX];
    gb_init(&bytes, false);
    gb_head(&bytes, 3, 0, 2);
    gb_key_array(&bytes, "tokenizer.ggml.tokens", GGUF_STR, TOKENS);
    for (unsigned i = 0; i < TOKENS; i++) {
        snprintf(text, sizeof text, "token%u", i % 5000);
        gb_str(&bytes, text);
    }
    gb_key_array(&bytes, "tokenizer.ggml.merges", GGUF_STR, MERGES);
    for (unsigned i = 0; i < MERGES; i++) {
        snprintf(text, sizeof text, "a%u b%u", i % 3000, i % 7000);
        gb_str(&bytes, text);
    }
    write_file(path, "vocabulary.gguf", bytes.buf.data, bytes.buf.len);
    gb_release(&bytes);
    /* The best of some runs: what the machine does besides is not what is measured. */
    for (enum gguf_mode mode = GGUF_MODE_MAP; mode <= GGUF_MODE_STREAM; mode++) {
        uint64_t best = UINT64_MAX;
        for (int run = 0; run < RUNS; run++) {
            uint64_t start = bnt_clock_now_ns();
            struct gguf *g = open_ok(path, mode);
            uint64_t took = bnt_clock_now_ns() - start;
            best = took < best ? took : best;
            gguf_close(g);
        }
        assert_true(best < 10000000ull * SLOWED);
    }
}

static const struct suite_test tests[] = {
    {.name = "gguf_the_stated_alignment_places_the_data",
     .body = the_stated_alignment_places_the_data},
    {.name = "gguf_every_case_is_told_apart", .body = every_case_is_told_apart},
    {.name = "gguf_every_fault_has_its_row", .body = every_fault_has_its_row},
    {.name = "gguf_every_cut_is_refused", .body = every_cut_is_refused},
    {.name = "gguf_every_changed_byte_is_survived",
     .body = every_changed_byte_is_survived,
     .timeout_ms = 60000},
    {.name = "gguf_values_read_alike_in_both_byte_orders_and_versions",
     .body = values_read_alike_in_both_byte_orders_and_versions},
    {.name = "gguf_big_endian_blocks_come_in_host_order",
     .body = big_endian_blocks_come_in_host_order},
    {.name = "gguf_big_endian_tails_come_in_host_order",
     .body = big_endian_tails_come_in_host_order},
    {.name = "gguf_mapped_and_streamed_agree_on_the_bundled_model",
     .body = mapped_and_streamed_agree_on_the_bundled_model},
    {.name = "gguf_shared_files_open", .body = shared_files_open, .needs = "shared"},
    {.name = "gguf_auto_streams_when_the_mapping_is_refused",
     .body = auto_streams_when_the_mapping_is_refused},
    {.name = "gguf_a_file_cut_after_the_open_is_an_error",
     .body = a_file_cut_after_the_open_is_an_error},
    {.name = "gguf_what_is_no_file_is_refused", .body = what_is_no_file_is_refused},
    {.name = "gguf_reads_outside_a_tensor_are_refused", .body = reads_outside_a_tensor_are_refused},
    {.name = "gguf_look_ups_stay_fast_at_the_ceiling",
     .body = look_ups_stay_fast_at_the_ceiling,
     .timeout_ms = 60000},
    {.name = "gguf_no_memory_is_a_status",
     .body = no_memory_is_a_status,
     .fresh = true}, /* what a heap has left from before is no new address space */
    {.name = "gguf_the_official_vocabulary_opens_in_10_ms",
     .body = the_official_vocabulary_opens_in_10_ms},
    {0},
};
const struct suite suite_gguf = {
    "gguf", tests,
    "gguf_alignment gguf_bounds gguf_version gguf_duplicate gguf_count "
    "gguf_byte_order"};
