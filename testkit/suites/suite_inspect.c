/* Guards what people and programs read about a model file: facts that are wrong or missing, output
 * that is no JSON, text of a hostile file that reaches the terminal as it is, a refusal without its
 * class. */
#include "testkit/suite.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/file.h"
#include "engine/commands.h"
#include "testkit/suites/gguf_cases.h"

enum { OUTPUT_MAX_BYTES = 16 << 20, MAX_ARGS = 8 };

/* ---- running the command in this process ---- */

/* A name is a path, and a file whose name begins with "mock" is one. */
static enum bnt_status resolve_path(const struct bnt_app *app, const char *name,
                                    struct bnt_model_ref *out, struct bnt_err *err)
{
    (void)app;
    const char *path = name ? name : suite_bundled_model();
    const char *base = strrchr(path, '/');
    out->digest[0] = '\0';
    out->kind = strncmp(base ? base + 1 : path, "mock", 4) == 0 ? "tiny" : "real";
    return bnt_path_format(out->path, err, "%s", path);
}

/* Standard output of `inspect <args>`, which ends with status `want`. */
static void inspect(const char *const *args, enum bnt_status want, struct bnt_buf *out)
{
    char path[BNT_PATH_MAX], words[MAX_ARGS][BNT_PATH_MAX];
    char *argv[MAX_ARGS + 1] = {words[0]};
    int argc = 1;
    snprintf(words[0], sizeof words[0], "inspect");
    for (; args[argc - 1]; argc++) {
        assert_true(argc < MAX_ARGS);
        snprintf(words[argc], sizeof words[argc], "%s", args[argc - 1]);
        argv[argc] = words[argc];
    }
    assert_int_equal(bnt_path_format(path, NULL, "%s/stdout", suite_scratch()), BNT_OK);
    struct bnt_app app = {.resolve_model = resolve_path};
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_true(saved >= 0);
    assert_non_null(freopen(path, "w", stdout));
    enum bnt_status st = bnt_cmd_run(&bnt_cmd_inspect, "bnt", &app, argc, argv);
    fflush(stdout);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    close(saved);
    assert_int_equal(st, want);
    bnt_buf_init(out, OUTPUT_MAX_BYTES);
    assert_int_equal(bnt_file_read(path, out, NULL), BNT_OK);
}

/* The output, which must be one JSON value on one line. */
static json_t *inspect_json(const char *const *args, enum bnt_status want)
{
    struct bnt_buf out;
    json_error_t where;
    inspect(args, want, &out);
    const char *text = bnt_buf_view(&out);
    json_t *root = json_loads(text, 0, &where);
    if (!root) {
        fail_msg("no JSON: %s at %d in '%.200s'", where.text, where.position, text);
    }
    assert_ptr_equal(strchr(text, '\n'), text + out.len - 1);
    bnt_buf_release(&out);
    return root;
}

static void write_case(char path[BNT_PATH_MAX], const char *name, const struct gguf_bytes *g)
{
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", suite_scratch(), name), BNT_OK);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bnt_buf_view(&g->buf), 1, g->buf.len, f), g->buf.len);
    assert_int_equal(fclose(f), 0);
}

static void assert_has(const struct bnt_buf *out, const char *text)
{
    if (!strstr(bnt_buf_view(out), text)) {
        fail_msg("'%s' is not in:\n%s", text, bnt_buf_view(out));
    }
}

static json_t *at(json_t *root, const char *section, const char *key)
{
    json_t *v = json_object_get(json_object_get(root, section), key);
    assert_non_null(v);
    return v;
}

/* ---- facts ---- */

