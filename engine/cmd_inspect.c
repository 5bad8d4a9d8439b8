/* bnt inspect: what a model file is, without running it. */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "base/utf8.h"
#include "engine/cmd_inspect_impl.h"
#include "engine/commands.h"
#include "engine/model_arg.h"
#include "engine/unicode.h"

#define MAX_TEXT_BYTES 72 /* of a string in a table */
#define SHOWN_ELEMENTS 5  /* of an array in a table */

struct inspect_opts {
    struct bnt_model_arg model;
    bool tensors, metadata, json, sarif;
};

static const struct bnt_opt options[] = {
    BNT_MODEL_ARG_ROWS(struct inspect_opts, model),
    BNT_OPT_HEAD("Output"),
    {BNT_OPT_FLAG, 0, "tensors", NULL, "also every tensor: type, shape, place, scale",
     offsetof(struct inspect_opts, tensors), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "metadata", NULL, "also every key; with --json: arrays in full",
     offsetof(struct inspect_opts, metadata), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "json", NULL, "one JSON value with everything",
     offsetof(struct inspect_opts, json), NULL, 0, 0, NULL},
    {BNT_OPT_FLAG, 0, "sarif", NULL,
     "instead: a SARIF 2.1.0 log with what is wrong, for code scanning",
     offsetof(struct inspect_opts, sarif), NULL, 0, 0, NULL},
    BNT_OPT_END,
};

void inspect_put_text(struct gguf_str s, size_t max)
{
    size_t i = 0;
    while (i < s.len && i < max) {
        unsigned char c = (unsigned char)s.data[i];
        unsigned n = bnt_utf8_len((const unsigned char *)s.data + i, s.len - i);
        if (c == '\n') {
            fputs("\\n", stdout);
        } else if (c == '\t') {
            fputs("\\t", stdout);
        } else if (n == 0 || c < 0x20 || c == 0x7f) {
            printf("\\x%02x", c);
        } else if (n == 2 && c == 0xc2 && (unsigned char)s.data[i + 1] < 0xa0) {
            /* U+0080 to U+009F: control codes too, to some terminals. */
            printf("\\x%02x\\x%02x", c, (unsigned char)s.data[i + 1]);
        } else {
            fwrite(s.data + i, 1, n, stdout);
        }
        i += n ? n : 1;
    }
    fputs(i < s.len ? "..." : "", stdout);
}

static void put_quoted(struct gguf_str s, size_t max)
{
    putchar('"');
    inspect_put_text(s, max);
    putchar('"');
}

/* 1234567 of "B" as "1.23 MB". */
static void put_count(uint64_t n, const char *unit)
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if ((double)n >= units[i].unit) {
            printf("%.2f %s%s", (double)n / units[i].unit, units[i].name, unit);
            return;
        }
    }
    printf("%llu%s%s", (unsigned long long)n, unit[0] ? " " : "", unit);
}

static void put_label(const char *label)
{
    printf("%-14s ", label);
}

static void put_dimension(const char *label, int64_t n, bool *first)
{
    if (n >= 0) {
        printf("%s%lld %s", *first ? "" : ", ", (long long)n, label);
        *first = false;
    }
}

static void print_file(const struct inspect *in)
{
    const struct gguf *g = in->g;
    put_label("file");
    printf("%s (", g->path);
    put_count(g->file_size, "B");
    printf(")\n");
    if (strcmp(in->ref->kind, "real") != 0) {
        struct gguf_str recipe = {"", 0};
        gguf_get_str(g, BNT_MOCK_RECIPE_KEY, &recipe);
        put_label("kind");
        printf("%s, a mock: ", in->ref->kind);
        inspect_put_text(recipe, 512);
        putchar('\n');
    }
    if (in->ref->digest[0]) {
        put_label("sha256");
        printf("%s\n", in->ref->digest);
    }
    put_label("format");
    printf("GGUF version %u, %s-endian, alignment %llu, tensors from byte %llu\n", g->version,
           g->big_endian ? "big" : "little", (unsigned long long)g->alignment,
           (unsigned long long)g->data_offset);
}

