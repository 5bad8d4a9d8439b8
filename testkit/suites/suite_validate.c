/* Guards the promise of each level of validation: a defect of a file that is not told at the level
 * that promises it, a sound file that is called broken, a run that stops at the first of several
 * defects. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/validate.h"
#include "engine/gguf_plan.h"
#include "testkit/suite.h"
#include "testkit/suites/checkpoint.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

enum { LEAST_FOUND = 55, WIDE = 2560, WIDE_KV = 640, WIDE_FF = 6912 };

/* ---- support ---- */

static struct validate_report validate(const char *path, enum validate_level level,
                                       enum validate_profile profile)
{
    struct validate_options o = {.level = level, .profile = profile};
    struct validate_report r;
    struct bnt_err err = {0};
    es_ok(validate_file(path, &o, &r, &err), &err);
    return r;
}

static void show(const struct validate_report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        print_message("  %s %s: %s\n", validate_severity_name(r->findings[i].severity),
                      validate_class_info(r->findings[i].kind).name, r->findings[i].message);
    }
}

static const struct validate_finding *finding_of(const struct validate_report *r, int kind)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->findings[i].kind == kind) {
            return &r->findings[i];
        }
    }
    return NULL;
}

/* ---- planted defects ---- */

/* Where and as what a deep defect is promised; the others go by who finds them. */
static const struct promise {
    const char *name;
    enum validate_level level;
    int kind;
} promises[] = {
    {"scale-nan", VALIDATE_COMPREHENSIVE, GGUF_FAULT_SCALE},
    {"scale-infinite", VALIDATE_COMPREHENSIVE, GGUF_FAULT_SCALE},
    {"scale-off", VALIDATE_COMPREHENSIVE, GGUF_FAULT_SCALE},
    {"scale-absurd", VALIDATE_COMPREHENSIVE, GGUF_FAULT_SCALE},
    {"norm-nan", VALIDATE_COMPREHENSIVE, VALIDATE_VALUES},
    {"weight-code-3", VALIDATE_COMPREHENSIVE, GGUF_FAULT_CORRUPT},
    {"rope-base-off", VALIDATE_STANDARD, VALIDATE_HYPER_PARAMETER},
    {"epsilon-off", VALIDATE_STANDARD, VALIDATE_HYPER_PARAMETER},
    {"end-token-wrong", VALIDATE_STANDARD, VALIDATE_SPECIAL_TOKEN},
};

static struct promise promise_of(const struct bnt_mock_file_fault *f)
{
    for (size_t i = 0; i < sizeof promises / sizeof promises[0]; i++) {
        if (strcmp(promises[i].name, f->name) == 0) {
            return promises[i];
        }
    }
    return (struct promise){
        f->name, f->found == BNT_MOCK_FOUND_OPEN ? VALIDATE_BASIC : VALIDATE_STANDARD,
        f->fault == GGUF_FAULT_NONE ? (int)GGUF_FAULT_TOKENIZER : (int)f->fault};
}

/* Told at its level as its class, and nothing of it a level earlier. */
static bool is_kept(const struct promise *p, const char *path)
{
    struct validate_report r = validate(path, p->level, VALIDATE_STRICT);
    const struct validate_finding *f = finding_of(&r, p->kind);
    bool good = f && f->severity == VALIDATE_ERROR && f->message[0] && f->hint[0];
    if (!good) {
        print_message("%s is not found at level %s as %s\n", p->name, validate_level_name(p->level),
                      validate_class_info(p->kind).name);
        show(&r);
    }
    validate_release(&r);
    if (p->level > VALIDATE_BASIC) {
        r = validate(path, p->level - 1, VALIDATE_STRICT);
        good = good && r.n == 0;
        validate_release(&r);
    }
    return good;
}

static void planted_defects_are_found_at_their_level(void **state)
{
    (void)state;
    const struct bnt_mock_file_fault *f;
    size_t n_found = 0, n_broken = 0;
    for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++) {
        struct promise p = promise_of(f);
        struct bnt_mock_recipe r = {
            .seed = 4, .n_layer = 1, .n_embd = 128, .n_head = 4, .n_vocab = 360, .fault = f->name};
        r.tokenizer = f->needs && strstr(f->needs, "spm") ? "spm" : NULL;
        if (strcmp(f->name, "weight-bit") == 0) {
            continue; /* only the digest tells: see below */
        }
        bool kept = is_kept(&p, ms_make("broken.gguf", &r, NULL));
        n_found += kept;
        n_broken += !kept;
    }
    assert_int_equal(n_broken, 0);
    assert_true(n_found >= LEAST_FOUND);
}

