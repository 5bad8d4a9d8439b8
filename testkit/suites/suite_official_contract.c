/* Guards what is known of the official 2B4T file without it: its contract is what the recorded
 * facts give, a small mock keeps what mocks can, and whatever the facts cannot give is derived from
 * the file where it is at hand. That this happens by its digest in the cache is tested with a
 * stand-in: another file, with facts of its own. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "engine/gguf_plan.h"
#include "engine/shape.h"
#include "mock/contract.h"
#include "mock/contract_impl.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/infer_support.h"
#include "testkit/suites/mock_support.h"
#include "testkit/suites/official.h"

enum {
    HEADER_SECTIONS = BNT_CONTRACT_FORMAT | BNT_CONTRACT_METADATA | BNT_CONTRACT_TENSORS,
    RECORDED = HEADER_SECTIONS | BNT_CONTRACT_VALUES | BNT_CONTRACT_ANSWERS,
};

/* Hold a file to these sections of the official contract; the patch is the caller's. */
static enum bnt_status held(const char *model, unsigned *sections, struct bnt_buf *patch,
                            struct bnt_err *err)
{
    *patch = (struct bnt_buf)BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    return bnt_contract_check(official_contract(), &(struct bnt_contract_of){.path = model},
                              sections, patch, err);
}

static void keeps(const char *model, unsigned sections, unsigned want)
{
    struct bnt_err err = {0};
    struct bnt_buf patch;
    if (held(model, &sections, &patch, &err) != BNT_OK) {
        fail_msg("%s\n%s", err.msg, bnt_buf_view(&patch));
    }
    assert_int_equal(patch.len, 0);
    assert_int_equal(sections, want);
    bnt_buf_release(&patch);
}

/* ---- a file with the recorded header ---- */

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

/* "str[128256]", "f32[...]": as many elements of the smallest kind. "str, about...": a long text.
 */
