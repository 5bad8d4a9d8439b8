/* Guards the vocabulary of a converted checkpoint: pieces, scores or types that are not those of
 * tokenizer.model, merges of the newer kind that are lost, the wrong one of several chat templates,
 * a broken or foreign tokenizer file that becomes a vocabulary all the same. All files are made
 * here, tokenizer.model by the rules of protocol buffers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/hf_vocab.h"
#include "testkit/suite.h"
#include "testkit/suites/checkpoint.h"
#include "testkit/suites/checkpoint_keys.h"
#include "testkit/suites/engine_support.h"

#define BLANK "\xe2\x96\x81"

/* ---- sentencepiece ---- */

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };
enum { FIRST_BYTE = 3, FIRST_PIECE = FIRST_BYTE + 256, N_SPM = FIRST_PIECE + 12 + 4 };

static const struct {
    const char *text;
    float score;
    int type;
} pieces[] = {
    {BLANK "a", -3, NORMAL}, {"ab", -1, NORMAL},         {BLANK "ab", -2, NORMAL},
    {"abc", -4.5f, NORMAL},  {BLANK, -5, NORMAL},        {"a", -6, NORMAL},
    {"b", -7, NORMAL},       {"c", -8, NORMAL},          {"d", -9, NORMAL},
    {"<user>", 0, USER},     {"<unused0>", -10, UNUSED}, {"dd", -1.25f, NORMAL},
};

static void put_varint(struct bnt_buf *b, uint64_t v)
{
    do {
        char byte = (char)((v & 127) | (v > 127 ? 128 : 0));
        bnt_buf_append(b, &byte, 1, NULL);
        v >>= 7;
    } while (v);
}

static void put_number(struct bnt_buf *b, unsigned id, uint64_t v)
{
    put_varint(b, id << 3);
    put_varint(b, v);
}

static void put_bytes(struct bnt_buf *b, unsigned id, const void *bytes, size_t n)
{
    put_varint(b, id << 3 | 2);
    put_varint(b, n);
    bnt_buf_append(b, bytes, n, NULL);
}

static void put_float(struct bnt_buf *b, unsigned id, float v)
{
    put_varint(b, id << 3 | 5);
    bnt_buf_append(b, &v, sizeof v, NULL);
}

static void put_piece(struct bnt_buf *b, const char *text, float score, int type)
{
    struct bnt_buf piece = BNT_BUF(256);
    put_bytes(&piece, 1, text, strlen(text));
    put_float(&piece, 2, score);
    if (type != NORMAL) {
        put_number(&piece, 3, (uint64_t)type);
    }
    put_bytes(b, 1, piece.data, piece.len);
    bnt_buf_release(&piece);
}

/* What a tokenizer.model can say besides its pieces. */
struct spm {
    int kind;           /* 1: unigram, 2: BPE */
    bool prefix, joins; /* a blank in front; several blanks become one */
    const char *table;  /* of characters; NULL: none */
    bool suffix, plain; /* blanks end words; they are not spelt as U+2581 */
};

/* With parts that nobody reads here: names, floats and the trailing self-test. */
static void make_spm(struct bnt_buf *b, const struct spm *m)
{
    struct bnt_buf trainer = BNT_BUF(512), normalizer = BNT_BUF(512);
    char text[16];
    put_piece(b, "<unk>", 0, UNKNOWN);
    put_piece(b, "<s>", 0, CONTROL);
    put_piece(b, "</s>", 0, CONTROL);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "<0x%02X>", i);
        put_piece(b, text, 0, BYTE);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        put_piece(b, pieces[i].text, pieces[i].score, pieces[i].type);
    }
    put_bytes(&trainer, 1, "corpus.txt", 10);
    put_number(&trainer, 3, (uint64_t)m->kind);
    put_float(&trainer, 10, 0.9995f);
    put_number(&trainer, 24, m->suffix);
    put_number(&trainer, 40, 0);
    put_number(&trainer, 41, 1);
    put_number(&trainer, 42, 2);
    put_number(&trainer, 43, UINT64_MAX); /* -1: no padding */
    put_bytes(b, 2, trainer.data, trainer.len);
    put_bytes(&normalizer, 1, "identity", 8);
    put_bytes(&normalizer, 2, m->table ? m->table : "", m->table ? strlen(m->table) : 0);
    put_number(&normalizer, 3, m->prefix);
    put_number(&normalizer, 4, m->joins);
    put_number(&normalizer, 5, !m->plain);
    put_bytes(b, 3, normalizer.data, normalizer.len);
    bnt_buf_release(&trainer);
    bnt_buf_release(&normalizer);
}

