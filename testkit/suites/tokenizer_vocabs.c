#include "testkit/suites/tokenizer_vocabs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/vocab.h"
#include "testkit/suite.h"
#include "testkit/suites/gguf_bytes.h"

#define LLAMA3_TOKENS 128256
#define LLAMA3_RANKS 128000

static struct gguf *open_file;
static struct gguf_bytes file_bytes;
static char warnings[4096];

static void fail_with(const struct bnt_err *err)
{
    fail_msg("%s (%s)", err->msg, err->hint);
}

unsigned tv_byte_char(unsigned byte, char out[3])
{
    unsigned cp = byte;
    if (byte < 0x21) {
        cp = 0x100 + byte;
    } else if (byte >= 0x7f && byte < 0xa1) {
        cp = 0x121 + byte - 0x7f;
    } else if (byte == 0xad) {
        cp = 0x143;
    }
    out[0] = (char)(cp < 0x80 ? cp : 0xc0 | cp >> 6);
    out[1] = (char)(cp < 0x80 ? 0 : 0x80 | (cp & 0x3f));
    out[2] = '\0';
    return cp < 0x80 ? 1 : 2;
}

/* ---- small files ---- */

static size_t count_tokens(const struct tv_spec *s)
{
    size_t n = s->bytes ? 256 : 0;
    for (const struct tv_token *t = s->tokens; t != NULL && t->text != NULL; t++) {
        n++;
    }
    return n;
}

static void put_tokens(struct gguf_bytes *g, const struct tv_spec *s)
{
    gb_key_array(g, "tokenizer.ggml.tokens", GGUF_STR, count_tokens(s));
    for (unsigned b = 0; b < 256 && s->bytes; b++) {
        char text[8];
        if (strcmp(s->model, "llama") == 0) {
            snprintf(text, sizeof(text), "<0x%02X>", b);
        } else {
            tv_byte_char(b, text);
        }
        gb_str(g, text);
    }
    for (const struct tv_token *t = s->tokens; t != NULL && t->text != NULL; t++) {
        gb_str(g, t->text);
    }
}

static void put_types_and_scores(struct gguf_bytes *g, const struct tv_spec *s)
{
    bool spm = strcmp(s->model, "llama") == 0;
    size_t n = count_tokens(s);
    size_t n_types = (size_t)((int)n + s->extra_types);
    size_t n_scores = (size_t)((int)n + s->extra_scores);
    size_t n_bytes = s->bytes ? 256 : 0;
    gb_key_array(g, "tokenizer.ggml.token_type", GGUF_I32, n_types);
    for (size_t i = 0; i < n_types; i++) {
        int type = i < n_bytes ? (spm ? 6 : 1) : i < n ? s->tokens[i - n_bytes].type : 1;
        gb_u32(g, type == 0 ? 1 : (uint32_t)type);
    }
    gb_key_array(g, "tokenizer.ggml.scores", GGUF_F32, n_scores);
    for (size_t i = 0; i < n_scores; i++) {
        gb_f32(g, i < n_bytes || i >= n ? 0 : s->tokens[i - n_bytes].score);
    }
}

static uint32_t id_of(const struct tv_spec *s, const char *text)
{
    for (uint32_t i = 0; s->tokens[i].text != NULL; i++) {
        if (strcmp(s->tokens[i].text, text) == 0) {
            return i + (s->bytes ? 256 : 0);
        }
    }
    fail_msg("no token %s", text);
    return 0;
}

static void put_bool(struct gguf_bytes *g, const char *key, int value)
{
    if (value != 0) {
        gb_key(g, key, GGUF_BOOL);
        gb_u8(g, value > 0);
    }
}

static void put_text(struct gguf_bytes *g, const char *key, const char *text)
{
    if (text != NULL) {
        gb_key_str(g, key, text);
    }
}

static uint64_t count_keys(const struct tv_spec *s)
{
    bool merges = !s->no_merges && strcmp(s->model, "llama") != 0;
    return 4u + (s->pre != NULL) + (s->name != NULL) + merges + (s->bos != NULL) +
           (s->eos != NULL) + (s->add_bos != 0) + (s->add_eos != 0) + (s->add_space_prefix != 0) +
           (s->number_key != NULL);
}

