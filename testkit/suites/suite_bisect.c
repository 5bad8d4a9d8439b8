/* Guards bnt bisect: a difference between two runs that is not found, or found at another token,
 * layer, op or element than where it arises. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "engine/bnt_infer.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/support.h"

/* Run by `program`; more ends with NULL. */
static struct suite_output bisect(const char *program, const char *const *more)
{
    const char *argv[24] = {program, "bisect", "-p", "Once upon a time", "-n", "1"};
    for (size_t n = 6; *more; more++) {
        argv[n++] = *more;
    }
    struct suite_output o;
    suite_run(argv, NULL, 0, &o);
    return o;
}
#define BISECT(program, ...) bisect(program, (const char *const[]){__VA_ARGS__, NULL})

/* The first difference of a run with --json, which the caller drops with *root. */
static const json_t *first_of(const struct suite_output *o, json_t **root)
{
    assert_int_equal(o->exit, BNT_E_DIFFERS);
    *root = json_loads(o->out, 0, NULL);
    assert_non_null(*root);
    return js_get(*root, "first");
}

static void at_place(const json_t *first, const char *op, int layer, int token)
{
    if (strcmp(js_text(first, "op"), op) != 0 ||
        json_integer_value(js_get(first, "layer")) != layer ||
        json_integer_value(js_get(first, "token")) != token) {
        char *text = json_dumps(first, JSON_COMPACT);
        fail_msg("wanted %s of layer %d, token %d; got %s", op, layer, token, text);
    }
}

/* ---- defects of the engine ---- */

/* Where each planted defect first shows. At token 0 nothing is rotated, and attention has one
 * choice. */
static const struct seeded {
    const char *fault, *op;
    int layer, token;
} seeded[] = {
    {"norm_epsilon", "attn_norm", 0, 0}, {"i2s_scale", "q", 0, 0},
    {"rope_base", "q_rope", 0, 1},       {"rope_style", "q_rope", 0, 1},
    {"rope_key_late", "k_rope", 0, 1},   {"attention_scale", "attn", 0, 1},
    {"kv_off_by_one", "attn", 0, 1},     {"causal_mask", "attn", 0, 0},
    {"head_group", "attn", 0, 0},        {"residual", "attn_residual", 0, 0},
    {"sub_norm", "ffn_sub_norm", 0, 0},
};

static void engine_defects_are_located(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof seeded / sizeof seeded[0]; i++) {
        char fault[64];
        snprintf(fault, sizeof fault, "env=BNT_FAULT=%s", seeded[i].fault);
        struct suite_output o =
            BISECT(support_fault_bnt(), "--json", "--a", "env=BNT_FAULT=", "--b", fault);
        json_t *root;
        at_place(first_of(&o, &root), seeded[i].op, seeded[i].layer, seeded[i].token);
        json_decref(root);
        suite_output_release(&o);
    }
}

/* A kernel that goes wrong beside the reference one, which does not; and the piece of work that a
 * second thread leaves undone. */
static void kernels_and_thread_counts_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *a[2], *b[2], *op;
    } cases[] = {
        {{"env=BNT_FAULT=", "kernel=ref"}, {"env=BNT_FAULT=head_group", "kernel=auto"}, "attn"},
        {{"env=BNT_FAULT=pool_piece", "threads=1"}, {"env=BNT_FAULT=pool_piece", "threads=3"}, "v"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o = BISECT(support_fault_bnt(), "--json", "--a", cases[i].a[0], "--a",
                                       cases[i].a[1], "--b", cases[i].b[0], "--b", cases[i].b[1]);
        json_t *root;
        at_place(first_of(&o, &root), cases[i].op, 0, 0);
        json_decref(root);
        suite_output_release(&o);
    }
}

/* This build against another one, which has a defect. */
static void a_defect_of_another_build_is_located(void **state)
{
    (void)state;
    char here[BNT_PATH_MAX + 8], other[BNT_PATH_MAX + 8];
    snprintf(here, sizeof here, "bnt=%s", suite_bnt());
    snprintf(other, sizeof other, "bnt=%s", support_fault_bnt());
    struct suite_output o =
        BISECT(suite_bnt(), "--json", "--a", here, "--b", other, "--b", "env=BNT_FAULT=residual");
    json_t *root;
    at_place(first_of(&o, &root), "attn_residual", 0, 0);
    json_decref(root);
    suite_output_release(&o);
    o = BISECT(suite_bnt(), "--a", here, "--b", other, "--b", "env=BNT_FAULT=");
    assert_string_equal(o.out, "no difference\n");
    suite_output_release(&o);
}

