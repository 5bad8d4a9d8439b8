/* Guards what a converted checkpoint says: heads rotated in the wrong order or by the wrong
 * frequencies, a bias or a head that is lost, numbers of another width. Tiny checkpoints of LLaMA
 * Qwen2 and Qwen3 are made here and converted; the engine's logits are compared with a forward pass
 * that is written down below as the transformers library has it, in double, from the checkpoint's
 * own numbers and names. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/rng.h"
#include "engine/convert.h"
#include "testkit/suite.h"
#include "testkit/suites/checkpoint.h"
#include "testkit/suites/engine_support.h"

enum {
    N_EMBD = 64,
    N_FF = 96,
    N_LAYER = 2,
    N_HEAD = 4,
    N_HEAD_KV = 2,
    N_VOCAB = 288,
    N_IDS = 24,
    MAX_HEAD_DIM = 32
};
#define EPSILON 1e-5
#define ROPE_BASE 10000.0
#define PI 3.14159265358979323846
/* Of the largest logit. The engine sums in float32. */
#define TOLERANCE 2e-5

/* A checkpoint, as its config.json has it. */
struct family {
    const char *what, *architecture;
    unsigned head_dim;
    bool tied, qkv_bias, other_bias, head_norms;
    const char *dtype; /* of the matrices */
    const char *rope;  /* what config.json says of it, members with a comma at the end, or "" */
    /* And what that means: factor, original context, low and high; attention_factor 0: not said. */
    enum { PLAIN, LINEAR, LLAMA3, YARN, LONG } scaling;
    double factor, n_ctx_orig, low, high, attention_factor;
    double embedding, depth, width; /* MiniCPM's, 0: none */
};

static const struct family families[] = {
    {"LLaMA, untied", "LlamaForCausalLM", 16, .dtype = "F32", .rope = ""},
    {"LLaMA, tied, wide heads", "LlamaForCausalLM", 32, .tied = true, .dtype = "F16", .rope = ""},
    {"LLaMA with biases", "LlamaForCausalLM", 16, .qkv_bias = true, .other_bias = true,
     .dtype = "F32", .rope = ""},
    {"LLaMA, linear", "LlamaForCausalLM", 16, .dtype = "BF16",
     .rope = "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0},", .scaling = LINEAR,
     .factor = 4},
    {"LLaMA 3.1", "LlamaForCausalLM", 32, .dtype = "F32",
     .rope = "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
             "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64},",
     .scaling = LLAMA3, .factor = 8, .n_ctx_orig = 64, .low = 1, .high = 4},
    {"Qwen2", "Qwen2ForCausalLM", 16, .tied = true, .qkv_bias = true, .dtype = "BF16",
     .rope = "\"rope_scaling\":null,\"use_sliding_window\":false,\"sliding_window\":4096,"},
    {"Qwen2, yarn", "Qwen2ForCausalLM", 32, .qkv_bias = true, .dtype = "F32",
     .rope = "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,"
             "\"original_max_position_embeddings\":128},",
     .scaling = YARN, .factor = 4, .n_ctx_orig = 128, .low = 1, .high = 32},
    {"Qwen2, yarn in the newer words", "Qwen2ForCausalLM", 32, .tied = true, .qkv_bias = true,
     .dtype = "F32",
     .rope = "\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":10000.0,\"factor\":2.0,"
             "\"beta_fast\":16,\"beta_slow\":2,\"attention_factor\":0.75,"
             "\"original_max_position_embeddings\":128},",
     .scaling = YARN, .factor = 2, .n_ctx_orig = 128, .low = 2, .high = 16,
     .attention_factor = 0.75},
    {"Qwen3", "Qwen3ForCausalLM", 32, .tied = true, .head_norms = true, .dtype = "BF16",
     .rope = "\"use_sliding_window\":false,"},
    {"Qwen3, yarn", "Qwen3ForCausalLM", 16, .head_norms = true, .dtype = "F32",
     .rope = "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,"
             "\"original_max_position_embeddings\":128},",
     .scaling = YARN, .factor = 4, .n_ctx_orig = 128, .low = 1, .high = 32},
    {"MiniCPM", "MiniCPMForCausalLM", 16, .tied = true, .dtype = "BF16",
     .rope = "\"scale_emb\":12,\"scale_depth\":1.4,\"dim_model_base\":256,",
     .embedding = 12, .depth = 1.4, .width = 256},
    {"MiniCPM with biases, extended", "MiniCPMForCausalLM", 16, .other_bias = true, .dtype = "F32",
     .rope = "\"scale_emb\":3.5,\"scale_depth\":0.9,\"dim_model_base\":16,\"rope_scaling\":{"
             "\"rope_type\":\"longrope\",\"short_factor\":[1,1.5,2,2.5,3,3.5,4,4.5],"
             "\"long_factor\":[9,9,9,9,9,9,9,9],\"original_max_position_embeddings\":128},",
     .scaling = LONG, .factor = 4, .n_ctx_orig = 128,
     .embedding = 3.5, .depth = 0.9, .width = 16},
};