static void put_all(struct gguf_bytes *g, const struct tv_spec *s)
{
    gb_head(g, 3, 0, count_keys(s));
    gb_key_str(g, "tokenizer.ggml.model", s->model);
    put_text(g, "tokenizer.ggml.pre", s->pre);
    put_text(g, "general.name", s->name);
    put_tokens(g, s);
    put_types_and_scores(g, s);
    if (!s->no_merges && strcmp(s->model, "llama") != 0) {
        size_t n = 0;
        while (s->merges != NULL && s->merges[n] != NULL) {
            n++;
        }
        gb_key_array(g, "tokenizer.ggml.merges", GGUF_STR, n);
        for (size_t i = 0; i < n; i++) {
            gb_str(g, s->merges[i]);
        }
    }
    if (s->number_key != NULL) {
        gb_key_u32(g, s->number_key, 1);
    }
    if (s->bos != NULL) {
        gb_key_u32(g, "tokenizer.ggml.bos_token_id", id_of(s, s->bos));
    }
    if (s->eos != NULL) {
        gb_key_u32(g, "tokenizer.ggml.eos_token_id", id_of(s, s->eos));
    }
    put_bool(g, "tokenizer.ggml.add_bos_token", s->add_bos);
    put_bool(g, "tokenizer.ggml.add_eos_token", s->add_eos);
    put_bool(g, "tokenizer.ggml.add_space_prefix", s->add_space_prefix);
    gb_pad(g, 32);
}

static const struct gguf *open_bytes(void)
{
    struct bnt_err err = {0};
    if (gguf_open_memory(file_bytes.buf.data, file_bytes.buf.len, "small.gguf", &open_file, &err) !=
        BNT_OK) {
        fail_with(&err);
    }
    return open_file;
}

const struct gguf *tv_file(const struct tv_spec *spec)
{
    tv_close();
    gb_init(&file_bytes, false);
    put_all(&file_bytes, spec);
    return open_bytes();
}

void tv_close(void)
{
    gguf_close(open_file);
    open_file = NULL;
    gb_release(&file_bytes);
}

/* ---- tokenizers ---- */

static void collect_warning(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    size_t used = strlen(warnings);
    snprintf(warnings + used, sizeof(warnings) - used, "%s [%s]\n", what, hint != NULL ? hint : "");
}

const char *tv_warnings(void)
{
    return warnings;
}

struct bnt_tokenizer *tv_new(const struct gguf *g, const char *pre)
{
    struct bnt_err err = {0};
    struct bnt_tokenizer *t = NULL;
    struct bnt_tokenizer_options opts = {.pre = pre, .warn = collect_warning};
    warnings[0] = '\0';
    if (bnt_tokenizer_new(g, &opts, &t, &err) != BNT_OK) {
        fail_with(&err);
    }
    return t;
}

struct bnt_tokenizer *tv_small(const struct tv_spec *spec, const char *pre)
{
    struct bnt_tokenizer *t = tv_new(tv_file(spec), pre);
    tv_close();
    return t;
}

struct bnt_tokenizer *tv_open(const char *path, const char *pre)
{
    struct bnt_err err = {0};
    struct gguf *g = NULL;
    if (gguf_open(path, GGUF_MODE_AUTO, &g, &err) != BNT_OK) {
        fail_with(&err);
    }
    struct bnt_tokenizer *t = tv_new(g, pre);
    gguf_close(g);
    return t;
}

/* ---- LLaMA 3 ---- */

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

static size_t base64(const char *text, char *out)
{
    size_t n = 0;
    uint32_t bits = 0;
    unsigned held = 0;
    for (; base64_digit(*text) >= 0; text++) {
        bits = bits << 6 | (uint32_t)base64_digit(*text);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (char)(bits >> held);
        }
    }
    return n;
}

/* Tokens in the order of their ranks. */
static void read_ranks(struct vocab *v, struct vocab_index *x)
{
    struct bnt_buf text = BNT_BUF(16u << 20);
    assert_int_equal(bnt_file_read(suite_shared("tokenizers/llama3.tokenizer.model"), &text, NULL),
                     BNT_OK);
    assert_int_equal(vocab_init(v, LLAMA3_RANKS, 1 << 20, NULL), BNT_OK);
    assert_int_equal(vocab_index_init(x, LLAMA3_RANKS, NULL), BNT_OK);
    char *rest = NULL;
    for (char *line = strtok_r(text.data, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        uint32_t symbol;
        bool twice;
        size_t len = base64(line, vocab_room(v, strlen(line)));
        assert_int_equal(vocab_add(v, len, &symbol, NULL), BNT_OK);
        assert_int_equal(vocab_index_put(v, x, symbol, &twice, NULL), BNT_OK);
        assert_int_equal((uint32_t)strtoul(strchr(line, ' '), NULL, 10), symbol);
        assert_false(twice);
    }
    bnt_buf_release(&text);
    assert_int_equal(v->n, LLAMA3_RANKS);
}

static size_t in_alphabet(const char *bytes, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += tv_byte_char((unsigned char)bytes[i], out + n);
    }
    return n;
}

static void put_string(struct gguf_bytes *g, const char *text, size_t len)
{
    gb_u64(g, len);
    gb_raw(g, text, len);
}

struct halves {
    int32_t left, right;
    size_t at;
};