static void write_spm(const struct spm *m)
{
    struct bnt_buf b = BNT_BUF(1u << 16);
    make_spm(&b, m);
    cp_file("ck/tokenizer.model", b.data, b.len);
    bnt_buf_release(&b);
}

static const struct spm llama = {.kind = 2, .prefix = true};

static void expect_token(const struct gguf *g, uint32_t id, const char *text, double score,
                         int64_t type)
{
    struct gguf_iter texts, scores, types;
    struct gguf_str s = {"", 0};
    double got_score = 1;
    int64_t got_type = 0;
    assert_true(gguf_iter_begin(g, "tokenizer.ggml.tokens", GGUF_STR, &texts));
    assert_true(gguf_iter_begin(g, "tokenizer.ggml.scores", GGUF_F32, &scores));
    assert_true(gguf_iter_begin(g, "tokenizer.ggml.token_type", GGUF_I32, &types));
    for (uint32_t i = 0; i <= id; i++) {
        assert_true(gguf_iter_str(&texts, &s) && gguf_iter_f64(&scores, &got_score) &&
                    gguf_iter_i64(&types, &got_type));
    }
    if (!gguf_str_eq(s, text) || got_score != score || got_type != type) {
        fail_msg("token %u is %.*s, score %g, type %lld, not %s, %g, %lld", id, (int)s.len, s.data,
                 got_score, (long long)got_type, text, score, (long long)type);
    }
}

/* Every piece with its score and type, what other files add, and how text is cut: "ab" first, by
 * its score, then with the blank. */
static void a_sentencepiece_model_keeps_its_pieces(void **state)
{
    (void)state;
    cv_enter();
    write_spm(&llama);
    cp_text("ck/added_tokens.json", "{\"<old>\": 271}");
    cp_text("ck/tokenizer_config.json",
            "{\"add_bos_token\":true,\"add_eos_token\":false,\"pad_token\":\"<new>\",\"bos_token\":"
            "{\"content\":\"<s>\"},\"added_tokens_decoder\":{\"2\":{\"content\":\"</s>\",\"special"
            "\":true},\"272\":{\"content\":\"<new>\",\"special\":true}}}");
    struct gguf *g = cv_vocabulary(N_SPM);
    cv_expect_str(g, "tokenizer.ggml.model", "llama");
    cv_expect_str(g, "tokenizer.ggml.pre", "default");
    expect_token(g, 0, "<unk>", 0, UNKNOWN);
    expect_token(g, 1, "<s>", 0, CONTROL);
    expect_token(g, FIRST_BYTE + 0xc3, "<0xC3>", 0, BYTE);
    for (uint32_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        expect_token(g, FIRST_PIECE + i, pieces[i].text, (double)pieces[i].score, pieces[i].type);
    }
    expect_token(g, 271, "<old>", -1000, USER);
    expect_token(g, 272, "<new>", -1000, CONTROL);
    expect_token(g, 274, "[PAD274]", -1000, UNUSED);
    cv_expect_id(g, "tokenizer.ggml.bos_token_id", 1);
    cv_expect_id(g, "tokenizer.ggml.eos_token_id", 2);
    cv_expect_id(g, "tokenizer.ggml.unknown_token_id", 0);
    cv_expect_id(g, "tokenizer.ggml.padding_token_id", 272);
    assert_null(gguf_find(g, "tokenizer.ggml.add_space_prefix"));
    assert_null(gguf_find(g, "tokenizer.ggml.merges"));
    assert_string_equal(cv_warned(), "");
    const int32_t want[] = {1, FIRST_PIECE + 2, FIRST_PIECE + 8};
    cv_expect_ids(g, "abd", want, 3);
    const int32_t bytes[] = {1, FIRST_PIECE + 4, FIRST_BYTE + 0xc3, FIRST_BYTE + 0xa9};
    cv_expect_ids(g, "\xc3\xa9", bytes, 4);
    const int32_t user[] = {1, FIRST_PIECE + 4, FIRST_PIECE + 11, FIRST_PIECE + 9, FIRST_PIECE};
    cv_expect_ids(g, "dd<user>a", user, 5);
    gguf_close(g);
    unlink("ck/added_tokens.json");
    unlink("ck/tokenizer_config.json");
}

