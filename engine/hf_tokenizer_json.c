/* tokenizer.json of the tokenizers library: BPE, of bytes or of LLaMA's kind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/hf_vocab.h"
#include "engine/pretok.h"
#include "engine/tokenizer_impl.h"

#define BLANK "\xe2\x96\x81"

static enum bnt_status bad(struct bnt_err *err, const char *what)
{
    return bnt_err_set(err, BNT_E_FILE, "%s", what);
}

static bool is_type(const json_t *v, const char *type)
{
    const char *text = json_string_value(json_object_get(v, "type"));
    return text && strcmp(text, type) == 0;
}

/* ---- how text is cut ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"

/* What becomes of the matches, where it is not that they and the gaps are pieces: a step that drops
 * all but its matches does the same where its expression leaves no gap, as those of `known` do that
 * begin with a contraction. */
static const char *behavior_of(const json_t *pre, const char *regex)
{
    const char *behavior = json_string_value(json_object_get(pre, "behavior"));
    const char *usual = is_type(pre, "Punctuation") ? "Contiguous" : "Isolated";
    bool covers = regex && strncmp(regex, CONTRACTIONS, strlen(CONTRACTIONS)) == 0;
    if (BNT_FAULT(split_behavior) || !(is_type(pre, "Split") || is_type(pre, "Punctuation"))) {
        return NULL;
    }
    bool matches_only = covers && behavior && strcmp(behavior, "Removed") == 0 &&
                        json_is_true(json_object_get(pre, "invert"));
    behavior = behavior ? behavior : "Isolated"; /* as the library has it */
    return matches_only || strcmp(behavior, usual) == 0 ? NULL : behavior;
}

/* The steps of a pre-tokenizer as one text: names, expressions and flags that matter, "Split
 * REGEX;ByteLevel;". */
static enum bnt_status describe(const json_t *pre, struct bnt_buf *out, struct bnt_err *err)
{
    const json_t *steps = json_object_get(pre, "pretokenizers");
    enum bnt_status st = BNT_OK;
    if (json_is_array(steps)) {
        for (size_t i = 0; st == BNT_OK && i < json_array_size(steps); i++) {
            st = describe(json_array_get(steps, i), out, err);
        }
        return st;
    }
    const char *type = json_string_value(json_object_get(pre, "type"));
    const char *regex =
        json_string_value(json_object_get(json_object_get(pre, "pattern"), "Regex"));
    const json_t *own = json_object_get(pre, "use_regex");
    bool gpt2 = is_type(pre, "ByteLevel") && !json_is_false(own);
    bool blank =
        is_type(pre, "ByteLevel") && json_is_true(json_object_get(pre, "add_prefix_space"));
    bool digits = json_is_true(json_object_get(pre, "individual_digits"));
    const char *behavior = behavior_of(pre, regex);
    return bnt_buf_printf(out, err, "%s%s%s%s%s%s%s;", type ? type : "?", regex ? " " : "",
                          regex ? regex : "", blank ? " behind a blank" : "",
                          gpt2     ? "+"
                          : digits ? " each"
                                   : "",
                          behavior ? " " : "", behavior ? behavior : "");
}

#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* What each way of cutting is called by GGUF files. The texts are those of `describe`. */
static const struct {
    const char *steps, *name;
} known[] = {
    {"Split " CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" REST ";ByteLevel;",
     "llama-bpe"},
    {"Split " CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" REST ";ByteLevel;", "qwen2"},
    {"ByteLevel+;", "gpt-2"},
    {"ByteLevel behind a blank+;", "gpt-2"},
    {"Digits each;ByteLevel+;", "starcoder"},
    {"Punctuation;ByteLevel+;Split [0-9][0-9][0-9];", "falcon"},
    {"Punctuation;ByteLevel+;Digits;Split [0-9][0-9][0-9];", "falcon"},
};

static enum bnt_status unknown_pre(const char *steps, struct bnt_err *err)
{
    bnt_err_hint(err, "say which one it is: --pre NAME (bnt tokenize --pre lists the names)");
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "its way of cutting text is not known here: %.300s",
                       steps);
}

