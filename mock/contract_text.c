/* Sections tokenizer and text: what a vocabulary is, and what it makes of texts drawn from the
 * seed.
 */
#include <string.h>

#include "base/digest.h"
#include "mock/contract_impl.h"
#include "mock/draw.h"

/* What texts are put together from: words, numbers, white space, scripts, marks, what is no UTF-8,
 * and the names of special tokens. */
static const char *const atoms[] = {
    "the",
    " the",
    "Hello",
    " world",
    "Once",
    " upon",
    " a",
    " time",
    "quick",
    "ing",
    "ed",
    "x",
    "I'm",
    " don't",
    "WE'LL",
    "e.g.",
    "http://a.b/c?d=1",
    "foo_bar",
    "camelCase",
    "A",
    "Zz",
    "1",
    "12",
    "123",
    "1234",
    "3.14",
    "1,000",
    "0x1F",
    " 7",
    " ",
    "  ",
    "    ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    ".",
    ",",
    "!",
    "?!",
    "...",
    "--",
    "(",
    ")",
    "\"",
    "'",
    "{}",
    "[0]",
    "#",
    "$5",
    "&",
    "*",
    "+",
    "=",
    "==",
    "->",
    "/",
    "\\",
    "|",
    "~",
    "`",
    "@",
    "^",
    "%",
    "<",
    ">",
    "\xc3\xa9",
    "na\xc3\xafve",
    "\xc3\x9f",
    "\xce\xb1\xce\xb2",
    "\xd0\x9f\xd1\x80\xd0\xb8",
    "\xd7\xa9\xd7\x9c",
    "\xd8\xb3\xd9\x84",
    "\xe0\xa4\xa8\xe0\xa4\xae",
    "\xe4\xbd\xa0\xe5\xa5\xbd",
    "\xe3\x81\x82",
    "\xec\x95\x88",
    "\xf0\x9f\x98\x80",
    "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb",
    "e\xcc\x81",
    "\xc2\xa0",
    "\xe2\x80\x94",
    "\xe2\x82\xac",
    "\xef\xbb\xbf",
    "\xe2\x80\xa8",
    "\x01",
    "\x7f",
    "\xff",
    "\xc3",
    "\xe4\xbd",
    "\xed\xa0\x80",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "</s>",
    "<s>",
    "<unk>",
    "<0x41>",
};
enum { N_ATOMS = sizeof atoms / sizeof atoms[0], MAX_ATOMS = 6, SPECIAL_EVERY = 10 };

static enum bnt_status put_ids(struct bnt_buf *out, const struct bnt_ids *ids, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < ids->n; i++) {
        st = bnt_buf_printf(out, err, " %d", ids->at[i]);
    }
    return st;
}

/* One text: its ids, and what comes back where it is something else. */
static enum bnt_status text_line(struct derivation *d, const struct bnt_buf *text, bool special,
                                 struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_model_tokenizer(d->model);
    struct bnt_ids ids = {0};
    struct bnt_buf back = BNT_BUF(1 << 16);
    unsigned flags = special ? BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL : 0;
    enum bnt_status st = bnt_tokenizer_encode(t, bnt_buf_view(text), text->len, flags, &ids, err);
    if (st == BNT_OK) {
        st = bnt_tokenizer_decode(t, ids.at, ids.n, false, &back, err);
    }
    if (st == BNT_OK && special) {
        st = bnt_buf_puts(d->out, "special ", err);
    }
    if (st == BNT_OK) {
        st = contract_quote(d->out, bnt_buf_view(text), text->len, err);
    }
    if (st == BNT_OK) {
        st = put_ids(d->out, &ids, err);
    }
    bool same =
        back.len == text->len && memcmp(bnt_buf_view(&back), bnt_buf_view(text), text->len) == 0;
    if (st == BNT_OK && !same) {
        st = bnt_buf_puts(d->out, " -> ", err);
        st = st == BNT_OK ? contract_quote(d->out, bnt_buf_view(&back), back.len, err) : st;
    }
    bnt_buf_release(&back);
    bnt_ids_release(&ids);
    return st == BNT_OK ? bnt_buf_putc(d->out, '\n', err) : st;
}

