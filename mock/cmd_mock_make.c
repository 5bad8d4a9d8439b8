/* bnt mock make: a model from a seed. */
#include <jansson.h>
#include <stdio.h>

#include "base/app.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "mock/bnt_mock.h"
#include "mock/cmd_mock_impl.h"

struct make_opts {
    const char *like, *arch, *type, *embd_type, *tokenizer, *layout, *output, *fault;
    int64_t layers, embd, heads, kv_heads, ff, vocab, ctx, seed;
    bool json;
};

#define TEXT(name, value, text, member)                                                            \
    {                                                                                              \
        .kind = BNT_OPT_STR, .long_name = (name), .arg = (value), .help = (text),                  \
        .offset = offsetof(struct make_opts, member)                                               \
    }
#define COUNT(name, text, member, most)                                                            \
    {                                                                                              \
        .kind = BNT_OPT_INT, .long_name = (name), .arg = "N", .help = (text),                      \
        .offset = offsetof(struct make_opts, member), .min = 1, .max = (most)                      \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("Which model"),
    TEXT("like", "FILE",
         "keys, types, shapes and vocabulary of this model; numbers below change it", like),
    {.kind = BNT_OPT_STR,
     .long_name = "arch",
     .arg = "NAME",
     .help = "family (default bitnet-b1.58)",
     .offset = offsetof(struct make_opts, arch),
     .choices = "bitnet-b1.58|bitnet|bitnet-25|llama|qwen2|qwen3|minicpm"},
    {.kind = BNT_OPT_STR,
     .long_name = "type",
     .arg = "TYPE",
     .help = "of linear weights (default i2_s)",
     .offset = offsetof(struct make_opts, type),
     .choices = "i2_s|tl1|tl2|tq1_0|tq2_0|iq1_bn|iq2_bn|iq2_bn_r4|q1_0|q2_0|q2_0_g128|f32|f16|"
                "bf16|q4_0|q4_1|q5_0|q5_1|q8_0|q2_k|q3_k|q4_k|q5_k|q6_k|iq4_nl|iq4_xs"},
    {.kind = BNT_OPT_STR,
     .long_name = "embd-type",
     .arg = "TYPE",
     .help = "of the embedding, which is the head too (default f16)",
     .offset = offsetof(struct make_opts, embd_type),
     .choices =
         "f32|f16|bf16|q4_0|q4_1|q5_0|q5_1|q8_0|q2_k|q3_k|q4_k|q5_k|q6_k|iq4_nl|iq4_xs|tq1_0|"
         "tq2_0|q1_0|q2_0|q2_0_g128"},
    {.kind = BNT_OPT_STR,
     .long_name = "layout",
     .arg = "NAME",
     .help = "packing of i2_s (default 128/32, as published files are)",
     .offset = offsetof(struct make_opts, layout),
     .choices = "128/32|64/16|4-rows"},
    {.kind = BNT_OPT_STR,
     .long_name = "tokenizer",
     .arg = "KIND",
     .help = "a vocabulary drawn from the seed (default bpe, or that of --like)",
     .offset = offsetof(struct make_opts, tokenizer),
     .choices = "bpe|spm"},
    COUNT("layers", "layers (default 2)", layers, 1024),
    COUNT("embd", "width (default 256)", embd, 1048576),
    COUNT("heads", "attention heads (default 4)", heads, 65536),
    COUNT("kv-heads", "heads of keys and values (default half of --heads)", kv_heads, 65536),
    COUNT("ff", "width of the feed-forward (default twice --embd)", ff, 1048576),
    COUNT("vocab", "tokens (default 512)", vocab, 1048576),
    COUNT("ctx", "trained context (default 256)", ctx, 1073741824),
    {.kind = BNT_OPT_INT,
     .long_name = "seed",
     .arg = "N",
     .help = "the same seed, the same bytes, on every machine",
     .offset = offsetof(struct make_opts, seed),
     .def = "1",
     .max = 9007199254740992},
    TEXT("fault", "NAME", "plant a defect in the file: bnt mock faults lists them", fault),
    BNT_OPT_HEAD("Output"),
    {.kind = BNT_OPT_STR,
     .short_name = 'o',
     .long_name = "output",
     .arg = "FILE",
     .help = "the file to write, whole or not at all",
     .offset = offsetof(struct make_opts, output)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value: path, bytes, digest, kind, recipe",
     .offset = offsetof(struct make_opts, json)},
    BNT_OPT_END,
};

static struct bnt_mock_recipe recipe_of(const struct make_opts *o, const struct bnt_app *app)
{
    return (struct bnt_mock_recipe){.like = o->like,
                                    .arch = o->arch,
                                    .type = o->type,
                                    .embd_type = o->embd_type,
                                    .tokenizer = o->tokenizer,
                                    .layout = o->layout,
                                    .n_layer = (uint32_t)o->layers,
                                    .n_embd = (uint32_t)o->embd,
                                    .n_head = (uint32_t)o->heads,
                                    .n_head_kv = (uint32_t)o->kv_heads,
                                    .n_ff = (uint32_t)o->ff,
                                    .n_vocab = (uint32_t)o->vocab,
                                    .n_ctx = (uint32_t)o->ctx,
                                    .seed = (uint64_t)o->seed,
                                    .fault = o->fault,
                                    .interrupted = app->interrupted};
}

static enum bnt_status print_made(const struct make_opts *o, const struct bnt_mock_made *made,
                                  struct bnt_err *err)
{
    if (!o->json) {
        printf("%s  %s\n", made->digest, o->output);
        return BNT_OK;
    }
    json_t *v = json_pack("{s:o, s:I, s:s, s:s, s:s}", "path", bnt_json_text(o->output), "bytes",
                          (json_int_t)made->bytes, "digest", made->digest, "kind", "tiny", "recipe",
                          made->recipe);
    return bnt_json_print(v, JSON_COMPACT, err);
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct make_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_mock_made made;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "the file to write is given with -o",
                            "unexpected operand %s", argv[0]);
    }
    if (!o->output || !o->output[0]) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt mock make -o FILE",
                            "which file shall be written?");
    }
    struct bnt_mock_recipe recipe = recipe_of(o, app);
    if (bnt_mock_make(&recipe, o->output, &made, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    return print_made(o, &made, &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

const struct bnt_cmd mock_cmd_make = {
    .name = "make",
    .synopsis = "[OPTIONS] -o FILE",
    .summary = "a GGUF with random weights that every command can load",
    .description =
        "Metadata, vocabulary and weights are drawn from the seed with integer arithmetic, so that "
        "a recipe gives the same bytes on every machine; stdout has their sha256 and the path, as "
        "sha256sum writes them. The recipe stands in the file (general.mock.recipe).\n\n"
        "All types that are read can be written. tl1 and tl2 need a shape whose tile sizes are "
        "known, such as --embd 1536 --ff 4096 with as many --kv-heads as --heads; block types need "
        "widths that their blocks divide (256 for tq1_0, tq2_0 and q4_k to q6_k).",
    .examples =
        "  bnt mock make -o tiny.gguf                          # BitNet b1.58, 2 layers, I2_S\n"
        "  bnt mock make --arch llama --type q8_0 -o t.gguf    # a LLaMA\n"
        "  bnt mock make --like model.gguf --seed 7 -o m.gguf  # the same interface\n"
        "  bnt mock make --fault cut-short -o broken.gguf      # what must be refused\n"
        "  bnt infer -m tiny.gguf --allow-mock -p Hello        # ends with exit code 24",
    .opts = options,
    .opts_size = sizeof(struct make_opts),
    .run = run,
};
