/* Guards contracts: a mock that drifts from the model it stands in for, a model that changes under
 * its mocks, and a difference that is not seen or cannot be applied. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "mock/contract.h"
#include "mock/draw.h"
#include "engine/gguf_plan.h"
#include "mock/line_diff.h"
#include "engine/shape.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/mock_support.h"

static const char bundled[] = "testkit/data/contracts/tinystories-bitnet.contract";
static const char official[] = "testkit/data/contracts/bitnet-b1.58-2B-4T.contract";
enum { HEADER_SECTIONS = BNT_CONTRACT_FORMAT | BNT_CONTRACT_METADATA | BNT_CONTRACT_TENSORS };

/* Fails with the patch unless the model keeps the contract. */
static void keeps(const char *contract, const char *model)
{
    struct bnt_err err = {0};
    struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    if (bnt_contract_check(contract, model, &patch, &err) != BNT_OK) {
        fail_msg("%s\n%s", err.msg, bnt_buf_view(&patch));
    }
    assert_int_equal(patch.len, 0);
    bnt_buf_release(&patch);
}

/* ---- real and mock ---- */

static void a_mock_like_the_bundled_model_keeps_its_contract(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct bnt_mock_recipe r = {.like = suite_bundled_model(), .seed = seed};
        const char *mock = ms_make("mock.gguf", &r, NULL);
        keeps(suite_source(bundled), mock);
    }
}

static void the_bundled_model_keeps_its_contract(void **state)
{
    (void)state;
    keeps(suite_source(bundled), suite_bundled_model());
}

static void a_contract_is_the_same_text_every_time(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_buf one = BNT_BUF(BNT_CONTRACT_MAX_BYTES), two = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    const char *path = ms_make("m.gguf", &(struct bnt_mock_recipe){.tokenizer = "spm"}, NULL);
    es_ok(bnt_contract_derive(path, BNT_CONTRACT_ALL, 5, &one, &err), &err);
    es_ok(bnt_contract_derive(path, BNT_CONTRACT_ALL, 5, &two, &err), &err);
    assert_string_equal(bnt_buf_view(&one), bnt_buf_view(&two));
    bnt_buf_release(&one);
    bnt_buf_release(&two);
}

static size_t lines_between(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    const char *end = at ? strstr(at, to) : NULL;
    size_t n = 0;
    assert_non_null(end);
    for (at = strchr(at, '\n') + 1; at < end; at = strchr(at, '\n') + 1) {
        n++;
    }
    return n;
}

static void a_contract_has_500_texts_and_30_bad_inputs(void **state)
{
    (void)state;
    struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    assert_int_equal(bnt_file_read(suite_source(bundled), &text, NULL), BNT_OK);
    const char *t = bnt_buf_view(&text);
    assert_int_equal(lines_between(t, "[text]", "\n[errors]"), BNT_CONTRACT_STRINGS);
    assert_true(lines_between(t, "[errors]", "\n[behaviour]") >= 30);
    /* Only the last section says yes or no, and here all of it says yes. */
    assert_null(strstr(strstr(t, "[behaviour]"), ": no\n"));
    bnt_buf_release(&text);
}

/* ---- drift ---- */