static void put_described_key(struct gguf_plan *p, const char *key, const char *what)
{
    struct bnt_err err = {0};
    struct bnt_buf elements = BNT_BUF(GPLAN_MAX_BYTES);
    bool text = strncmp(what, "str[", 4) == 0;
    const char *bracket = strchr(what, '[');
    uint64_t n = bracket ? strtoull(bracket + 1, NULL, 10) : 0;
    if (!bracket) {
        char long_text[271];
        memset(long_text, 'x', sizeof long_text - 1);
        long_text[sizeof long_text - 1] = '\0';
        es_ok(gplan_put_str(p, key, long_text, &err), &err);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        es_ok(text ? gplan_append_text(&elements, "a", 1, &err)
                   : gplan_append_number(&elements, 0, 4, &err),
              &err);
    }
    enum gguf_value_type type = text                           ? GGUF_STR
                                : strncmp(what, "f32", 3) == 0 ? GGUF_F32
                                                               : GGUF_I32;
    es_ok(gplan_put_array(p, key, type, n, &elements, &err), &err);
    bnt_buf_release(&elements);
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
    json_t *doc = official_facts(), *value;
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

/* ---- the contract ---- */

static void put_ids(struct bnt_buf *out, const json_t *ids)
{
    for (size_t i = 0; i < json_array_size(ids); i++) {
        assert_int_equal(bnt_buf_printf(out, NULL, " %d", js_id(ids, i)), BNT_OK);
    }
}

/* The lines of the section `answers` that facts give. */
static void put_answers(struct bnt_buf *out, const json_t *facts)
{
    size_t i;
    json_t *entry;
    json_array_foreach(js_get(facts, "greedy"), i, entry)
    {
        const char *prompt = js_text(entry, "prompt");
        assert_int_equal(contract_quote(out, prompt, strlen(prompt), NULL), BNT_OK);
        put_ids(out, js_get(entry, "prompt_ids"));
        assert_int_equal(bnt_buf_puts(out, " =>", NULL), BNT_OK);
        put_ids(out, js_get(entry, "greedy_ids"));
        assert_int_equal(bnt_buf_putc(out, '\n', NULL), BNT_OK);
    }
}

/* The contract of a file: its header sections and values, and what facts record of its answers. */
static void put_contract(struct bnt_buf *out, const char *file, const json_t *facts)
{
    static const char sections[] = "sections: format metadata tensors values";
    struct bnt_err err = {0};
    struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    const struct bnt_contract_of of = {.path = file, .seed = 1};
    es_ok(bnt_contract_derive(&of, HEADER_SECTIONS | BNT_CONTRACT_VALUES, &text, &err), &err);
    char *rest = strstr(text.data, sections);
    assert_non_null(rest);
    rest += strlen(sections);
    assert_int_equal(bnt_buf_printf(out, NULL, "%.*s answers%s\n[answers]\n",
                                    (int)(rest - text.data), text.data, rest),
                     BNT_OK);
    put_answers(out, facts);
    bnt_buf_release(&text);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void the_contract_is_what_the_facts_give(void **state)
{
    (void)state;
    struct bnt_buf want = BNT_BUF(BNT_CONTRACT_MAX_BYTES), got = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    const char *header = recorded_header();
    json_t *facts = official_facts();
    put_contract(&want, header, facts);
    if (getenv("BNT_UPDATE_GOLDEN")) {
        write_text(official_contract(), bnt_buf_view(&want));
    }
    assert_int_equal(bnt_file_read(official_contract(), &got, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&got), bnt_buf_view(&want));
    keeps(header, HEADER_SECTIONS | BNT_CONTRACT_VALUES, HEADER_SECTIONS | BNT_CONTRACT_VALUES);
    bnt_buf_release(&got);
    bnt_buf_release(&want);
    json_decref(facts);
}

/* Smaller in every number, the same in every key, name, type and relation. */
static struct bnt_mock_recipe small_like(const char *file)
{
    return (struct bnt_mock_recipe){.like = file,
                                    .n_layer = 2,
                                    .n_embd = 256,
                                    .n_head = 4,
                                    .n_head_kv = 1,
                                    .n_ff = 512,
                                    .n_ctx = 64};
}

static void a_small_mock_keeps_what_mocks_can(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_mock_recipe r = small_like(recorded_header());
    r.n_vocab = 600;
    r.tokenizer = "bpe";
    const char *mock = ms_make("small.gguf", &r, NULL);
    keeps(mock, BNT_CONTRACT_EVERYTHING, HEADER_SECTIONS);
    es_ok(bnt_model_open(mock, NULL, &m, &err), &err);
    bnt_model_close(m);
}

/* ---- where the file is at hand ---- */

static void the_file_keeps_its_contract(void **state)
{
    (void)state;
    keeps(official_file(), BNT_CONTRACT_EVERYTHING, RECORDED);
}

/* The lines of one section, with those of others dropped. */
static char *section_of(const struct bnt_buf *contract, const char *name)
{
    size_t len = 0;
    const char *at = contract_section(bnt_buf_view(contract), name, &len);
    assert_non_null(at);
    return strndup(at, len);
}

/* No fact says what the file makes of 500 texts, or what it refuses: it is asked. Whatever it says
 * to the texts, a mock with its vocabulary says too; what is refused, and what holds of every run,
 * is the same for all models. */
static void the_rest_is_derived_from_the_file(void **state)
{
    (void)state;
    enum { REST = BNT_CONTRACT_TOKENIZER | BNT_CONTRACT_TEXT };
    static const char *const same[] = {"errors", "behaviour"};
    struct bnt_err err = {0};
    struct bnt_buf whole = BNT_BUF(BNT_CONTRACT_MAX_BYTES), patch = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    struct bnt_buf bundled = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    const char *path = ms_path("derived.contract");
    unsigned sections = REST;
    const struct bnt_contract_of of = {.path = official_file(), .seed = 1};
    es_ok(bnt_contract_derive(&of, BNT_CONTRACT_ALL, &whole, &err), &err);
    write_text(path, bnt_buf_view(&whole));
    struct bnt_mock_recipe r = small_like(official_file());
    const struct bnt_contract_of like = {.path = ms_make("like.gguf", &r, NULL)};
    if (bnt_contract_check(path, &like, &sections, &patch, &err)) {
        fail_msg("%s\n%s", err.msg, bnt_buf_view(&patch));
    }
    assert_int_equal(sections, REST);
    assert_int_equal(
        bnt_file_read(suite_source("testkit/data/contracts/tinystories-bitnet.contract"), &bundled,
                      NULL),
        BNT_OK);
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        char *here = section_of(&whole, same[i]), *there = section_of(&bundled, same[i]);
        assert_string_equal(here, there);
        free(here);
        free(there);
    }
    bnt_buf_release(&bundled);
    bnt_buf_release(&patch);
    bnt_buf_release(&whole);
}

/* ---- by its digest, in the cache ---- */

/* A small model that does not say that it is a mock. */
static const char *stand_in(void)
{
    static const char mark[] = "general.mock.", other[] = "general.made.";
    struct bnt_buf bytes = BNT_BUF(64u << 20);
    struct bnt_mock_recipe r = {.n_layer = 2, .tokenizer = "bpe", .seed = 3};
    const char *path = ms_make("stand-in.gguf", &r, NULL);
    assert_int_equal(bnt_file_read(path, &bytes, NULL), BNT_OK);
    for (char *at; (at = memmem(bytes.data, bytes.len, mark, strlen(mark))) != NULL;) {
        memcpy(at, other, strlen(other));
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, f), bytes.len);
    assert_int_equal(fclose(f), 0);
    bnt_buf_release(&bytes);
    return path;
}

