/* Guards what bnt fix writes: a copy that is not what the file says, that still has the defect,
 * that appears although the file was refused; an original that was touched. */
#include "engine/fix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/gguf_write.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/gguf_bytes.h"
#include "testkit/suites/mock_support.h"

enum { FILE_MAX_BYTES = 8 << 20 };

/* ---- support ---- */

static struct bnt_buf read_file(const char *path)
{
    struct bnt_buf b = BNT_BUF(FILE_MAX_BYTES);
    struct bnt_err err = {0};
    es_ok(bnt_file_read(path, &b, &err), &err);
    return b;
}

static void write_file(const char *path, const struct bnt_buf *b)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b->data, 1, b->len, f), b->len);
    assert_int_equal(fclose(f), 0);
}

static void expect_same(const char *a, const char *b)
{
    struct bnt_buf x = read_file(a), y = read_file(b);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    bnt_buf_release(&x);
    bnt_buf_release(&y);
}

/* Not even a note is left. */
static void expect_sound(const char *path)
{
    struct validate_options o = {.level = VALIDATE_COMPREHENSIVE, .profile = VALIDATE_STRICT};
    struct validate_report r;
    struct bnt_err err = {0};
    es_ok(validate_file(path, &o, &r, &err), &err);
    if (r.n) {
        fail_msg("%s: %s", path, r.findings[0].message);
    }
    validate_release(&r);
}

static struct fix_report fix(const char *in, const char *pre, const char *out)
{
    struct fix_options o = {.pre = pre};
    struct fix_report r;
    struct bnt_err err = {0};
    es_ok(fix_file(in, out, &o, &r, &err), &err);
    return r;
}

static bool changed(const struct fix_report *r, const char *what)
{
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->changes[i].what, what) == 0) {
            return true;
        }
    }
    return false;
}

static void expect_refused(const char *in, enum bnt_status status, const char *says)
{
    struct fix_options o = {.pre = NULL};
    struct fix_report r;
    struct bnt_err err = {0};
    const char *out = ms_path("refused.gguf");
    assert_int_equal(fix_file(in, out, &o, &r, &err), status);
    if (!strstr(err.msg, says)) {
        fail_msg("'%s' is not in '%s'", says, err.msg);
    }
    assert_int_not_equal(access(out, F_OK), 0);
}

/* ---- what is put right ---- */

static void foreign_packing_becomes_the_usual_one(void **state)
{
    (void)state;
    static const enum i2s_layout layouts[] = {I2S_ARM, I2S_ROWS4};
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const char *out = ms_path(i ? "rows4.gguf" : "arm.gguf");
        struct fix_report r = fix(es_repacked_model(layouts[i]), NULL, out);
        assert_int_equal(r.n, 1);
        assert_true(changed(&r, "packing"));
        expect_same(out, suite_bundled_model());
    }
    struct bnt_mock_recipe recipe = {.layout = "64/16", .n_layer = 1, .n_vocab = 360};
    const char *out = ms_path("mock.gguf");
    fix(ms_make("mock-arm.gguf", &recipe, NULL), NULL, out);
    expect_sound(out);
}

static void wrong_alignment_is_replaced(void **state)
{
    (void)state;
    static const char *const faults[] = {"alignment-24", "alignment-zero"};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct bnt_mock_recipe recipe = {
            .n_layer = 1, .n_embd = 128, .n_vocab = 360, .fault = faults[i]};
        const char *out = ms_path(i ? "zero.gguf" : "24.gguf");
        struct fix_report r = fix(ms_make("broken.gguf", &recipe, NULL), NULL, out);
        assert_int_equal(r.n, 1);
        assert_true(changed(&r, "alignment"));
        expect_sound(out);
    }
}

