/* Guards against tokens that differ from those the models were trained with: every pre-tokenizer
 * and four vocabularies against ids that the reference gave for the same strings
 * (testkit/data/tokenizer/README.md). */
#include "testkit/suite.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/pretok.h"
#include "testkit/suites/tokenizer_vocabs.h"

static json_t *load(const char *name)
{
    char relative[256];
    json_error_t error;
    snprintf(relative, sizeof(relative), "testkit/data/tokenizer/%s", name);
    json_t *root = json_load_file(suite_source(relative), JSON_ALLOW_NUL, &error);
    if (root == NULL) {
        fail_msg("%s: %s", name, error.text);
    }
    return root;
}

static size_t numbers(const json_t *list, int32_t **out)
{
    size_t n = json_array_size(list);
    *out = malloc((n + 1) * sizeof(**out));
    assert_non_null(*out);
    for (size_t i = 0; i < n; i++) {
        (*out)[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return n;
}

static void expect(const struct bnt_tokenizer *t, const json_t *text, unsigned flags,
                   const json_t *ids)
{
    int32_t *want;
    size_t n = numbers(ids, &want);
    tv_expect(t, json_string_value(text), json_string_length(text), flags, want, n);
    free(want);
}

/* ---- without a vocabulary ---- */

static const char *const splits[] = {
    "afmoe",
    "chameleon",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-v3",
    "default",
    "exaone-moe",
    "falcon",
    "gpt-2",
    "gpt-4o",
    "granite-embed-multi-97m",
    "jais-2",
    "kimi-k2",
    "laguna",
    "llama-bpe",
    "minicpm5",
    "poro-chat",
    "qwen2",
    "qwen35",
    "refact",
    "seed-coder",
    "superbpe",
    "tekken",
    "tiny_aya",
    "viking",
    "youtu",
};

/* Lengths of the pieces that `pre` cuts text into must be those recorded. */
static void expect_split(const struct pretok *pre, const json_t *text, const json_t *lengths)
{
    uni_char chars[4096];
    uint32_t ends[4096];
    uint32_t spare[4096];
    assert_true(json_string_length(text) <= 4096);
    size_t n_chars = uni_scan(json_string_value(text), json_string_length(text), chars);
    size_t n = pretok_split(pre, chars, n_chars, ends, spare);
    size_t c = 0;
    bool same = n == json_array_size(lengths);
    for (size_t i = 0; i < n && same; i++) {
        json_int_t bytes = 0;
        for (; c < ends[i]; c++) {
            bytes += uni_len(chars[c]);
        }
        same = bytes == json_integer_value(json_array_get(lengths, i));
    }
    if (!same) {
        fail_msg("%s splits \"%s\" into %zu pieces unlike the reference's %zu", pre->name,
                 json_string_value(text), n, json_array_size(lengths));
    }
}

static void expect_splits(const char *name, const json_t *corpus, const json_t *lengths)
{
    const struct pretok *pre = pretok_find(name, strlen(name));
    if (pre == NULL) {
        fail_msg("%s is not known", name);
    }
    for (size_t i = 0; i < json_array_size(corpus); i++) {
        expect_split(pre, json_array_get(corpus, i), json_array_get(lengths, i));
    }
}

static void pieces_are_those_of_the_reference(void **state)
{
    (void)state;
    json_t *corpus = load("corpus.json");
    assert_true(json_array_size(corpus) > 300);
    for (size_t i = 0; i < sizeof(splits) / sizeof(splits[0]); i++) {
        char file[64];
        snprintf(file, sizeof(file), "split.%s.json", splits[i]);
        json_t *root = load(file);
        const json_t *lengths = json_object_get(root, "lengths");
        assert_int_equal(json_array_size(lengths), json_array_size(corpus));
        expect_splits(splits[i], corpus, lengths);
        const json_t *also = json_object_get(root, "also");
        for (size_t k = 0; k < json_array_size(also); k++) {
            expect_splits(json_string_value(json_array_get(also, k)), corpus, lengths);
        }
        json_decref(root);
    }
    json_decref(corpus);
}

static void defaults_are_those_of_the_reference(void **state)
{
    (void)state;
    /* Not byte-level: not supported, and refused by name. */
    static const char *const others[] = {"gemma4", "granite-embed-multi-311m", "sarvam-moe",
                                         "whitespace"};
    json_t *root = load("pre_flags.json");
    const char *name;
    json_t *flags;
    size_t n_known = 0;
    json_object_foreach(root, name, flags)
    {
        const struct pretok *pre = pretok_find(name, strlen(name));
        bool other = false;
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            other = other || strcmp(name, others[i]) == 0;
        }
        if ((pre == NULL) != other) {
            fail_msg("%s is %s", name, other ? "known" : "not known");
        }
        if (pre != NULL) {
            n_known++;
            assert_int_equal((pre->flags & PRETOK_ADD_BOS) != 0,
                             json_is_true(json_object_get(flags, "add_bos")));
            assert_int_equal((pre->flags & PRETOK_IGNORE_MERGES) != 0,
                             json_is_true(json_object_get(flags, "ignore_merges")));
        }
    }
    assert_int_equal(n_known, 83);
    json_decref(root);
}

static void bundled_vocabulary_gives_recorded_ids(void **state)
{
    (void)state;
    struct bnt_tokenizer *t = tv_open(suite_bundled_model(), NULL);
    json_t *root = load("bundled.json");
    const json_t *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) >= 8);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        expect(t, json_object_get(c, "text"), 0, json_object_get(c, "ids"));
    }
    json_decref(root);
    bnt_tokenizer_free(t);
}