static enum bnt_status find_pre(const json_t *root, const char *pre, struct hf_vocab *v,
                                struct bnt_err *err)
{
    struct bnt_buf steps = BNT_BUF(1u << 16);
    if (pre && !pretok_find(pre, strlen(pre))) {
        return bnt_err_set(err, BNT_E_USAGE, "--pre %s: no pre-tokenizer has this name", pre);
    }
    enum bnt_status st = describe(json_object_get(root, "pre_tokenizer"), &steps, err);
    for (size_t i = 0; !pre && i < sizeof known / sizeof known[0]; i++) {
        pre = strcmp(bnt_buf_view(&steps), known[i].steps) == 0 ? known[i].name : NULL;
    }
    if (st == BNT_OK && !pre) {
        st = unknown_pre(bnt_buf_view(&steps), err);
    }
    bnt_buf_release(&steps);
    snprintf(v->pre, sizeof v->pre, "%s", pre ? pre : "");
    return st;
}

/* ---- tokens ---- */

static enum bnt_status read_tokens(const json_t *model, struct hf_vocab *v, struct bnt_err *err)
{
    const json_t *vocab = json_object_get(model, "vocab");
    enum bnt_status st = json_is_object(vocab) ? BNT_OK : bad(err, "model.vocab is no object");
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocab, text, id)
    {
        if (st == BNT_OK) {
            st = hf_vocab_set(v, json_is_integer(id) ? json_integer_value(id) : -1, text,
                              strlen(text), HF_TOKEN_NORMAL, err);
        }
    }
    return st;
}

/* Both halves of a merge: "a b", or ["a", "b"]. False when it is neither. */
static bool halves(const json_t *merge, const char **a, size_t *a_len, const char **b)
{
    if (json_is_array(merge)) {
        *a = json_string_value(json_array_get(merge, 0));
        *b = json_string_value(json_array_get(merge, 1));
        *a_len = *a ? strlen(*a) : 0;
        return json_array_size(merge) == 2 && *a && *b;
    }
    *a = json_string_value(merge);
    const char *blank = *a && **a ? strchr(*a + 1, ' ') : NULL;
    *a_len = blank ? (size_t)(blank - *a) : 0;
    *b = blank ? blank + 1 : NULL;
    return blank && **b;
}

/* A merge as a GGUF file has it, and for LLaMA's kind the score of what it makes: the lower the
 * rank, the higher. */
static enum bnt_status take_merge(struct hf_vocab *v, const json_t *merge, json_t *ranks,
                                  struct bnt_err *err)
{
    const char *a, *b;
    size_t a_len;
    char text[1024];
    if (!halves(merge, &a, &a_len, &b)) {
        return bad(err, "model.merges has an element that is no pair of texts");
    }
    int n = snprintf(text, sizeof text, "%.*s%s", (int)a_len, a, b);
    if (n < 0 || (size_t)n + 1 >= sizeof text) {
        return bad(err, "model.merges has an element that is too long");
    }
    if (v->spm && !json_object_get(ranks, text)) {
        json_object_set_new(ranks, text, json_integer((json_int_t)v->n_merges));
    }
    v->n_merges++;
    memmove(text + a_len + 1, text + a_len, (size_t)n - a_len);
    text[a_len] = ' ';
    return gplan_append_text(&v->merges, text, (size_t)n + 1, err);
}

static void score_tokens(struct hf_vocab *v, const json_t *ranks)
{
    for (uint32_t i = 0; i < v->n; i++) {
        struct hf_token *t = &v->tokens[i];
        const json_t *rank = t->text ? json_object_get(ranks, t->text) : NULL;
        t->score = rank                         ? -(float)json_integer_value(rank)
                   : t->type == HF_TOKEN_NORMAL ? HF_UNMADE_SCORE
                                                : 0;
    }
}