/* What the file says of blanks becomes a key; what no key can say is told. */
static void normalizers_are_kept_or_told(void **state)
{
    (void)state;
    cv_enter();
    write_spm(&(struct spm){.kind = 2});
    struct gguf *g = cv_vocabulary(N_SPM);
    bool prefix = true;
    assert_true(gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &prefix) && !prefix);
    assert_string_equal(cv_warned(), "");
    gguf_close(g);
    cp_text("ck/tokenizer_config.json", "{\"add_prefix_space\":true}");
    g = cv_vocabulary(N_SPM);
    assert_null(gguf_find(g, "tokenizer.ggml.add_space_prefix"));
    gguf_close(g);
    /* As the library makes a tokenizer.json of it: a blank in front of a whole text alone. */
    write_spm(&llama);
    cp_text("ck/tokenizer_config.json", "{\"legacy\":false}");
    g = cv_vocabulary(N_SPM);
    assert_true(gguf_get_bool(g, TOKENIZER_PREFIX_FIRST_KEY, &prefix) && prefix);
    gguf_close(g);
    unlink("ck/tokenizer_config.json");
    write_spm(&(struct spm){.kind = 2, .prefix = true, .joins = true, .table = "nfkc"});
    gguf_close(cv_vocabulary(N_SPM));
    assert_non_null(strstr(cv_warned(), "several blanks become one"));
    assert_non_null(strstr(cv_warned(), "by a table"));
}

static void broken_sentencepiece_models_are_refused(void **state)
{
    (void)state;
    struct bnt_buf b = BNT_BUF(1u << 16);
    struct gguf_plan p;
    struct bnt_err err;
    cv_enter();
    write_spm(&(struct spm){.kind = 1, .prefix = true});
    cv_expect_refusal(N_SPM, BNT_E_UNSUPPORTED, "kind 1");
    write_spm(&(struct spm){.kind = 2, .prefix = true, .suffix = true});
    cv_expect_refusal(N_SPM, BNT_E_UNSUPPORTED, "blanks end words");
    write_spm(&(struct spm){.kind = 2, .prefix = true, .plain = true});
    cv_expect_refusal(N_SPM, BNT_E_UNSUPPORTED, "does not spell blanks");
    write_spm(&llama);
    cv_expect_refusal(FIRST_PIECE + 2, BNT_E_FILE, "token " BLANK "ab has the id 261");
    write_spm(&llama);
    cp_text("ck/tokenizer_config.json", "{\"added_tokens_decoder\":{\"0x\":{\"content\":\"q\"}}}");
    cv_expect_refusal(N_SPM, BNT_E_FILE, "token q has an id that is no");
    unlink("ck/tokenizer_config.json");
    make_spm(&b, &llama);
    for (size_t n = 0; n < b.len; n += n < b.len - 80 ? 37 : 1) {
        cp_file("ck/tokenizer.model", b.data, n);
        if (cv_put(N_SPM, &p, &err) != BNT_E_FILE) {
            fail_msg("the first %zu of %zu bytes: %s", n, b.len, err.msg);
        }
        gplan_release(&p);
    }
    bnt_buf_release(&b);
    cp_text("ck/tokenizer.model", "IQ== 0\nIg== 1\n"); /* as LLaMA 3 has it */
    cv_expect_refusal(N_SPM, BNT_E_FILE, "no sentencepiece model");
    assert_int_equal(unlink("ck/tokenizer.model"), 0);
    cv_expect_refusal(N_SPM, BNT_E_NOT_FOUND, "no tokenizer.json and no tokenizer.model");
}

/* ---- tokenizer.json ---- */

enum { HE = 256, THE, BLANK_THE, BEGIN, END, EOT, N_BPE };