/* ---- with vocabularies from the shared folder ---- */

/* The LLaMA-3 vocabulary is made anew from its ranks; the others are files. */
static struct bnt_tokenizer *open_vocab(const char *vocab, const char *pre)
{
    if (strcmp(vocab, "llama3") == 0) {
        struct bnt_tokenizer *t = tv_new(tv_llama3_file(), pre);
        tv_close();
        return t;
    }
    char relative[128];
    snprintf(relative, sizeof(relative), "tokenizers/ggml-vocab-%s.gguf", vocab);
    return tv_open(suite_shared(relative), pre);
}

static const struct {
    const char *vocab, *pre, *also; /* also: a further name that must give the same; NULL: none */
    bool special;
} recorded[] = {
    {"gpt-2", "gpt-2", "olmo", false},        {"gpt-2", "gpt-2", NULL, true},
    {"gpt-2", "afmoe", NULL, false},          {"gpt-2", "chameleon", NULL, false},
    {"gpt-2", "deepseek-coder", NULL, false}, {"gpt-2", "deepseek-llm", NULL, false},
    {"gpt-2", "default", NULL, false},        {"gpt-2", "exaone-moe", NULL, false},
    {"gpt-2", "falcon", NULL, false},         {"gpt-2", "llama-bpe", "dbrx", false},
    {"gpt-2", "poro-chat", "bloom", false},   {"gpt-2", "qwen2", "stablelm2", false},
    {"gpt-2", "refact", "starcoder", false},  {"gpt-2", "superbpe", NULL, false},
    {"gpt-2", "tiny_aya", NULL, false},       {"gpt-2", "viking", NULL, false},
    {"gpt-2", "youtu", NULL, false},          {"falcon", "falcon", NULL, false},
    {"llama3", "llama-bpe", "llama3", false}, {"llama3", "llama-bpe", NULL, true},
    {"llama3", "default", NULL, false},       {"llama3", "deepseek-v3", NULL, false},
    {"llama3", "gpt-4o", NULL, false},        {"llama-spm", "spm", NULL, false},
    {"llama-spm", "spm", NULL, true},
};

static void expect_recorded(const char *vocab, const char *pre, bool special, const json_t *corpus,
                            const json_t *ids)
{
    struct bnt_tokenizer *t = open_vocab(vocab, strcmp(pre, "spm") == 0 ? NULL : pre);
    assert_int_equal(json_array_size(ids), json_array_size(corpus));
    for (size_t i = 0; i < json_array_size(corpus); i++) {
        expect(t, json_array_get(corpus, i), special ? BNT_ENCODE_PARSE_SPECIAL : 0,
               json_array_get(ids, i));
    }
    bnt_tokenizer_free(t);
}

static void vocabularies_give_recorded_ids(void **state)
{
    (void)state;
    json_t *corpus = load("corpus.json");
    for (size_t i = 0; i < sizeof(recorded) / sizeof(recorded[0]); i++) {
        char file[128];
        snprintf(file, sizeof(file), "%s.%s%s.json", recorded[i].vocab, recorded[i].pre,
                 recorded[i].special ? ".special" : "");
        json_t *root = load(file);
        const json_t *ids = json_object_get(root, "ids");
        expect_recorded(recorded[i].vocab, recorded[i].pre, recorded[i].special, corpus, ids);
        if (recorded[i].also != NULL) {
            expect_recorded(recorded[i].vocab, recorded[i].also, recorded[i].special, corpus, ids);
        }
        json_decref(root);
    }
    json_decref(corpus);
}

static size_t hex_bytes(const char *hex, char *out)
{
    size_t n = 0;
    for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++) {
        out[n] = (char)byte;
    }
    return n;
}

/* SentencePiece takes broken text apart as the reference does; byte-level vocabularies keep its
 * bytes. */