static void a_turned_bit_is_found_by_the_digest(void **state)
{
    (void)state;
    struct bnt_mock_recipe recipe = {.n_layer = 1, .n_embd = 128, .n_vocab = 360};
    struct bnt_mock_made sound;
    struct validate_report r;
    struct bnt_err err = {0};
    const char *path = ms_make("sound.gguf", &recipe, &sound);
    struct validate_options o = {.level = VALIDATE_BASIC, .hash = true, .expected = sound.digest};
    es_ok(validate_file(path, &o, &r, &err), &err);
    assert_int_equal(r.n, 0);
    assert_string_equal(r.digest, sound.digest);
    validate_release(&r);
    recipe.fault = "weight-bit";
    es_ok(validate_file(ms_make("bit.gguf", &recipe, NULL), &o, &r, &err), &err);
    assert_non_null(finding_of(&r, VALIDATE_DIGEST));
    assert_int_equal(validate_status(&r), BNT_E_DIGEST);
    validate_release(&r);
}

/* ---- sound files ---- */

static void expect_sound(const char *path, enum validate_level level)
{
    struct validate_report r = validate(path, level, VALIDATE_STRICT);
    if (r.n != 0) {
        show(&r);
        fail_msg("%s: a sound file has findings", path);
    }
    validate_release(&r);
}

static const char *const families[] = {"bitnet-b1.58", "bitnet", "bitnet-25", "llama",
                                       "qwen2",        "qwen3",  "minicpm"};

static void sound_files_have_no_findings(void **state)
{
    (void)state;
    expect_sound(suite_bundled_model(), VALIDATE_COMPREHENSIVE);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        struct bnt_mock_recipe r = {.arch = families[i], .n_layer = 1, .n_vocab = 360};
        expect_sound(ms_make("sound.gguf", &r, NULL), VALIDATE_COMPREHENSIVE);
    }
}

static void sound_files_of_every_type_have_no_findings(void **state)
{
    (void)state;
    static const char *const types[] = {
        "i2_s", "tq1_0", "tq2_0", "iq1_bn", "iq2_bn", "iq2_bn_r4", "f32",  "f16",
        "bf16", "q4_0",  "q4_1",  "q5_0",   "q5_1",   "q8_0",      "q4_k", "q5_k",
        "q6_k", "q2_k",  "q3_k",  "iq4_nl", "iq4_xs", "q1_0",      "q2_0", "q2_0_g128"};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
            struct bnt_mock_recipe r = {.type = types[k], .n_layer = 1, .n_vocab = 360};
            r.arch = families[i];
            r.tokenizer = (i + k) % 2 ? "spm" : "bpe";
            expect_sound(ms_make("sound.gguf", &r, NULL),
                         k == 0 ? VALIDATE_PARANOID : VALIDATE_COMPREHENSIVE);
        }
    }
    static const char *const tiled[] = {"tl1", "tl2"};
    for (size_t k = 0; k < sizeof tiled / sizeof tiled[0]; k++) {
        struct bnt_mock_recipe r = {
            .type = tiled[k], .n_layer = 1, .n_embd = 1536, .n_ff = 4096, .n_head = 16};
        r.n_head_kv = r.n_head;
        expect_sound(ms_make("sound.gguf", &r, NULL), VALIDATE_COMPREHENSIVE);
    }
}

static void shared_models_have_no_findings(void **state)
{
    (void)state;
    expect_sound(suite_shared("models/stories260K.gguf"), VALIDATE_PARANOID);
    expect_sound(suite_shared("models/tinystories-bitnet.gguf"), VALIDATE_PARANOID);
    expect_sound(suite_bundled_model(), VALIDATE_PARANOID);
}

/* ---- the official file ---- */

static void put_recorded(struct gguf_plan *p, const char *key, const json_t *v)
{
    struct bnt_err err = {0};
    enum bnt_status st;
    if (json_is_string(v)) {
        st = gplan_put_str(p, key, json_string_value(v), &err);
    } else if (json_is_boolean(v)) {
        st = gplan_put_bool(p, key, json_is_true(v), &err);
    } else if (json_is_integer(v)) {
        st = gplan_put_u32(p, key, (uint32_t)json_integer_value(v), &err);
    } else {
        st = gplan_put_f32(p, key, (float)json_number_value(v), &err);
    }
    es_ok(st, &err);
}