/* ---- the checkpoint ---- */

static struct bnt_rng rng;

static uint16_t bf16_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* Numbers around `mean`; those of matrices are multiples of 1/256, which every type holds. */
static void add(struct cp_made *m, const char *name, const char *dtype, uint64_t rows,
                uint64_t cols)
{
    const uint64_t n = rows * (cols ? cols : 1), shape[2] = {rows, cols};
    const bool norm = strstr(name, "norm") != NULL;
    float *x = malloc(n * sizeof *x);
    uint16_t *halves = malloc(n * sizeof *halves);
    for (uint64_t i = 0; i < n; i++) {
        int steps = (int)(bnt_rng_next(&rng) % 129) - 64;
        x[i] = (norm ? 1.0f : 0.0f) + (float)steps / 256;
        halves[i] = dtype[0] == 'B' ? bf16_of(x[i]) : f32_to_f16(x[i]);
    }
    cp_add(m, name, dtype, shape, dtype[0] == 'F' && dtype[1] == '3' ? (const void *)x : halves);
    free(x);
    free(halves);
}

static void add_linear(struct cp_made *m, const char *name, const struct family *f,
                       const unsigned shape[2], bool bias)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    add(m, full, f->dtype, shape[0], shape[1]);
    if (bias) {
        snprintf(full, sizeof full, "%s.bias", name);
        add(m, full, f->dtype, shape[0], 0);
    }
}

static void add_layer(struct cp_made *m, const struct family *f, unsigned il)
{
    const unsigned q = N_HEAD * f->head_dim, kv = N_HEAD_KV * f->head_dim;
    const struct {
        const char *name;
        unsigned shape[2];
        bool bias;
    } linear[] = {{"self_attn.q_proj", {q, N_EMBD}, f->qkv_bias},
                  {"self_attn.k_proj", {kv, N_EMBD}, f->qkv_bias},
                  {"self_attn.v_proj", {kv, N_EMBD}, f->qkv_bias},
                  {"self_attn.o_proj", {N_EMBD, q}, f->other_bias},
                  {"mlp.gate_proj", {N_FF, N_EMBD}, f->other_bias},
                  {"mlp.up_proj", {N_FF, N_EMBD}, f->other_bias},
                  {"mlp.down_proj", {N_EMBD, N_FF}, f->other_bias}};
    char name[128];
    for (size_t i = 0; i < sizeof linear / sizeof linear[0]; i++) {
        snprintf(name, sizeof name, "model.layers.%u.%s", il, linear[i].name);
        add_linear(m, name, f, linear[i].shape, linear[i].bias);
    }
    for (int i = 0; i < 2 && f->head_norms; i++) {
        snprintf(name, sizeof name, "model.layers.%u.self_attn.%c_norm.weight", il, "qk"[i]);
        add(m, name, "F32", f->head_dim, 0);
    }
    snprintf(name, sizeof name, "model.layers.%u.input_layernorm.weight", il);
    add(m, name, "F32", N_EMBD, 0);
    snprintf(name, sizeof name, "model.layers.%u.post_attention_layernorm.weight", il);
    add(m, name, "F32", N_EMBD, 0);
}