/* The bytes, then "he", "the" and " the", and the special tokens of LLaMA 3. */
static void write_llama3(const char *merges, const char *normalizer, const char *pre)
{
    struct bnt_buf b = BNT_BUF(1u << 16);
    bnt_buf_printf(
        &b, NULL,
        "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":%d,\"content\":\"<|begin_of_text|>\","
        "\"special\":true},{\"id\":%d,\"content\":\"<|end_of_text|>\",\"special\":true},{\"id\":%d,"
        "\"content\":\"<|eot_id|>\",\"special\":true}],\"normalizer\":%s,\"pre_tokenizer\":%s,"
        "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{"
        "\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<|begin_of_text|>"
        "\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]}]},\"decoder\":{\"type\":"
        "\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"byte_fallback\":false,\"ignore_merges\":true,"
        "\"merges\":%s,\"vocab\":{",
        BEGIN, END, EOT, normalizer, pre, merges);
    cp_byte_tokens(&b);
    bnt_buf_printf(&b, NULL, ",\"he\":%d,\"the\":%d,\"\\u0120the\":%d}}}", HE, THE, BLANK_THE);
    cp_file("ck/tokenizer.json", b.data, b.len);
    bnt_buf_release(&b);
}

static const char as_texts[] = "[\"h e\",\"t he\",\"\\u0120 the\"]";
static const char as_pairs[] = "[[\"h\",\"e\"],[\"t\",\"he\"],[\"\\u0120\",\"the\"]]";

/* Older and newer files of one tokenizer say the same. */
static void merges_are_texts_or_pairs(void **state)
{
    (void)state;
    cv_enter();
    for (int pairs = 0; pairs < 2; pairs++) {
        static const char *const want[] = {"h e", "t he", "\xc4\xa0 the"};
        struct gguf_iter it;
        struct gguf_str s;
        write_llama3(pairs ? as_pairs : as_texts, "null", CV_LLAMA3_SPLIT);
        struct gguf *g = cv_vocabulary(N_BPE + 2);
        cv_expect_str(g, "tokenizer.ggml.model", "gpt2");
        cv_expect_str(g, "tokenizer.ggml.pre", "llama-bpe");
        cv_expect_id(g, "tokenizer.ggml.bos_token_id", BEGIN);
        cv_expect_id(g, "tokenizer.ggml.eot_token_id", EOT);
        assert_true(gguf_iter_begin(g, "tokenizer.ggml.merges", GGUF_STR, &it));
        for (size_t i = 0; i < 3; i++) {
            assert_true(gguf_iter_str(&it, &s) && gguf_str_eq(s, want[i]));
        }
        assert_false(gguf_iter_str(&it, &s));
        const int32_t ids[] = {BEGIN, THE, BLANK_THE, 0x20, HE, EOT};
        cv_expect_ids(g, "the the he<|eot_id|>", ids, 6);
        gguf_close(g);
    }
    assert_string_equal(cv_warned(), "");
}

#define START "{\"bos_token\":\"<|begin_of_text|>\""

/* A name of a pre-tokenizer stands for a start token, too: a tokenizer without one must say so. */
static void a_start_token_is_added_where_the_tokenizer_adds_one(void **state)
{
    (void)state;
    static const struct {
        const char *post, *config;
        bool start;
    } cases[] = {
        {"null", START "}", false},
        {"{\"type\":\"ByteLevel\"}", START ",\"tokenizer_class\":\"PreTrainedTokenizerFast\"}",
         false},
        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}]}", START "}", false},
        {"null", START ",\"add_bos_token\":true}", true},
        {"null", START ",\"tokenizer_class\":\"LlamaTokenizerFast\"}", true},
    };
    cv_enter();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_buf b = BNT_BUF(1u << 16);
        bnt_buf_printf(
            &b, NULL,
            "{\"added_tokens\":[{\"id\":256,\"content\":\"<|begin_of_text|>\",\"special\":"
            "true}],\"pre_tokenizer\":%s,\"post_processor\":%s,\"model\":{\"type\":"
            "\"BPE\",\"ignore_merges\":true,\"merges\":[],\"vocab\":{",
            CV_LLAMA3_SPLIT, cases[i].post);
        cp_byte_tokens(&b);
        bnt_buf_puts(&b, "}}}", NULL);
        cp_file("ck/tokenizer.json", b.data, b.len);
        cp_text("ck/tokenizer_config.json", cases[i].config);
        bnt_buf_release(&b);
        struct gguf *g = cv_vocabulary(257);
        struct bnt_tokenizer *t;
        struct bnt_err err = {0};
        es_ok(bnt_tokenizer_new(g, NULL, &t, &err), &err);
        if (bnt_tokenizer_add_bos(t) != cases[i].start) {
            fail_msg("case %zu: a start token is %sadded", i, cases[i].start ? "not " : "");
        }
        bnt_tokenizer_free(t);
        gguf_close(g);
    }
    unlink("ck/tokenizer_config.json");
}

