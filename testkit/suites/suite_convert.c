/* Guards `bnt convert`: codes or scales other than those that the model was trained with, heads
 * whose rows lie in the wrong order, a vocabulary that cuts text otherwise, and checkpoints that
 * are broken and become a file all the same. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/convert.h"
#include "engine/safetensors.h"
#include "testkit/suite.h"
#include "testkit/suites/checkpoint.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

#define CHECKPOINT "models/tinystories-bitnet-hf"

/* All paths below are those of the test's own folder. */
static void enter_scratch(void)
{
    assert_int_equal(chdir(suite_scratch()), 0);
}

/* ---- checkpoints ---- */

static void copy_shared(const char *name, const char *old, const char *changed)
{
    char from[256], to[128];
    struct bnt_buf text = BNT_BUF(1u << 20);
    struct bnt_err err = {0};
    snprintf(from, sizeof from, CHECKPOINT "/%s", name);
    snprintf(to, sizeof to, "ck/%s", name);
    es_ok(bnt_file_read(suite_shared(from), &text, &err), &err);
    char *at = old ? strstr(text.data, old) : NULL;
    assert_true(!old || at);
    struct bnt_buf out = BNT_BUF(1u << 20);
    bnt_buf_append(&out, text.data, at ? (size_t)(at - text.data) : text.len, NULL);
    if (at) {
        bnt_buf_printf(&out, NULL, "%s%s", changed, at + strlen(old));
    }
    cp_file(to, out.data, out.len);
    bnt_buf_release(&text);
    bnt_buf_release(&out);
}

/* config.json and the vocabulary of the shared checkpoint, one text of the first changed. */
static void begin(const char *old, const char *changed)
{
    struct bnt_err err = {0};
    es_ok(bnt_mkdirs("ck", &err), &err);
    copy_shared("config.json", old, changed);
    copy_shared("tokenizer.json", NULL, NULL);
    copy_shared("tokenizer_config.json", NULL, NULL);
}

static enum bnt_status convert(const char *dir, const struct tensor_type_info *type,
                               struct bnt_err *err)
{
    struct bnt_convert_report report;
    const struct bnt_convert_options o = {.type = type};
    return bnt_convert(dir, "out.gguf", &o, &report, err);
}

static uint16_t bf16_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* ---- the bundled model ---- */

static int8_t *codes_of(const struct gguf *g, const struct gguf_tensor *t, float *scale)
{
    struct bnt_err err = {0};
    struct ternary_source s = {.type = t->type,
                               .data = gguf_tensor_view(g, t),
                               .size = t->size,
                               .rows = t->ne[1],
                               .cols = t->ne[0]};
    int8_t *w = malloc(s.rows * s.cols);
    es_ok(ternary_decode(&s, 0, s.rows, w, scale, &err), &err);
    return w;
}

/* out.gguf has the codes of the shipped file, its scales within 1e-6, and all else byte for byte.
 */
static void assert_shipped(void)
{
    struct bnt_err err = {0};
    struct gguf *a, *b;
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_MAP, &a, &err), &err);
    es_ok(gguf_open("out.gguf", GGUF_MODE_MAP, &b, &err), &err);
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        char name[GGUF_MAX_NAME_BYTES + 1];
        gplan_name(name, a->tensors[i].name);
        const struct gguf_tensor *t = &a->tensors[i], *u = gguf_find_tensor(b, name);
        assert_true(u && t->type == u->type && t->size == u->size);
        if (t->type != TENSOR_I2_S) {
            assert_memory_equal(gguf_tensor_view(a, t), gguf_tensor_view(b, u), t->size);
            continue;
        }
        float s, r;
        int8_t *v = codes_of(a, t, &s), *w = codes_of(b, u, &r);
        assert_memory_equal(v, w, t->ne[0] * t->ne[1]);
        assert_true(fabsf(s - r) <= 1e-6f * s);
        free(v);
        free(w);
    }
    for (uint64_t i = 0; i < a->n_kv; i++) { /* all of the vocabulary, too */
        char key[128];
        snprintf(key, sizeof key, "%.*s", (int)a->kv[i].key.len, a->kv[i].key.data);
        const struct gguf_kv *kv = gguf_find(b, key);
        if (strncmp(key, "tokenizer.", 10) == 0) {
            assert_true(kv && kv->raw_len == a->kv[i].raw_len);
            assert_memory_equal(kv->raw, a->kv[i].raw, kv->raw_len);
        }
    }
    gguf_close(a);
    gguf_close(b);
}

