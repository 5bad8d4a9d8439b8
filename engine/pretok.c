/* The table of pre-tokenizers, and the loop that applies their steps. */
#include "engine/pretok.h"

#include <string.h>

#include "engine/pretok_scan.h"

/* clang-format off */
#define RUN(...) \
    {.match = pretok_match_run, .rule = &(const struct pretok_run){__VA_ARGS__}, .cut = NULL}
#define WORDS(...) \
    {.match = pretok_match_words, .rule = &(const struct pretok_words){__VA_ARGS__}, .cut = NULL}
#define MATCH(fn) {.match = fn}
#define CUT(fn) {.cut = fn}
#define IN_SET(set) {.match = pretok_match_set, .rule = &(set)}
#define GPT2 {.match = pretok_match_gpt2}
#define LLAMA3 {.match = pretok_match_words, .rule = &pretok_llama3}
/* clang-format on */
#define QWEN2                                                                                      \
    WORDS(.word = pretok_word_plain, .letters = UNI_L, .max_digits = 1, .tail = "\r\n",            \
          .contraction_first = true)
#define CASED(classes, digits, by_case, last)                                                      \
    WORDS(.word = pretok_word_cased, .letters = (classes), .max_digits = (digits),                 \
          .tail = "\r\n/", .cased = (by_case), .contraction_last = (last))
#define LINE_ENDS RUN(.ascii = "\r\n", .min = 1, .max = 1)
#define DIGIT RUN(.classes = UNI_N, .min = 1, .max = 1)
#define DIGITS RUN(.classes = UNI_N, .min = 1)
#define DIGITS_BY_3 RUN(.classes = UNI_N, .min = 1, .max = 3)
#define ASCII_DIGITS_3 RUN(.ascii = "0123456789", .min = 3, .max = 3)

#define STEPS(name) static const struct pretok_step name[PRETOK_MAX_STEPS + 1]

STEPS(steps_default) = {RUN(.classes = UNI_P, .ascii = "$+<=>^~|", .min = 1), GPT2, DIGITS,
                        ASCII_DIGITS_3};
STEPS(steps_gpt2) = {GPT2};
STEPS(steps_falcon) = {RUN(.classes = UNI_P, .ascii = "$+<=>^~|`", .min = 1), GPT2, ASCII_DIGITS_3};
STEPS(steps_starcoder) = {DIGIT, GPT2};
STEPS(steps_llama3) = {LLAMA3};
STEPS(steps_qwen2) = {QWEN2};
STEPS(steps_qwen35) = {WORDS(.word = pretok_word_plain, .letters = UNI_L | UNI_M, .max_digits = 1,
                             .tail = "\r\n", .contraction_first = true, .marks_are_words = true)};
STEPS(steps_laguna) = {CUT(pretok_cut_lines), QWEN2};
STEPS(steps_seed_coder) = {WORDS(.word = pretok_word_plain, .letters = UNI_L, .max_digits = 1,
                                 .tail = "", .contraction_first = true)};
STEPS(steps_minicpm5) = {DIGITS_BY_3,
                         WORDS(.word = pretok_word_plain, .letters = UNI_L, .max_digits = 0,
                               .tail = "\r\n", .contraction_first = true)};
STEPS(steps_exaone_moe) = {WORDS(.word = pretok_word_phrase, .letters = UNI_L, .max_digits = 1,
                                 .tail = "\r\n/", .tail_once = true, .contraction_first = true)};
STEPS(steps_jais2) = {CUT(pretok_cut_space_powers)};
STEPS(steps_tekken) = {CASED(UNI_L, 1, true, false)};
STEPS(steps_gpt4o) = {CASED(UNI_L, 3, true, true)};
STEPS(steps_granite_97m) = {CASED(UNI_L | UNI_M, 3, true, true)};
STEPS(steps_tiny_aya) = {CUT(pretok_cut_numbers_right), CASED(UNI_L | UNI_M, 3, false, true)};
STEPS(steps_youtu) = {MATCH(pretok_match_youtu_sets), CASED(UNI_L | UNI_M, 1, false, true)};
STEPS(steps_kimi) = {
    WORDS(.word = pretok_word_han, .letters = UNI_L, .max_digits = 3, .tail = "\r\n")};
