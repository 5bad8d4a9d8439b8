/* Guards texts that a converted checkpoint would cut otherwise than its own tokenizer, without a
 * word: flags of added tokens, of pieces that are tokens, of steps that cut text, of what is put
 * around it. Each flag is kept, told or refused. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "testkit/suite.h"
#include "testkit/suites/checkpoint.h"
#include "testkit/suites/checkpoint_keys.h"
#include "testkit/suites/engine_support.h"

#define BLANK "\\u2581"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define EXPECT(g, text, ...)                                                                       \
    cv_expect_ids(g, text, (const int32_t[]){__VA_ARGS__}, COUNT(((const int32_t[]){__VA_ARGS__})))

/* Parts of a tokenizer.json of byte-level BPE; NULL: the usual one. */
struct bytes_json {
    const char *added, *pre, *post, *merges, *model; /* the last: more members of "model" */
};
enum { HE = 256, HEL, MASK, END, N_BYTES_JSON };

/* The bytes, "he" by a merge, "hel" that no merge makes, and two ids for added tokens. */
static void write_bytes(const struct bytes_json *j)
{
    struct bnt_buf b = BNT_BUF(1u << 16);
    bnt_buf_printf(&b, NULL,
                   "{\"added_tokens\":[%s],\"pre_tokenizer\":%s,\"post_processor\":%s,\"model\":{"
                   "\"type\":\"BPE\",%s\"merges\":%s,\"vocab\":{",
                   j->added ? j->added : "", j->pre ? j->pre : CV_LLAMA3_SPLIT,
                   j->post ? j->post : "null", j->model ? j->model : "",
                   j->merges ? j->merges : "[\"h e\"]");
    cp_byte_tokens(&b);
    bnt_buf_printf(&b, NULL, ",\"he\":%d,\"hel\":%d}}}", HE, HEL);
    cp_file("ck/tokenizer.json", b.data, b.len);
    bnt_buf_release(&b);
}

enum { UNK, S, FIRST_BYTE, A = FIRST_BYTE + 256, B, AB, BLANK_ONE, BLANK_A, USER, N_SPM_JSON };

/* LLaMA's kind: 2 special tokens, bytes, letters, and <u>. */
static void write_spm(const char *normalizer, const char *pre, const char *merges, const char *user)
{
    struct bnt_buf b = BNT_BUF(1u << 16);
    bnt_buf_printf(
        &b, NULL,
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,"
        "\"content\":\"<s>\",\"special\":true}%s],\"normalizer\":%s,\"pre_tokenizer\":%s,"
        "\"model\":{\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"merges\":%s,\"vocab\":{"
        "\"<unk>\":0,\"<s>\":1",
        user, normalizer, pre, merges ? merges : "[\"a b\",\"" BLANK " a\"]");
    for (unsigned i = 0; i < 256; i++) {
        bnt_buf_printf(&b, NULL, ",\"<0x%02X>\":%u", i, FIRST_BYTE + i);
    }
    bnt_buf_printf(&b, NULL, ",\"a\":%d,\"b\":%d,\"ab\":%d,\"" BLANK "\":%d,\"" BLANK "a\":%d}}}",
                   A, B, AB, BLANK_ONE, BLANK_A);
    cp_file("ck/tokenizer.json", b.data, b.len);
    bnt_buf_release(&b);
}

#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" BLANK "\"}"
#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"" BLANK "\"}"
#define SEQUENCE(kind, steps) "{\"type\":\"Sequence\",\"" kind "\":[" steps "]}"

static void expect_told(const char *what, const char *more)
{
    if (!strstr(cv_warned(), what) || !strstr(cv_warned(), more)) {
        fail_msg("\"%s\" and \"%s\" are not told, but: %s", what, more, cv_warned());
    }
}