static void greedy(const char *path, int32_t out[16])
{
    struct es_engine e;
    es_open(&e, path, &(struct bnt_session_options){.n_ctx = 32, .n_threads = 1});
    const int32_t prompt[] = {2045, 394, 401};
    int32_t id = es_greedy(&e, prompt, 3);
    for (int i = 0; i < 16; i++, id = es_greedy(&e, &id, 1)) {
        out[i] = id;
    }
    es_close(&e);
}

static void masters_become_the_shipped_model(void **state)
{
    (void)state;
    enter_scratch();
    struct bnt_err err = {0};
    int32_t ours[16], shipped[16];
    es_ok(convert(suite_shared(CHECKPOINT), NULL, &err), &err);
    assert_shipped();
    greedy("out.gguf", ours);
    greedy(suite_bundled_model(), shipped);
    assert_memory_equal(ours, shipped, sizeof ours);
}

/* A matrix as four rows to a byte, whatever scale stands beside it. */
static void pack_matrix(struct cp_made *m, const char *name, const struct gguf *g,
                        const struct gguf_tensor *t, bool divide)
{
    float scale;
    int8_t *w = codes_of(g, t, &scale);
    const uint64_t rows = t->ne[1], cols = t->ne[0], quarter = rows / 4;
    uint8_t *bytes = calloc(quarter, cols);
    for (uint64_t i = 0; i < rows * cols; i++) {
        bytes[i / cols % quarter * cols + i % cols] |=
            (uint8_t)((w[i] + 1) << 2 * (i / cols / quarter));
    }
    char beside[112];
    snprintf(beside, sizeof beside, "%s_scale", name);
    scale = divide ? 1 / scale : scale;
    cp_add(m, name, "U8", (const uint64_t[2]){quarter, cols}, bytes);
    cp_add(m, beside, "F32", (const uint64_t[2]){1, 0}, &scale);
    free(bytes);
    free(w);
}

/* The shared checkpoint with every linear weight packed from the shipped codes. */
static void make_packed(struct cp_made *m, bool divide)
{
    static const char *const theirs[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                         "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                         "mlp.down_proj"};
    static const char *const ours[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                       "ffn_gate", "ffn_up", "ffn_down"};
    struct bnt_err err = {0};
    struct safetensors s;
    struct gguf *g;
    es_ok(safetensors_open(suite_shared(CHECKPOINT), &s, &err), &err);
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_MAP, &g, &err), &err);
    for (size_t i = 0; i < s.n_tensors; i++) {
        const struct st_tensor *t = &s.tensors[i];
        char name[64] = "";
        for (size_t k = 0; k < 7; k++) {
            if (strstr(t->name, theirs[k])) {
                snprintf(name, sizeof name, "blk.%c.%s.weight", t->name[13], ours[k]);
            }
        }
        if (name[0]) {
            pack_matrix(m, t->name, g, gguf_find_tensor(g, name), divide);
            continue;
        }
        uint8_t *raw = malloc(t->size);
        es_ok(safetensors_read(&s, t, 0, t->size, raw, &err), &err);
        cp_add(m, t->name, "F32",
               (const uint64_t[2]){t->shape[0], t->n_dims == 2 ? t->shape[1] : 0}, raw);
        free(raw);
    }
    gguf_close(g);
    safetensors_close(&s);
}

