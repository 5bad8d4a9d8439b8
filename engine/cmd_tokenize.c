/* bnt tokenize: text to tokens and back. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/app.h"
#include "base/file.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "base/utf8.h"
#include "engine/commands.h"
#include "engine/model_arg.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"

#define MAX_INPUT_BYTES (1u << 30)

struct tokenize_opts {
    struct bnt_model_arg model;
    const char *pre, *file;
    bool ids, pieces, decode, json, no_bos, no_special;
};

static const struct bnt_opt options[] = {
    BNT_MODEL_ARG_ROWS(struct tokenize_opts, model),
    {BNT_OPT_STR, 'f', "file", "FILE", "read the text from FILE (- is standard input)",
     offsetof(struct tokenize_opts, file), NULL, 0, 0, NULL},
    {BNT_OPT_STR, 0, "pre", "NAME", "split text as NAME says, whatever the file says",
     offsetof(struct tokenize_opts, pre), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "no-bos", NULL, "add no start and no end token, whatever the file says",
     offsetof(struct tokenize_opts, no_bos), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "no-special", NULL,
     "text of control tokens stays text; with --decode: leave them out",
     offsetof(struct tokenize_opts, no_special), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "decode", NULL, "the other way: from ids to text",
     offsetof(struct tokenize_opts, decode), NULL, 0, 0, NULL},
    BNT_OPT_HEAD("Output"),
    {BNT_OPT_FLAG, 0, "ids", NULL, "ids on one line (the default)",
     offsetof(struct tokenize_opts, ids), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "pieces", NULL, "one line per token: id and quoted piece",
     offsetof(struct tokenize_opts, pieces), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "json", NULL, "one JSON value", offsetof(struct tokenize_opts, json), NULL, 0,
     0, NULL},
    BNT_OPT_END,
};

/* Operands joined by single spaces, else the file, else standard input. */
static enum bnt_status read_input(const struct tokenize_opts *o, int argc, char **argv,
                                  struct bnt_buf *in, struct bnt_err *err)
{
    if (argc > 0 && o->file != NULL) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "the text is given twice: as an argument and by --file");
    }
    if (argc == 0) {
        return bnt_file_read(o->file != NULL ? o->file : "-", in, err);
    }
    enum bnt_status st = BNT_OK;
    for (int i = 0; i < argc && st == BNT_OK; i++) {
        st = i == 0 ? BNT_OK : bnt_buf_putc(in, ' ', err);
        if (st == BNT_OK) {
            st = bnt_buf_puts(in, argv[i], err);
        }
    }
    return st;
}

static void print_escaped(unsigned char c)
{
    const char *letter = c == '\n' ? "n" : c == '\t' ? "t" : c == '\r' ? "r" : NULL;
    if (c == '"' || c == '\\') {
        printf("\\%c", c);
    } else if (letter != NULL) {
        printf("\\%s", letter);
    } else {
        printf("\\x%02x", c);
    }
}

/* In quotes; what would not show, or is no UTF-8, as an escape. */
static void print_quoted(const struct bnt_buf *piece)
{
    putchar('"');
    for (size_t i = 0; i < piece->len;) {
        const unsigned char *c = (const unsigned char *)piece->data + i;
        unsigned n = bnt_utf8_len(c, piece->len - i);
        if (n == 0 || *c < 0x20 || *c == 0x7f || *c == '"' || *c == '\\') {
            print_escaped(*c);
            i++;
        } else {
            fwrite(c, 1, n, stdout);
            i += n;
        }
    }
    putchar('"');
}

static enum bnt_status print_pieces(const struct bnt_tokenizer *t, const struct bnt_ids *ids,
                                    struct bnt_err *err)
{
    struct bnt_buf piece = BNT_BUF(MAX_INPUT_BYTES);
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < ids->n && st == BNT_OK; i++) {
        bnt_buf_reset(&piece);
        st = bnt_tokenizer_piece(t, ids->at[i], true, &piece, err);
        if (st == BNT_OK) {
            printf("%d ", ids->at[i]);
            print_quoted(&piece);
            putchar('\n');
        }
    }
    bnt_buf_release(&piece);
    return st;
}

static void print_ids(const struct bnt_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) {
        printf("%s%d", i == 0 ? "" : " ", ids->at[i]);
    }
    putchar('\n');
}

/* Bytes that JSON shows as U+FFFD are lost. */
static json_t *json_text(const char *bytes, size_t len, bool *lossless)
{
    *lossless = bnt_utf8_valid(bytes, len) == len;
    return bnt_json_bytes(bytes, len);
}

