/* Guards against text that changes on its way through tokens: lost bytes, special tokens that
 * appear or vanish, broken characters on a stream, time that explodes on odd input, and
 * inconsistent files that are believed. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testkit/suites/tokenizer_vocabs.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PLAIN 0u
#define PARSE BNT_ENCODE_PARSE_SPECIAL
#define ADD BNT_ENCODE_ADD_SPECIAL
#define EXPECT(t, text, flags, ...)                                                                \
    tv_expect(t, text, strlen(text), flags, (const int32_t[]){__VA_ARGS__},                        \
              COUNT(((const int32_t[]){__VA_ARGS__})))

enum { CONTROL = 3, USER = 4 };

/* ---- special tokens ---- */

static const struct tv_token chat_tokens[] = {
    {"<s>", CONTROL, 0}, {"</s>", CONTROL, 0}, {"<|x|>", CONTROL, 0}, {"<|x|>>", CONTROL, 0},
    {"[U]", USER, 0},    {"[U][", USER, 0},    {NULL, 0, 0},
};
enum { ID_S = 256, ID_END, ID_X, ID_X_LONG, ID_U, ID_U_LONG };
static const struct tv_spec chat = {
    .model = "gpt2", .pre = "gpt-2", .bytes = true, .tokens = chat_tokens};

static void control_tokens_by_choice_user_tokens_always(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_small(&chat, NULL);
    EXPECT(t, "a<|x|>b", PARSE, 'a', ID_X, 'b');
    EXPECT(t, "a<|x|>b", PLAIN, 'a', '<', '|', 'x', '|', '>', 'b');
    EXPECT(t, "[U]a", PLAIN, ID_U, 'a');
    EXPECT(t, "[U]a", PARSE, ID_U, 'a');
    EXPECT(t, "<s></s>", PARSE, ID_S, ID_END);
    EXPECT(t, "<|x|", PARSE, '<', '|', 'x', '|');
    bnt_tokenizer_free(t);
}

static void longer_special_tokens_come_first(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_small(&chat, NULL);
    EXPECT(t, "<|x|>><|x|>", PARSE, ID_X_LONG, ID_X);
    /* The longer one wins even where a shorter one begins further left. */
    EXPECT(t, "[U][U][", PARSE, ID_U_LONG, 'U', ']', '[');
    EXPECT(t, "[U][U]", PARSE, ID_U_LONG, 'U', ']');
    bnt_tokenizer_free(t);
}

static void phi3_tokens_swallow_the_space_after_them(void **state)
{
    (void)state;
    struct tv_spec spec = chat;
    spec.name = "Phi-3 mini";
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "a <|x|> \n b", PARSE, 'a', ' ', ID_X, 'b');
    EXPECT(t, "<s> b", PARSE, ID_S, ' ', 'b');
    bnt_tokenizer_free(t);
    t = tv_small(&chat, NULL);
    EXPECT(t, "<|x|> b", PARSE, ID_X, ' ', 'b');
    bnt_tokenizer_free(t);
}

static void jina_mask_swallows_the_space_before_it(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {{"<mask>", CONTROL, 0}, {NULL, 0, 0}};
    struct tv_spec spec = {.model = "gpt2", .pre = "jina-v2-code", .bytes = true, .tokens = tokens};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "a  <mask> b", PARSE, 'a', 256, ' ', 'b');
    bnt_tokenizer_free(t);
}

static void start_and_end_tokens_as_the_file_says(void **state)
{
    (void)state;
    struct tv_spec spec = chat;
    spec.bos = "<s>";
    spec.eos = "</s>";
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "a", ADD, 'a');
    bnt_tokenizer_free(t);
    t = tv_small(&spec, "llama-bpe"); /* a family whose default is to begin with BOS */
    EXPECT(t, "a", ADD, ID_S, 'a');
    EXPECT(t, "a", PLAIN, 'a');
    EXPECT(t, "", ADD, ID_S);
    bnt_tokenizer_free(t);
    spec.add_bos = spec.add_eos = 1;
    t = tv_small(&spec, NULL);
    EXPECT(t, "a", ADD, ID_S, 'a', ID_END);
    EXPECT(t, "a", PLAIN, 'a');
    bnt_tokenizer_free(t);
    spec.add_bos = spec.add_eos = -1;
    t = tv_small(&spec, "llama-bpe");
    EXPECT(t, "a", ADD, 'a');
    bnt_tokenizer_free(t);
    spec.bos = NULL;
    spec.add_bos = 1;
    t = tv_small(&spec, NULL);
    EXPECT(t, "a", ADD, 'a');
    assert_non_null(strstr(tv_warnings(), "without naming it"));
    bnt_tokenizer_free(t);
}