static void broken_text_keeps_its_bytes(void **state)
{
    (void)state;
    json_t *root = load("invalid_utf8.json");
    const json_t *spm_ids = json_object_get(json_object_get(root, "ids"), "llama-spm.spm");
    const json_t *hex = json_object_get(root, "hex");
    struct bnt_tokenizer *spm = open_vocab("llama-spm", NULL);
    struct bnt_tokenizer *bpe = open_vocab("gpt-2", NULL);
    for (size_t i = 0; i < json_array_size(hex); i++) {
        char bytes[64];
        size_t len = hex_bytes(json_string_value(json_array_get(hex, i)), bytes);
        if (!json_is_null(json_array_get(spm_ids, i))) {
            int32_t *want;
            size_t n = numbers(json_array_get(spm_ids, i), &want);
            tv_expect(spm, bytes, len, 0, want, n);
            free(want);
        }
        struct bnt_ids ids = {0};
        struct bnt_buf back = BNT_BUF(256);
        assert_int_equal(bnt_tokenizer_encode(bpe, bytes, len, 0, &ids, NULL), BNT_OK);
        assert_int_equal(bnt_tokenizer_decode(bpe, ids.at, ids.n, true, &back, NULL), BNT_OK);
        assert_int_equal(back.len, len);
        assert_memory_equal(back.data, bytes, len);
        bnt_ids_release(&ids);
        bnt_buf_release(&back);
    }
    bnt_tokenizer_free(spm);
    bnt_tokenizer_free(bpe);
    json_decref(root);
}

/* ---- published pairs of texts and ids ---- */

static const struct {
    const char *vocab, *file, *pre;
} published[] = {
    {"gpt-2", "gpt-2", NULL},
    {"falcon", "falcon", NULL},
    {"llama-spm", "llama-spm", NULL},
    {"llama3", "llama-bpe", "llama-bpe"},
};

static char *read_shared(const char *file, const char *suffix)
{
    char relative[128];
    snprintf(relative, sizeof(relative), "tokenizers/ggml-vocab-%s.gguf%s", file, suffix);
    struct bnt_buf text = BNT_BUF(1u << 20);
    assert_int_equal(bnt_file_read(suite_shared(relative), &text, NULL), BNT_OK);
    return bnt_buf_take(&text);
}

static size_t parse_line(const char *line, int32_t *out, size_t room)
{
    size_t n = 0;
    char *end;
    for (long id = strtol(line, &end, 10); end != line && n < room; id = strtol(line, &end, 10)) {
        out[n++] = (int32_t)id;
        line = end;
        if (*line == '\n') {
            break;
        }
    }
    return n;
}

static void expect_published(const char *vocab, const char *file, const char *pre)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char *texts = read_shared(file, ".inp");
    char *lines = read_shared(file, ".out");
    struct bnt_tokenizer *t = open_vocab(vocab, pre);
    const char *line = lines;
    size_t n_cases = 0;
    for (const char *text = texts; text != NULL && line != NULL; n_cases++) {
        const char *end = strstr(text, mark);
        int32_t want[512];
        size_t n = *line == '\n' ? 0 : parse_line(line, want, 512);
        tv_expect(t, text, end == NULL ? strlen(text) : (size_t)(end - text), 0, want, n);
        text = end == NULL ? NULL : end + strlen(mark);
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    assert_int_equal(n_cases, 47);
    bnt_tokenizer_free(t);
    free(texts);
    free(lines);
}

static void published_pairs_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++) {
        expect_published(published[i].vocab, published[i].file, published[i].pre);
    }
}

static const struct suite_test tests[] = {
    {.name = "tokenizer_pieces_are_those_of_the_reference",
     .body = pieces_are_those_of_the_reference,
     .needs = "source"},
    {.name = "tokenizer_defaults_are_those_of_the_reference",
     .body = defaults_are_those_of_the_reference,
     .needs = "source"},
    {.name = "tokenizer_bundled_vocabulary_gives_recorded_ids",
     .body = bundled_vocabulary_gives_recorded_ids,
     .needs = "source"},
    {.name = "tokenizer_vocabularies_give_recorded_ids",
     .body = vocabularies_give_recorded_ids,
     .needs = "shared",
     .timeout_ms = 60000},
    {.name = "tokenizer_broken_text_keeps_its_bytes",
     .body = broken_text_keeps_its_bytes,
     .needs = "shared"},
    {.name = "tokenizer_published_pairs_agree",
     .body = published_pairs_agree,
     .needs = "shared",
     .timeout_ms = 30000},
    {0},
};
const struct suite suite_tokenizer_refs = {"tokenizer_refs", tests,
    "merge_order byte_fallback space_prefix pretok_digits"};