static void print_model(const struct inspect *in)
{
    put_label("name");
    inspect_put_text(in->name, MAX_TEXT_BYTES);
    putchar('\n');
    put_label("architecture");
    inspect_put_text(in->arch, MAX_TEXT_BYTES);
    printf("%s%s%s\n", in->family ? " (" : "",
           in->family ? in->family : " (not a family that is run here)", in->family ? ")" : "");
    bool first = true;
    put_label("shape");
    put_dimension("layers", in->n_layer, &first);
    put_dimension("wide", in->n_embd, &first);
    put_dimension("in the feed-forward", in->n_ff, &first);
    put_dimension("heads", in->n_head, &first);
    put_dimension("KV heads", in->n_head_kv, &first);
    printf("%s\n", first ? "(the file does not say)" : "");
    first = true;
    put_label("context");
    put_dimension("positions", in->n_ctx, &first);
    printf("%s\n", first ? "(the file does not say)" : "");
}

static void print_weights(const struct inspect *in)
{
    put_label("weights");
    put_count(in->n_weights, "");
    printf(" in %llu tensors, ", (unsigned long long)in->g->n_tensors);
    put_count(in->tensor_bytes, "B");
    printf("\n");
    put_label("file type");
    if (in->file_type < 0) {
        printf("(the file does not say)\n");
    } else {
        printf("%lld (%s)\n", (long long)in->file_type,
               in->file_type_name ? in->file_type_name : "not known here");
    }
    for (size_t i = 0; i < in->n_types; i++) {
        const struct inspect_type *t = &in->types[i];
        put_label(i == 0 ? "types" : "");
        printf("%-6s %6llu tensors  %5.1f %% of the bytes, %.3f bits per weight\n", t->name,
               (unsigned long long)t->tensors, 100.0 * (double)t->bytes / (double)in->tensor_bytes,
               8.0 * (double)t->bytes / (double)t->weights);
    }
}

static const char *yes_no(bool said, bool value)
{
    if (!said) {
        return "not said";
    }
    return value ? "yes" : "no";
}

static void print_tokenizer(const struct inspect *in)
{
    put_label("tokenizer");
    if (in->tokenizer.len == 0) {
        printf("(none)\n");
        return;
    }
    inspect_put_text(in->tokenizer, MAX_TEXT_BYTES);
    printf(", pre-tokenizer ");
    inspect_put_text(in->pre.len ? in->pre : (struct gguf_str){"not said", 8}, MAX_TEXT_BYTES);
    printf(", %llu tokens, %llu merges\n", (unsigned long long)in->n_tokens,
           (unsigned long long)in->n_merges);
    put_label("");
    printf("adds a start token: %s, an end token: %s\n", yes_no(in->add_bos_said, in->add_bos),
           yes_no(in->add_eos_said, in->add_eos));
    for (int k = 0; k < INSPECT_N_SPECIAL; k++) {
        const struct inspect_special *s = &in->special[k];
        if (s->id >= 0) {
            put_label("");
            printf("%s %lld ", s->role, (long long)s->id);
            if (s->text.data) {
                put_quoted(s->text, MAX_TEXT_BYTES);
            } else {
                printf("(outside the vocabulary)");
            }
            putchar('\n');
        }
    }
}

static void print_template(const struct inspect *in)
{
    put_label("chat template");
    if (in->chat_template.len == 0) {
        printf("(none)\n");
        return;
    }
    const char *end = memchr(in->chat_template.data, '\n', in->chat_template.len);
    struct gguf_str line = in->chat_template;
    line.len = end ? (size_t)(end - line.data) : line.len;
    printf("%zu bytes: ", in->chat_template.len);
    inspect_put_text(line, MAX_TEXT_BYTES);
    putchar('\n');
}