static void end_markers_are_known_by_name(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {
        {"<|eot_id|>", 0, 0}, {"<|im_end|>", CONTROL, 0}, {"<|other|>", CONTROL, 0},
        {"stop", 0, 0},       {"<|start|>", CONTROL, 0},  {NULL, 0, 0},
    };
    struct tv_spec spec = {
        .model = "gpt2", .pre = "gpt-2", .bytes = true, .tokens = tokens, .eos = "stop"};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    assert_int_equal(bnt_tokenizer_eot(t), 256);
    assert_true(bnt_tokenizer_is_eog(t, 256) && bnt_tokenizer_is_eog(t, 257) &&
                bnt_tokenizer_is_eog(t, 259));
    assert_false(bnt_tokenizer_is_eog(t, 258) || bnt_tokenizer_is_eog(t, 'a') ||
                 bnt_tokenizer_is_eog(t, -1));
    assert_true(bnt_tokenizer_is_control(t, 256)); /* whatever the file calls it */
    assert_false(bnt_tokenizer_is_control(t, 259));
    EXPECT(t, "<|eot_id|>", PARSE, 256);
    EXPECT(t, "<|start|>", PLAIN, 260); /* user-defined by its name */
    assert_int_equal(bnt_tokenizer_find(t, "<|eot_id|>"), 256);
    assert_int_equal(bnt_tokenizer_find(t, "\xc4\xa0"), ' '); /* as the vocabulary spells it */
    assert_int_equal(bnt_tokenizer_find(t, "nothing"), -1);
    bnt_tokenizer_free(t);
}

/* ---- merges ---- */

static const struct tv_token merge_tokens[] = {
    {"ab", 0, 0}, {"bc", 0, 0}, {"abc", 0, 0}, {"xyz", 0, 0}, {"\xc4\xa0\xc4\xa0", 0, 0},
    {"aa", 0, 0}, {NULL, 0, 0},
};
enum { ID_AB = 256, ID_BC, ID_ABC, ID_XYZ, ID_2SPACES, ID_AA };
/* "xy" merges without being a token; "b c" stands twice, and the first rank counts; one entry is no
 * pair. */
static const char *const merges[] = {
    "b c", "a bc", "a b", "\xc4\xa0 \xc4\xa0", "x y", "a a", "nothing", "b c", NULL,
};
static const struct tv_spec merging = {
    .model = "gpt2", .pre = "gpt-2", .bytes = true, .tokens = merge_tokens, .merges = merges};

static void lowest_rank_then_leftmost_merges(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_small(&merging, NULL);
    assert_non_null(strstr(tv_warnings(), "1 merges are no pair"));
    EXPECT(t, "abc", PLAIN, ID_ABC);
    EXPECT(t, "ab", PLAIN, ID_AB);
    EXPECT(t, "aaa", PLAIN, ID_AA, 'a');
    EXPECT(t, "aaaa", PLAIN, ID_AA, ID_AA);
    EXPECT(t, "aabcbc", PLAIN, 'a', ID_ABC, ID_BC);
    EXPECT(t, "   b", PLAIN, ID_2SPACES, ' ', 'b');
    EXPECT(t, "xy", PLAIN, 'x', 'y'); /* merged, but no token: its bytes */
    bnt_tokenizer_free(t);
}

/* A control token is spelt with blanks as they are: merges make the token in the byte alphabet. */
static void merges_make_words_not_look_alikes(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {
        {"ab", 0, 0}, {"  ", CONTROL, 0}, {"\xc4\xa0\xc4\xa0", 0, 0}, {NULL, 0, 0}};
    static const char *const pairs[] = {"a b", "\xc4\xa0 \xc4\xa0", NULL};
    struct tv_spec spec = {
        .model = "gpt2", .pre = "gpt-2", .bytes = true, .tokens = tokens, .merges = pairs};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "x   y", PLAIN, 'x', 258, ' ', 'y');
    EXPECT(t, "x   y", PARSE, 'x', 257, ' ', 'y');
    bnt_tokenizer_free(t);
}