enum bnt_status contract_text(struct derivation *d, struct bnt_err *err)
{
    struct draw draw = draw_stream(d->of.seed, "contract", 8);
    struct bnt_buf text = BNT_BUF(4096);
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < BNT_CONTRACT_STRINGS; i++) {
        uint64_t n = 1 + draw_below(&draw, MAX_ATOMS);
        bnt_buf_reset(&text);
        for (uint64_t k = 0; st == BNT_OK && k < n; k++) {
            st = bnt_buf_puts(&text, atoms[draw_below(&draw, N_ATOMS)], err);
        }
        st = st == BNT_OK ? text_line(d, &text, i % SPECIAL_EVERY == 0, err) : st;
    }
    bnt_buf_release(&text);
    return st;
}

/* ---- facts ---- */

static enum bnt_status token_line(struct derivation *d, const char *role, int32_t id,
                                  struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_model_tokenizer(d->model);
    struct bnt_buf piece = BNT_BUF(1 << 16);
    if (id < 0) {
        return bnt_buf_printf(d->out, err, "%s none\n", role);
    }
    enum bnt_status st = bnt_tokenizer_piece(t, id, true, &piece, err);
    if (st == BNT_OK) {
        st = bnt_buf_printf(d->out, err, "%s %d ", role, id);
    }
    if (st == BNT_OK) {
        st = contract_quote(d->out, bnt_buf_view(&piece), piece.len, err);
    }
    bnt_buf_release(&piece);
    return st == BNT_OK ? bnt_buf_putc(d->out, '\n', err) : st;
}

/* All pieces with what they are, as one digest. */
static enum bnt_status vocabulary_digest(struct derivation *d, char hex[BNT_SHA256_HEX],
                                         struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_model_tokenizer(d->model);
    struct bnt_buf piece = BNT_BUF(1 << 20);
    struct bnt_sha256 *sha = NULL;
    enum bnt_status st = bnt_sha256_new(&sha, err);
    for (int32_t id = 0; st == BNT_OK && id < bnt_tokenizer_n_vocab(t); id++) {
        char kind = (char)('0' + bnt_tokenizer_is_control(t, id) + 2 * bnt_tokenizer_is_eog(t, id));
        bnt_buf_reset(&piece);
        st = bnt_tokenizer_piece(t, id, true, &piece, err);
        st = st == BNT_OK ? bnt_buf_putc(&piece, kind, err) : st;
        st = st == BNT_OK ? bnt_sha256_update(sha, piece.data, piece.len + 1, err) : st;
    }
    st = st == BNT_OK ? bnt_sha256_hex(sha, hex, err) : st;
    bnt_sha256_free(sha);
    bnt_buf_release(&piece);
    return st;
}

static enum bnt_status ends_line(struct derivation *d, struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_model_tokenizer(d->model);
    enum bnt_status st = bnt_buf_puts(d->out, "ends an answer:", err);
    for (int32_t id = 0; st == BNT_OK && id < bnt_tokenizer_n_vocab(t); id++) {
        if (bnt_tokenizer_is_eog(t, id)) {
            st = bnt_buf_printf(d->out, err, " %d", id);
        }
    }
    return st == BNT_OK ? bnt_buf_putc(d->out, '\n', err) : st;
}

enum bnt_status contract_tokenizer(struct derivation *d, struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_model_tokenizer(d->model);
    const struct gguf_kv *merges = gguf_find(d->g, "tokenizer.ggml.merges");
    char hex[BNT_SHA256_HEX];
    enum bnt_status st = vocabulary_digest(d, hex, err);
    if (st == BNT_OK) {
        st = bnt_buf_printf(
            d->out, err,
            "model %s\npre %s\ntokens %d\nmerges %llu\nadds a start token: %s\n"
            "adds an end token: %s\nvocabulary sha256 %s\n",
            bnt_tokenizer_model(t), bnt_tokenizer_pre(t)[0] ? bnt_tokenizer_pre(t) : "none",
            bnt_tokenizer_n_vocab(t), (unsigned long long)(merges ? merges->n : 0),
            bnt_tokenizer_add_bos(t) ? "yes" : "no", bnt_tokenizer_add_eos(t) ? "yes" : "no", hex);
    }
    const struct {
        const char *role;
        int32_t id;
    } tokens[] = {{"bos", bnt_tokenizer_bos(t)},
                  {"eos", bnt_tokenizer_eos(t)},
                  {"eot", bnt_tokenizer_eot(t)}};
    for (size_t i = 0; st == BNT_OK && i < sizeof tokens / sizeof tokens[0]; i++) {
        st = token_line(d, tokens[i].role, tokens[i].id, err);
    }
    return st == BNT_OK ? ends_line(d, err) : st;
}