static json_t *ids_json(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(ids[i]));
    }
    return list;
}

/* What it says to a prompt. `wrong`: but for the last id, which is its worst. */
static json_t *recorded_answer(const char *file, const char *prompt, bool wrong)
{
    enum { N = 4 };
    struct es_engine e;
    struct bnt_err err = {0};
    struct bnt_ids ids = {0};
    int32_t said[N], n_vocab;
    es_open(&e, file, &(struct bnt_session_options){.n_ctx = 64});
    es_ok(bnt_tokenizer_encode(bnt_model_tokenizer(e.model), prompt, strlen(prompt),
                               BNT_ENCODE_ADD_SPECIAL, &ids, &err),
          &err);
    n_vocab = (int32_t)bnt_model_info(e.model)->n_vocab;
    said[0] = es_greedy(&e, ids.at, ids.n);
    for (size_t i = 1; i < N; i++) {
        const float *logits = bnt_session_logits(e.session);
        said[i] = es_greedy(&e, &said[i - 1], 1);
        for (int32_t id = 0; wrong && i + 1 == N && id < n_vocab; id++) {
            said[i] = logits[id] < logits[said[i]] ? id : said[i];
        }
    }
    json_t *entry = json_pack("{s:s, s:o, s:o}", "prompt", prompt, "prompt_ids",
                              ids_json(ids.at, ids.n), "greedy_ids", ids_json(said, N));
    bnt_ids_release(&ids);
    es_close(&e);
    return entry;
}

/* Facts about the stand-in with its contract into the scratch folder, as the files of that name are
 * in the source tree; and its digest. */
static void record(const char *file, bool wrong, char hex[BNT_SHA256_HEX])
{
    struct bnt_err err = {0};
    struct gguf *g;
    struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    es_ok(bnt_sha256_file(file, NULL, NULL, hex, &err), &err);
    es_ok(gguf_open(file, GGUF_MODE_AUTO, &g, &err), &err);
    json_t *facts = json_pack(
        "{s:{s:s, s:I, s:i, s:I, s:I, s:I, s:{s:s}}, s:[o, o]}", "model", "sha256", hex, "bytes",
        (json_int_t)g->file_size, "gguf_version", (int)g->version, "n_kv", (json_int_t)g->n_kv,
        "n_tensors", (json_int_t)g->n_tensors, "data_offset", (json_int_t)g->data_offset, "kv",
        "general.architecture", "bitnet-b1.58", "greedy", recorded_answer(file, "Hello", wrong),
        recorded_answer(file, "Once upon a time", false));
    gguf_close(g);
    assert_non_null(facts);
    put_contract(&text, file, facts);
    write_text(ms_path("bitnet-b1.58-2B-4T.contract"), bnt_buf_view(&text));
    assert_int_equal(json_dump_file(facts, ms_path("bitnet-b1.58-2B-4T.json"), JSON_INDENT(2)), 0);
    bnt_buf_release(&text);
    json_decref(facts);
}