static void json_holds_the_facts_of_the_bundled_model(void **state)
{
    (void)state;
    const char *const args[] = {"--json", NULL};
    json_t *root = inspect_json(args, BNT_OK);
    static const struct {
        const char *section, *key;
        int value;
    } numbers[] = {
        {"file", "bytes", 1925568},      {"file", "gguf_version", 3},
        {"file", "alignment", 32},       {"file", "data_offset", 64064},
        {"model", "file_type", 40},      {"model", "n_layer", 4},
        {"model", "n_embd", 256},        {"model", "n_ff", 768},
        {"model", "n_head", 4},          {"model", "n_head_kv", 2},
        {"model", "n_ctx", 512},         {"model", "n_vocab", 2048},
        {"model", "n_params", 3676416},  {"model", "tensor_bytes", 1861504},
        {"tokenizer", "n_tokens", 2048}, {"tokenizer", "n_merges", 1789},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_int_equal(json_integer_value(at(root, numbers[i].section, numbers[i].key)),
                         numbers[i].value);
    }
    assert_string_equal(json_string_value(at(root, "model", "architecture")), "bitnet-b1.58");
    assert_string_equal(json_string_value(at(root, "model", "file_type_name")), "I2_S");
    assert_true(json_is_true(at(root, "model", "supported")));
    assert_string_equal(json_string_value(at(root, "file", "byte_order")), "little");
    assert_string_equal(json_string_value(at(root, "tokenizer", "model")), "gpt2");
    assert_true(json_is_true(at(root, "tokenizer", "add_bos")));
    assert_true(json_is_null(at(root, "tokenizer", "add_eos")));
    json_t *bos = at(root, "tokenizer", "bos");
    assert_int_equal(json_integer_value(json_object_get(bos, "id")), 2045);
    assert_string_equal(json_string_value(json_object_get(bos, "text")), "<|begin_of_text|>");
    json_t *tensors = json_object_get(root, "tensors");
    assert_int_equal(json_array_size(tensors), 46);
    unsigned with_scale = 0;
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        json_t *t = json_array_get(tensors, i);
        bool ternary = strcmp(json_string_value(json_object_get(t, "type")), "I2_S") == 0;
        assert_int_equal(json_object_get(t, "scale") != NULL, ternary);
        with_scale += ternary;
    }
    assert_int_equal(with_scale, 28);
    json_decref(root);
}

static void long_arrays_are_whole_only_when_asked(void **state)
{
    (void)state;
    const char *const some[] = {"--json", NULL}, *const all[] = {"--json", "--metadata", NULL};
    json_t *root = inspect_json(some, BNT_OK);
    json_t *tokens = at(root, "metadata", "tokenizer.ggml.tokens");
    assert_true(json_is_false(json_object_get(tokens, "complete")));
    assert_int_equal(json_integer_value(json_object_get(tokens, "n")), 2048);
    assert_int_equal(json_array_size(json_object_get(tokens, "value")), 16);
    json_decref(root);
    root = inspect_json(all, BNT_OK);
    tokens = at(root, "metadata", "tokenizer.ggml.tokens");
    assert_true(json_is_true(json_object_get(tokens, "complete")));
    assert_int_equal(json_array_size(json_object_get(tokens, "value")), 2048);
    json_decref(root);
}

static void the_summary_names_what_matters(void **state)
{
    (void)state;
    static const char *const says[] = {
        "GGUF version 3, little-endian, alignment 32, tensors from byte 64064",
        "bitnet-b1.58",
        "4 layers, 256 wide, 768 in the feed-forward, 4 heads, 2 KV heads",
        "512 positions",
        "3.68 M in 46 tensors, 1.86 MB",
        "40 (I2_S)",
        "28 tensors",
        "gpt2, pre-tokenizer llama-bpe, 2048 tokens, 1789 merges",
        "eot 2047 \"<|eot_id|>\"",
    };
    const char *const args[] = {NULL};
    struct bnt_buf out;
    inspect(args, BNT_OK, &out);
    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        assert_has(&out, says[i]);
    }
    assert_null(strstr(bnt_buf_view(&out), "blk.0.attn_q.weight"));
    bnt_buf_release(&out);
    const char *const tables[] = {"-m", suite_bundled_model(), "--tensors", "--metadata", NULL};
    inspect(tables, BNT_OK, &out);
    assert_has(&out, "blk.3.ffn_up.weight");
    assert_has(&out, "256 x 2048");
    assert_has(&out, "tokenizer.ggml.merges                        array  1789 of str: \"");
    bnt_buf_release(&out);
}

/* Every value type through both outputs, from both byte orders. */
static void values_of_every_type_are_shown(void **state)
{
    (void)state;
    for (int big = 0; big < 2; big++) {
        struct gguf_bytes g;
        char path[BNT_PATH_MAX];
        gb_init(&g, big != 0);
        gguf_case_everything(&g);
        write_case(path, "everything.gguf", &g);
        gb_release(&g);
        const char *const text[] = {path, "--metadata", "--tensors", NULL};
        struct bnt_buf out;
        inspect(text, BNT_OK, &out);
        assert_has(&out, big ? "big-endian" : "little-endian");
        assert_has(&out, "u64    18000000000000000000\n");
        assert_has(&out, "i64    -9000000000000000000\n");
        assert_has(&out, "f64    0.1\n");
        assert_has(&out, "array  3 of str: \"alpha\", \"\", \"gamma\"\n");
        assert_has(&out, "array  2 of f32: 0.25, -3\n");
        assert_has(&out, "array  2 of array\n");
        bnt_buf_release(&out);
        const char *const json[] = {path, "--json", NULL};
        json_t *root = inspect_json(json, BNT_OK);
        json_t *u64 = json_object_get(at(root, "metadata", "u64"), "value");
        assert_string_equal(json_string_value(u64), "18000000000000000000");
        json_t *f64 = json_object_get(at(root, "metadata", "f64"), "value");
        assert_true(json_real_value(f64) == 0.1);
        assert_true(json_is_null(json_object_get(at(root, "metadata", "nested"), "value")));
        json_decref(root);
    }
}