static void append_text(struct bnt_buf *b, const char *text, size_t len)
{
    struct bnt_err err = {0};
    es_ok(gplan_append_text(b, text, len, &err), &err);
}

/* The recorded number of tokens: 256 bytes in the byte alphabet, control tokens where LLaMA-3 has
 * them, and words of letters; merges of two letters and words. */
static void put_vocabulary(struct gguf_plan *p)
{
    enum { N_TOKENS = 128256, N_MERGES = 280147, FIRST_CONTROL = 128000, MAX_BYTES = 16 << 20 };
    struct bnt_buf tokens = BNT_BUF(MAX_BYTES), types = BNT_BUF(MAX_BYTES),
                   scores = BNT_BUF(MAX_BYTES), merges = BNT_BUF(MAX_BYTES);
    struct bnt_err err = {0};
    char text[64];
    for (unsigned i = 0; i < N_TOKENS; i++) {
        bool control = i >= FIRST_CONTROL;
        unsigned c = i < 94 ? '!' + i : i < 188 ? 0xa1 + (i - 94) + (i >= 106) : 0x100 + (i - 188);
        int n = snprintf(text, sizeof text, control ? "<|reserved_special_token_%u|>" : "w%u", i);
        if (i == FIRST_CONTROL || i == FIRST_CONTROL + 1) {
            n = snprintf(text, sizeof text,
                         i == FIRST_CONTROL ? "<|begin_of_text|>" : "<|end_of_text|>");
        } else if (i < 256 && c < 0x80) {
            n = snprintf(text, sizeof text, "%c", (int)c);
        } else if (i < 256) {
            n = snprintf(text, sizeof text, "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 63)));
        }
        append_text(&tokens, text, (size_t)n);
        es_ok(gplan_append_number(&types, control ? 3 : 1, 4, &err), &err);
        es_ok(gplan_append_number(&scores, 0, 4, &err), &err);
    }
    for (unsigned i = 0; i < N_MERGES; i++) {
        int n = snprintf(text, sizeof text, "w %u", i);
        append_text(&merges, text, (size_t)n);
    }
    es_ok(gplan_put_array(p, "tokenizer.ggml.tokens", GGUF_STR, N_TOKENS, &tokens, &err), &err);
    es_ok(gplan_put_array(p, "tokenizer.ggml.scores", GGUF_F32, N_TOKENS, &scores, &err), &err);
    es_ok(gplan_put_array(p, "tokenizer.ggml.token_type", GGUF_I32, N_TOKENS, &types, &err), &err);
    es_ok(gplan_put_array(p, "tokenizer.ggml.merges", GGUF_STR, N_MERGES, &merges, &err), &err);
    bnt_buf_release(&tokens);
    bnt_buf_release(&types);
    bnt_buf_release(&scores);
    bnt_buf_release(&merges);
}

static void put_tensors(struct gguf_plan *p)
{
    static const struct {
        const char *name;
        enum tensor_type type;
        uint64_t cols, rows;
    } layer[] = {
        {"attn_norm", TENSOR_F32, WIDE, 1},       {"attn_q", TENSOR_I2_S, WIDE, WIDE},
        {"attn_k", TENSOR_I2_S, WIDE, WIDE_KV},   {"attn_v", TENSOR_I2_S, WIDE, WIDE_KV},
        {"attn_sub_norm", TENSOR_F32, WIDE, 1},   {"attn_output", TENSOR_I2_S, WIDE, WIDE},
        {"ffn_norm", TENSOR_F32, WIDE, 1},        {"ffn_gate", TENSOR_I2_S, WIDE, WIDE_FF},
        {"ffn_up", TENSOR_I2_S, WIDE, WIDE_FF},   {"ffn_sub_norm", TENSOR_F32, WIDE_FF, 1},
        {"ffn_down", TENSOR_I2_S, WIDE_FF, WIDE},
    };
    struct bnt_err err = {0};
    char name[64];
    es_ok(gplan_add_tensor(p, "token_embd.weight", TENSOR_F16, WIDE, 128256, &err), &err);
    for (unsigned il = 0; il < 30; il++) {
        for (size_t k = 0; k < sizeof layer / sizeof layer[0]; k++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", il, layer[k].name);
            es_ok(gplan_add_tensor(p, name, layer[k].type, layer[k].cols, layer[k].rows, &err),
                  &err);
        }
    }
    es_ok(gplan_add_tensor(p, "output_norm.weight", TENSOR_F32, WIDE, 1, &err), &err);
}

/* The header is written, the data are a hole. */
static void write_sparse(const struct gguf_plan *p, const char *path)
{
    struct bnt_buf header = BNT_BUF(64 << 20);
    struct bnt_err err = {0};
    const struct gplan_tensor *last = &p->tensors[p->n_tensors - 1];
    es_ok(gplan_header(p, &header, &err), &err);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(header.data, 1, header.len, f), header.len);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, (off_t)(header.len + last->offset + last->size)), 0);
    bnt_buf_release(&header);
}