static void whole_pieces_ignore_merges_where_the_family_does(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_small(&merging, NULL);
    EXPECT(t, "xyz", PLAIN, 'x', 'y', 'z');
    bnt_tokenizer_free(t);
    t = tv_small(&merging, "llama-bpe");
    EXPECT(t, "xyz", PLAIN, ID_XYZ);
    EXPECT(t, "xyzz", PLAIN, 'x', 'y', 'z', 'z');
    bnt_tokenizer_free(t);
}

static void bytes_without_a_token_are_left_out_with_a_warning(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {{"a", 0, 0}, {"b", 0, 0}, {NULL, 0, 0}};
    struct tv_spec spec = {.model = "gpt2", .pre = "gpt-2", .tokens = tokens};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "acb", PLAIN, 0, 1);
    assert_non_null(strstr(tv_warnings(), "lost from text"));
    bnt_tokenizer_free(t);
}

/* ---- pre-tokenizer of a file that names none ---- */

/* As many tokens as LLaMA 3 has, with its first special token in its place; all other texts are
 * numbers. */
static struct tv_token *llama3_shape(char (**texts)[12])
{
    enum { N = 128256 };
    struct tv_token *tokens = calloc(N + 1, sizeof(*tokens));
    *texts = calloc(N, sizeof(**texts));
    assert_non_null(tokens);
    assert_non_null(*texts);
    for (int i = 0; i < N; i++) {
        snprintf((*texts)[i], sizeof((*texts)[i]), "%d", i);
        tokens[i].text = i == 128000 ? "<|begin_of_text|>" : (*texts)[i];
    }
    return tokens;
}

static void missing_pre_names_the_better_choice(void **state)
{
    (void)state;
    char(*texts)[12];
    struct tv_token *tokens = llama3_shape(&texts);
    struct tv_spec spec = {.model = "gpt2", .tokens = tokens};
    const struct gguf *g = tv_file(&spec);
    struct bnt_tokenizer *t = tv_new(g, NULL);
    assert_string_equal(bnt_tokenizer_pre(t), "default");
    assert_non_null(strstr(tv_warnings(), "no tokenizer.ggml.pre"));
    assert_non_null(strstr(tv_warnings(), "--pre llama-bpe"));
    bnt_tokenizer_free(t);
    t = tv_new(g, "llama-bpe");
    assert_string_equal(bnt_tokenizer_pre(t), "llama-bpe");
    assert_null(strstr(tv_warnings(), "tokenizer.ggml.pre"));
    bnt_tokenizer_free(t);
    tv_close();
    free(tokens);
    free(texts);
    spec = chat;
    spec.pre = NULL;
    t = tv_small(&spec, NULL);
    assert_non_null(strstr(tv_warnings(), "--pre NAME"));
    bnt_tokenizer_free(t);
}

static void llama3_without_pre_splits_by_default(void **state)
{
    (void)state;
    const struct gguf *g = tv_llama3_file();
    struct bnt_tokenizer *t = tv_new(g, NULL);
    assert_non_null(strstr(tv_warnings(), "--pre llama-bpe"));
    EXPECT(t, "1 + 1 =", ADD | PARSE, 128000, 16, 220, 10, 220, 16, 220, 28);
    bnt_tokenizer_free(t);
    t = tv_new(g, "llama-bpe");
    EXPECT(t, "1 + 1 =", ADD | PARSE, 128000, 16, 489, 220, 16, 284);
    bnt_tokenizer_free(t);
    tv_close();
}

/* ---- SentencePiece ---- */

#define BLANK "\xe2\x96\x81"
static const struct tv_token spm_tokens[] = {
    {"<unk>", 2, 0},    {"<s>", CONTROL, 0}, {"</s>", CONTROL, 0}, {"a", 0, -10},
    {"b", 0, -11},      {BLANK, 0, -12},     {"ab", 0, -2},        {"ba", 0, -1},
    {BLANK "a", 0, -3}, {"aa", 0, -4},       {"bb", 0, -4},        {BLANK BLANK, 0, -0.5f},
    {NULL, 0, 0},
};
enum {
    SPM_UNK = 256,
    SPM_S,
    SPM_END,
    SPM_A,
    SPM_B,
    SPM_BLANK,
    SPM_AB,
    SPM_BA,
    SPM_BLANK_A,
    SPM_AA,
    SPM_BB,
    SPM_2BLANKS
};
static const struct tv_spec spm = {
    .model = "llama", .bytes = true, .tokens = spm_tokens, .bos = "<s>", .eos = "</s>"};