/* Both meanings of the scale, as config.json tells them apart. */
static void packed_weights_become_the_shipped_model(void **state)
{
    (void)state;
    enter_scratch();
    for (int divide = 0; divide < 2; divide++) {
        struct bnt_err err = {0};
        struct cp_made m = {0};
        begin("\"autobitlinear\"", divide ? "\"bitlinear\"" : "\"autobitlinear\"");
        make_packed(&m, divide);
        cp_write_shards(&m);
        es_ok(convert("ck", NULL, &err), &err);
        assert_shipped();
        cp_release(&m);
    }
}

static float *first_scale(struct cp_made *m)
{
    for (size_t i = 0; i < m->n; i++) {
        if (strstr(m->t[i].name, "weight_scale")) {
            return (float *)(void *)m->t[i].bytes;
        }
    }
    fail_msg("no weight_scale");
    return NULL;
}

/* What bnt validate calls an error is not written. */
static void scales_that_are_none_are_refused(void **state)
{
    (void)state;
    static const float none[] = {0, -0.5f, NAN, INFINITY};
    enter_scratch();
    struct cp_made m = {0};
    begin(NULL, NULL);
    make_packed(&m, false);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        struct bnt_err err = {0};
        *first_scale(&m) = none[i];
        cp_write_shards(&m);
        if (convert("ck", NULL, &err) != BNT_E_FILE || !strstr(err.msg, "is no scale")) {
            fail_msg("scale %g: %s", (double)none[i], err.msg);
        }
    }
    cp_release(&m);
}

/* ---- bfloat16 masters ---- */

/* The published rule on the values that bfloat16 leaves, told again in other words. */
static void assert_absmean(const struct gguf *g, const char *ours, const struct cp_tensor *t)
{
    const struct gguf_tensor *u = gguf_find_tensor(g, ours);
    const uint64_t n = t->shape[0] * t->shape[1];
    double sum = 0;
    float scale;
    int8_t *w = codes_of(g, u, &scale);
    const uint16_t *x = (const uint16_t *)(const void *)t->bytes;
    for (uint64_t i = 0; i < n; i++) {
        sum += fabs((double)bf16_to_f32(x[i]));
    }
    assert_true(fabs(scale - sum / (double)n) <= 1e-6 * scale);
    for (uint64_t i = 0; i < n; i++) {
        double v = (double)bf16_to_f32(x[i]) / scale;
        int want = v > 0.5 ? 1 : v < -0.5 ? -1 : 0;
        if (w[i] != want && fabs(fabs(v) - 0.5) > 1e-6) {
            fail_msg("%s: weight %llu is %d, not %d", ours, (unsigned long long)i, w[i], want);
        }
    }
    free(w);
}

static void bfloat16_masters_are_ternarised_by_absmean(void **state)
{
    (void)state;
    enter_scratch();
    struct bnt_err err = {0};
    struct safetensors s;
    struct cp_made m = {0};
    struct gguf *g;
    begin(NULL, NULL);
    es_ok(safetensors_open(suite_shared(CHECKPOINT), &s, &err), &err);
    for (size_t i = 0; i < s.n_tensors; i++) {
        const struct st_tensor *t = &s.tensors[i];
        float *x = malloc(t->size);
        uint16_t *halves = malloc(t->size / 2);
        es_ok(safetensors_read(&s, t, 0, t->size, x, &err), &err);
        for (uint64_t k = 0; k < t->size / 4; k++) {
            halves[k] = bf16_of(x[k]);
        }
        cp_add(&m, t->name, "BF16",
               (const uint64_t[2]){t->shape[0], t->n_dims == 2 ? t->shape[1] : 0}, halves);
        free(x);
        free(halves);
    }
    safetensors_close(&s);
    cp_write_shards(&m);
    es_ok(convert("ck", NULL, &err), &err);
    es_ok(gguf_open("out.gguf", GGUF_MODE_MAP, &g, &err), &err);
    for (size_t i = 0; i < m.n; i++) {
        if (strcmp(m.t[i].name, "model.layers.1.mlp.down_proj.weight") == 0) {
            assert_absmean(g, "blk.1.ffn_down.weight", &m.t[i]);
        } else if (strcmp(m.t[i].name, "model.layers.2.self_attn.k_proj.weight") == 0) {
            assert_absmean(g, "blk.2.attn_k.weight", &m.t[i]);
        }
    }
    gguf_close(g);
    cp_release(&m);
}