/* The last tensor of a file begins 4 bytes late, header and data alike. */
static void shift_last_tensor(const char *in, const char *out)
{
    struct gguf *g = NULL;
    struct bnt_err err = {0};
    struct bnt_buf b = read_file(in), shifted = BNT_BUF(FILE_MAX_BYTES);
    es_ok(gguf_open(in, GGUF_MODE_AUTO, &g, &err), &err);
    const struct gguf_tensor *t = &g->tensors[g->n_tensors - 1];
    uint64_t relative = t->offset - g->data_offset + 4;
    char *name = memmem(b.data, b.len, t->name.data, t->name.len);
    assert_non_null(name);
    memcpy(name + t->name.len + 4 + 8 * t->n_dims + 4, &relative, sizeof relative);
    es_ok(bnt_buf_append(&shifted, b.data, t->offset, &err), &err);
    es_ok(bnt_buf_append(&shifted, "\0\0\0", 4, &err), &err);
    es_ok(bnt_buf_append(&shifted, b.data + t->offset, t->size, &err), &err);
    write_file(out, &shifted);
    gguf_close(g);
    bnt_buf_release(&b);
    bnt_buf_release(&shifted);
}

/* The packing shows in a file that loads only: after the alignment. */
static void unaligned_tensors_and_packing_in_one_go(void **state)
{
    (void)state;
    const char *in = ms_path("shifted.gguf"), *out = ms_path("both.gguf");
    shift_last_tensor(es_repacked_model(I2S_ARM), in);
    struct fix_report r = fix(in, NULL, out);
    assert_int_equal(r.n, 2);
    assert_true(changed(&r, "alignment") && changed(&r, "packing"));
    expect_same(out, suite_bundled_model());
}

/* The bundled model without its pre-tokenizer and with the converter's template. */
static void write_like_a_converter(const char *path)
{
    struct gguf *g = NULL;
    struct gguf_plan p;
    struct bnt_err err = {0};
    struct gguf_writer w = {.interrupted = NULL};
    gplan_init(&p);
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_AUTO, &g, &err), &err);
    for (uint64_t i = 0; i < g->n_kv; i++) {
        es_ok(gplan_put_copy(&p, g, &g->kv[i], &err), &err);
    }
    gplan_drop(&p, "tokenizer.ggml.pre");
    es_ok(gplan_put_str(&p, "tokenizer.chat_template",
                        "{% for message in messages %}{{ 'Human: ' + message['content'] + "
                        "'\\n\\nBITNETAssistant: ' }}{% endfor %}",
                        &err),
          &err);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        es_ok(gplan_copy_tensor(&p, &g->tensors[i], &err), &err);
    }
    es_ok(gguf_writer_open(&w, &p, path, &err), &err);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        es_ok(gguf_writer_copy(&w, g, &g->tensors[i], &err), &err);
    }
    es_ok(gguf_writer_finish(&w, &err), &err);
    es_ok(gguf_writer_commit(&w, NULL, &err), &err);
    gguf_writer_release(&w);
    gplan_release(&p);
    gguf_close(g);
}

static void converters_text_defects_are_corrected(void **state)
{
    (void)state;
    const char *in = ms_path("converter.gguf"), *out = ms_path("text.gguf");
    write_like_a_converter(in);
    struct bnt_buf before = read_file(in);
    struct fix_report r = fix(in, "llama-bpe", out);
    assert_int_equal(r.n, 2);
    assert_true(changed(&r, "pre-tokenizer") && changed(&r, "chat-template"));
    expect_sound(out);
    struct bnt_buf after = read_file(in);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    bnt_buf_release(&before);
    bnt_buf_release(&after);
    /* Nothing shows what this vocabulary was trained with. */
    expect_refused(in, BNT_E_UNSUPPORTED, "tokenizer.ggml.pre");
}

static void old_version_and_loose_bytes_are_left_behind(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_buf b = read_file(suite_bundled_model());
    const char *in = ms_path("old.gguf"), *out = ms_path("new.gguf");
    b.data[4] = 2;
    es_ok(bnt_buf_append(&b, "what a download left here, which is longer than padding", 50, &err),
          &err);
    write_file(in, &b);
    bnt_buf_release(&b);
    struct fix_report r = fix(in, NULL, out);
    assert_int_equal(r.n, 2);
    assert_true(changed(&r, "version") && changed(&r, "padding"));
    expect_same(out, suite_bundled_model());
}

static void a_sound_file_comes_out_as_it_is(void **state)
{
    (void)state;
    const char *out = ms_path("same.gguf");
    struct fix_report r = fix(suite_bundled_model(), NULL, out);
    assert_int_equal(r.n, 0);
    expect_same(out, suite_bundled_model());
}

/* ---- the other byte order ---- */