static void official_metadata_pass_runtime(void **state)
{
    (void)state;
    json_error_t e;
    json_t *doc =
        json_load_file(suite_source("testkit/data/golden/bitnet-b1.58-2B-4T.json"), 0, &e);
    assert_non_null(doc);
    const json_t *model = json_object_get(doc, "model");
    struct gguf_plan p;
    const char *key;
    json_t *v;
    gplan_init(&p);
    json_object_foreach(json_object_get(model, "kv"), key, v)
    {
        put_recorded(&p, key, v);
    }
    put_vocabulary(&p);
    struct bnt_err err = {0};
    es_ok(gplan_put_str(&p, "tokenizer.chat_template",
                        "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'Human: "
                        "' + message['content'] + '\\n\\nBITNETAssistant: ' }}{% endif %}{% endfor "
                        "%}",
                        &err),
          &err);
    put_tensors(&p);
    gplan_place(&p);
    const char *path = ms_path("official.gguf");
    write_sparse(&p, path);
    struct validate_report r = validate(path, VALIDATE_STANDARD, VALIDATE_RUNTIME);
    const struct gguf *g = r.gguf;
    show(&r);
    assert_int_equal(g->n_kv, json_integer_value(json_object_get(model, "n_kv")));
    assert_int_equal(g->n_tensors, json_integer_value(json_object_get(model, "n_tensors")));
    assert_int_equal(r.n_of[VALIDATE_ERROR], 0);
    /* What is known of that file: no pre-tokenizer, and the converter's chat template. */
    const struct validate_finding *pre = finding_of(&r, VALIDATE_PRE_TOKENIZER);
    assert_non_null(pre);
    assert_non_null(strstr(pre->message, "llama-bpe"));
    assert_non_null(finding_of(&r, VALIDATE_CHAT_TEMPLATE));
    assert_int_equal(r.n_of[VALIDATE_WARNING], 2);
    validate_release(&r);
    r = validate(path, VALIDATE_STANDARD, VALIDATE_STRICT);
    assert_int_equal(r.n_of[VALIDATE_ERROR], 2);
    validate_release(&r);
    gplan_release(&p);
    json_decref(doc);
}

/* ---- several defects in one run ---- */

/* The file with these texts of its header exchanged for ones of equal length. */
static const char *exchange(const char *in, const char *const (*texts)[2])
{
    struct bnt_buf file = BNT_BUF(8 << 20);
    struct bnt_err err = {0};
    const char *path = ms_path("several.gguf");
    es_ok(bnt_file_read(in, &file, &err), &err);
    for (; (*texts)[0]; texts++) {
        size_t n = strlen((*texts)[0]);
        char *at = memmem(file.data, file.len, (*texts)[0], n);
        assert_non_null(at);
        memcpy(at, (*texts)[1], n);
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
    assert_int_equal(fclose(f), 0);
    bnt_buf_release(&file);
    return path;
}

static void all_defects_are_told_in_one_run(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"blk.1.ffn_up.weight", "blk.1.ffn_no.weight"},
        {"blk.2.attn_q.weight", "blk.2.attn_k.weight"},
        {"bitnet-b1.58.context_length", "bitnet-b1.58.context_lengtx"},
        {"tokenizer.ggml.pre", "tokenizer.ggml.prx"},
        {"tokenizer.ggml.token_type", "tokenizer.ggml.token_typx"},
        {NULL, NULL},
    };
    static const int classes[] = {GGUF_FAULT_CORRUPT, GGUF_FAULT_MISSING_METADATA,
                                  GGUF_FAULT_ARCHITECTURE, VALIDATE_UNKNOWN_TENSOR,
                                  VALIDATE_PRE_TOKENIZER};
    struct validate_report r =
        validate(exchange(suite_bundled_model(), texts), VALIDATE_COMPREHENSIVE, VALIDATE_RUNTIME);
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (!finding_of(&r, classes[i])) {
            show(&r);
            fail_msg("no finding of class %s", validate_class_info(classes[i]).name);
        }
    }
    assert_string_equal(finding_of(&r, VALIDATE_UNKNOWN_TENSOR)->tensor, "blk.1.ffn_no.weight");
    assert_string_equal(finding_of(&r, GGUF_FAULT_MISSING_METADATA)->key,
                        "bitnet-b1.58.context_length");
    assert_int_equal(finding_of(&r, VALIDATE_UNKNOWN_TENSOR)->severity, VALIDATE_NOTE);
    validate_release(&r);
}