/* Tokens of one byte each, in the alphabet of byte-level BPE, and no merge. */
static void write_tokenizer(void)
{
    struct bnt_buf b = BNT_BUF(1u << 16);
    bnt_buf_puts(&b,
                 "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel"
                 "\",\"add_prefix_space\":false,\"use_regex\":true},\"model\":{\"type\":\"BPE\","
                 "\"merges\":[],\"vocab\":{",
                 NULL);
    cp_byte_tokens(&b);
    bnt_buf_puts(&b, "}}}", NULL);
    cp_file("ck/tokenizer.json", b.data, b.len);
    bnt_buf_release(&b);
}

static void write_checkpoint(struct cp_made *m, const struct family *f)
{
    struct bnt_buf config = BNT_BUF(4096);
    struct bnt_err err = {0};
    es_ok(bnt_mkdirs("ck", &err), &err);
    bnt_buf_printf(&config, NULL,
                   "{\"architectures\":[\"%s\"],\"hidden_act\":\"silu\",\"hidden_size\":%d,"
                   "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
                   "\"num_key_value_heads\":%d,\"head_dim\":%u,\"max_position_embeddings\":512,"
                   "\"rms_norm_eps\":1e-5,\"vocab_size\":%d,%s\"tie_word_embeddings\":%s}",
                   f->architecture, N_EMBD, N_FF, N_LAYER, N_HEAD, N_HEAD_KV, f->head_dim, N_VOCAB,
                   f->rope, f->tied ? "true" : "false");
    cp_file("ck/config.json", config.data, config.len);
    bnt_buf_release(&config);
    write_tokenizer();
    add(m, "model.embed_tokens.weight", f->dtype, N_VOCAB, N_EMBD);
    for (unsigned il = 0; il < N_LAYER; il++) {
        add_layer(m, f, il);
    }
    add(m, "model.norm.weight", "F32", N_EMBD, 0);
    if (!f->tied) {
        add(m, "lm_head.weight", f->dtype, N_VOCAB, N_EMBD);
    }
    cp_write_shards(m);
}

/* ---- the forward pass ---- */

static double number_at(const struct cp_tensor *t, size_t i)
{
    uint16_t half;
    float x;
    if (strcmp(t->dtype, "F32") == 0) {
        memcpy(&x, t->bytes + 4 * i, sizeof x);
        return (double)x;
    }
    memcpy(&half, t->bytes + 2 * i, sizeof half);
    return (double)(t->dtype[0] == 'B' ? bf16_to_f32(half) : f16_to_f32(half));
}

/* il -1: of no layer */
static const struct cp_tensor *find(const struct cp_made *m, int il, const char *rest)
{
    char name[160];
    if (il < 0) {
        snprintf(name, sizeof name, "%s", rest);
    } else {
        snprintf(name, sizeof name, "model.layers.%d.%s", il, rest);
    }
    for (size_t i = 0; i < m->n; i++) {
        if (strcmp(m->t[i].name, name) == 0) {
            return &m->t[i];
        }
    }
    return NULL;
}

/* y = W x + b of a linear layer. */
static void linear(const struct cp_made *m, int il, const char *stem, const double *x, double *y)
{
    char rest[64];
    snprintf(rest, sizeof rest, "%s.weight", stem);
    const struct cp_tensor *w = find(m, il, rest);
    snprintf(rest, sizeof rest, "%s.bias", stem);
    const struct cp_tensor *b = find(m, il, rest);
    const size_t cols = w->shape[1];
    for (size_t r = 0; r < w->shape[0]; r++) {
        y[r] = b ? number_at(b, r) : 0;
        for (size_t c = 0; c < cols; c++) {
            y[r] += number_at(w, r * cols + c) * x[c];
        }
    }
}

/* Over as many numbers as w has; y may be x. */
static void rms_norm(const struct cp_tensor *w, const double *x, double *y)
{
    const size_t n = w->shape[0];
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    for (size_t i = 0; i < n; i++) {
        y[i] = number_at(w, i) * x[i] / sqrt(sum / (double)n + EPSILON);
    }
}

/* Frequency of pair i, as _compute_llama3_parameters, _compute_yarn_parameters... have it; *scale
 * multiplies cosine and sine. */