/* ---- LLaMA, Qwen2 and Qwen3 ---- */

/* Their name of a tensor of a mock with one layer. */
static const char *name_there(const char *ours)
{
    static const char *const names[][2] = {
        {"token_embd.weight", "model.embed_tokens.weight"},
        {"output_norm.weight", "model.norm.weight"},
        {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
        {"blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"},
        {"blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias"},
        {"blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight"},
        {"blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"},
        {"blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"},
        {"blk.0.attn_v.bias", "model.layers.0.self_attn.v_proj.bias"},
        {"blk.0.attn_q_norm.weight", "model.layers.0.self_attn.q_norm.weight"},
        {"blk.0.attn_k_norm.weight", "model.layers.0.self_attn.k_norm.weight"},
        {"blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight"},
        {"blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"},
        {"blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight"},
        {"blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"},
        {"blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i][0], ours) == 0) {
            return names[i][1];
        }
    }
    fail_msg("%s", ours);
    return NULL;
}

enum { HEAD_DIM = 64 };

/* Rows of a head from neighbours to halves. */
static void to_halves(float *x, uint64_t rows, uint64_t cols)
{
    float *copy = malloc(rows * cols * sizeof *x);
    memcpy(copy, x, rows * cols * sizeof *x);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t head = r / HEAD_DIM * HEAD_DIM, i = r % HEAD_DIM;
        memcpy(x + (head + i % 2 * (HEAD_DIM / 2) + i / 2) * cols, copy + r * cols,
               cols * sizeof *x);
    }
    free(copy);
}

static void make_like(struct cp_made *m, const struct gguf *g, bool llama)
{
    struct bnt_err err = {0};
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        char ours[GGUF_MAX_NAME_BYTES + 1];
        gplan_name(ours, t->name);
        float *x = malloc(t->size);
        es_ok(gguf_tensor_read(g, t, 0, t->size, x, &err), &err);
        if (llama && (strstr(ours, "attn_q.") || strstr(ours, "attn_k."))) {
            to_halves(x, t->ne[1], t->ne[0]);
        }
        bool vector = t->ne[1] == 1;
        cp_add(m, name_there(ours), "F32",
               vector ? (const uint64_t[2]){t->ne[0], 0} : (const uint64_t[2]){t->ne[1], t->ne[0]},
               x);
        free(x);
    }
}