/* White space beside a token goes where the tokenizer has it go, that of Unicode too. */
static void tokens_swallow_white_space_as_their_flags_say(void **state)
{
    (void)state;
    cv_enter();
    write_bytes(&(struct bytes_json){
        .added = "{\"id\":258,\"content\":\"<mask>\",\"special\":true,\"lstrip\":true},"
                 "{\"id\":259,\"content\":\"<end>\",\"special\":false,\"rstrip\":true}"});
    struct gguf *g = cv_vocabulary(N_BYTES_JSON);
    EXPECT(g, "a \t\xc2\xa0<mask> b", 'a', MASK, ' ', 'b');
    EXPECT(g,
           "a <end> \n\xe3\x80\x80"
           "b",
           'a', ' ', END, 'b');
    EXPECT(g, "<end> <mask>", END, MASK);
    EXPECT(g, " \xa0<mask>", ' ', 0xa0, MASK); /* a lone byte is no white space */
    expect_told("added token <mask> (and 1 more) swallows", "bnt.tokenizer.lstrip");
    gguf_close(g);
    /* tokenizer_config.json has the last word. */
    cp_text("ck/tokenizer_config.json",
            "{\"added_tokens_decoder\":{\"258\":{\"content\":\"<mask>\",\"special\":true,\"lstrip\""
            ":false},\"259\":{\"content\":\"<end>\",\"special\":true,\"rstrip\":false}}}");
    g = cv_vocabulary(N_BYTES_JSON);
    EXPECT(g, "a <mask> <end> b", 'a', ' ', MASK, ' ', END, ' ', 'b');
    assert_string_equal(cv_warned(), "");
    assert_null(gguf_find(g, TOKENIZER_LSTRIP_KEY));
    gguf_close(g);
    unlink("ck/tokenizer_config.json");
}

static void what_no_file_can_say_of_tokens_is_told(void **state)
{
    (void)state;
    cv_enter();
    write_bytes(&(struct bytes_json){
        .added = "{\"id\":258,\"content\":\"<mask>\",\"single_word\":true,\"normalized\":true}"});
    gguf_close(cv_vocabulary(N_BYTES_JSON));
    expect_told("added token <mask> counts only where no letter", "becomes the token everywhere");
    assert_null(strstr(cv_warned(), "(normalized)"));
    write_spm(SEQUENCE("normalizers", PREPEND "," REPLACE), "null", NULL,
              ",{\"id\":263,\"content\":\"<u>\",\"normalized\":true}");
    gguf_close(cv_vocabulary(N_SPM_JSON));
    expect_told("added token <u> counts only behind a blank", "becomes the token everywhere");
}

static void what_is_left_out_is_told(void **state)
{
    (void)state;
    cv_enter();
    write_bytes(&(struct bytes_json){
        .added = "{\"id\":258,\"content\":\"<mask>\",\"special\":true},{\"id\":260,\"content\":"
                 "\"<pad>\",\"special\":true},{\"id\":999,\"content\":\"<x>\"}"});
    struct gguf *g = cv_vocabulary(N_BYTES_JSON);
    EXPECT(g, "<mask>", MASK);
    expect_told(
        "added tokens without a row are left out: 2, <pad> the first; the embedding has 260 rows",
        "");
    gguf_close(g);
    write_spm(REPLACE, "null", "[\"" BLANK " a\"]", "");
    gguf_close(cv_vocabulary(N_SPM_JSON));
    expect_told("1 pairs of tokens are a token together, but no merge", "\"a b\" the first");
}