static double frequency(const struct family *f, unsigned i, double *scale)
{
    const double dim = f->head_dim, plain = pow(ROPE_BASE, -2.0 * i / dim);
    const double wave = 2 * PI / plain;
    *scale = 1;
    if (f->scaling == LINEAR) {
        return plain / f->factor;
    }
    if (f->scaling == LLAMA3) {
        double smooth = (f->n_ctx_orig / wave - f->low) / (f->high - f->low);
        return wave < f->n_ctx_orig / f->high  ? plain
               : wave > f->n_ctx_orig / f->low ? plain / f->factor
                                               : (1 - smooth) * plain / f->factor + smooth * plain;
    }
    if (f->scaling == YARN) {
        double first = dim * log(f->n_ctx_orig / (f->high * 2 * PI)) / (2 * log(ROPE_BASE));
        double last = dim * log(f->n_ctx_orig / (f->low * 2 * PI)) / (2 * log(ROPE_BASE));
        first = fmax(floor(first), 0);
        last = fmin(ceil(last), dim - 1);
        double ramp = fmin(fmax((i - first) / (last - first), 0), 1);
        *scale = f->attention_factor != 0 ? f->attention_factor : 0.1 * log(f->factor) + 1;
        return plain / f->factor * ramp + plain * (1 - ramp);
    }
    if (f->scaling == LONG) {
        *scale = sqrt(1 + log(f->factor) / log(f->n_ctx_orig));
        return plain / (1 + i * 0.5); /* the short factors */
    }
    return plain;
}

/* x cos + rotate_half(x) sin */
static void rotate(const struct family *f, double *head, unsigned pos)
{
    const unsigned half = f->head_dim / 2;
    for (unsigned i = 0; i < half; i++) {
        double scale, angle = pos * frequency(f, i, &scale), a = head[i], b = head[i + half];
        head[i] = scale * (a * cos(angle) - b * sin(angle));
        head[i + half] = scale * (b * cos(angle) + a * sin(angle));
    }
}

struct state {
    double x[N_IDS][N_EMBD];
    double q[N_IDS][N_HEAD * MAX_HEAD_DIM];
    double k[N_IDS][N_HEAD_KV * MAX_HEAD_DIM], v[N_IDS][N_HEAD_KV * MAX_HEAD_DIM];
};

/* One head of one position over all positions up to it. */
static void attend(const struct state *s, const struct family *f, unsigned pos, unsigned head,
                   double *out)
{
    const unsigned d = f->head_dim, kv = head / (N_HEAD / N_HEAD_KV);
    double weight[N_IDS], sum = 0;
    for (unsigned p = 0; p <= pos; p++) {
        double dot = 0;
        for (unsigned i = 0; i < d; i++) {
            dot += s->q[pos][head * d + i] * s->k[p][kv * d + i];
        }
        weight[p] = exp(dot / sqrt(d));
        sum += weight[p];
    }
    for (unsigned i = 0; i < d; i++) {
        out[i] = 0;
        for (unsigned p = 0; p <= pos; p++) {
            out[i] += weight[p] / sum * s->v[p][kv * d + i];
        }
    }
}

/* n_head heads of position pos. */
static void norm_and_rotate(const struct family *f, const struct cp_tensor *norm, double *x,
                            unsigned n_head, unsigned pos)
{
    for (unsigned i = 0; i < n_head; i++) {
        double *head = x + i * f->head_dim;
        if (f->head_norms) {
            rms_norm(norm, head, head);
        }
        rotate(f, head, pos);
    }
}

static void join(const struct family *f, double *x, const double *y)
{
    for (int i = 0; i < N_EMBD; i++) {
        x[i] += y[i] * (f->depth > 0 ? f->depth / sqrt(N_LAYER) : 1);
    }
}

static void attention(const struct cp_made *m, const struct family *f, int il, struct state *s)
{
    for (unsigned p = 0; p < N_IDS; p++) {
        double h[N_EMBD];
        rms_norm(find(m, il, "input_layernorm.weight"), s->x[p], h);
        linear(m, il, "self_attn.q_proj", h, s->q[p]);
        linear(m, il, "self_attn.k_proj", h, s->k[p]);
        linear(m, il, "self_attn.v_proj", h, s->v[p]);
        norm_and_rotate(f, find(m, il, "self_attn.q_norm.weight"), s->q[p], N_HEAD, p);
        norm_and_rotate(f, find(m, il, "self_attn.k_norm.weight"), s->k[p], N_HEAD_KV, p);
    }
    for (unsigned p = 0; p < N_IDS; p++) {
        double mixed[N_HEAD * MAX_HEAD_DIM], y[N_EMBD];
        for (unsigned i = 0; i < N_HEAD; i++) {
            attend(s, f, p, i, mixed + i * f->head_dim);
        }
        linear(m, il, "self_attn.o_proj", mixed, y);
        join(f, s->x[p], y);
    }
}