STEPS(steps_deepseek_llm) = {LINE_ENDS,
                             IN_SET(pretok_set_western),
                             IN_SET(pretok_set_marks),
                             CUT(pretok_cut_trailing_space),
                             IN_SET(pretok_set_cjk_wide),
                             DIGITS};
STEPS(steps_deepseek_coder) = {LINE_ENDS, RUN(.classes = UNI_L, .min = 1, .space = true),
                               RUN(.classes = UNI_P, .min = 1, .space = true),
                               IN_SET(pretok_set_cjk_wide), DIGIT};
STEPS(steps_deepseek_v3) = {DIGITS_BY_3, IN_SET(pretok_set_cjk_kana), MATCH(pretok_match_deepseek)};
STEPS(steps_afmoe) = {CUT(pretok_cut_numbers_right), IN_SET(pretok_set_asian),
                      MATCH(pretok_match_deepseek)};
STEPS(steps_bloom) = {IN_SET(pretok_set_not_stops)};
STEPS(steps_viking) = {IN_SET(pretok_set_not_stops), DIGIT};
STEPS(steps_superbpe) = {DIGITS, CUT(pretok_cut_thousands)};
STEPS(steps_chameleon) = {MATCH(pretok_match_sentinel),
                          MATCH(pretok_match_image),
                          MATCH(pretok_match_blanks),
                          DIGIT,
                          RUN(.classes = UNI_P, .ascii = "$+<=>^`|~", .min = 1, .max = 1),
                          GPT2};

#define LLAMA3_FLAGS (PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS)

/* Rows that split alike stand together. */
static const struct pretok table[] = {
    {"default", 0, steps_default},
    {"llama-bpe", LLAMA3_FLAGS, steps_llama3},
    {"llama3", LLAMA3_FLAGS, steps_llama3},
    {"llama-v3", LLAMA3_FLAGS, steps_llama3},
    {"falcon3", LLAMA3_FLAGS, steps_llama3},
    {"falcon-h1", LLAMA3_FLAGS, steps_llama3},
    {"pixtral", LLAMA3_FLAGS, steps_llama3},
    {"midm-2.0", LLAMA3_FLAGS, steps_llama3},
    {"lfm2", LLAMA3_FLAGS, steps_llama3},
    {"jina-v5-nano", LLAMA3_FLAGS, steps_llama3},
    {"dbrx", 0, steps_llama3},
    {"smaug-bpe", 0, steps_llama3},
    {"chatglm-bpe", 0, steps_llama3},
    {"glm4", 0, steps_llama3},
    {"jais-2", 0, steps_jais2},
    {"gpt-2", 0, steps_gpt2},
    {"phi-2", 0, steps_gpt2},
    {"mpt", 0, steps_gpt2},
    {"olmo", 0, steps_gpt2},
    {"jais", 0, steps_gpt2},
    {"exaone4", 0, steps_gpt2},
    {"trillion", 0, steps_gpt2},
    {"granite-docling", 0, steps_gpt2},
    {"gigachat", 0, steps_gpt2},
    {"a.x-4.0", 0, steps_gpt2},
    {"mellum", 0, steps_gpt2},
    {"modern-bert", 0, steps_gpt2},
    {"jina-es", 0, steps_gpt2},
    {"jina-de", 0, steps_gpt2},
    {"jina-v1-en", 0, steps_gpt2},
    {"jina-v2-es", 0, steps_gpt2},
    {"jina-v2-de", 0, steps_gpt2},
    {"jina-v2-code", 0, steps_gpt2},
    {"roberta-bpe", 0, steps_gpt2},
    {"falcon", 0, steps_falcon},
    {"starcoder", 0, steps_starcoder},
    {"refact", 0, steps_starcoder},
    {"command-r", 0, steps_starcoder},
    {"smollm", 0, steps_starcoder},
    {"codeshell", 0, steps_starcoder},
    {"exaone", 0, steps_starcoder},
    {"minerva-7b", 0, steps_starcoder},
    {"mellum2", 0, steps_starcoder},
    {"qwen2", 0, steps_qwen2},
    {"deepseek-r1-qwen", 0, steps_qwen2},
    {"stablelm2", 0, steps_qwen2},
    {"hunyuan", 0, steps_qwen2},
    {"megrez", 0, steps_qwen2},
    {"grok-2", 0, steps_qwen2},
    {"kormo", 0, steps_qwen2},
    {"f2llmv2", 0, steps_qwen2},
    {"solar-open", 0, steps_qwen2},
    {"bailingmoe", 0, steps_qwen2},
    {"bailingmoe2", 0, steps_qwen2},
    {"llada-moe", 0, steps_qwen2},
    {"qwen35", 0, steps_qwen35},
    {"laguna", 0, steps_laguna},
    {"seed-coder", 0, steps_seed_coder},
    {"minicpm5", PRETOK_IGNORE_MERGES, steps_minicpm5},
    {"exaone-moe", 0, steps_exaone_moe},
    {"tekken", LLAMA3_FLAGS, steps_tekken},
    {"gpt-4o", 0, steps_gpt4o},
    {"llama4", 0, steps_gpt4o},
    {"kanana2", 0, steps_gpt4o},
    {"talkie", 0, steps_gpt4o},
    {"minimax-m2", 0, steps_gpt4o},
    {"granite-embed-multi-97m", PRETOK_IGNORE_MERGES, steps_granite_97m},
    {"tiny_aya", 0, steps_tiny_aya},
    {"cohere2moe", 0, steps_tiny_aya},
    {"youtu", PRETOK_IGNORE_MERGES, steps_youtu},
    {"kimi-k2", PRETOK_NO_MERGES, steps_kimi},
    {"deepseek-llm", 0, steps_deepseek_llm},
    {"deepseek-coder", 0, steps_deepseek_coder},
    {"deepseek-v3", 0, steps_deepseek_v3},
    {"hunyuan-dense", 0, steps_deepseek_v3},
    {"joyai-llm", 0, steps_deepseek_v3},
    {"afmoe", 0, steps_afmoe},
    {"bloom", 0, steps_bloom},
    {"gpt3-finnish", 0, steps_bloom},
    {"poro-chat", 0, steps_bloom},
    {"viking", 0, steps_viking},
    {"superbpe", 0, steps_superbpe},
    {"chameleon", PRETOK_ADD_BOS, steps_chameleon},
};