/* 0.1f needs one digit to be told from its neighbours, the odd one needs nine. */
static void scales_and_floats_are_shown_exactly(void **state)
{
    (void)state;
    struct gguf_bytes g;
    char path[BNT_PATH_MAX];
    const float odd = 10.0000105f;
    gb_init(&g, false);
    gb_head(&g, 3, 1, 2);
    gb_key(&g, "tenth", GGUF_F32);
    gb_f32(&g, 0.1f);
    gb_key(&g, "odd", GGUF_F32);
    gb_f32(&g, odd);
    gb_tensor(&g, "w", 128, 1, TENSOR_I2_S, 0);
    gb_pad(&g, 32);
    gb_zeros(&g, 32);
    gb_f32(&g, odd);
    gb_zeros(&g, 28);
    write_case(path, "scale.gguf", &g);
    gb_release(&g);
    const char *const text[] = {path, "--tensors", "--metadata", NULL};
    const char *const json[] = {path, "--json", NULL};
    struct bnt_buf out;
    inspect(text, BNT_OK, &out);
    assert_has(&out, "f32    0.1\n");
    assert_has(&out, "f32    10.0000105\n");
    assert_has(&out, "  10.0000105\n");
    bnt_buf_release(&out);
    json_t *root = inspect_json(json, BNT_OK);
    json_t *scale = json_object_get(json_array_get(json_object_get(root, "tensors"), 0), "scale");
    assert_true((float)json_real_value(scale) == odd);
    json_t *tenth = json_object_get(at(root, "metadata", "tenth"), "value");
    assert_true(json_real_value(tenth) == 0.1);
    json_decref(root);
}

/* ---- hostile text ---- */

static void text_of_the_file_cannot_drive_the_terminal(void **state)
{
    (void)state;
    struct gguf_bytes g;
    char path[BNT_PATH_MAX];
    gb_init(&g, false);
    gb_head(&g, 3, 1, 3);
    gb_key_str(&g, "general.architecture", "\033[31mred");
    gb_key_str(&g, "key\033]0;title\007", "value\x9b\xff\xc2\x9b\r\n");
    gb_key_str(&g, "general.name", "caf\xc3\xa9");
    gb_tensor(&g, "w\033[2J", 1, 1, 0, 0);
    gb_pad(&g, 32);
    gb_f32(&g, 1);
    write_case(path, "hostile.gguf", &g);
    gb_release(&g);
    const char *const text[] = {path, "--metadata", "--tensors", NULL};
    struct bnt_buf out;
    inspect(text, BNT_OK, &out);
    for (size_t i = 0; i < out.len; i++) {
        unsigned char c = (unsigned char)out.data[i];
        assert_true((c >= 0x20 && c != 0x7f && c != 0x9b && c != 0xff) || c == '\n');
    }
    assert_has(&out, "\\x1b[31mred");
    assert_has(&out, "value\\x9b\\xff\\xc2\\x9b\\x0d\\n");
    assert_has(&out, "caf\xc3\xa9");
    bnt_buf_release(&out);
    const char *const json[] = {path, "--json", NULL};
    json_decref(inspect_json(json, BNT_OK));
}

/* ---- refusals ---- */

static void every_refusal_is_json_with_its_class(void **state)
{
    (void)state;
    unsigned refused = 0;
    for (const struct gguf_case *c = gguf_cases; c->name; c++) {
        if (c->fault == GGUF_FAULT_NONE) {
            continue;
        }
        const struct gguf_fault_info *info = gguf_fault_info((int)c->fault);
        struct gguf_bytes g;
        char path[BNT_PATH_MAX];
        gb_init(&g, false);
        c->build(&g);
        write_case(path, c->name, &g);
        gb_release(&g);
        const char *const args[] = {"--json", path, NULL};
        json_t *root = inspect_json(args, info->status);
        assert_string_equal(json_string_value(at(root, "error", "class")), info->name);
        assert_int_equal(json_integer_value(at(root, "error", "status")), info->status);
        assert_int_equal(json_is_true(at(root, "error", "recoverable")), info->recoverable);
        assert_string_equal(json_string_value(at(root, "error", "hint")), info->hint);
        assert_non_null(strstr(json_string_value(at(root, "error", "message")), c->says));
        json_decref(root);
        refused++;
    }
    assert_true(refused > 40);
}