/* "hel" is a token that merges do not make: a name that says so is found, or a key. */
static void whole_pieces_are_merged_as_the_file_says(void **state)
{
    (void)state;
    static const struct {
        const char *model, *pre, *name;
        int key; /* -1: none */
        bool whole;
        const char *merges;
    } cases[] = {
        {"\"ignore_merges\":true,", NULL, "llama-bpe", -1, true, NULL},
        {"\"ignore_merges\":false,", NULL, "dbrx", -1, false, NULL},
        {NULL, NULL, "dbrx", -1, false, NULL},
        {"\"ignore_merges\":false,", "{\"type\":\"ByteLevel\"}", "gpt-2", -1, false, NULL},
        {"\"ignore_merges\":true,", "{\"type\":\"ByteLevel\"}", "gpt-2", 1, true, NULL},
        /* Merges make it, or would if "el" did not come first. */
        {NULL, NULL, "llama-bpe", -1, true, "[\"h e\",\"he l\"]"},
        {"\"ignore_merges\":true,", "{\"type\":\"ByteLevel\"}", "gpt-2", -1, true,
         "[\"h e\",\"he l\"]"},
        {NULL, NULL, "dbrx", -1, false, "[\"a l\",\"h e\",\"l o\"]"},
        {"\"ignore_merges\":true,", "{\"type\":\"ByteLevel\"}", "gpt-2", 1, true,
         "[\"e l\",\"h e\",\"he l\"]"},
    };
    cv_enter();
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool key = false;
        write_bytes(&(struct bytes_json){
            .model = cases[i].model, .pre = cases[i].pre, .merges = cases[i].merges});
        struct gguf *g = cv_vocabulary(N_BYTES_JSON);
        cv_expect_str(g, "tokenizer.ggml.pre", cases[i].name);
        assert_int_equal(gguf_get_bool(g, TOKENIZER_IGNORE_MERGES_KEY, &key) ? key : -1,
                         cases[i].key);
        if (cases[i].whole) {
            EXPECT(g, "hel", HEL);
        } else {
            EXPECT(g, "hel", HE, 'l');
        }
        assert_int_equal(strstr(cv_warned(), "ignore_merges") != NULL, cases[i].key >= 0);
        gguf_close(g);
    }
}

#define LLAMA3_REGEX                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "         \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(regex, behavior, invert)                                                             \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"" behavior           \
    "\",\"invert\":" invert "}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"use_regex\":false}"
#define FALCON(behavior, digits)                                                                   \
    SEQUENCE("pretokenizers", "{\"type\":\"Punctuation\",\"behavior\":\"" behavior "\"},"          \
                              "{\"type\":\"ByteLevel\"}," digits)

/* An expression that leaves no gap may keep its matches alone; nothing else may drop anything. */
static void steps_that_cut_otherwise_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *name; /* NULL: refused */
    } cases[] = {
        {SEQUENCE("pretokenizers", SPLIT(LLAMA3_REGEX, "Isolated", "true") "," BYTE_LEVEL), "dbrx"},
        {SEQUENCE("pretokenizers", SPLIT(LLAMA3_REGEX, "Removed", "true") "," BYTE_LEVEL), "dbrx"},
        {SEQUENCE("pretokenizers", SPLIT(LLAMA3_REGEX, "Removed", "false") "," BYTE_LEVEL), NULL},
        {SEQUENCE("pretokenizers", SPLIT(LLAMA3_REGEX, "MergedWithNext", "false") "," BYTE_LEVEL),
         NULL},
        {FALCON("Contiguous", SPLIT("[0-9][0-9][0-9]", "Isolated", "false")), "falcon"},
        {FALCON("Contiguous", SPLIT("[0-9][0-9][0-9]", "Removed", "true")), NULL},
        {FALCON("Isolated", SPLIT("[0-9][0-9][0-9]", "Isolated", "false")), NULL},
    };
    cv_enter();
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_bytes(&(struct bytes_json){.pre = cases[i].pre});
        if (cases[i].name) {
            struct gguf *g = cv_vocabulary(N_BYTES_JSON);
            cv_expect_str(g, "tokenizer.ggml.pre", cases[i].name);
            gguf_close(g);
        } else {
            cv_expect_refusal(N_BYTES_JSON, BNT_E_UNSUPPORTED, "way of cutting text");
        }
    }
}