static void feed_forward(const struct cp_made *m, const struct family *f, int il, double *x)
{
    double h[N_EMBD], gate[N_FF], up[N_FF];
    rms_norm(find(m, il, "post_attention_layernorm.weight"), x, h);
    linear(m, il, "mlp.gate_proj", h, gate);
    linear(m, il, "mlp.up_proj", h, up);
    for (int i = 0; i < N_FF; i++) {
        gate[i] *= up[i] / (1 + exp(-gate[i]));
    }
    linear(m, il, "mlp.down_proj", gate, h);
    join(f, x, h);
}

/* Logits of the last of the ids. */
static void forward(const struct cp_made *m, const struct family *f, const int32_t *ids,
                    double *logits)
{
    static struct state s;
    const struct cp_tensor *embedding = find(m, -1, "model.embed_tokens.weight");
    for (int p = 0; p < N_IDS; p++) {
        for (int i = 0; i < N_EMBD; i++) {
            s.x[p][i] = number_at(embedding, (size_t)(ids[p] * N_EMBD + i)) *
                        (f->embedding > 0 ? f->embedding : 1);
        }
    }
    for (int il = 0; il < N_LAYER; il++) {
        attention(m, f, il, &s);
        for (int p = 0; p < N_IDS; p++) {
            feed_forward(m, f, il, s.x[p]);
        }
    }
    double last[N_EMBD];
    rms_norm(find(m, -1, "model.norm.weight"), s.x[N_IDS - 1], last);
    for (int i = 0; f->width > 0 && i < N_EMBD; i++) {
        last[i] /= N_EMBD / f->width;
    }
    linear(m, -1, f->tied ? "model.embed_tokens" : "lm_head", last, logits);
}

/* ---- the engine ---- */

static void check_family(const struct family *f)
{
    struct cp_made m = {0};
    struct bnt_err err = {0};
    struct bnt_convert_report report;
    struct es_engine e;
    int32_t ids[N_IDS];
    double want[N_VOCAB], most = 0;
    const struct bnt_convert_options o = {.type = tensor_type_find("f32"),
                                          .embedding = tensor_type_find("f32")};
    write_checkpoint(&m, f);
    es_ok(bnt_convert("ck", "out.gguf", &o, &report, &err), &err);
    es_open(&e, "out.gguf",
            &(struct bnt_session_options){.n_ctx = N_IDS, .n_threads = 1, .kv_type = BNT_KV_F32});
    for (int i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)(bnt_rng_next(&rng) % 256);
    }
    forward(&m, f, ids, want);
    es_ok(bnt_session_eval(e.session, ids, N_IDS, &err), &err);
    const float *got = bnt_session_logits(e.session);
    for (int i = 0; i < N_VOCAB; i++) {
        most = fmax(most, fabs(want[i]));
    }
    for (int i = 0; i < N_VOCAB; i++) {
        if (!(fabs((double)got[i] - want[i]) <= TOLERANCE * most)) {
            fail_msg("%s: logit %d is %.8g, not %.8g", f->what, i, (double)got[i], want[i]);
        }
    }
    es_close(&e);
    cp_release(&m);
}

static void logits_are_those_of_the_checkpoint(void **state)
{
    (void)state;
    assert_int_equal(chdir(suite_scratch()), 0);
    bnt_rng_seed(&rng, 11);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        check_family(&families[i]);
    }
}

/* ---- size ---- */

enum { BIG_EMBD = 2560, BIG_KV = 640, BIG_FF = 6912, BIG_LAYERS = 30, BIG_VOCAB = 128256 };
enum { WRITTEN = 65536 }; /* bytes of a matrix that are no hole */
#define MOST_RSS_BYTES (1ull << 30)