static void a_cut_file_names_every_tensor_that_is_lost(void **state)
{
    (void)state;
    struct bnt_mock_recipe recipe = {
        .n_layer = 1, .n_embd = 128, .n_vocab = 360, .fault = "no-data"};
    struct validate_report r =
        validate(ms_make("cut.gguf", &recipe, NULL), VALIDATE_COMPREHENSIVE, VALIDATE_RUNTIME);
    assert_non_null(r.gguf);
    assert_int_equal(r.n, r.gguf->n_tensors);
    for (size_t i = 0; i < r.n; i++) {
        assert_int_equal(r.findings[i].kind, GGUF_FAULT_SIZE);
        assert_non_null(r.findings[i].tensor);
    }
    assert_int_equal(r.n_stats, 0);
    validate_release(&r);
}

/* ---- defects that need an eye ---- */

/* Bytes of a file and what they mean. */
struct edited {
    struct bnt_buf file;
    struct gguf *g; /* of the sound one */
};

static uint8_t *bytes_of(struct edited *e, const char *tensor, uint64_t *n)
{
    const struct gguf_tensor *t = gguf_find_tensor(e->g, tensor);
    assert_non_null(t);
    *n = t->ne[0] * t->ne[1] / 4; /* of codes */
    return (uint8_t *)e->file.data + t->offset;
}

/* The bytes behind a key: its type, then the value. */
static uint8_t *behind(struct edited *e, const char *key)
{
    uint8_t *at = memmem(e->file.data, e->file.len, key, strlen(key));
    assert_non_null(at);
    return at + strlen(key);
}

static void zero_codes(struct edited *e)
{
    uint64_t n;
    uint8_t *codes = bytes_of(e, "blk.1.ffn_up.weight", &n);
    memset(codes, 0x55, n);
}

static void few_codes(struct edited *e)
{
    uint64_t n;
    uint8_t *codes = bytes_of(e, "blk.1.ffn_up.weight", &n);
    memset(codes + n / 100, 0x55, n - n / 100);
}

static void codes_of_one_sign(struct edited *e)
{
    uint64_t n;
    uint8_t *codes = bytes_of(e, "blk.1.ffn_up.weight", &n);
    memset(codes, 0xa6, n); /* 1, 1, 0, 1 */
}

static void scale_of_another_layer(struct edited *e)
{
    uint64_t n;
    float scale;
    uint8_t *at = bytes_of(e, "blk.1.ffn_up.weight", &n);
    memcpy(&scale, at + n, sizeof scale);
    scale *= 1000;
    memcpy(at + n, &scale, sizeof scale);
}

static void one_large_weight(struct edited *e)
{
    uint64_t n;
    const uint16_t large = 0x7b00; /* 57344 */
    memcpy(bytes_of(e, "token_embd.weight", &n) + 1000, &large, sizeof large);
}

static void another_file_type(struct edited *e)
{
    behind(e, "general.file_type")[4] = 7; /* Q8_0 */
}

static void bytes_behind_the_end(struct edited *e)
{
    struct bnt_err err = {0};
    char more[100] = {0};
    es_ok(bnt_buf_append(&e->file, more, sizeof more, &err), &err);
}

static void no_scores(struct edited *e)
{
    behind(e, "tokenizer.ggml.score")[0] = 'x';
}

/* Type, elements' type and their number come first; 3 is a control token, which text never shows.
 */
static void bytes_are_control_tokens(struct edited *e)
{
    uint8_t *types = behind(e, "tokenizer.ggml.token_type") + 4 + 4 + 8;
    for (int i = 0; i < 256; i++) {
        types[4 * i] = 3;
    }
}