/* A checkpoint made of a mock becomes the mock's tensors again. */
static void check_family(const char *arch, const char *architecture)
{
    struct bnt_err err = {0};
    struct cp_made m = {0};
    struct gguf *a, *b;
    char config[600];
    const struct bnt_mock_recipe r = {
        .arch = arch, .type = "f32", .embd_type = "f32", .n_layer = 1, .n_vocab = 2048};
    es_ok(gguf_open(ms_make("mock.gguf", &r, NULL), GGUF_MODE_MAP, &a, &err), &err);
    begin(NULL, NULL);
    int n = snprintf(config, sizeof config,
                     "{\"architectures\":[\"%s\"],\"hidden_act\":\"silu\",\"hidden_size\":256,"
                     "\"intermediate_size\":512,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
                     "\"num_key_value_heads\":2,\"max_position_embeddings\":256,\"rms_norm_eps\":"
                     "1e-5,\"vocab_size\":2048,\"tie_word_embeddings\":true}",
                     architecture);
    cp_file("ck/config.json", config, (size_t)n);
    make_like(&m, a, strcmp(arch, "llama") == 0);
    cp_write_shards(&m);
    const struct bnt_convert_options o = {.type = tensor_type_find("f32"),
                                          .embedding = tensor_type_find("f32")};
    struct bnt_convert_report report;
    es_ok(bnt_convert("ck", "out.gguf", &o, &report, &err), &err);
    es_ok(gguf_open("out.gguf", GGUF_MODE_MAP, &b, &err), &err);
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        char name[GGUF_MAX_NAME_BYTES + 1];
        gplan_name(name, a->tensors[i].name);
        const struct gguf_tensor *t = &a->tensors[i], *u = gguf_find_tensor(b, name);
        assert_true(u && t->size == u->size);
        assert_memory_equal(gguf_tensor_view(a, t), gguf_tensor_view(b, u), t->size);
    }
    gguf_close(a);
    gguf_close(b);
    cp_release(&m);
    assert_int_equal(convert("ck", tensor_type_find("i2_s"), &err), BNT_E_UNSUPPORTED);
}

static void other_families_keep_their_weights(void **state)
{
    (void)state;
    enter_scratch();
    check_family("llama", "LlamaForCausalLM");
    check_family("qwen2", "Qwen2ForCausalLM");
    check_family("qwen3", "Qwen3ForCausalLM");
}

/* ---- broken checkpoints ---- */