/* Tensors of BitNet 2B4T in one sparse file: holes but for the first bytes of every matrix. */
struct big {
    bool packed; /* linear weights are U8 and have a scale */
    struct bnt_buf header;
    uint64_t at; /* bytes of data so far */
    struct {
        uint64_t at;
        size_t n;
        enum { ONES, WEIGHTS, CODES, SCALE } what;
    } parts[BIG_LAYERS * 24];
    size_t n_parts;
};

static void big_add(struct big *b, const char *name, int what, uint64_t rows, uint64_t cols)
{
    const uint64_t n = rows * (cols ? cols : 1) * (what == CODES ? 1 : 2);
    char shape[48];
    snprintf(shape, sizeof shape, cols ? "%llu,%llu" : "%llu", (unsigned long long)rows,
             (unsigned long long)cols);
    bnt_buf_printf(&b->header, NULL,
                   "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
                   b->at ? "," : "{", name, what == CODES ? "U8" : "BF16", shape,
                   (unsigned long long)b->at, (unsigned long long)(b->at + n));
    b->parts[b->n_parts].at = b->at;
    b->parts[b->n_parts].what = what;
    b->parts[b->n_parts++].n = n > WRITTEN ? WRITTEN : (size_t)n;
    b->at += n;
}

static void big_add_layer(struct big *b, unsigned il)
{
    static const struct {
        const char *name;
        uint64_t rows, cols;
    } all[] = {{"input_layernorm", BIG_EMBD, 0},         {"post_attention_layernorm", BIG_EMBD, 0},
               {"self_attn.attn_sub_norm", BIG_EMBD, 0}, {"mlp.ffn_sub_norm", BIG_FF, 0},
               {"self_attn.q_proj", BIG_EMBD, BIG_EMBD}, {"self_attn.k_proj", BIG_KV, BIG_EMBD},
               {"self_attn.v_proj", BIG_KV, BIG_EMBD},   {"self_attn.o_proj", BIG_EMBD, BIG_EMBD},
               {"mlp.gate_proj", BIG_FF, BIG_EMBD},      {"mlp.up_proj", BIG_FF, BIG_EMBD},
               {"mlp.down_proj", BIG_EMBD, BIG_FF}};
    char name[128];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        bool packed = b->packed && all[i].cols > 0;
        snprintf(name, sizeof name, "model.layers.%u.%s.weight", il, all[i].name);
        big_add(b, name,
                all[i].cols == 0 ? ONES
                : packed         ? CODES
                                 : WEIGHTS,
                packed ? all[i].rows / 4 : all[i].rows, all[i].cols);
        if (packed) {
            snprintf(name, sizeof name, "model.layers.%u.%s.weight_scale", il, all[i].name);
            big_add(b, name, SCALE, 1, 0);
        }
    }
}

/* Ones, or numbers that repeat: 1/4, -1/2, 3/4, 0; codes of -1, 0, 1 and 0. */
static void big_fill(uint8_t *bytes, size_t n, int what)
{
    static const uint16_t weights[4] = {0x3e80, 0xbf00, 0x3f40, 0};
    const uint16_t one = 0x3f80;
    for (size_t i = 0; i < n / 2; i++) {
        memcpy(bytes + 2 * i, what == WEIGHTS ? &weights[i % 4] : &one, 2);
    }
    if (what == CODES) {
        memset(bytes, 0x64, n);
    }
}