/* The fields that SARIF 2.1.0 requires, and the place. */
static void every_refusal_is_a_sarif_result(void **state)
{
    (void)state;
    unsigned placed = 0;
    for (const struct gguf_case *c = gguf_cases; c->name; c++) {
        const struct gguf_fault_info *info = gguf_fault_info((int)c->fault);
        struct gguf_bytes g;
        char path[BNT_PATH_MAX];
        gb_init(&g, false);
        c->build(&g);
        write_case(path, c->name, &g);
        gb_release(&g);
        const char *const args[] = {"--sarif", path, NULL};
        json_t *root = inspect_json(args, info->status * (c->fault != GGUF_FAULT_NONE));
        json_t *run = json_array_get(json_object_get(root, "runs"), 0);
        json_t *driver = at(run, "tool", "driver");
        json_t *results = json_object_get(run, "results");
        json_t *result = json_array_get(results, 0);
        assert_string_equal(json_string_value(json_object_get(root, "version")), "2.1.0");
        assert_string_equal(json_string_value(json_object_get(driver, "name")), "bnt");
        assert_int_equal(json_array_size(json_object_get(driver, "rules")), GGUF_N_FAULTS - 1);
        assert_int_equal(json_array_size(results), c->fault != GGUF_FAULT_NONE);
        if (result) {
            json_int_t index = json_integer_value(json_object_get(result, "ruleIndex"));
            json_t *rule = json_array_get(json_object_get(driver, "rules"), (size_t)index);
            json_t *location = json_array_get(json_object_get(result, "locations"), 0);
            json_t *place = json_object_get(location, "physicalLocation");
            assert_string_equal(json_string_value(json_object_get(rule, "id")), info->name);
            assert_string_equal(json_string_value(json_object_get(result, "ruleId")), info->name);
            assert_non_null(strstr(json_string_value(at(result, "message", "text")), c->says));
            assert_non_null(json_string_value(at(place, "artifactLocation", "uri")));
            placed +=
                json_is_integer(json_object_get(json_object_get(place, "region"), "byteOffset"));
        }
        json_decref(root);
    }
    assert_true(placed > 10);
}

static void absent_files_and_two_models_are_refused(void **state)
{
    (void)state;
    const char *const absent[] = {"--json", "/nonexistent.gguf", NULL};
    json_t *root = inspect_json(absent, BNT_E_NOT_FOUND);
    assert_int_equal(json_integer_value(at(root, "error", "status")), BNT_E_NOT_FOUND);
    json_decref(root);
    struct bnt_buf out;
    const char *const two[] = {"a.gguf", "b.gguf", NULL}, *const both[] = {"-m", "a", "b", NULL};
    inspect(two, BNT_E_USAGE, &out);
    assert_int_equal(out.len, 0);
    bnt_buf_release(&out);
    inspect(both, BNT_E_USAGE, &out);
    bnt_buf_release(&out);
}

static void a_mock_is_shown_only_when_allowed(void **state)
{
    (void)state;
    struct gguf_bytes g;
    char path[BNT_PATH_MAX];
    gb_init(&g, false);
    gguf_case_everything(&g);
    write_case(path, "mock.gguf", &g);
    gb_release(&g);
    const char *const plain[] = {path, "--json", NULL};
    json_decref(inspect_json(plain, BNT_E_NOT_FOUND));
    const char *const allowed[] = {path, "--json", "--allow-mock", NULL};
    json_t *root = inspect_json(allowed, BNT_E_MOCK_USED);
    assert_string_equal(json_string_value(at(root, "file", "kind")), "tiny");
    json_decref(root);
}

static const struct suite_test tests[] = {
    {.name = "inspect_json_holds_the_facts_of_the_bundled_model",
     .body = json_holds_the_facts_of_the_bundled_model},
    {.name = "inspect_long_arrays_are_whole_only_when_asked",
     .body = long_arrays_are_whole_only_when_asked},
    {.name = "inspect_the_summary_names_what_matters", .body = the_summary_names_what_matters},
    {.name = "inspect_values_of_every_type_are_shown", .body = values_of_every_type_are_shown},
    {.name = "inspect_scales_and_floats_are_shown_exactly",
     .body = scales_and_floats_are_shown_exactly},
    {.name = "inspect_text_of_the_file_cannot_drive_the_terminal",
     .body = text_of_the_file_cannot_drive_the_terminal},
    {.name = "inspect_every_refusal_is_json_with_its_class",
     .body = every_refusal_is_json_with_its_class},
    {.name = "inspect_every_refusal_is_a_sarif_result", .body = every_refusal_is_a_sarif_result},
    {.name = "inspect_absent_files_and_two_models_are_refused",
     .body = absent_files_and_two_models_are_refused},
    {.name = "inspect_a_mock_is_shown_only_when_allowed",
     .body = a_mock_is_shown_only_when_allowed},
    {0},
};
const struct suite suite_inspect = {"inspect", tests, "inspect_weights sarif_place"};