static void drift_is_a_patch_in_either_direction(void **state)
{
    (void)state;
    static const struct {
        struct bnt_mock_recipe recipe;
        const char *gone, *new;
    } cases[] = {
        {{.fault = "rope-base-off"}, "\n-rope base 10000\n", "\n+rope base 100\n"},
        {{.fault = "epsilon-off"}, "\n-norm epsilon 9.99999975e-06\n", "\n+norm epsilon 0.5\n"},
        {{.fault = "end-token-wrong"}, "\n-eos 2046 ", "\n+eos 65 \"A\"\n"},
        {{.n_layer = 3}, "\n-n_layer 4\n", "\n+n_layer 3\n"},
        {{.n_ctx = 128}, "\n-n_ctx_train 512\n", "\n+n_ctx_train 128\n"},
        {{.fault = "norm-nan"}, "\n-logits are finite: yes\n", "\n+logits are finite: no\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
        struct bnt_mock_recipe r = cases[i].recipe;
        r.like = suite_bundled_model();
        const char *mock = ms_make("mock.gguf", &r, NULL);
        enum bnt_status st = bnt_contract_check(suite_source(bundled), mock, &patch, &err);
        /* A model of NaN may also refuse to speak. */
        bool refused = cases[i].recipe.fault && strcmp(cases[i].recipe.fault, "norm-nan") == 0 &&
                       st == BNT_E_INFERENCE;
        if (!refused && (st != BNT_E_CONTRACT || !strstr(bnt_buf_view(&patch), cases[i].gone) ||
                         !strstr(bnt_buf_view(&patch), cases[i].new))) {
            fail_msg("case %zu: status %d, %s\n%s", i, (int)st, err.msg, bnt_buf_view(&patch));
        }
        bnt_buf_release(&patch);
    }
}

/* A contract that says more or less than the model does is drift too. */
static void lines_added_to_or_taken_from_a_contract_are_seen(void **state)
{
    (void)state;
    struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    assert_int_equal(bnt_file_read(suite_source(bundled), &text, NULL), BNT_OK);
    char *line = strstr(text.data, "general.license str\n");
    assert_non_null(line);
    for (int added = 0; added < 2; added++) {
        struct bnt_err err = {0};
        struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
        const char *path = ms_path("other.contract");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "%.*s%s%s", (int)(line - text.data), text.data,
                added ? "general.more str\n" : "",
                added ? line : line + strlen("general.license str\n"));
        fclose(f);
        assert_int_equal(bnt_contract_check(path, suite_bundled_model(), &patch, &err),
                         BNT_E_CONTRACT);
        assert_non_null(strstr(bnt_buf_view(&patch),
                               added ? "\n-general.more str\n" : "\n+general.license str\n"));
        assert_non_null(strstr(err.msg, "1 lines differ"));
        bnt_buf_release(&patch);
    }
    bnt_buf_release(&text);
}

static void what_is_no_contract_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "bnt contract 2\nsections: format\nseed: 1\n",
        "bnt contract 1\nseed: 1\n",
        "bnt contract 1\nsections: format\n",
        "bnt contract 1\nsections: format\nseed: one\n",
        "bnt contract 1\nsections: weights\nseed: 1\n",
        "GGUF",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bnt_err err = {0};
        struct bnt_buf patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
        const char *path = ms_path("none.contract");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(texts[i], f);
        fclose(f);
        enum bnt_status st = bnt_contract_check(path, suite_bundled_model(), &patch, &err);
        if ((st != BNT_E_FILE && st != BNT_E_USAGE) || patch.len > 0) {
            fail_msg("case %zu: status %d, '%s'", i, (int)st, err.msg);
        }
        bnt_buf_release(&patch);
    }
}

/* ---- the official model, from its recorded header ---- */

static json_t *recorded(void)
{
    json_error_t e;
    json_t *doc =
        json_load_file(suite_source("testkit/data/golden/bitnet-b1.58-2B-4T.json"), 0, &e);
    assert_non_null(doc);
    return doc;
}

static void put_recorded_key(struct gguf_plan *p, const char *key, const json_t *value)
{
    struct bnt_err err = {0};
    if (json_is_string(value)) {
        es_ok(gplan_put_str(p, key, json_string_value(value), &err), &err);
    } else if (json_is_boolean(value)) {
        es_ok(gplan_put_bool(p, key, json_is_true(value), &err), &err);
    } else if (json_is_real(value)) {
        es_ok(gplan_put_f32(p, key, (float)json_real_value(value), &err), &err);
    } else {
        es_ok(gplan_put_u32(p, key, (uint32_t)json_integer_value(value), &err), &err);
    }
}

/* "str[128256]", "f32[...]", "str, about...": arrays are shortened, which no header section sees.
 */
static void put_described_key(struct gguf_plan *p, const char *key, const char *what)
{
    struct bnt_err err = {0};
    struct bnt_buf element = BNT_BUF(64);
    bool text = strncmp(what, "str[", 4) == 0;
    if (!strchr(what, '[')) {
        es_ok(gplan_put_str(p, key, "", &err), &err);
        return;
    }
    es_ok(text ? gplan_append_text(&element, "a", 1, &err)
               : gplan_append_number(&element, 0, 4, &err),
          &err);
    enum gguf_value_type type = text                           ? GGUF_STR
                                : strncmp(what, "f32", 3) == 0 ? GGUF_F32
                                                               : GGUF_I32;
    es_ok(gplan_put_array(p, key, type, 1, &element, &err), &err);
    bnt_buf_release(&element);
}