static enum bnt_status read_merges(const json_t *model, struct hf_vocab *v, struct bnt_err *err)
{
    const json_t *merges = json_object_get(model, "merges");
    json_t *ranks = json_object();
    enum bnt_status st = json_is_array(merges) ? BNT_OK : bad(err, "model.merges is no list");
    for (size_t i = 0; st == BNT_OK && i < json_array_size(merges); i++) {
        st = take_merge(v, json_array_get(merges, i), ranks, err);
    }
    if (st == BNT_OK && v->spm) {
        score_tokens(v, ranks);
        st = hf_count_unlisted(v, err);
    }
    json_decref(ranks);
    return st;
}

static void mark_bytes(struct hf_vocab *v)
{
    for (uint32_t i = 0; i < v->n; i++) {
        const struct hf_token *t = &v->tokens[i];
        if (t->text && token_byte(t->text, t->len) >= 0) {
            v->tokens[i].type = HF_TOKEN_BYTE;
        }
    }
}

/* LLaMA's kind puts a blank in front of a text, unless its normalizer does not. */
static bool has_prefix_step(const json_t *normalizer)
{
    const json_t *steps = json_object_get(normalizer, "normalizers");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        if (has_prefix_step(json_array_get(steps, i))) {
            return true;
        }
    }
    return is_type(normalizer, "Prepend");
}

static bool is_text(const json_t *object, const char *key, const char *want)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcmp(text, want) == 0;
}

/* The step that spells blanks as LLaMA's kind does. */
static bool spells_blanks(const json_t *step)
{
    return is_type(step, "Replace") && is_text(step, "content", BLANK) &&
           is_text(json_object_get(step, "pattern"), "String", " ");
}

/* Steps that the file says in its own way, or that no engine takes (NFC, for text as it is typed
 * everywhere nothing to do). */
static bool is_told(const json_t *step, bool spm)
{
    return is_type(step, "NFC") ||
           (spm &&
            ((is_type(step, "Prepend") && is_text(step, "prepend", BLANK)) || spells_blanks(step)));
}

/* Whatever else rewrites text goes into v->rewritten. */
static void read_normalizer(const json_t *step, struct hf_vocab *v)
{
    const json_t *steps = json_object_get(step, "normalizers");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        read_normalizer(json_array_get(steps, i), v);
    }
    const char *type = json_string_value(json_object_get(step, "type"));
    if (type && !json_is_array(steps) && !is_told(step, v->spm)) {
        size_t n = strlen(v->rewritten);
        snprintf(v->rewritten + n, sizeof v->rewritten - n, "%s%.40s", n ? ", " : "", type);
    }
}

/* What cuts nothing of a text whose blanks are spelt: Metaspace keeps words apart that no token
 * reaches across, and of blanks to split at none are left. */
static bool cuts_words_alone(const json_t *pre, bool *spelt)
{
    const json_t *steps = json_object_get(pre, "pretokenizers");
    const json_t *sign = json_object_get(pre, "replacement");
    bool metaspace = is_type(pre, "Metaspace") && (!sign || is_text(pre, "replacement", BLANK));
    bool fine =
        !pre || json_is_null(pre) || metaspace ||
        (is_type(pre, "Split") && is_text(json_object_get(pre, "pattern"), "String", " ")) ||
        (is_type(pre, "Sequence") && json_is_array(steps));
    *spelt = *spelt || metaspace;
    for (size_t i = 0; i < json_array_size(steps); i++) {
        fine = fine && cuts_words_alone(json_array_get(steps, i), spelt);
    }
    return fine;
}

static bool normalizer_spells(const json_t *step)
{
    const json_t *steps = json_object_get(step, "normalizers");
    bool spells = spells_blanks(step);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        spells = spells || normalizer_spells(json_array_get(steps, i));
    }
    return spells;
}