static void models_that_merge_otherwise_are_refused(void **state)
{
    (void)state;
    static const char *const bytes[][2] = {
        {"\"dropout\":0.1,", "dropout"},
        {"\"end_of_word_suffix\":\"</w>\",", "end_of_word_suffix \"</w>\""},
        {"\"continuing_subword_prefix\":\"##\",", "continuing_subword_prefix \"##\""}};
    static const char *const spm[][3] = {
        {"null", "null", "does not spell blanks"},
        {REPLACE, SEQUENCE("pretokenizers", "{\"type\":\"Digits\",\"individual_digits\":true}"),
         "Digits each"},
        {"null", "{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "Metaspace"}};
    cv_enter();
    for (size_t i = 0; i < COUNT(bytes); i++) {
        write_bytes(&(struct bytes_json){.model = bytes[i][0]});
        cv_expect_refusal(N_BYTES_JSON, BNT_E_UNSUPPORTED, bytes[i][1]);
    }
    for (size_t i = 0; i < COUNT(spm); i++) {
        write_spm(spm[i][0], spm[i][1], NULL, "");
        cv_expect_refusal(N_SPM_JSON, BNT_E_UNSUPPORTED, spm[i][2]);
    }
    write_bytes(&(struct bytes_json){
        .model =
            "\"dropout\":null,\"end_of_word_suffix\":\"\",\"continuing_subword_prefix\":null,"});
    gguf_close(cv_vocabulary(N_BYTES_JSON));
    write_spm("{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"y\"}",
              "{\"type\":\"Metaspace\",\"replacement\":\"" BLANK "\"}", NULL, "");
    gguf_close(cv_vocabulary(N_SPM_JSON));
    expect_told("rewrites text before it cuts it (Replace)", "other tokens");
}

/* Where the blank in front goes: everywhere, in front of a text alone, nowhere. */
static void a_blank_goes_in_front_where_the_tokenizer_puts_one(void **state)
{
    (void)state;
    static const struct {
        const char *normalizer, *pre;
        int blanks; /* in front of "ab<s>ab" */
    } cases[] = {
        {SEQUENCE("normalizers", PREPEND "," REPLACE), "null", 2},
        {"null", "{\"type\":\"Metaspace\",\"add_prefix_space\":true}", 2},
        {"null", "{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\"}", 2},
        {"null", "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"}", 1},
        {"null", SEQUENCE("pretokenizers", "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"}"),
         1},
        {"null", "{\"type\":\"Metaspace\",\"prepend_scheme\":\"never\"}", 0},
        {"null", "{\"type\":\"Metaspace\",\"add_prefix_space\":false}", 0},
        {REPLACE, "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\"}",
         0},
    };
    cv_enter();
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_spm(cases[i].normalizer, cases[i].pre, NULL, "");
        struct gguf *g = cv_vocabulary(N_SPM_JSON);
        if (cases[i].blanks == 2) {
            EXPECT(g, "ab<s>ab", S, BLANK_ONE, AB, S, BLANK_ONE, AB);
        } else if (cases[i].blanks == 1) {
            EXPECT(g, "ab<s>ab", S, BLANK_ONE, AB, S, AB);
            EXPECT(g, "<s>ab", S, S, AB);
        } else {
            EXPECT(g, "ab<s>ab", S, AB, S, AB);
        }
        assert_int_equal(strstr(cv_warned(), "prepend_scheme first") != NULL, cases[i].blanks == 1);
        gguf_close(g);
    }
}

/* The same for bytes, by the word of tokenizer_config.json first, for a ByteLevel that is alone. */
static void bytes_get_a_blank_in_front_too(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *config;
        bool blank;
    } cases[] = {
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "{}", true},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "{}", false},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "{\"add_prefix_space\":false}",
         false},
        {"{\"type\":\"ByteLevel\"}", "{\"add_prefix_space\":true}", true},
        {NULL, "{\"add_prefix_space\":true}", false},
    };
    cv_enter();
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_bytes(
            &(struct bytes_json){.pre = cases[i].pre,
                                 .added = "{\"id\":258,\"content\":\"<mask>\",\"special\":true}",
                                 .model = cases[i].pre ? NULL : "\"ignore_merges\":true,"});
        cp_text("ck/tokenizer_config.json", cases[i].config);
        struct gguf *g = cv_vocabulary(N_BYTES_JSON);
        if (cases[i].blank) {
            EXPECT(g, "he<mask>a<mask> b<mask>", ' ', HE, MASK, ' ', 'a', MASK, ' ', 'b', MASK);
        } else {
            EXPECT(g, "he<mask>a<mask> b<mask>", HE, MASK, 'a', MASK, ' ', 'b', MASK);
        }
        assert_int_equal(strstr(cv_warned(), TOKENIZER_BLANK_KEY) != NULL, cases[i].blank);
        gguf_close(g);
    }
    unlink("ck/tokenizer_config.json");
}