static void put_recorded_tensors(struct gguf_plan *p)
{
    const struct shape_dims dims = {.n = {[SHAPE_ONE] = 1,
                                          [SHAPE_EMBD] = 2560,
                                          [SHAPE_FF] = 6912,
                                          [SHAPE_VOCAB] = 128256,
                                          [SHAPE_Q] = 2560,
                                          [SHAPE_KV] = 640}};
    struct bnt_err err = {0};
    for (const struct shape_rule *r = shape_rules; r->name; r++) {
        if (!shape_wanted(r, arch_find("bitnet-b1.58", 12))) {
            continue;
        }
        enum tensor_type type = r->role == SHAPE_LINEAR      ? TENSOR_I2_S
                                : r->role == SHAPE_EMBEDDING ? TENSOR_F16
                                                             : TENSOR_F32;
        for (unsigned layer = 0; layer < (r->per_layer ? 30u : 1u); layer++) {
            char name[96];
            snprintf(name, sizeof name, r->per_layer ? "blk.%2$u.%1$s" : "%1$s", r->name, layer);
            es_ok(gplan_add_tensor(p, name, type, dims.n[r->cols], dims.n[r->rows], &err), &err);
        }
    }
}

/* A file with the recorded header and holes for weights. */
static const char *recorded_header(void)
{
    struct bnt_err err = {0};
    struct gguf_plan p;
    struct bnt_buf header = BNT_BUF(GPLAN_MAX_BYTES);
    const char *path = ms_path("official.gguf"), *key;
    json_t *doc = recorded(), *value;
    const json_t *model = js_get(doc, "model");
    gplan_init(&p);
    json_object_foreach(js_get(model, "kv"), key, value)
    {
        put_recorded_key(&p, key, value);
    }
    json_object_foreach(js_get(model, "other_kv"), key, value)
    {
        put_described_key(&p, key, json_string_value(value));
    }
    put_recorded_tensors(&p);
    gplan_place(&p);
    es_ok(gplan_header(&p, &header, &err), &err);
    const struct gplan_tensor *last = &p.tensors[p.n_tensors - 1];
    uint64_t data = last->offset + (last->size + 31) / 32 * 32;
    /* What the record counts is what was made of it. */
    assert_int_equal(p.n_kv, json_integer_value(js_get(model, "n_kv")));
    assert_int_equal(p.n_tensors, json_integer_value(js_get(model, "n_tensors")));
    assert_int_equal(data, json_integer_value(js_get(model, "bytes")) -
                               json_integer_value(js_get(model, "data_offset")));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(header.data, 1, header.len, f), header.len);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, (off_t)(header.len + data)), 0);
    bnt_buf_release(&header);
    gplan_release(&p);
    json_decref(doc);
    return path;
}

static void the_recorded_official_header_gives_its_contract(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_buf got = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    const char *header = recorded_header();
    if (getenv("BNT_UPDATE_GOLDEN")) {
        es_ok(bnt_contract_derive(header, HEADER_SECTIONS, 1, &got, &err), &err);
        FILE *f = fopen(suite_source(official), "w");
        assert_non_null(f);
        fputs(bnt_buf_view(&got), f);
        fclose(f);
    }
    bnt_buf_release(&got);
    keeps(suite_source(official), header);
}

/* Smaller in every number, the same in every key, name, type and relation. */
static void a_small_mock_like_the_official_header_keeps_its_contract(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_mock_recipe r = {.like = recorded_header(),
                                .n_layer = 2,
                                .n_embd = 256,
                                .n_head = 4,
                                .n_head_kv = 1,
                                .n_ff = 512,
                                .n_vocab = 600,
                                .n_ctx = 64,
                                .tokenizer = "bpe"};
    const char *mock = ms_make("small.gguf", &r, NULL);
    keeps(suite_source(official), mock);
    es_ok(bnt_model_open(mock, NULL, &m, &err), &err);
    bnt_model_close(m);
}

static void the_official_model_keeps_its_contract(void **state)
{
    (void)state;
    keeps(suite_source(official), getenv("BNT_OFFICIAL_2B"));
}

/* ---- differences ---- */