/* One tensor and what its header says; the data are eight bytes. */
static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    enter_scratch();
    static const struct {
        const char *header, *word;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", "outside the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,0]}}", "outside"},
        {"{\"a\":{\"dtype\":\"Q7\",\"shape\":[2],\"data_offsets\":[0,8]}}", "dtype"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}",
         "larger than any memory"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", "two whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "gap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "belong to none"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[6],\"data_offsets\":[0,6]},\"b\":{\"dtype\":\"U8\","
         "\"shape\":[4],\"data_offsets\":[4,8]}}",
         "overlap"},
        {"{\"a\":3}", "dtype"},
        {"[]", "no JSON object"},
        {"{\"a\":", "no JSON object"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},\"a\":1}",
         "no JSON object"},
    };
    struct bnt_err err = {0};
    es_ok(bnt_mkdirs("st", &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_buf f = BNT_BUF(4096);
        struct safetensors s;
        uint64_t n = strlen(cases[i].header);
        bnt_buf_append(&f, &n, 8, NULL);
        bnt_buf_puts(&f, cases[i].header, NULL);
        bnt_buf_append(&f, "12345678", 8, NULL);
        cp_file("st/model.safetensors", f.data, f.len);
        bnt_buf_release(&f);
        err = (struct bnt_err){0};
        enum bnt_status st = safetensors_open("st", &s, &err);
        if (st != (cases[i].word ? BNT_E_FILE : BNT_OK) ||
            (cases[i].word && !strstr(err.msg, cases[i].word))) {
            fail_msg("%s: status %d, %s", cases[i].header, (int)st, err.msg);
        }
        safetensors_close(&s);
    }
    static const uint8_t huge[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
    struct safetensors s;
    cp_file("st/model.safetensors", huge, sizeof huge);
    assert_int_equal(safetensors_open("st", &s, NULL), BNT_E_FILE);
    cp_file("st/model.safetensors", huge, 5);
    assert_int_equal(safetensors_open("st", &s, NULL), BNT_E_FILE);
}

/* The shared checkpoint with one thing wrong: a text of config.json, or of the index. */
static void broken_checkpoints_become_no_file(void **state)
{
    (void)state;
    enter_scratch();
    static const struct {
        const char *file, *old, *changed;
        enum bnt_status status;
        const char *word;
    } cases[] = {
        {"config.json", "\"hidden_size\": 256", "\"hidden_size\": 512", BNT_E_FILE, "derives"},
        {"config.json", "\"hidden_size\": 256,", "", BNT_E_FILE, "hidden_size is missing"},
        {"config.json", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5", BNT_E_FILE,
         "model.layers.4.input_layernorm.weight is missing"},
        {"config.json", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3", BNT_E_UNSUPPORTED,
         "has no place for it"},
        {"config.json", "BitNetForCausalLM", "Gemma3ForCausalLM", BNT_E_UNSUPPORTED, "Gemma3"},
        {"config.json", "relu2", "gelu", BNT_E_UNSUPPORTED, "gelu"},
        {"config.json", "{", "[", BNT_E_FILE, "no JSON object"},
        {"config.json", "\"vocab_size\": 2048", "\"vocab_size\": 2000", BNT_E_FILE, "bos_token_id"},
        {"config.json", "\"quant_method\": \"bitnet\"", "\"quant_method\": \"gptq\"",
         BNT_E_UNSUPPORTED, "gptq"},
        {"config.json", "\"rope_theta\": 10000.0", "\"rope_theta\": -1", BNT_E_FILE,
         "rope_theta is"},
        {"config.json", "\"rope_theta\"", "\"rope_scaling\": 7, \"rope_theta\"", BNT_E_FILE,
         "rope_scaling is"},
        {"config.json", "\"rope_theta\"",
         "\"rope_scaling\": {\"type\": \"dynamic\"}, \"rope_theta\"", BNT_E_UNSUPPORTED, "dynamic"},
        {"config.json", "\"rope_theta\"",
         "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 1}, \"rope_theta\"",
         BNT_E_UNSUPPORTED, "mscale"},
        {"config.json", "\"bos_token_id\": 2045", "\"bos_token_id\": 2048", BNT_E_FILE,
         "bos_token_id is"},
        {"config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 3", BNT_E_FILE,
         "num_attention_heads is"},
        {"config.json", "\"relu2\"", "\"relu2\", \"attention_bias\": true", BNT_E_FILE,
         "model.layers.0.self_attn.q_proj.bias is missing"},
        {"config.json", "\"relu2\"", "\"relu2\", \"mlp_bias\": true", BNT_E_FILE,
         "model.layers.0.mlp.gate_proj.bias is missing"},
        {"config.json", "\"relu2\"", "\"relu2\", \"layer_types\": [\"sliding_attention\"]",
         BNT_E_UNSUPPORTED, "sliding_attention"},
        {"tokenizer_config.json", "\"add_bos_token\"", "\"chat_template\": 7, \"add_bos_token\"",
         BNT_E_FILE, "chat_template is"},
        {"tokenizer.json", "\\\\p{N}{1,3}", "\\\\p{N}{1,7}", BNT_E_UNSUPPORTED, "cutting text"},
        {"tokenizer.json", "\"BPE\"", "\"WordPiece\"", BNT_E_UNSUPPORTED, "WordPiece"},
        {"tokenizer.json", "\"Ġ t\"", "\"Ġt\"", BNT_E_FILE, "no pair of texts"},
    };
    char model[512];
    snprintf(model, sizeof model, "%s", suite_shared(CHECKPOINT "/model.safetensors"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        begin(NULL, NULL);
        copy_shared(cases[i].file, cases[i].old, cases[i].changed);
        unlink("ck/model.safetensors");
        assert_int_equal(symlink(model, "ck/model.safetensors"), 0);
        enum bnt_status st = convert("ck", NULL, &err);
        if (st != cases[i].status || !strstr(err.msg, cases[i].word)) {
            fail_msg("%s: status %d, %s", cases[i].changed, (int)st, err.msg);
        }
        assert_int_not_equal(access("out.gguf", F_OK), 0);
    }
    const struct bnt_convert_options o = {0};
    struct bnt_convert_report report;
    struct bnt_err err = {0};
    begin(NULL, NULL);
    assert_int_equal(bnt_convert("ck", "ck/model.safetensors", &o, &report, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.msg, "is a file that is read"));
}

static void shards_that_are_not_there_are_named(void **state)
{
    (void)state;
    enter_scratch();
    static const struct {
        const char *index;
        enum bnt_status status;
        const char *word;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", BNT_E_NOT_FOUND, "gone.safetensors"},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", BNT_E_FILE, "no name of a file"},
        {"{\"weight_map\":{\"b\":\"one.safetensors\"}}", BNT_E_FILE, "not in the shard"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}", BNT_E_FILE,
         "in two shards: ck/one.safetensors and ck/two.safetensors"},
        {"{\"weight_map\":7}", BNT_E_FILE, "weight_map"},
        {"{", BNT_E_FILE, "no JSON"},
        {"", BNT_E_FILE, "an empty file"},
        {"version https://git-lfs.github.com/spec/v1\n", BNT_E_FILE, "index.json: it is a Git LFS"},
        {"{\"weight_map\":{\"a\":\"lfs.safetensors\"}}", BNT_E_FILE,
         "lfs.safetensors: it is a Git LFS pointer"},
        {"{\"weight_map\":{\"a\":\"page.safetensors\"}}", BNT_E_FILE, "a web page"},
    };
    struct cp_made m = {0};
    struct bnt_err err = {0};
    es_ok(bnt_mkdirs("ck", &err), &err);
    cp_add(&m, "a", "U8", (const uint64_t[2]){3, 0}, "abc");
    cp_write_shard(&m, 0, 1, "one.safetensors");
    cp_write_shard(&m, 0, 1, "two.safetensors");
    cp_release(&m);
    cp_text("ck/lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    cp_text("ck/page.safetensors", "<!DOCTYPE html><title>Not found</title>");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct safetensors s;
        err = (struct bnt_err){0};
        cp_file("ck/model.safetensors.index.json", cases[i].index, strlen(cases[i].index));
        assert_int_equal(safetensors_open("ck", &s, &err), cases[i].status);
        assert_non_null(strstr(err.msg, cases[i].word));
    }
    struct safetensors s;
    cp_text("ck/model.safetensors", "");
    err = (struct bnt_err){0};
    assert_int_equal(safetensors_open("ck", &s, &err), BNT_E_FILE);
    assert_non_null(strstr(err.msg, "both model.safetensors.index.json and model.safetensors"));
    assert_int_equal(safetensors_open("nowhere", &s, NULL), BNT_E_NOT_FOUND);
}