static void best_score_merges_first(void **state)
{
    (void)state;
    struct tv_spec spec = spm;
    spec.add_space_prefix = -1;
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "ab", PLAIN, SPM_AB);
    EXPECT(t, "aba", PLAIN, SPM_A, SPM_BA);
    EXPECT(t, "aabb", PLAIN, SPM_A, SPM_AB, SPM_B);
    EXPECT(t, "aabab", PLAIN, SPM_AA, SPM_BA, SPM_B);
    EXPECT(t, "a  b", PLAIN, SPM_A, SPM_2BLANKS, SPM_B);
    EXPECT(t, "bbb", PLAIN, SPM_BB, SPM_B);
    bnt_tokenizer_free(t);
}

static void tokens_may_reach_across_spaces(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {
        {"a", 0, -1},       {"b", 0, -2},       {BLANK, 0, -3},
        {"b" BLANK, 0, -4}, {BLANK "a", 0, -5}, {NULL, 0, 0},
    };
    struct tv_spec spec = {
        .model = "llama", .bytes = true, .tokens = tokens, .add_space_prefix = -1};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "b a", PLAIN, 256 + 3, 256);
    EXPECT(t, "a a", PLAIN, 256, 256 + 4);
    bnt_tokenizer_free(t);
}

static void unknown_characters_fall_back_to_bytes(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_small(&spm, NULL);
    EXPECT(t, "a\xc3\xa9", PLAIN, SPM_BLANK_A, 0xc3, 0xa9);
    EXPECT(t, "\xff", PLAIN, SPM_BLANK, 0xff);
    EXPECT(t, "\xf0\x9f", PLAIN, SPM_BLANK, 0xf0, 0x9f);
    bnt_tokenizer_free(t);
    struct tv_spec spec = spm;
    spec.bytes = false;
    t = tv_small(&spec, NULL);
    EXPECT(t, "ac", PLAIN, SPM_BLANK_A - 256, SPM_UNK - 256);
    bnt_tokenizer_free(t);
}

/* As sentencepiece joins them: over words, and within one from the cache of a long text. */
static void a_run_of_unknown_characters_is_one_token(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {{"<unk>", 2, 0}, {"a", 0, -1}, {NULL, 0, 0}};
    struct tv_spec spec = {.model = "llama", .tokens = tokens, .add_space_prefix = -1};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "\xc3\xa9", PLAIN, 0);
    EXPECT(t, "a\xc3\xa9zza", PLAIN, 1, 0, 1);
    EXPECT(t, "z z a", PLAIN, 0, 1);
    EXPECT(t, "a z a", PLAIN, 1, 0, 1);
    EXPECT(t, "z<unk>z", PARSE, 0, 0, 0);
    char text[3001];
    for (size_t i = 0; i < 1500; i++) {
        memcpy(text + 2 * i, " z", 2);
    }
    text[3000] = 'a';
    tv_expect(t, text, sizeof text, PLAIN, (const int32_t[]){0, 1}, 2);
    bnt_tokenizer_free(t);
}

static void text_never_merges_to_a_control_token(void **state)
{
    (void)state;
    static const struct tv_token tokens[] = {
        {"<unk>", 2, 0}, {"<s>", CONTROL, 9}, {"<", 0, -1}, {"s", 0, -1},  {">", 0, -1},
        {"<s", 0, -2},   {"[x]", USER, 9},    {"[", 0, -1}, {"x]", 0, -1}, {NULL, 0, 0}};
    struct tv_spec spec = {
        .model = "llama", .tokens = tokens, .bos = "<s>", .add_space_prefix = -1};
    struct bnt_tokenizer *t = tv_small(&spec, NULL);
    EXPECT(t, "<s>", PLAIN, 5, 4);
    EXPECT(t, "<s>", PARSE, 1);
    EXPECT(t, "[x]", PLAIN, 6);
    bnt_tokenizer_free(t);
}