/* LLaMA 2 without its tokenizer.model: ranks of merges are scores. */
static void write_llama2(void)
{
    struct bnt_buf b = BNT_BUF(1u << 16);
    bnt_buf_puts(&b,
                 "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,"
                 "\"content\":\"<s>\",\"special\":true}],\"normalizer\":{\"type\":\"Sequence\","
                 "\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"},{\"type\":"
                 "\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}]},"
                 "\"pre_tokenizer\":null,\"model\":{\"byte_fallback\":true,\"unk_token\":\"<unk>\","
                 "\"merges\":[[\"a\",\"b\"],[\"\\u2581\",\"ab\"],[\"\\u2581\",\"a\"],"
                 "[\"\\u2581a\",\"b\"],[\"ab\",\"c\"]],\"vocab\":{"
                 "\"<unk>\":0,\"<s>\":1,\"</s>\":2",
                 NULL);
    for (unsigned i = 0; i < 256; i++) {
        bnt_buf_printf(&b, NULL, ",\"<0x%02X>\":%u", i, FIRST_BYTE + i);
    }
    for (unsigned i = 0; i < 9; i++) {
        bnt_buf_printf(&b, NULL, ",\"%s\":%u", pieces[i].text, FIRST_PIECE + i);
    }
    bnt_buf_printf(&b, NULL, ",\"<0x-5>\":%u}}}", FIRST_PIECE + 9);
    cp_file("ck/tokenizer.json", b.data, b.len);
    bnt_buf_release(&b);
}

static void ranks_of_merges_are_scores(void **state)
{
    (void)state;
    cv_enter();
    write_llama2();
    struct gguf *g = cv_vocabulary(FIRST_PIECE + 10);
    cv_expect_str(g, "tokenizer.ggml.model", "llama");
    expect_token(g, 0, "<unk>", 0, UNKNOWN);
    expect_token(g, FIRST_BYTE + 10, "<0x0A>", 0, BYTE);
    expect_token(g, FIRST_PIECE + 1, "ab", 0, NORMAL);
    expect_token(g, FIRST_PIECE + 2, BLANK "ab", -1, NORMAL);
    expect_token(g, FIRST_PIECE, BLANK "a", -2, NORMAL);
    expect_token(g, FIRST_PIECE + 9, "<0x-5>", -1e6, NORMAL); /* stands for no byte */
    const int32_t want[] = {1, FIRST_PIECE + 2, FIRST_PIECE + 8, FIRST_BYTE + 10};
    cv_expect_ids(g, "abd\n", want, 4);
    gguf_close(g);
    assert_string_equal(cv_warned(), "");
}

static void foreign_tokenizers_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *merges, *normalizer, *pre;
        enum bnt_status status;
        const char *word;
    } cases[] = {
        {"[[\"h\",\"e\"],[\"t\"]]", "null", CV_LLAMA3_SPLIT, BNT_E_FILE, "no pair of texts"},
        {"[[\"h\",7]]", "null", CV_LLAMA3_SPLIT, BNT_E_FILE, "no pair of texts"},
        {"{}", "null", CV_LLAMA3_SPLIT, BNT_E_FILE, "merges is no list"},
        {"[]", "null", "{\"type\":\"BertPreTokenizer\"}", BNT_E_UNSUPPORTED, "BertPreTokenizer"},
        {"[]", "null",
         "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":"
         "true},"
         "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}]}",
         BNT_E_UNSUPPORTED, "behind a blank"},
    };
    cv_enter();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_llama3(cases[i].merges, cases[i].normalizer, cases[i].pre);
        cv_expect_refusal(N_BPE, cases[i].status, cases[i].word);
    }
    static const char *const kinds[][2] = {
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}}", "Unigram"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "WordPiece"},
        {"{\"model\":{\"type\":7}}", "kind ?"},
        {"{\"model\":[]}", "kind ?"},
        {"{}", "kind ?"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        cp_text("ck/tokenizer.json", kinds[i][0]);
        cv_expect_refusal(N_BPE, BNT_E_UNSUPPORTED, kinds[i][1]);
    }
    cp_text("ck/tokenizer.json", "{\"model\":");
    cv_expect_refusal(N_BPE, BNT_E_FILE, "no JSON object");
    write_llama3(as_texts, "{\"type\":\"Lowercase\"}", CV_LLAMA3_SPLIT);
    gguf_close(cv_vocabulary(N_BPE));
    assert_non_null(strstr(cv_warned(), "Lowercase"));
}