/* Matches of one piece and the gaps between them. */
static size_t cut_by_match(const struct pretok_step *step, const uni_char *c, size_t begin,
                           size_t end, uint32_t *out)
{
    size_t n = 0;
    size_t last = begin;
    for (size_t at = begin; at < end;) {
        size_t p = step->match(step->rule, c, at, end);
        if (p == at) {
            at++;
            continue;
        }
        if (at > last) {
            out[n++] = (uint32_t)at;
        }
        out[n++] = (uint32_t)p;
        last = at = p;
    }
    if (last < end) {
        out[n++] = (uint32_t)end;
    }
    return n;
}

static size_t apply(const struct pretok_step *step, const uni_char *c, const uint32_t *ends,
                    size_t n_pieces, uint32_t *out)
{
    size_t n = 0;
    size_t begin = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        size_t end = ends[i];
        n += step->cut != NULL ? step->cut(c, begin, end, out + n)
                               : cut_by_match(step, c, begin, end, out + n);
        begin = end;
    }
    return n;
}

const struct pretok *pretok_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

const struct pretok *pretok_at(size_t i)
{
    return i < sizeof(table) / sizeof(table[0]) ? &table[i] : NULL;
}

enum bnt_status pretok_names(struct bnt_buf *out, struct bnt_err *err)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (i > 0 && table[i].steps == table[i - 1].steps) {
            continue;
        }
        enum bnt_status s = bnt_buf_printf(out, err, "%s%s", i == 0 ? "" : ", ", table[i].name);
        if (s != BNT_OK) {
            return s;
        }
    }
    return BNT_OK;
}

size_t pretok_split(const struct pretok *p, const uni_char *c, size_t n, uint32_t *ends,
                    uint32_t *spare)
{
    if (n == 0) {
        return 0;
    }
    uint32_t *from = ends;
    uint32_t *to = spare;
    size_t n_pieces = 1;
    from[0] = (uint32_t)n;
    for (const struct pretok_step *step = p->steps; step->match != NULL || step->cut != NULL;
         step++) {
        n_pieces = apply(step, c, from, n_pieces, to);
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != ends) {
        memcpy(ends, from, n_pieces * sizeof(*ends));
    }
    return n_pieces;
}