#define PART(id) "{\"SpecialToken\":{\"id\":\"" id "\",\"type_id\":0}}"
#define TEXT "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define TEMPLATE(parts) "{\"type\":\"TemplateProcessing\",\"single\":[" parts "]}"

static void what_is_put_around_a_text_is_kept_or_told(void **state)
{
    (void)state;
    static const struct {
        const char *post, *told; /* NULL: nothing */
    } cases[] = {
        {TEMPLATE(PART("<mask>") "," TEXT), NULL},
        {TEMPLATE(PART("<mask>") "," TEXT "," PART("<end>")), NULL},
        {TEMPLATE(PART("<mask>") "," PART("<end>") "," TEXT), "a template of 3 parts"},
        {"{\"type\":\"RobertaProcessing\",\"sep\":[\"<end>\",259],\"cls\":[\"<mask>\",258]}",
         "RobertaProcessing"},
    };
    cv_enter();
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_bytes(&(struct bytes_json){.added =
                                             "{\"id\":258,\"content\":\"<mask>\",\"special\":true},"
                                             "{\"id\":259,\"content\":\"<end>\",\"special\":true}",
                                         .post = cases[i].post});
        cp_text("ck/tokenizer_config.json", "{\"eos_token\":\"<end>\"}");
        struct gguf *g = cv_vocabulary(N_BYTES_JSON);
        if (cases[i].told) {
            expect_told("what its tokenizer puts around a text", cases[i].told);
        } else {
            assert_string_equal(cv_warned(), "");
        }
        if (i == 0) {
            EXPECT(g, "a", MASK, 'a');
        } else if (i == 1) {
            EXPECT(g, "a", MASK, 'a', END);
        }
        gguf_close(g);
    }
    unlink("ck/tokenizer_config.json");
}

/* As the transformers library takes them. */
static void names_of_special_tokens_come_from_the_file_that_counts(void **state)
{
    (void)state;
    static const char map[] = "{\"eos_token\":\"<end>\",\"pad_token\":{\"content\":\"<mask>\"}}";
    static const struct {
        const char *config /* NULL: none */, *map;
        int64_t eos, pad;
    } cases[] = {
        {NULL, map, END, MASK},
        {"{\"eos_token\":\"<mask>\",\"pad_token\":null}", map, END, MASK},
        {"{\"eos_token\":\"<mask>\"}", "{\"eos_token\":null}", MASK, -1},
        {"{\"eos_token\":\"<mask>\",\"added_tokens_decoder\":{}}", map, MASK, -1},
    };
    cv_enter();
    write_bytes(&(struct bytes_json){.added =
                                         "{\"id\":258,\"content\":\"<mask>\",\"special\":true},"
                                         "{\"id\":259,\"content\":\"<end>\",\"special\":true}"});
    for (size_t i = 0; i < COUNT(cases); i++) {
        unlink("ck/tokenizer_config.json");
        if (cases[i].config) {
            cp_text("ck/tokenizer_config.json", cases[i].config);
        }
        cp_text("ck/special_tokens_map.json", cases[i].map);
        struct gguf *g = cv_vocabulary(N_BYTES_JSON);
        print_message("case %zu\n", i);
        cv_expect_id(g, "tokenizer.ggml.eos_token_id", cases[i].eos);
        cv_expect_id(g, "tokenizer.ggml.padding_token_id", cases[i].pad);
        gguf_close(g);
    }
    unlink("ck/tokenizer_config.json");
    unlink("ck/special_tokens_map.json");
}