static void put_number(double v, bool single)
{
    char text[INSPECT_NUMBER_TEXT];
    inspect_number(v, single, text);
    fputs(text, stdout);
}

static void put_scalar(const struct gguf *g, const char *key, const struct gguf_kv *kv)
{
    uint64_t u;
    int64_t i;
    double f;
    bool b;
    struct gguf_str s;
    if (gguf_get_str(g, key, &s)) {
        put_quoted(s, MAX_TEXT_BYTES);
    } else if (gguf_get_i64(g, key, &i)) {
        printf("%lld", (long long)i);
    } else if (gguf_get_u64(g, key, &u)) {
        printf("%llu", (unsigned long long)u);
    } else if (gguf_get_f64(g, key, &f)) {
        put_number(f, kv->type == GGUF_F32);
    } else if (gguf_get_bool(g, key, &b)) {
        printf("%s", b ? "true" : "false");
    }
}

static void put_array(const struct gguf *g, const char *key, const struct gguf_kv *kv)
{
    struct gguf_iter it;
    struct gguf_str s;
    double f;
    int64_t v;
    printf("%llu of %s", (unsigned long long)kv->n, gguf_value_type_name(kv->elem_type));
    if (kv->elem_type == GGUF_ARR || !gguf_iter_begin(g, key, kv->elem_type, &it)) {
        return;
    }
    printf(": ");
    for (uint64_t i = 0; i < kv->n && i < SHOWN_ELEMENTS; i++) {
        printf("%s", i ? ", " : "");
        if (gguf_iter_str(&it, &s)) {
            put_quoted(s, MAX_TEXT_BYTES / 3);
        } else if (gguf_iter_i64(&it, &v)) {
            printf("%lld", (long long)v);
        } else if (gguf_iter_f64(&it, &f)) {
            put_number(f, kv->elem_type == GGUF_F32);
        }
    }
    printf("%s", kv->n > SHOWN_ELEMENTS ? ", ..." : "");
}

static enum bnt_status print_metadata(const struct gguf *g, struct bnt_err *err)
{
    struct bnt_buf key = BNT_BUF(GGUF_MAX_KEY_BYTES);
    enum bnt_status st = BNT_OK;
    printf("\n%-44s %-6s %s\n", "KEY", "TYPE", "VALUE");
    for (uint64_t i = 0; i < g->n_kv && st == BNT_OK; i++) {
        const struct gguf_kv *kv = &g->kv[i];
        bnt_buf_reset(&key);
        st = bnt_buf_append(&key, kv->key.data, kv->key.len, err);
        inspect_put_text(kv->key, GGUF_MAX_KEY_BYTES);
        printf("%*s %-6s ", kv->key.len < 44 ? (int)(44 - kv->key.len) : 0, "",
               gguf_value_type_name(kv->type));
        if (st == BNT_OK && kv->type == GGUF_ARR) {
            put_array(g, bnt_buf_view(&key), kv);
        } else if (st == BNT_OK) {
            put_scalar(g, bnt_buf_view(&key), kv);
        }
        putchar('\n');
    }
    bnt_buf_release(&key);
    return st;
}

static void print_tensors(const struct gguf *g)
{
    printf("\n%-36s %-6s %-22s %12s %14s  %s\n", "TENSOR", "TYPE", "SHAPE", "BYTES", "OFFSET",
           "SCALE");
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        char shape[96];
        int n = snprintf(shape, sizeof shape, "%llu", (unsigned long long)t->ne[0]);
        for (int d = 1; d < t->n_dims && n > 0 && (size_t)n < sizeof shape; d++) {
            n += snprintf(shape + n, sizeof shape - (size_t)n, " x %llu",
                          (unsigned long long)t->ne[d]);
        }
        inspect_put_text(t->name, GGUF_MAX_NAME_BYTES);
        printf("%*s %-6s %-22s %12llu %14llu", t->name.len < 36 ? (int)(36 - t->name.len) : 0, "",
               tensor_type_name((uint32_t)t->type), shape, (unsigned long long)t->size,
               (unsigned long long)t->offset);
        float scale;
        if (inspect_scale(g, t, &scale)) {
            printf("  ");
            put_number((double)scale, true);
        }
        putchar('\n');
    }
}