/* Bring the stand-in into the cache as a manifest with its digest says. */
static void fetch_stand_in(const char *file, const char *hex)
{
    char manifest[BNT_PATH_MAX], text[2 * BNT_PATH_MAX];
    struct suite_output o;
    assert_int_equal(bnt_path_format(manifest, NULL, "%s/bnt.yml", suite_scratch()), BNT_OK);
    snprintf(text, sizeof text, "models:\n  official:\n    source: file://%s\n    sha256: %s\n",
             file, hex);
    write_text(manifest, text);
    suite_run((const char *const[]){suite_bnt(), "fetch", NULL}, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("bnt fetch: exit %d: %s", o.exit, o.err);
    }
    suite_output_release(&o);
}

/* Run the checks of the file by `bnt test`; how many passed, failed and were skipped. */
static json_t *run_checks(int want_exit)
{
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "test", "--tier", "integration", "--filter",
                                    "needs:official2b !name:packing", "--history", "none",
                                    "--diagnose", "0", "--json", NULL},
              suite_scratch(), 120000, &o);
    json_t *result = json_loads(o.out, 0, NULL);
    if (o.exit != want_exit || !result) {
        fail_msg("exit %d: %.3000s", o.exit, o.err);
    }
    suite_output_release(&o);
    return result;
}

static void counted(json_t *result, int passed, int failed, int skipped)
{
    const json_t *counts = js_get(result, "counts");
    assert_int_equal(json_integer_value(js_get(counts, "passed")), passed);
    assert_int_equal(json_integer_value(js_get(counts, "failed")), failed);
    assert_int_equal(json_integer_value(js_get(counts, "skipped")), skipped);
    json_decref(result);
}

static void its_checks_run_when_its_digest_is_in_the_cache(void **state)
{
    (void)state;
    enum { N_CHECKS = 5 };
    char file[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    assert_int_equal(bnt_path_format(file, NULL, "%s", stand_in()), BNT_OK);
    record(file, false, hex);
    unsetenv("BNT_OFFICIAL_2B");
    setenv("BNT_OFFICIAL_FACTS", suite_scratch(), 1);
    counted(run_checks(BNT_OK), 0, 0, N_CHECKS);
    fetch_stand_in(file, hex);
    counted(run_checks(BNT_OK), N_CHECKS, 0, 0);
    /* A model that says something else: two checks read what it says. */
    record(file, true, hex);
    counted(run_checks(BNT_E_FAILED), N_CHECKS - 2, 2, 0);
}

static const struct suite_test tests[] = {
    {.name = "official_contract_is_what_the_facts_give",
     .body = the_contract_is_what_the_facts_give,
     .needs = "source"},
    {.name = "official_contract_small_mock_keeps_what_mocks_can",
     .body = a_small_mock_keeps_what_mocks_can,
     .needs = "source"},
    {.name = "official_contract_file_keeps_it",
     .body = the_file_keeps_its_contract,
     .tags = "contract",
     .needs = "official2b,source",
     .timeout_ms = 300000,
     .tier = SUITE_INTEGRATION},
    {.name = "official_contract_rest_is_derived_from_the_file",
     .body = the_rest_is_derived_from_the_file,
     .needs = "official2b,source",
     .timeout_ms = 600000,
     .tier = SUITE_INTEGRATION},
    {.name = "official_contract_checks_run_when_the_digest_is_in_the_cache",
     .body = its_checks_run_when_its_digest_is_in_the_cache,
     .needs = "source",
     .timeout_ms = 60000},
    {0},
};
const struct suite suite_official_contract = {"official_contract", tests,
                                              "contract_answer official_unseen"};
