/* What a converted vocabulary loses, in words: what no GGUF file can say, and what it says in keys
 * of this program's own. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "engine/hf_vocab.h"

struct telling {
    const char *dir;
    const struct hf_vocab_options *o;
};

static void tell(const struct telling *t, const char *what, const char *hint)
{
    char text[BNT_PATH_MAX + 256];
    snprintf(text, sizeof text, "%s: %s", t->dir, what);
    t->o->warn(t->o->warn_ctx, text, hint);
}

static void tell_rewritten(const struct telling *t, const struct hf_vocab *v)
{
    char what[200];
    if (v->rewritten[0]) {
        snprintf(what, sizeof what, "its tokenizer rewrites text before it cuts it (%s)",
                 v->rewritten);
        tell(t, what,
             "a GGUF file cannot say this: text that would be rewritten gets other tokens than the "
             "model was trained with");
    }
    if (v->around[0]) {
        snprintf(what, sizeof what, "what its tokenizer puts around a text is not known here (%s)",
                 v->around);
        tell(t, what,
             "name the start and the end in tokenizer_config.json: add_bos_token and "
             "add_eos_token");
    }
}

static void tell_some(const struct telling *t, const struct hf_vocab *v)
{
    char what[240];
    if (v->ends.n > 0) {
        snprintf(what, sizeof what,
                 "no place is left in a GGUF file for %u more tokens that end an answer "
                 "(eos_token_id), %.60s the first",
                 v->ends.n, v->ends.first);
        tell(t, what, "name them where you run it: --stop-id ID");
    }
    if (v->beyond.n > 0) {
        snprintf(what, sizeof what,
                 "added tokens without a row are left out: %u, %.60s the first; the embedding has "
                 "%u rows",
                 v->beyond.n, v->beyond.first, v->n);
        tell(t, what, "the model was never trained with what has no row");
    }
    if (v->unlisted.n > 0) {
        snprintf(what, sizeof what,
                 "%u pairs of tokens are a token together, but no merge of tokenizer.json, \"%s\" "
                 "the first",
                 v->unlisted.n, v->unlisted.first);
        tell(t, what,
             "files of this kind hold no merges, and such pairs merge: text with them gets other "
             "tokens than the model was trained with");
    }
    if (v->blank_in_front) {
        tell(t, "a text gets a blank in front where it begins with none (add_prefix_space)",
             "it is kept in the key " TOKENIZER_BLANK_KEY ", which other engines do not read");
    }
}

/* A start or an end by a name that no token has. */
static void tell_names(const struct telling *t, const struct hf_vocab *v, const json_t *config)
{
    static const char *const keys[] = {"bos_token", "eos_token"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *name = hf_token_name(config, keys[i]);
        char what[160];
        if (name && hf_vocab_find(v, name) < 0) {
            snprintf(what, sizeof what, "no token is the %s %.60s", keys[i], name);
            tell(t, what, "that of the other files is taken");
        }
    }
}

/* What added tokens ask for. A token behind a blank: rewriting puts one in front of it, too. */
static bool asks(const struct hf_vocab *v, const struct hf_token *t, int flag)
{
    return flag == 0   ? t->lstrip || t->rstrip
           : flag == 1 ? t->single_word
                       : t->normalized && t->type == HF_TOKEN_USER && v->prepends;
}

static void tell_flags(const struct telling *t, const struct hf_vocab *v)
{
    static const char untold[] =
        "a GGUF file cannot say this: its text becomes the token everywhere";
    static const char *const rows[][2] = {
        {"swallows the white space beside it (lstrip, rstrip)",
         "it is kept in the keys " TOKENIZER_LSTRIP_KEY " and " TOKENIZER_RSTRIP_KEY
         ", which other engines do not read"},
        {"counts only where no letter or digit stands beside it (single_word)", untold},
        {"counts only behind a blank or at a text's start (normalized)", untold}};
    for (int flag = 0; flag < 3; flag++) {
        uint32_t n = 0, first = 0;
        char what[256], more[32] = "";
        for (uint32_t i = 0; i < v->n; i++) {
            first = asks(v, &v->tokens[i], flag) && n++ == 0 ? i : first;
        }
        if (n > 1) {
            snprintf(more, sizeof more, " (and %u more)", n - 1);
        }
        if (n > 0) {
            snprintf(what, sizeof what, "its added token %.60s%s %s", v->tokens[first].text, more,
                     rows[flag][0]);
            tell(t, what, rows[flag][1]);
        }
    }
}

void hf_vocab_tell(const char *dir, const struct hf_vocab *v, const json_t *config,
                   const struct hf_vocab_options *o)
{
    const struct telling t = {dir, o};
    tell_rewritten(&t, v);
    tell_names(&t, v, config);
    tell_flags(&t, v);
    tell_some(&t, v);
    if (v->ignore_merges >= 0) {
        tell(&t,
             v->ignore_merges ? "pieces that are tokens stand for themselves (ignore_merges)"
                              : "pieces that are tokens are merged all the same (ignore_merges)",
             "no name of a pre-tokenizer says both: it is kept in the "
             "key " TOKENIZER_IGNORE_MERGES_KEY ", which other engines do not read");
    }
    if (v->prefix_first && !v->no_space_prefix) {
        tell(&t,
             "a blank goes in front of a text, but not behind special tokens in it "
             "(prepend_scheme first)",
             "it is kept in the key " TOKENIZER_PREFIX_FIRST_KEY ", which other engines do not "
             "read");
    }
}