/* `n` values of `width` bytes, last byte first. */
static void put_reversed(struct gguf_bytes *b, const uint8_t *bytes, uint64_t n, unsigned width)
{
    for (uint64_t i = 0; i < n; i++) {
        for (unsigned k = width; k-- > 0;) {
            gb_raw(b, bytes + i * width + k, 1);
        }
    }
}

static void put_name(struct gguf_bytes *b, struct gguf_str name)
{
    gb_u64(b, name.len);
    gb_raw(b, name.data, name.len);
}

static void put_value(struct gguf_bytes *b, const struct gguf *g, const struct gguf_kv *kv)
{
    char key[256];
    struct gguf_iter it;
    struct gguf_str text;
    snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
    gb_key(b, key, kv->type);
    if (kv->type == GGUF_ARR) {
        gb_u32(b, kv->elem_type);
        gb_u64(b, kv->n);
    }
    if (kv->type == GGUF_STR) {
        put_name(b, (struct gguf_str){(const char *)kv->raw, kv->raw_len});
    } else if (kv->elem_type != GGUF_STR) {
        put_reversed(b, kv->raw, kv->n, (unsigned)(kv->raw_len / kv->n));
    } else {
        assert_true(gguf_iter_begin(g, key, GGUF_STR, &it));
        while (gguf_iter_str(&it, &text)) {
            put_name(b, text);
        }
    }
}

/* F32, F16, and I2_S with its tail of floats. */
static void put_data(struct gguf_bytes *b, const struct gguf *g, const struct gguf_tensor *t)
{
    const uint8_t *bytes = gguf_tensor_view(g, t);
    if (t->type == TENSOR_I2_S) {
        gb_raw(b, bytes, t->size - 32);
        put_reversed(b, bytes + t->size - 32, 1, 4);
        gb_raw(b, bytes + t->size - 28, 28);
    } else {
        unsigned width = t->type == TENSOR_F32 ? 4 : 2;
        put_reversed(b, bytes, t->size / width, width);
    }
    gb_pad(b, 32);
}

static void write_big_endian(const char *in, const char *out)
{
    struct gguf *g = NULL;
    struct gguf_bytes b;
    struct bnt_err err = {0};
    es_ok(gguf_open(in, GGUF_MODE_AUTO, &g, &err), &err);
    gb_init(&b, true);
    gb_head(&b, 3, g->n_tensors, g->n_kv);
    for (uint64_t i = 0; i < g->n_kv; i++) {
        put_value(&b, g, &g->kv[i]);
    }
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        put_name(&b, t->name);
        gb_u32(&b, (uint32_t)t->n_dims);
        for (int d = 0; d < t->n_dims; d++) {
            gb_u64(&b, t->ne[d]);
        }
        gb_u32(&b, t->type);
        gb_u64(&b, t->offset - g->data_offset);
    }
    gb_pad(&b, 32);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        put_data(&b, g, &g->tensors[i]);
    }
    write_file(out, &b.buf);
    gb_release(&b);
    gguf_close(g);
}

static void big_endian_becomes_little(void **state)
{
    (void)state;
    const char *big = ms_path("big.gguf"), *out = ms_path("little.gguf");
    write_big_endian(suite_bundled_model(), big);
    expect_sound(big);
    const struct validate_options o = {.level = VALIDATE_BASIC};
    struct validate_report found;
    struct bnt_err err = {0};
    es_ok(validate_file(big, &o, &found, &err), &err);
    for (int i = 0; i < VALIDATE_N_PLATFORMS; i++) { /* read tensor by tensor, on all of them */
        const struct validate_platform *p = &found.platforms[i];
        assert_true(p->fits && !p->byte_order && !p->mapped && strstr(p->note, "big-endian"));
    }
    validate_release(&found);
    struct fix_report r = fix(big, NULL, out);
    assert_int_equal(r.n, 1);
    assert_true(changed(&r, "byte-order"));
    expect_same(out, suite_bundled_model());
}

/* ---- what is refused ---- */