/* What the hunks of a patch make of `from`. */
static void apply(const char *from, const char *patch, struct bnt_buf *out)
{
    size_t line = 1;
    for (const char *p = patch; *p; p = strchr(p, '\n') + 1) {
        size_t len = strcspn(p, "\n"), at = 0;
        if (strncmp(p, "--- ", 4) == 0 || strncmp(p, "+++ ", 4) == 0) {
            continue;
        }
        if (p[0] == '@') {
            at = strtoull(p + 4, NULL, 10);
            bool none = strncmp(strchr(p, ',') + 1, "0 ", 2) == 0;
            for (at += none; line < at; line++) {
                const char *end = strchr(from, '\n') + 1;
                bnt_buf_append(out, from, (size_t)(end - from), NULL);
                from = end;
            }
            continue;
        }
        if (p[0] != '+') {
            assert_memory_equal(p + 1, from, len - 1); /* context and removed lines are there */
            from = strchr(from, '\n') + 1;
            line++;
        }
        if (p[0] != '-') {
            bnt_buf_append(out, p + 1, len, NULL);
        }
    }
    bnt_buf_puts(out, from, NULL);
}

static void patches_turn_one_text_into_the_other(void **state)
{
    (void)state;
    struct draw d = draw_stream(99, "diff", 4);
    for (int round = 0; round < 300; round++) {
        struct bnt_buf text[2] = {BNT_BUF(65536), BNT_BUF(65536)};
        struct bnt_buf patch = BNT_BUF(65536), made = BNT_BUF(65536);
        for (uint64_t i = 0; i < 60; i++) {
            uint64_t word = draw_below(&d, 8), change = draw_below(&d, 12);
            for (int side = 0; side < 2; side++) {
                bool left_out = change == (uint64_t)side;
                if (!left_out) {
                    bnt_buf_printf(&text[side], NULL, "line %d\n",
                                   (int)(change == 2 && side ? word + 8 : word));
                }
            }
        }
        assert_int_equal(
            line_diff("a", bnt_buf_view(&text[0]), "b", bnt_buf_view(&text[1]), &patch, NULL),
            BNT_OK);
        apply(bnt_buf_view(&text[0]), bnt_buf_view(&patch), &made);
        assert_string_equal(bnt_buf_view(&made), bnt_buf_view(&text[1]));
        bnt_buf_release(&text[0]);
        bnt_buf_release(&text[1]);
        bnt_buf_release(&patch);
        bnt_buf_release(&made);
    }
}

static const struct suite_test tests[] = {
    {.name = "contract_mock_like_the_bundled_model_keeps_it",
     .body = a_mock_like_the_bundled_model_keeps_its_contract,
     .tags = "contract",
     .needs = "source"},
    {.name = "contract_bundled_model_keeps_its_own",
     .body = the_bundled_model_keeps_its_contract,
     .tags = "contract",
     .needs = "source",
     .tier = SUITE_INTEGRATION},
    {.name = "contract_is_the_same_text_every_time",
     .body = a_contract_is_the_same_text_every_time},
    {.name = "contract_has_500_texts_and_30_bad_inputs",
     .body = a_contract_has_500_texts_and_30_bad_inputs,
     .needs = "source"},
    {.name = "contract_drift_is_a_patch_in_either_direction",
     .body = drift_is_a_patch_in_either_direction,
     .needs = "source"},
    {.name = "contract_lines_added_or_taken_are_seen",
     .body = lines_added_to_or_taken_from_a_contract_are_seen,
     .needs = "source"},
    {.name = "contract_what_is_none_is_refused", .body = what_is_no_contract_is_refused},
    {.name = "contract_recorded_official_header_gives_it",
     .body = the_recorded_official_header_gives_its_contract,
     .needs = "source"},
    {.name = "contract_small_mock_like_the_official_header_keeps_it",
     .body = a_small_mock_like_the_official_header_keeps_its_contract,
     .needs = "source"},
    {.name = "contract_official_model_keeps_its_own",
     .body = the_official_model_keeps_its_contract,
     .needs = "official2b,source",
     .timeout_ms = 60000,
     .tier = SUITE_INTEGRATION},
    {.name = "contract_patches_turn_one_text_into_the_other",
     .body = patches_turn_one_text_into_the_other},
    {0},
};
const struct suite suite_contract = {"contract", tests, "contract_drift"};