static int compare_halves(const void *a, const void *b)
{
    const struct halves *x = a;
    const struct halves *y = b;
    return x->left != y->left ? (x->left > y->left) - (x->left < y->left)
                              : (x->right > y->right) - (x->right < y->right);
}

/* All ways to put a token together from two others, best ranks first: what tiktoken's ranks mean as
 * merges. */
static uint64_t put_merges(struct gguf_bytes *g, const struct vocab *v, const struct vocab_index *x)
{
    uint64_t n_merges = 0;
    for (uint32_t id = 0; id < v->n; id++) {
        struct halves halves[256];
        char shown[1024];
        size_t n = 0;
        size_t len;
        const char *bytes = vocab_text(v, id, &len);
        assert_true(len < 256);
        for (size_t at = 1; at < len; at++) {
            int32_t left = vocab_find(v, x, bytes, at);
            int32_t right = vocab_find(v, x, bytes + at, len - at);
            if (left >= 0 && right >= 0) {
                halves[n++] = (struct halves){left, right, at};
            }
        }
        qsort(halves, n, sizeof(halves[0]), compare_halves);
        for (size_t i = 0; i < n; i++) {
            size_t used = in_alphabet(bytes, halves[i].at, shown);
            shown[used++] = ' ';
            used += in_alphabet(bytes + halves[i].at, len - halves[i].at, shown + used);
            put_string(g, shown, used);
        }
        n_merges += n;
    }
    return n_merges;
}

static void put_llama3_tokens(struct gguf_bytes *g, const struct vocab *v)
{
    gb_key_array(g, "tokenizer.ggml.tokens", GGUF_STR, LLAMA3_TOKENS);
    unsigned reserved = 0;
    for (uint32_t id = 0; id < LLAMA3_TOKENS; id++) {
        char text[1024];
        size_t len;
        if (id < v->n) {
            const char *bytes = vocab_text(v, id, &len);
            put_string(g, text, in_alphabet(bytes, len, text));
            continue;
        }
        const char *name = id == 128000   ? "<|begin_of_text|>"
                           : id == 128001 ? "<|end_of_text|>"
                           : id == 128006 ? "<|start_header_id|>"
                           : id == 128007 ? "<|end_header_id|>"
                           : id == 128009 ? "<|eot_id|>"
                                          : NULL;
        if (name == NULL) {
            snprintf(text, sizeof(text), "<|reserved_special_token_%u|>", reserved++);
        }
        gb_str(g, name != NULL ? name : text);
    }
    gb_key_array(g, "tokenizer.ggml.token_type", GGUF_I32, LLAMA3_TOKENS);
    for (uint32_t id = 0; id < LLAMA3_TOKENS; id++) {
        gb_u32(g, id < v->n ? 1 : 3);
    }
}

const struct gguf *tv_llama3_file(void)
{
    struct vocab v;
    struct vocab_index x;
    tv_close();
    gb_init(&file_bytes, false);
    read_ranks(&v, &x);
    gb_head(&file_bytes, 3, 0, 7);
    gb_key_str(&file_bytes, "tokenizer.ggml.model", "gpt2");
    put_llama3_tokens(&file_bytes, &v);
    gb_key_u32(&file_bytes, "tokenizer.ggml.bos_token_id", 128000);
    gb_key_u32(&file_bytes, "tokenizer.ggml.eos_token_id", 128001);
    put_bool(&file_bytes, "tokenizer.ggml.add_bos_token", 1);
    struct gguf_bytes merges;
    gb_init(&merges, false);
    uint64_t n = put_merges(&merges, &v, &x);
    gb_key_array(&file_bytes, "tokenizer.ggml.merges", GGUF_STR, n);
    gb_raw(&file_bytes, merges.buf.data, merges.buf.len);
    gb_pad(&file_bytes, 32);
    gb_release(&merges);
    vocab_release(&v);
    vocab_index_release(&x);
    return open_bytes();
}

/* ---- expectations ---- */

static void show_ids(const int32_t *ids, size_t n, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n && used + 16 < size; i++) {
        used += (size_t)snprintf(out + used, size - used, " %d", ids[i]);
    }
}

void tv_expect(const struct bnt_tokenizer *t, const char *text, size_t len, unsigned flags,
               const int32_t *want, size_t n)
{
    struct bnt_ids got = {0};
    struct bnt_err err = {0};
    if (bnt_tokenizer_encode(t, text, len, flags, &got, &err) != BNT_OK) {
        fail_with(&err);
    }
    if (got.n != n || (n > 0 && memcmp(got.at, want, n * sizeof(*want)) != 0)) {
        char a[1024];
        char b[1024];
        show_ids(got.at, got.n, a, sizeof(a));
        show_ids(want, n, b, sizeof(b));
        fail_msg("\"%.*s\":%s, but should be%s", (int)len, text, a, b);
    }
    bnt_ids_release(&got);
}