static const struct eye {
    int kind;
    enum validate_level level;
    const char *word;
    void (*edit)(struct edited *e);
    struct bnt_mock_recipe mock; /* n_layer 0: the bundled model */
} eyes[] = {
    {VALIDATE_STATISTICS, VALIDATE_COMPREHENSIVE, "zero throughout", zero_codes, {0}},
    {VALIDATE_STATISTICS, VALIDATE_COMPREHENSIVE, "of the weights are zero", few_codes, {0}},
    {VALIDATE_STATISTICS, VALIDATE_COMPREHENSIVE, "have one sign", codes_of_one_sign, {0}},
    {VALIDATE_STATISTICS,
     VALIDATE_COMPREHENSIVE,
     "the median of all layers",
     scale_of_another_layer,
     {0}},
    {VALIDATE_STATISTICS,
     VALIDATE_COMPREHENSIVE,
     "the largest weight is",
     one_large_weight,
     {.n_layer = 1, .n_vocab = 8192, .embd_type = "f16"}},
    {VALIDATE_ROUND_TRIP, VALIDATE_COMPREHENSIVE, "becomes", bytes_are_control_tokens, {0}},
    {VALIDATE_FILE_TYPE, VALIDATE_STANDARD, "no tensor is Q8_0", another_file_type, {0}},
    {VALIDATE_VOCABULARY,
     VALIDATE_STANDARD,
     "scores",
     no_scores,
     {.n_layer = 1, .n_vocab = 360, .tokenizer = "spm"}},
    {VALIDATE_PADDING, VALIDATE_BASIC, "after the last tensor", bytes_behind_the_end, {0}},
};

static void check_eye(const struct eye *eye)
{
    struct edited e = {.file = BNT_BUF(16 << 20)};
    struct bnt_err err = {0};
    const char *sound =
        eye->mock.n_layer ? ms_make("sound.gguf", &eye->mock, NULL) : suite_bundled_model();
    es_ok(bnt_file_read(sound, &e.file, &err), &err);
    es_ok(gguf_open(sound, GGUF_MODE_AUTO, &e.g, &err), &err);
    eye->edit(&e);
    gguf_close(e.g);
    const char *path = ms_path("edited.gguf");
    cp_file(path, e.file.data, e.file.len);
    bnt_buf_release(&e.file);
    struct validate_report r = validate(path, eye->level, VALIDATE_STRICT);
    const struct validate_finding *f = finding_of(&r, eye->kind);
    if (!f || !strstr(f->message, eye->word) || f->severity < VALIDATE_WARNING) {
        show(&r);
        fail_msg("no finding that says \"%s\"", eye->word);
    }
    validate_release(&r);
    if (eye->level > VALIDATE_BASIC) {
        r = validate(path, eye->level - 1, VALIDATE_STRICT);
        show(&r);
        assert_int_equal(r.n, 0);
        validate_release(&r);
    }
}

static void what_no_training_leaves_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof eyes / sizeof eyes[0]; i++) {
        check_eye(&eyes[i]);
    }
}

/* A hole behind the end makes a file too large for a module of 32 bits, and for nothing else. */
static void a_large_file_does_not_fit_wasm32(void **state)
{
    (void)state;
    const char *path =
        ms_make("large.gguf", &(struct bnt_mock_recipe){.n_layer = 1, .n_vocab = 360}, NULL);
    assert_int_equal(truncate(path, (off_t)5 << 30), 0);
    struct validate_report r = validate(path, VALIDATE_BASIC, VALIDATE_RUNTIME);
    for (int i = 0; i < VALIDATE_N_PLATFORMS; i++) {
        const struct validate_platform *p = &r.platforms[i];
        bool wasm = strcmp(p->name, "wasm32") == 0;
        assert_true(p->byte_order && p->alignment);
        assert_true(p->fits == !wasm && p->size == !wasm && p->mapped == !wasm);
    }
    validate_release(&r);
}

/* ---- any bytes ---- */

enum { N_MUTANTS = 200 };

/* A few bytes of the header turned over, or, one time in eight, of the data. */
static void mutate(const struct bnt_buf *file, size_t header, uint64_t *random, const char *path)
{
    struct bnt_buf b = BNT_BUF(8 << 20);
    struct bnt_err err = {0};
    es_ok(bnt_buf_append(&b, file->data, file->len, &err), &err);
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    unsigned n = 1 + (unsigned)(*random >> 61);
    size_t within = *random >> 33 & 7 ? header : file->len;
    for (unsigned i = 0; i < n; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        b.data[(*random >> 20) % within] ^= (char)(1u << (*random >> 60 & 7));
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.data, 1, b.len, f), b.len);
    assert_int_equal(fclose(f), 0);
    bnt_buf_release(&b);
}

/* The reader that goes on says "broken" of the files that the strict one refuses, and what is
 * called sound loads. */