/* ---- chat templates ---- */

static void the_right_chat_template_is_taken(void **state)
{
    (void)state;
    cv_enter();
    write_llama3(as_texts, "null", CV_LLAMA3_SPLIT);
    cp_text("ck/tokenizer_config.json", "{\"chat_template\":\"{{ one }}\"}");
    struct gguf *g = cv_vocabulary(N_BPE);
    cv_expect_str(g, "tokenizer.chat_template", "{{ one }}");
    gguf_close(g);
    cp_text("ck/tokenizer_config.json",
            "{\"chat_template\":[{\"name\":\"tool-use\",\"template\":\"{{ tools }}\"},{\"name\":"
            "\"default\",\"template\":\"{{ plain }}\"},{\"name\":\"rag\",\"template\":\"{{ rag }}"
            "\"},{\"template\":\"{{ nameless }}\"}]}");
    g = cv_vocabulary(N_BPE);
    struct gguf_iter it;
    struct gguf_str s;
    cv_expect_str(g, "tokenizer.chat_template", "{{ plain }}");
    cv_expect_str(g, "tokenizer.chat_template.tool_use", "{{ tools }}");
    cv_expect_str(g, "tokenizer.chat_template.rag", "{{ rag }}");
    assert_true(gguf_iter_begin(g, "tokenizer.chat_templates", GGUF_STR, &it));
    assert_true(gguf_iter_str(&it, &s) && gguf_str_eq(s, "tool_use"));
    assert_true(gguf_iter_str(&it, &s) && gguf_str_eq(s, "rag"));
    assert_false(gguf_iter_str(&it, &s));
    gguf_close(g);
    cp_text("ck/chat_template.json", "{\"chat_template\":\"{{ json }}\"}");
    g = cv_vocabulary(N_BPE);
    cv_expect_str(g, "tokenizer.chat_template", "{{ json }}");
    cv_expect_str(g, "tokenizer.chat_template.rag", NULL);
    gguf_close(g);
    cp_text("ck/chat_template.jinja", "{{ jinja }}");
    g = cv_vocabulary(N_BPE);
    cv_expect_str(g, "tokenizer.chat_template", "{{ jinja }}");
    gguf_close(g);
}

static const struct suite_test tests[] = {
    {.name = "checkpoint_vocab_keeps_the_pieces_of_sentencepiece",
     .body = a_sentencepiece_model_keeps_its_pieces},
    {.name = "checkpoint_vocab_keeps_normalizers_or_tells", .body = normalizers_are_kept_or_told},
    {.name = "checkpoint_vocab_refuses_broken_sentencepiece_models",
     .body = broken_sentencepiece_models_are_refused},
    {.name = "checkpoint_vocab_takes_merges_as_texts_or_pairs", .body = merges_are_texts_or_pairs},
    {.name = "checkpoint_vocab_adds_a_start_where_the_tokenizer_does",
     .body = a_start_token_is_added_where_the_tokenizer_adds_one},
    {.name = "checkpoint_vocab_takes_ranks_of_merges_as_scores",
     .body = ranks_of_merges_are_scores},
    {.name = "checkpoint_vocab_refuses_foreign_tokenizers_by_name",
     .body = foreign_tokenizers_are_refused_by_name},
    {.name = "checkpoint_vocab_takes_the_right_chat_template",
     .body = the_right_chat_template_is_taken},
    {0},
};
const struct suite suite_checkpoint_vocab = {"checkpoint_vocab", tests,
                                             "piece_score vocab_no_start"};