/* LLaMA's kind is the only one with bytes to fall back on that a GGUF file can hold. */
static enum bnt_status check_spm(const json_t *root, struct bnt_err *err)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    bool spelt = normalizer_spells(json_object_get(root, "normalizer"));
    struct bnt_buf steps = BNT_BUF(1u << 16);
    if (cuts_words_alone(pre, &spelt) && spelt) {
        return BNT_OK;
    }
    enum bnt_status st = describe(pre, &steps, err);
    if (st == BNT_OK) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED,
                         spelt ? "its way of cutting text is not known here for BPE with bytes to "
                                 "fall back on: %.300s"
                               : "it does not spell blanks as U+2581, as BPE with bytes to fall "
                                 "back on does in GGUF files (its pre-tokenizer is %.300s)",
                         bnt_buf_view(&steps));
    }
    bnt_buf_release(&steps);
    return st;
}

/* Older files say it by add_prefix_space. */
static bool metaspace_prepends(const json_t *pre)
{
    const json_t *steps = json_object_get(pre, "pretokenizers");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        if (metaspace_prepends(json_array_get(steps, i))) {
            return true;
        }
    }
    return is_type(pre, "Metaspace") && !is_text(pre, "prepend_scheme", "never") &&
           !json_is_false(json_object_get(pre, "add_prefix_space"));
}

/* A blank goes in front of a whole text, and not behind special tokens in it. */
bool hf_prefix_first(const json_t *root)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *steps = json_object_get(pre, "pretokenizers");
    bool first = is_type(pre, "Metaspace") && is_text(pre, "prepend_scheme", "first");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        first = first || (is_type(step, "Metaspace") && is_text(step, "prepend_scheme", "first"));
    }
    return first && !has_prefix_step(json_object_get(root, "normalizer"));
}

/* Nothing is put around a text: ByteLevel cares for offsets alone. */
static bool puts_nothing(const json_t *post)
{
    const json_t *steps = json_object_get(post, "processors");
    bool nothing = !post || json_is_null(post) || is_type(post, "ByteLevel") ||
                   (is_type(post, "Sequence") && json_is_array(steps));
    for (size_t i = 0; i < json_array_size(steps); i++) {
        nothing = nothing && puts_nothing(json_array_get(steps, i));
    }
    return nothing;
}

/* What is put around a text: the template says it where no flag does. Without one there is nothing,
 * which must be said: names of pre-tokenizers stand for a start token, too. LLaMA's kind is made
 * from its slow tokenizer, which adds one. */
static void read_template(const json_t *root, struct hf_vocab *v)
{
    const json_t *post = json_object_get(root, "post_processor");
    const json_t *steps = json_object_get(post, "processors");
    if (!v->spm && !BNT_FAULT(vocab_no_start)) {
        v->add_bos = 0;
    }
    for (size_t i = 0; i < json_array_size(steps); i++) {
        if (!puts_nothing(json_array_get(steps, i))) {
            post = json_array_get(steps, i);
        }
    }
    const json_t *single = json_object_get(post, "single");
    size_t n = json_array_size(single);
    if (!is_type(post, "TemplateProcessing") || n == 0) {
        const char *type = json_string_value(json_object_get(post, "type"));
        snprintf(v->around, sizeof v->around, "%s", puts_nothing(post) ? "" : type ? type : "?");
        return;
    }
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    const json_t *last = json_object_get(json_array_get(single, n - 1), "SpecialToken");
    const char *name = json_string_value(json_object_get(first, "id"));
    v->add_bos = first != NULL;
    v->add_eos = n > 1 && last ? 1 : -1;
    v->bos = name ? hf_vocab_find(v, name) : -1;
    if (n > 1u + (first != NULL) + (n > 1 && last)) {
        snprintf(v->around, sizeof v->around, "a template of %zu parts", n);
    }
}