static void what_cannot_be_put_right_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *fault;
        enum bnt_status status;
        const char *says;
    } cases[] = {
        {"weight-code-3", BNT_E_FILE, "corrupt"},
        {"scale-nan", BNT_E_FILE, "scale"},
        {"cut-short", BNT_E_FILE, "size"},
        {"tensor-unaligned", BNT_E_FILE, "size"},
        {"key-twice", BNT_E_FILE, "corrupt"},
        {"bad-magic", BNT_E_FILE, "header"},
        {"tensor-missing", BNT_E_UNSUPPORTED, "arch"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_mock_recipe recipe = {
            .n_layer = 1, .n_embd = 128, .n_vocab = 360, .fault = cases[i].fault};
        expect_refused(ms_make("broken.gguf", &recipe, NULL), cases[i].status, cases[i].says);
    }
}

/* Blocks with scales of their own are numbers, but a code that means no weight is none. */
static void a_wrong_code_is_seen_whatever_the_scales(void **state)
{
    (void)state;
    enum { BLOCK = 66, SCALE = 64 };
    const struct bnt_mock_recipe recipe = {.type = "tq2_0", .n_layer = 1, .n_vocab = 360};
    struct bnt_err err = {0};
    struct gguf *g;
    const char *path = ms_make("broken.gguf", &recipe, NULL);
    struct bnt_buf b = read_file(path);
    es_ok(gguf_open(path, GGUF_MODE_AUTO, &g, &err), &err);
    const struct gguf_tensor *t = gguf_find_tensor(g, "blk.0.ffn_down.weight");
    assert_true(t && t->size >= (uint64_t)2 * BLOCK);
    uint8_t *blocks = (uint8_t *)b.data + t->offset;
    f16_store(blocks + SCALE, 0.75f); /* the others have a power of two */
    write_file(path, &b);
    expect_sound(path);
    blocks[BLOCK] |= 3;
    write_file(path, &b);
    expect_refused(path, BNT_E_FILE, "corrupt");
    gguf_close(g);
    bnt_buf_release(&b);
}

static void the_original_and_what_exists_are_not_replaced(void **state)
{
    (void)state;
    struct suite_output o;
    const char *out = ms_path("taken.gguf"), *hard = ms_path("link.gguf");
    struct bnt_buf some = BNT_BUF(16);
    assert_int_equal(bnt_buf_puts(&some, "precious", NULL), BNT_OK);
    write_file(out, &some);
    suite_run((const char *const[]){suite_bnt(), "fix", suite_bundled_model(), out, NULL},
              suite_scratch(), 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
    struct bnt_buf after = read_file(out);
    assert_int_equal(after.len, some.len);
    bnt_buf_release(&after);
    bnt_buf_release(&some);
    suite_run((const char *const[]){suite_bnt(), "fix", "--force", "--json", suite_bundled_model(),
                                    out, NULL},
              suite_scratch(), 0, &o);
    assert_int_equal(o.exit, 0);
    assert_non_null(strstr(o.out, "\"changes\":[]"));
    suite_output_release(&o);
    expect_same(out, suite_bundled_model());
    assert_int_equal(link(out, hard), 0);
    suite_run((const char *const[]){suite_bnt(), "fix", "--force", out, hard, NULL},
              suite_scratch(), 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    assert_non_null(strstr(o.err, "one file"));
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "fix_packs_weights_as_usual", .body = foreign_packing_becomes_the_usual_one},
    {.name = "fix_replaces_a_wrong_alignment", .body = wrong_alignment_is_replaced},
    {.name = "fix_takes_alignment_and_packing_in_one_go",
     .body = unaligned_tensors_and_packing_in_one_go},
    {.name = "fix_corrects_what_a_converter_writes", .body = converters_text_defects_are_corrected},
    {.name = "fix_leaves_old_version_and_loose_bytes_behind",
     .body = old_version_and_loose_bytes_are_left_behind},
    {.name = "fix_copies_a_sound_file_as_it_is", .body = a_sound_file_comes_out_as_it_is},
    {.name = "fix_turns_big_endian_into_little", .body = big_endian_becomes_little},
    {.name = "fix_refuses_what_cannot_be_put_right", .body = what_cannot_be_put_right_is_refused},
    {.name = "fix_sees_a_wrong_code_whatever_the_scales",
     .body = a_wrong_code_is_seen_whatever_the_scales},
    {.name = "fix_replaces_neither_the_original_nor_what_exists",
     .body = the_original_and_what_exists_are_not_replaced},
    {0},
};
const struct suite suite_fix = {"fix", tests, "fix_template fix_packing"};