static void space_prefix_goes_in_front_and_comes_off_again(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_small(&spm, NULL);
    struct bnt_buf out = BNT_BUF(256);
    EXPECT(t, "a", ADD, SPM_S, SPM_BLANK_A);
    EXPECT(t, "</s>a", PARSE, SPM_END, SPM_BLANK_A);
    EXPECT(t, "b</s>", PARSE, SPM_BLANK, SPM_B, SPM_END);
    EXPECT(t, "", ADD, SPM_S);
    const int32_t ids[] = {SPM_S, SPM_BLANK_A, SPM_BLANK_A};
    assert_int_equal(bnt_tokenizer_decode(t, ids, 3, false, &out, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&out), "a a");
    bnt_buf_reset(&out);
    assert_int_equal(bnt_tokenizer_piece(t, SPM_BLANK_A, false, &out, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&out), " a");
    bnt_buf_reset(&out);
    struct bnt_detok d;
    bnt_detok_init(&d, t, false);
    d.started = true; /* what follows a prompt keeps its space */
    assert_int_equal(bnt_detok_push(&d, SPM_BLANK_A, &out, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&out), " a");
    bnt_buf_release(&out);
    bnt_tokenizer_free(t);
}

/* ---- files that do not add up ---- */

static void expect_refused(const struct gguf *g, const char *pre, enum bnt_status status, int fault,
                           const char *says)
{
    struct bnt_err err = {0};
    struct bnt_tokenizer *t = NULL;
    struct bnt_tokenizer_options opts = {.pre = pre};
    assert_int_equal(bnt_tokenizer_new(g, &opts, &t, &err), status);
    assert_null(t);
    assert_int_equal(err.foreign, fault);
    if (strstr(err.msg, says) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.msg, says);
    }
    tv_close();
}

static void inconsistent_vocabularies_are_refused(void **state)
{
    (void)state;
    struct tv_spec spec = chat;
    spec.extra_types = -1;
    expect_refused(tv_file(&spec), NULL, BNT_E_FILE, GGUF_FAULT_TOKENIZER,
                   "token_type has 261 entries for 262 tokens");
    spec = chat;
    spec.extra_scores = 3;
    expect_refused(tv_file(&spec), NULL, BNT_E_FILE, GGUF_FAULT_TOKENIZER,
                   "scores has 265 entries for 262 tokens");
    spec = chat;
    spec.no_merges = true;
    expect_refused(tv_file(&spec), NULL, BNT_E_FILE, GGUF_FAULT_MISSING_METADATA,
                   "tokenizer.ggml.merges");
    spec = chat;
    spec.model = "unigram";
    expect_refused(tv_file(&spec), NULL, BNT_E_UNSUPPORTED, 0, "\"unigram\"");
    spec = chat;
    spec.pre = "unheard-of";
    expect_refused(tv_file(&spec), NULL, BNT_E_UNSUPPORTED, 0,
                   "\"unheard-of\" is not known here (known: default, llama-bpe");
    expect_refused(tv_file(&chat), "nor-this", BNT_E_UNSUPPORTED, 0, "\"nor-this\"");
    spec = (struct tv_spec){.model = "gpt2", .pre = "gpt-2"};
    expect_refused(tv_file(&spec), NULL, BNT_E_FILE, GGUF_FAULT_TOKENIZER, "tokens has 0 elements");
    static const struct tv_token nan_token[] = {{"a", 0, (float)__builtin_nan("")}, {NULL, 0, 0}};
    spec = (struct tv_spec){.model = "llama", .tokens = nan_token};
    expect_refused(tv_file(&spec), NULL, BNT_E_FILE, GGUF_FAULT_TOKENIZER, "token 0 is NaN");
}