/* ---- two files ---- */

/* A copy of the bundled model in which one number of a float32 vector is another. */
static const char *changed_model(const char *tensor, uint64_t element)
{
    static char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct gguf *g;
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_AUTO, &g, &err), &err);
    const struct gguf_tensor *t = gguf_find_tensor(g, tensor);
    assert_non_null(t);
    assert_int_equal(t->type, TENSOR_F32);
    uint64_t offset = t->offset + element * sizeof(float);
    gguf_close(g);
    struct bnt_buf file = BNT_BUF(64u << 20);
    es_ok(bnt_file_read(suite_bundled_model(), &file, &err), &err);
    file.data[offset + 2] ^= 0x40; /* a change of its size by a factor of at most two */
    snprintf(path, sizeof path, "%s/changed.gguf", suite_scratch());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
    fclose(f);
    bnt_buf_release(&file);
    return path;
}

static void a_changed_weight_is_located(void **state)
{
    (void)state;
    char setting[BNT_PATH_MAX + 16];
    snprintf(setting, sizeof setting, "model=%s", changed_model("blk.2.ffn_norm.weight", 77));
    struct suite_output o =
        BISECT(suite_bnt(), "--json", "-m", suite_bundled_model(), "--b", setting);
    json_t *root;
    const json_t *first = first_of(&o, &root);
    at_place(first, "ffn_norm", 2, 0);
    assert_int_equal(json_integer_value(js_get(first, "element")), 77);
    assert_int_equal(json_integer_value(js_get(first, "compared_elements")), 256);
    assert_int_equal(json_integer_value(js_get(first, "different_elements")), 1);
    json_decref(root);
    suite_output_release(&o);
    o = BISECT(suite_bnt(), "--rtol", "1e9", "--b", setting, "-m", suite_bundled_model());
    assert_int_equal(o.exit, 0);
    suite_output_release(&o);
}

/* ---- sides ---- */

static void equal_sides_have_no_difference(void **state)
{
    (void)state;
    struct suite_output o = BISECT(suite_bnt(), "-m", suite_bundled_model(), "--a", "kernel=ref",
                                   "--a", "threads=1", "--b", "batch=2");
    assert_int_equal(o.exit, 0);
    assert_string_equal(o.out, "no difference\n");
    suite_output_release(&o);
}

/* A build that keeps keys and values in another type, in the form of a script. */
static void two_programs_are_told_apart(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], program[BNT_PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/other-bnt", suite_scratch());
    snprintf(program, sizeof program, "bnt=%s", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\nexec '%s' \"$@\" $MORE\n", suite_bnt());
    fclose(f);
    assert_int_equal(chmod(path, 0700), 0);
    struct suite_output o = BISECT(suite_bnt(), "--b", program);
    assert_string_equal(o.out, "no difference\n");
    suite_output_release(&o);
    o = BISECT(suite_bnt(), "--json", "--b", program, "--b", "env=MORE=--kv-type f32");
    json_t *root;
    at_place(first_of(&o, &root), "attn", 0, 0);
    json_decref(root);
    suite_output_release(&o);
}

static void a_side_that_fails_says_so(void **state)
{
    (void)state;
    struct suite_output o = BISECT(suite_bnt(), "--b", "model=/nothere.gguf");
    assert_int_equal(o.exit, BNT_E_NOT_FOUND);
    assert_non_null(strstr(o.err, "side B exited with 8"));
    assert_non_null(strstr(o.err, "/nothere.gguf"));
    suite_output_release(&o);
    o = BISECT(suite_bnt(), "--a", "kernels=ref");
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "bisect_engine_defects_are_located",
     .body = engine_defects_are_located,
     .timeout_ms = 60000,
     .needs = "fault-build"},
    {.name = "bisect_kernels_and_thread_counts_are_told_apart",
     .body = kernels_and_thread_counts_are_told_apart,
     .timeout_ms = 60000,
     .needs = "fault-build"},
    {.name = "bisect_a_defect_of_another_build_is_located",
     .body = a_defect_of_another_build_is_located,
     .timeout_ms = 60000,
     .needs = "fault-build"},
    {.name = "bisect_two_programs_are_told_apart", .body = two_programs_are_told_apart},
    {.name = "bisect_a_changed_weight_is_located", .body = a_changed_weight_is_located},
    {.name = "bisect_equal_sides_have_no_difference", .body = equal_sides_have_no_difference},
    {.name = "bisect_a_side_that_fails_says_so", .body = a_side_that_fails_says_so},
    {0},
};
const struct suite suite_bisect = {"bisect", tests, "bisect_one_side"};