static enum bnt_status print_human(const struct inspect *in, const struct inspect_opts *o,
                                   struct bnt_err *err)
{
    print_file(in);
    print_model(in);
    print_weights(in);
    print_tokenizer(in);
    print_template(in);
    enum bnt_status st = o->metadata ? print_metadata(in->g, err) : BNT_OK;
    if (st == BNT_OK && o->tensors) {
        print_tensors(in->g);
    }
    return st;
}

static enum bnt_status inspect(struct bnt_app *app, const struct inspect_opts *o,
                               const struct bnt_model_arg *model, bool *mock, struct bnt_err *err)
{
    struct bnt_model_ref ref;
    struct gguf *g = NULL;
    enum bnt_status st = bnt_model_arg_resolve(app, model, &ref, mock, err);
    if (st == BNT_OK) {
        st = gguf_open(ref.path, GGUF_MODE_AUTO, &g, err);
    }
    if (st == BNT_OK && o->sarif) {
        st = inspect_print_sarif(ref.path, &(struct bnt_err){0}, err);
    } else if (st == BNT_OK) {
        struct inspect in;
        inspect_gather(g, &ref, &in);
        st = o->json ? inspect_print_json(&in, o->metadata, err) : print_human(&in, o, err);
    }
    if (st == BNT_OK && *mock) {
        bnt_model_arg_warn(&ref);
    }
    gguf_close(g);
    return st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct inspect_opts *o = opts;
    struct bnt_model_arg model = o->model;
    struct bnt_err err = {0};
    bool mock = false;
    enum bnt_status st = bnt_model_arg_operand(&model, "bnt inspect FILE", argc, argv, &err);
    if (st == BNT_OK && o->json && o->sarif) {
        bnt_err_hint(&err, "give one of the two");
        st = bnt_err_set(&err, BNT_E_USAGE, "--json and --sarif do not go together");
    } else if (st == BNT_OK) {
        st = inspect(app, o, &model, &mock, &err);
    }
    if (st == BNT_OK) {
        return bnt_model_arg_exit(st, mock);
    }
    if (o->sarif && st != BNT_E_USAGE) {
        inspect_print_sarif(model.name ? model.name : "", &err, &(struct bnt_err){0});
    } else if (o->json) {
        inspect_print_error_json(&err);
    }
    return bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_inspect = {
    .name = "inspect",
    .also = "show info dump",
    .synopsis = "[OPTIONS] [FILE]",
    .summary = "what a model file is: family, shape, types, vocabulary",
    .description =
        "FILE is a GGUF file or the name of a cached model; without it the bundled model is "
        "shown. Nothing is run; the file is checked from end to end of its header: every count, "
        "length, offset and type.\n\n"
        "A broken file is refused by class (header, version, alignment, size, bounds, "
        "unsupported-type, corrupt, dimensions...), place and name. With --json the refusal is "
        "{\"error\": {\"class\", \"status\", \"recoverable\", \"message\", \"hint\"}}, and the "
        "exit code "
        "is the status. With --sarif it is a result whose rule is the class and whose region is "
        "the byte, where one is known; a sound file has no results.",
    .examples = "  bnt inspect model.gguf               # a summary\n"
                "  bnt inspect --tensors model.gguf     # and every tensor\n"
                "  bnt inspect --json --metadata NAME   # everything, for a program",
    .opts = options,
    .opts_size = sizeof(struct inspect_opts),
    .run = run,
};