static enum bnt_status print_json(const struct bnt_tokenizer *t, const struct bnt_ids *ids,
                                  const struct bnt_buf *text, bool pieces, struct bnt_err *err)
{
    bool lossless;
    json_t *root = json_object();
    json_object_set_new(root, "model", json_string(bnt_tokenizer_model(t)));
    json_object_set_new(root, "pre", json_string(bnt_tokenizer_pre(t)));
    json_object_set_new(root, "n", json_integer((json_int_t)ids->n));
    json_object_set_new(root, "ids", bnt_json_ids(ids->at, ids->n));
    json_t *shown = pieces ? json_array() : NULL;
    struct bnt_buf piece = BNT_BUF(MAX_INPUT_BYTES);
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; pieces && i < ids->n && st == BNT_OK; i++) {
        bnt_buf_reset(&piece);
        st = bnt_tokenizer_piece(t, ids->at[i], true, &piece, err);
        json_array_append_new(shown, json_text(bnt_buf_view(&piece), piece.len, &lossless));
    }
    if (pieces) {
        json_object_set_new(root, "pieces", shown);
    }
    json_object_set_new(root, "text", json_text(bnt_buf_view(text), text->len, &lossless));
    json_object_set_new(root, "text_is_utf8", json_boolean(lossless));
    bnt_buf_release(&piece);
    if (st != BNT_OK) {
        json_decref(root);
        return st;
    }
    return bnt_json_print(root, JSON_COMPACT, err);
}

/* in: what was given; ids and text: both sides of it. */
static enum bnt_status convert(const struct bnt_tokenizer *t, const struct tokenize_opts *o,
                               struct bnt_buf *in, struct bnt_ids *ids, struct bnt_err *err)
{
    if (!o->decode) {
        unsigned flags = (o->no_bos ? 0u : BNT_ENCODE_ADD_SPECIAL) |
                         (o->no_special ? 0u : BNT_ENCODE_PARSE_SPECIAL);
        enum bnt_status st = bnt_tokenizer_encode(t, bnt_buf_view(in), in->len, flags, ids, err);
        if (st != BNT_OK || o->json) {
            return st != BNT_OK ? st : print_json(t, ids, in, o->pieces, err);
        }
        if (o->pieces) {
            return print_pieces(t, ids, err);
        }
        print_ids(ids);
        return BNT_OK;
    }
    enum bnt_status st = bnt_ids_parse(bnt_buf_view(in), ids, err);
    struct bnt_buf text = BNT_BUF((size_t)4 * MAX_INPUT_BYTES);
    if (st == BNT_OK) {
        st = bnt_tokenizer_decode(t, ids->at, ids->n, !o->no_special, &text, err);
    }
    if (st == BNT_OK && o->json) {
        st = print_json(t, ids, &text, o->pieces, err);
    } else if (st == BNT_OK) {
        fwrite(bnt_buf_view(&text), 1, text.len, stdout);
    }
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status open_tokenizer(const char *path, const char *pre, struct bnt_tokenizer **t,
                                      struct bnt_err *err)
{
    struct gguf *g;
    enum bnt_status st = gguf_open(path, GGUF_MODE_AUTO, &g, err);
    if (st != BNT_OK) {
        return st;
    }
    struct bnt_tokenizer_options opts = {.pre = pre, .warn = bnt_msg_warn_fn};
    st = bnt_tokenizer_new(g, &opts, t, err);
    gguf_close(g);
    return st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct tokenize_opts *o = opts;
    if (o->ids && o->pieces) {
        return bnt_msg_fail(BNT_E_USAGE, "choose one", "--ids and --pieces exclude each other");
    }
    struct bnt_err err = {0};
    struct bnt_model_ref ref;
    struct bnt_tokenizer *t = NULL;
    struct bnt_ids ids = {0};
    struct bnt_buf in = BNT_BUF(MAX_INPUT_BYTES);
    bool mock = false;
    enum bnt_status st = bnt_model_arg_resolve(app, &o->model, &ref, &mock, &err);
    if (st == BNT_OK && mock) {
        bnt_model_arg_warn(&ref);
    }
    if (st == BNT_OK) {
        st = open_tokenizer(ref.path, o->pre, &t, &err);
    }
    if (st == BNT_OK) {
        st = read_input(o, argc, argv, &in, &err);
    }
    if (st == BNT_OK) {
        st = convert(t, o, &in, &ids, &err);
    }
    bnt_buf_release(&in);
    bnt_ids_release(&ids);
    bnt_tokenizer_free(t);
    return st == BNT_OK ? bnt_model_arg_exit(st, mock) : bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_tokenize = {
    .name = "tokenize",
    .synopsis = "[-m FILE] [OPTIONS] [TEXT]",
    .summary = "turn text into tokens, and tokens into text",
    .description =
        "The text comes from the arguments, from --file or from standard input, byte for byte; it "
        "need not be "
        "valid UTF-8.\n\nBy default the text of control tokens, such as <|eot_id|>, becomes their "
        "id, and the "
        "start token is added if the file asks for it. With --no-special it stays text. With "
        "--decode, "
        "--no-special leaves control tokens out.\n\nA file with nothing but a vocabulary will do.",
    .examples = "  bnt tokenize \"Once upon a time\"               # ids of the bundled model's "
                "vocabulary\n"
                "  bnt tokenize -m model.gguf --pieces < a.txt   # one line per token\n"
                "  bnt tokenize -m model.gguf --decode 1 2 3     # text of ids\n"
                "  bnt tokenize -m model.gguf --pre llama-bpe    # for a file that does not name "
                "its pre-tokenizer",
    .opts = options,
    .opts_size = sizeof(struct tokenize_opts),
    .run = run,
};