static bool is_byte_level(const json_t *root)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *steps = json_object_get(pre, "pretokenizers");
    bool yes = is_type(pre, "ByteLevel") || is_type(json_object_get(root, "decoder"), "ByteLevel");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        yes = yes || is_type(json_array_get(steps, i), "ByteLevel");
    }
    return yes;
}

/* Older files do not name the kind, but only BPE has merges. */
static bool is_bpe(const json_t *model)
{
    return json_object_get(model, "type") ? is_type(model, "BPE")
                                          : json_object_get(model, "merges") != NULL;
}

/* What would merge otherwise than a GGUF file can say. */
static enum bnt_status check_model(const json_t *model, struct bnt_err *err)
{
    static const char *const keys[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *text = json_string_value(json_object_get(model, keys[i]));
        if (text && text[0]) {
            return bnt_err_set(err, BNT_E_UNSUPPORTED, "model.%s \"%.40s\" is not known here",
                               keys[i], text);
        }
    }
    return json_number_value(json_object_get(model, "dropout")) > 0
               ? bnt_err_set(err, BNT_E_UNSUPPORTED, "model.dropout makes its tokens random")
               : BNT_OK;
}

static enum bnt_status read_kind(const json_t *root, const char *pre, struct hf_vocab *v,
                                 struct bnt_err *err)
{
    const json_t *model = json_object_get(root, "model");
    v->spm = !is_byte_level(root);
    read_normalizer(json_object_get(root, "normalizer"), v);
    if (!is_bpe(model) || (v->spm && !json_is_true(json_object_get(model, "byte_fallback")))) {
        const char *type = json_string_value(json_object_get(model, "type"));
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "a tokenizer of kind %s is not known here (known: BPE of bytes or with "
                           "bytes to fall back on)",
                           type ? type : "?");
    }
    enum bnt_status st = check_model(model, err);
    if (st == BNT_OK) {
        st = v->spm ? check_spm(root, err) : find_pre(root, pre, v, err);
    }
    if (st != BNT_OK || !v->spm) {
        const json_t *alone = json_object_get(root, "pre_tokenizer");
        v->byte_level_alone = is_type(alone, "ByteLevel");
        v->blank_in_front =
            v->byte_level_alone && json_is_true(json_object_get(alone, "add_prefix_space"));
        return st;
    }
    v->prepends = has_prefix_step(json_object_get(root, "normalizer"));
    v->prefix_first = hf_prefix_first(root);
    v->no_space_prefix =
        !v->prepends && !metaspace_prepends(json_object_get(root, "pre_tokenizer"));
    return BNT_OK;
}

enum bnt_status hf_tokenizer_json(const json_t *root, const char *pre, struct hf_vocab *v,
                                  struct bnt_err *err)
{
    const json_t *model = json_object_get(root, "model");
    enum bnt_status st = read_kind(root, pre, v, err);
    if (st == BNT_OK) {
        st = read_tokens(model, v, err);
    }
    if (st == BNT_OK && v->spm) {
        mark_bytes(v);
    }
    if (st == BNT_OK) {
        st = hf_added_tokens(json_object_get(root, "added_tokens"), v, err);
    }
    if (st == BNT_OK) {
        st = read_merges(model, v, err);
    }
    if (st == BNT_OK && !v->spm) {
        bool ignores = json_is_true(json_object_get(model, "ignore_merges"));
        st = hf_settle_merging(v, pre != NULL, ignores, err);
    }
    const char *unk = json_string_value(json_object_get(model, "unk_token"));
    if (st == BNT_OK && unk) {
        v->unk = hf_vocab_find(v, unk);
    }
    if (st == BNT_OK && v->spm && v->unk >= 0) {
        v->tokens[v->unk].type = HF_TOKEN_UNKNOWN;
    }
    if (st == BNT_OK) {
        read_template(root, v);
    }
    return st;
}