/* What is of another type would be passed over, and text cut otherwise without a word. */
static void keys_of_the_wrong_type_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *says;
    } cases[] = {
        {"tokenizer.ggml.pre", "tokenizer.ggml.pre is no text"},
        {"tokenizer.ggml.add_bos_token", "add_bos_token is neither true nor false"},
        {"tokenizer.ggml.add_eos_token", "add_eos_token is neither true nor false"},
        {"tokenizer.ggml.add_space_prefix", "add_space_prefix is neither true nor false"},
        {TOKENIZER_IGNORE_MERGES_KEY, "ignore_merges is neither true nor false"},
        {TOKENIZER_BLANK_KEY, "blank_in_front is neither true nor false"},
        {TOKENIZER_PREFIX_FIRST_KEY, "prefix_first is neither true nor false"},
        {TOKENIZER_LSTRIP_KEY, "lstrip is no array of ids"},
        {TOKENIZER_RSTRIP_KEY, "rstrip is no array of ids"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tv_spec spec = chat;
        spec.pre = i == 0 ? NULL : spec.pre;
        spec.number_key = cases[i].key;
        expect_refused(tv_file(&spec), NULL, BNT_E_FILE, GGUF_FAULT_TOKENIZER, cases[i].says);
    }
}

static void ids_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_small(&chat, NULL);
    struct bnt_buf out = BNT_BUF(64);
    struct bnt_err err = {0};
    const int32_t ids[] = {'a', 262};
    assert_int_equal(bnt_tokenizer_decode(t, ids, 2, true, &out, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.msg, "token 262 is outside the vocabulary (0 to 261)"));
    assert_int_equal(bnt_tokenizer_piece(t, -1, true, &out, NULL), BNT_E_USAGE);
    bnt_buf_release(&out);
    bnt_tokenizer_free(t);
}

static const struct suite_test tests[] = {
    {.name = "tokenizer_control_tokens_by_choice_user_tokens_always",
     .body = control_tokens_by_choice_user_tokens_always},
    {.name = "tokenizer_longer_special_tokens_come_first",
     .body = longer_special_tokens_come_first},
    {.name = "tokenizer_phi3_tokens_swallow_the_space_after_them",
     .body = phi3_tokens_swallow_the_space_after_them},
    {.name = "tokenizer_jina_mask_swallows_the_space_before_it",
     .body = jina_mask_swallows_the_space_before_it},
    {.name = "tokenizer_start_and_end_tokens_as_the_file_says",
     .body = start_and_end_tokens_as_the_file_says},
    {.name = "tokenizer_end_markers_are_known_by_name", .body = end_markers_are_known_by_name},
    {.name = "tokenizer_lowest_rank_then_leftmost_merges",
     .body = lowest_rank_then_leftmost_merges},
    {.name = "tokenizer_merges_make_words_not_look_alikes",
     .body = merges_make_words_not_look_alikes},
    {.name = "tokenizer_whole_pieces_ignore_merges_where_the_family_does",
     .body = whole_pieces_ignore_merges_where_the_family_does},
    {.name = "tokenizer_bytes_without_a_token_are_left_out_with_a_warning",
     .body = bytes_without_a_token_are_left_out_with_a_warning},
    {.name = "tokenizer_missing_pre_names_the_better_choice",
     .body = missing_pre_names_the_better_choice},
    {.name = "tokenizer_llama3_without_pre_splits_by_default",
     .body = llama3_without_pre_splits_by_default,
     .needs = "shared",
     .timeout_ms = 30000},
    {.name = "tokenizer_best_score_merges_first", .body = best_score_merges_first},
    {.name = "tokenizer_tokens_may_reach_across_spaces", .body = tokens_may_reach_across_spaces},
    {.name = "tokenizer_unknown_characters_fall_back_to_bytes",
     .body = unknown_characters_fall_back_to_bytes},
    {.name = "tokenizer_a_run_of_unknown_characters_is_one_token",
     .body = a_run_of_unknown_characters_is_one_token},
    {.name = "tokenizer_text_never_merges_to_a_control_token",
     .body = text_never_merges_to_a_control_token},
    {.name = "tokenizer_space_prefix_goes_in_front_and_comes_off_again",
     .body = space_prefix_goes_in_front_and_comes_off_again},
    {.name = "tokenizer_inconsistent_vocabularies_are_refused",
     .body = inconsistent_vocabularies_are_refused},
    {.name = "tokenizer_keys_of_the_wrong_type_are_refused",
     .body = keys_of_the_wrong_type_are_refused},
    {.name = "tokenizer_ids_outside_the_vocabulary_are_refused",
     .body = ids_outside_the_vocabulary_are_refused},
    {0},
};
const struct suite suite_tokenizer = {
    "tokenizer", tests,
    "merge_order byte_fallback space_prefix ignore_merges bos special_text "
    "special_shortest detok_space piece_control"};