/* generation_config.json has them all; names tell most, one has a key, the rest is told. */
static void all_tokens_that_end_an_answer_are_kept_or_told(void **state)
{
    (void)state;
    static const char config[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":1,\"hidden_size\":64,"
        "\"intermediate_size\":64,\"num_attention_heads\":1,\"max_position_embeddings\":64,"
        "\"rms_norm_eps\":0.1,\"vocab_size\":260,\"eos_token_id\":[258,256]}";
    static const struct {
        const char *generation; /* NULL: none */
        int64_t eos, eom;
        const char *told;
    } cases[] = {
        {NULL, MASK, HE, ""},
        {"{\"eos_token_id\":[258,259]}", MASK, -1, ""}, /* </s> is known by its name */
        {"{\"eos_token_id\":258}", MASK, -1, ""},
        {"{\"eos_token_id\":[257,999,258,65,259]}", MASK, HEL, "1 more tokens that end an answer"},
        {"{}", MASK, HE, ""},
    };
    cv_enter();
    write_bytes(&(struct bytes_json){.added =
                                         "{\"id\":258,\"content\":\"<mask>\",\"special\":true},"
                                         "{\"id\":259,\"content\":\"</s>\",\"special\":true}",
                                     .model = "\"ignore_merges\":true,"});
    cp_text("ck/config.json", config);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bnt_err err = {0};
        struct hf_config c;
        if (cases[i].generation) {
            cp_text("ck/generation_config.json", cases[i].generation);
        }
        es_ok(hf_config_load("ck", &c, &err), &err);
        struct gguf *g = cv_vocabulary_of(&c);
        cv_expect_id(g, "tokenizer.ggml.eos_token_id", cases[i].eos);
        cv_expect_id(g, "tokenizer.ggml.eom_token_id", cases[i].eom);
        if (!strstr(cv_warned(), cases[i].told) ||
            (cases[i].told[0] == 0) != (cv_warned()[0] == 0)) {
            fail_msg("case %zu: told is \"%s\"", i, cv_warned());
        }
        gguf_close(g);
    }
    unlink("ck/generation_config.json");
}

static const struct suite_test tests[] = {
    {.name = "checkpoint_tokens_swallow_white_space_as_their_flags_say",
     .body = tokens_swallow_white_space_as_their_flags_say},
    {.name = "checkpoint_tokens_tell_what_no_file_can_say",
     .body = what_no_file_can_say_of_tokens_is_told},
    {.name = "checkpoint_tokens_tell_what_is_left_out", .body = what_is_left_out_is_told},
    {.name = "checkpoint_tokens_merge_whole_pieces_as_the_file_says",
     .body = whole_pieces_are_merged_as_the_file_says},
    {.name = "checkpoint_tokens_refuse_steps_that_cut_otherwise",
     .body = steps_that_cut_otherwise_are_refused},
    {.name = "checkpoint_tokens_refuse_models_that_merge_otherwise",
     .body = models_that_merge_otherwise_are_refused},
    {.name = "checkpoint_tokens_put_a_blank_in_front_as_the_tokenizer_does",
     .body = a_blank_goes_in_front_where_the_tokenizer_puts_one},
    {.name = "checkpoint_tokens_of_bytes_get_a_blank_in_front_too",
     .body = bytes_get_a_blank_in_front_too},
    {.name = "checkpoint_tokens_keep_or_tell_what_is_put_around",
     .body = what_is_put_around_a_text_is_kept_or_told},
    {.name = "checkpoint_tokens_that_end_an_answer_are_kept_or_told",
     .body = all_tokens_that_end_an_answer_are_kept_or_told},
    {.name = "checkpoint_tokens_are_named_by_the_file_that_counts",
     .body = names_of_special_tokens_come_from_the_file_that_counts},
    {0},
};
const struct suite suite_checkpoint_tokens = {"checkpoint_tokens", tests,
                                              "split_behavior whole_pieces strip_keys"};