static const struct suite_test tests[] = {
    {.name = "convert_masters_become_the_shipped_model",
     .body = masters_become_the_shipped_model,
     .needs = "shared"},
    {.name = "convert_packed_weights_become_the_shipped_model",
     .body = packed_weights_become_the_shipped_model,
     .needs = "shared"},
    {.name = "convert_scales_that_are_none_are_refused",
     .body = scales_that_are_none_are_refused,
     .needs = "shared"},
    {.name = "convert_bfloat16_masters_are_ternarised_by_absmean",
     .body = bfloat16_masters_are_ternarised_by_absmean,
     .needs = "shared",
     .tier = SUITE_INTEGRATION},
    {.name = "convert_other_families_keep_their_weights",
     .body = other_families_keep_their_weights,
     .needs = "shared"},
    {.name = "convert_headers_that_lie_are_refused", .body = headers_that_lie_are_refused},
    {.name = "convert_broken_checkpoints_become_no_file",
     .body = broken_checkpoints_become_no_file,
     .needs = "shared",
     .tier = SUITE_INTEGRATION},
    {.name = "convert_shards_that_are_not_there_are_named",
     .body = shards_that_are_not_there_are_named},
    {0},
};
const struct suite suite_convert = {
    "convert", tests, "safetensors_bounds safetensors_overlap rope_rows weight_scale"};