static void big_write(struct big *b)
{
    uint8_t *bytes = malloc(WRITTEN);
    bnt_buf_puts(&b->header, "}", NULL);
    const uint64_t n = b->header.len;
    FILE *f = fopen("ck/model.safetensors", "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(&n, 8, 1, f), 1);
    assert_int_equal(fwrite(b->header.data, 1, n, f), n);
    for (size_t i = 0; i < b->n_parts; i++) {
        big_fill(bytes, b->parts[i].n, b->parts[i].what);
        assert_int_equal(fseeko(f, (off_t)(8 + n + b->parts[i].at), SEEK_SET), 0);
        assert_int_equal(fwrite(bytes, 1, b->parts[i].n, f), b->parts[i].n);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate("ck/model.safetensors", (off_t)(8 + n + b->at)), 0);
    bnt_buf_release(&b->header);
    free(bytes);
}

static void write_big(bool packed)
{
    struct big *b = calloc(1, sizeof *b);
    struct bnt_err err = {0};
    assert_non_null(b);
    *b = (struct big){.packed = packed, .header = BNT_BUF(1u << 20)};
    es_ok(bnt_mkdirs("ck", &err), &err);
    cp_text("ck/config.json",
            "{\"architectures\":[\"BitNetForCausalLM\"],\"hidden_act\":\"relu2\",\"hidden_size\":"
            "2560,\"intermediate_size\":6912,\"num_hidden_layers\":30,\"num_attention_heads\":20,"
            "\"num_key_value_heads\":5,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,"
            "\"rope_theta\":500000.0,\"vocab_size\":128256,\"tie_word_embeddings\":true,"
            "\"quantization_config\":{\"quant_method\":\"bitnet\",\"linear_class\":"
            "\"autobitlinear\"}}");
    write_tokenizer();
    big_add(b, "model.embed_tokens.weight", WEIGHTS, BIG_VOCAB, BIG_EMBD);
    for (unsigned il = 0; il < BIG_LAYERS; il++) {
        big_add_layer(b, il);
    }
    big_add(b, "model.norm.weight", ONES, BIG_EMBD, 0);
    big_write(b);
    free(b);
}

/* The last matrix: its scale is the mean of what was written, its codes those weights' own. */
static void check_big(bool packed)
{
    struct bnt_err err = {0};
    struct gguf *g;
    static int8_t w[32 * BIG_FF];
    float scale;
    es_ok(gguf_open("out.gguf", GGUF_MODE_MAP, &g, &err), &err);
    const struct gguf_tensor *t = gguf_find_tensor(g, "blk.29.ffn_down.weight");
    assert_true(t && t->type == TENSOR_I2_S && t->ne[0] == BIG_FF && t->ne[1] == BIG_EMBD);
    const struct ternary_source s = {.type = t->type,
                                     .data = gguf_tensor_view(g, t),
                                     .size = t->size,
                                     .rows = t->ne[1],
                                     .cols = t->ne[0]};
    es_ok(ternary_decode(&s, 0, 1, w, &scale, &err), &err);
    const double mean = WRITTEN * 0.1875 / ((double)BIG_EMBD * BIG_FF);
    assert_true(fabs((double)scale - (packed ? 1 : mean)) <= 1e-6 * (double)scale);
    for (int i = 0; i < BIG_FF; i++) {
        static const int8_t codes[4] = {1, -1, 1, 0};
        assert_int_equal(w[i], packed ? -1 : codes[i % 4]);
    }
    gguf_close(g);
}

/* 4.8 GB of masters, or 1.2 GB with packed weights. */
static void memory_does_not_grow_with_the_checkpoint(void **state)
{
    (void)state;
    assert_int_equal(chdir(suite_scratch()), 0);
    const char *const argv[] = {suite_bnt(), "convert", "ck", "out.gguf", NULL};
    for (int packed = 0; packed < 2; packed++) {
        struct suite_output o;
        struct rusage usage;
        write_big(packed);
        suite_run(argv, suite_scratch(), 600000, &o);
        assert_int_equal(o.exit, 0);
        suite_output_release(&o);
        getrusage(RUSAGE_CHILDREN, &usage); /* of the larger of all programs so far */
        suite_metric(packed ? "packed_rss" : "masters_rss", (double)usage.ru_maxrss / 1024, "MiB");
        assert_true((uint64_t)usage.ru_maxrss * 1024 < MOST_RSS_BYTES);
        check_big(packed);
        assert_int_equal(unlink("out.gguf"), 0);
    }
}

static const struct suite_test tests[] = {
    {.name = "checkpoints_speak_as_their_own_library_does",
     .body = logits_are_those_of_the_checkpoint},
    {.name = "checkpoints_of_2b_shape_take_less_than_1_gb",
     .body = memory_does_not_grow_with_the_checkpoint,
     .needs = "disk-2g,plain-memory",
     .tier = SUITE_FULL,
     .timeout_ms = 300000},
    {0},
};
const struct suite suite_checkpoints = {"checkpoints", tests, "rope_rows rope_factors"};