static void agrees_with_the_engine(const char *path, uint64_t seed)
{
    struct gguf *g = NULL;
    struct bnt_model *m = NULL;
    struct bnt_err err = {0};
    struct validate_report r = validate(path, VALIDATE_BASIC, VALIDATE_RUNTIME);
    bool opens = gguf_open(path, GGUF_MODE_AUTO, &g, &err) == BNT_OK;
    gguf_close(g);
    if (opens != (r.n_of[VALIDATE_ERROR] == 0)) {
        show(&r);
        fail_msg("seed %llu: strict reader: %s", (unsigned long long)seed, err.msg);
    }
    validate_release(&r);
    r = validate(path, VALIDATE_COMPREHENSIVE, VALIDATE_RUNTIME);
    bool loads = opens && bnt_model_open(path, NULL, &m, &err) == BNT_OK;
    bnt_model_close(m);
    if (!loads && r.n_of[VALIDATE_ERROR] == 0) {
        fail_msg("seed %llu: called sound, but: %s", (unsigned long long)seed, err.msg);
    }
    validate_release(&r);
}

static void any_bytes_are_judged_as_the_engine_judges(void **state)
{
    (void)state;
    static const char *const types[] = {"i2_s", "tq1_0", "q4_k"};
    const char *path = ms_path("mutant.gguf");
    uint64_t random = 20240229;
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
        struct bnt_mock_recipe recipe = {
            .type = types[k], .n_layer = 1, .n_vocab = 360, .tokenizer = k ? "bpe" : "spm"};
        struct bnt_buf file = BNT_BUF(8 << 20);
        struct bnt_err err = {0};
        struct gguf *g = NULL;
        const char *sound = ms_make("parent.gguf", &recipe, NULL);
        es_ok(bnt_file_read(sound, &file, &err), &err);
        es_ok(gguf_open(sound, GGUF_MODE_AUTO, &g, &err), &err);
        size_t header = (size_t)g->data_offset;
        gguf_close(g);
        for (unsigned i = 0; i < N_MUTANTS; i++) {
            uint64_t seed = random;
            mutate(&file, header, &random, path);
            agrees_with_the_engine(path, seed);
        }
        bnt_buf_release(&file);
    }
}

/* ---- profiles ---- */

static void profiles_speak_for_their_readers(void **state)
{
    (void)state;
    struct bnt_mock_recipe q8 = {.arch = "llama", .type = "q8_0", .n_layer = 1, .n_vocab = 360};
    struct validate_report r =
        validate(suite_bundled_model(), VALIDATE_STANDARD, VALIDATE_LLAMA_CPP);
    assert_non_null(finding_of(&r, VALIDATE_READER));
    assert_int_equal(validate_status(&r), BNT_E_UNSUPPORTED);
    validate_release(&r);
    r = validate(suite_bundled_model(), VALIDATE_STANDARD, VALIDATE_BITNET);
    assert_int_equal(r.n, 0);
    validate_release(&r);
    const char *path = ms_make("q8.gguf", &q8, NULL);
    r = validate(path, VALIDATE_STANDARD, VALIDATE_LLAMA_CPP);
    assert_int_equal(r.n, 0);
    validate_release(&r);
    r = validate(path, VALIDATE_STANDARD, VALIDATE_BITNET);
    assert_non_null(finding_of(&r, VALIDATE_READER));
    validate_release(&r);
}

static void a_foreign_packing_is_told_where_it_is_seen(void **state)
{
    (void)state;
    const char *path = es_repacked_model(I2S_ARM);
    struct validate_report r = validate(path, VALIDATE_STANDARD, VALIDATE_STRICT);
    assert_int_equal(r.n, 0);
    validate_release(&r);
    r = validate(path, VALIDATE_COMPREHENSIVE, VALIDATE_RUNTIME);
    const struct validate_finding *f = finding_of(&r, VALIDATE_PACKING);
    assert_non_null(f);
    assert_non_null(strstr(f->message, "64/16"));
    assert_true(f->recoverable);
    assert_int_equal(validate_status(&r), BNT_OK);
    validate_release(&r);
    /* What is an error to the profile alone keeps no check from running. */
    static const char *const texts[][2] = {{"tokenizer.ggml.pre", "tokenizer.ggml.prx"},
                                           {NULL, NULL}};
    r = validate(exchange(path, texts), VALIDATE_COMPREHENSIVE, VALIDATE_STRICT);
    assert_non_null(finding_of(&r, VALIDATE_PRE_TOKENIZER));
    assert_non_null(finding_of(&r, VALIDATE_PACKING));
    validate_release(&r);
    r = validate(es_scrambled_model(), VALIDATE_PARANOID, VALIDATE_RUNTIME);
    assert_non_null(finding_of(&r, VALIDATE_SENSE));
    validate_release(&r);
}

/* ---- the command ---- */

static json_t *run_json(const char *option, const char *path, int exit)
{
    struct suite_output o;
    json_error_t e;
    suite_run((const char *const[]){suite_bnt(), "validate", option, "--comprehensive",
                                    "--allow-mock", path, NULL},
              suite_scratch(), 0, &o);
    json_t *doc = json_loads(o.out, 0, &e);
    if (o.exit != exit || !doc) {
        fail_msg("ends with %d, says %s %s", o.exit, o.out, o.err);
    }
    suite_output_release(&o);
    return doc;
}

static void json_and_sarif_hold_the_findings(void **state)
{
    (void)state;
    struct bnt_mock_recipe recipe = {
        .n_layer = 1, .n_embd = 128, .n_vocab = 360, .fault = "weight-code-3"};
    const char *path = ms_make("code3.gguf", &recipe, NULL);
    json_t *doc = run_json("--json", path, BNT_E_FILE);
    json_t *f = json_array_get(json_object_get(doc, "findings"), 0);
    assert_string_equal(json_string_value(json_object_get(f, "class")), "corrupt");
    assert_string_equal(json_string_value(json_object_get(f, "tensor")), "blk.0.attn_q.weight");
    json_int_t offset = json_integer_value(json_object_get(f, "offset"));
    assert_true(offset > 0);
    assert_true(json_is_true(
        json_object_get(json_object_get(json_object_get(doc, "platforms"), "wasm32"), "fits")));
    assert_true(json_array_size(json_object_get(doc, "statistics")) > 10);
    json_decref(doc);
    doc = run_json("--sarif", path, BNT_E_FILE);
    json_t *run = json_array_get(json_object_get(doc, "runs"), 0);
    json_t *result = json_array_get(json_object_get(run, "results"), 0);
    json_t *place = json_object_get(json_array_get(json_object_get(result, "locations"), 0),
                                    "physicalLocation");
    assert_string_equal(json_string_value(json_object_get(result, "ruleId")), "corrupt");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(place, "region"), "byteOffset")),
        offset);
    json_decref(doc);
    json_decref(run_json("--json",
                         ms_make("sound.gguf", &(struct bnt_mock_recipe){.n_layer = 1}, NULL),
                         BNT_E_MOCK_USED));
}

static const struct suite_test tests[] = {
    {.name = "validate_finds_planted_defects_at_their_level",
     .body = planted_defects_are_found_at_their_level},
    {.name = "validate_finds_a_turned_bit_by_the_digest",
     .body = a_turned_bit_is_found_by_the_digest},
    {.name = "validate_calls_no_sound_file_broken", .body = sound_files_have_no_findings},
    {.name = "validate_calls_no_sound_file_of_any_type_broken",
     .body = sound_files_of_every_type_have_no_findings,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "validate_calls_no_shared_model_broken",
     .body = shared_models_have_no_findings,
     .needs = "shared",
     .tier = SUITE_INTEGRATION},
    {.name = "validate_passes_the_official_metadata",
     .body = official_metadata_pass_runtime,
     .needs = "source",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 30000},
    {.name = "validate_tells_what_no_training_leaves", .body = what_no_training_leaves_is_told},
    {.name = "validate_tells_what_does_not_fit_wasm32", .body = a_large_file_does_not_fit_wasm32},
    {.name = "validate_tells_all_defects_in_one_run", .body = all_defects_are_told_in_one_run},
    {.name = "validate_names_every_tensor_of_a_cut_file",
     .body = a_cut_file_names_every_tensor_that_is_lost},
    {.name = "validate_judges_any_bytes_as_the_engine_does",
     .body = any_bytes_are_judged_as_the_engine_judges,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "validate_profiles_speak_for_their_readers", .body = profiles_speak_for_their_readers},
    {.name = "validate_tells_a_foreign_packing",
     .body = a_foreign_packing_is_told_where_it_is_seen},
    {.name = "validate_json_and_sarif_hold_the_findings", .body = json_and_sarif_hold_the_findings},
    {0},
};
const struct suite suite_validate = {"validate", tests, "validate_codes gguf_watch_blind"};
