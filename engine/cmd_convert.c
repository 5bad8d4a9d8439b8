/* bnt convert: a Hugging Face checkpoint as a GGUF file. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/app.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "engine/commands.h"
#include "engine/convert.h"

struct convert_opts {
    const char *type, *embedding, *name, *pre, *scale;
    struct bnt_strs tiles;
    bool force, half_scales, json;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "type",
     .arg = "TYPE",
     .help = "type of the linear weights (default: i2_s for what was trained to be ternary, else "
             "f16)",
     .offset = offsetof(struct convert_opts, type),
     .choices = "i2_s|tl1|tl2|tq1_0|tq2_0|iq1_bn|iq2_bn|iq2_bn_r4|q8_0|q6_k|q4_0|f16|bf16|f32"},
    {.kind = BNT_OPT_STR,
     .long_name = "embedding",
     .arg = "TYPE",
     .help = "type of the embedding and of the head (default f16)",
     .offset = offsetof(struct convert_opts, embedding),
     .choices = "f32|f16|bf16|q8_0|q6_k|q4_0"},
    {.kind = BNT_OPT_STR,
     .long_name = "name",
     .arg = "TEXT",
     .help = "name of the model in the file (default: that of the folder)",
     .offset = offsetof(struct convert_opts, name)},
    {.kind = BNT_OPT_STR,
     .long_name = "pre",
     .arg = "NAME",
     .help = "how text is cut before it is merged (default: found from tokenizer.json)",
     .offset = offsetof(struct convert_opts, pre)},
    {.kind = BNT_OPT_STR,
     .long_name = "weight-scale",
     .arg = "HOW",
     .help = "whether the scale of packed weights multiplies or divides (default auto: as the "
             "linear_class of config.json does)",
     .offset = offsetof(struct convert_opts, scale),
     .def = "auto",
     .choices = "auto|multiply|divide"},
    {.kind = BNT_OPT_LIST,
     .long_name = "tiles",
     .arg = "ROWSxCOLS=BM,BK,INNER",
     .help = "tl1, tl2: tile sizes of a shape that no preset knows; may be given many times",
     .offset = offsetof(struct convert_opts, tiles)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "half-scales",
     .help = "tq1_0, tq2_0: round scales to float16 instead of adding .scale tensors",
     .offset = offsetof(struct convert_opts, half_scales)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "force",
     .help = "ternarise a model that was not trained for it",
     .offset = offsetof(struct convert_opts, force)},
    BNT_OPT_HEAD("Output"),
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value: path, digest, bytes, architecture, type, tensors, packed",
     .offset = offsetof(struct convert_opts, json)},
    BNT_OPT_END,
};

static enum bnt_status print_report(const struct convert_opts *o, const char *path,
                                    const struct bnt_convert_report *r, struct bnt_err *err)
{
    if (!o->json) {
        printf("%s  %s\n", r->file.digest, path);
        return BNT_OK;
    }
    json_t *v =
        json_pack("{s:o, s:s, s:I, s:s, s:s, s:I, s:b}", "path", bnt_json_text(path), "digest",
                  r->file.digest, "bytes", (json_int_t)r->file.bytes, "architecture", r->arch,
                  "type", r->type, "tensors", (json_int_t)r->file.n_tensors, "packed", r->packed);
    return bnt_json_print(v, JSON_COMPACT, err);
}

static enum bnt_weight_scale scale_of(const char *text)
{
    return strcmp(text, "multiply") == 0 ? BNT_SCALE_MULTIPLY
           : strcmp(text, "divide") == 0 ? BNT_SCALE_DIVIDE
                                         : BNT_SCALE_AUTO;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct convert_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_convert_report report = {0};
    struct bnt_progress progress;
    if (argc != 2) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt convert checkpoint/ model.gguf",
                            "two words are needed: the folder to read, the file to write");
    }
    const struct bnt_convert_options c = {.type = o->type ? tensor_type_find(o->type) : NULL,
                                          .embedding =
                                              o->embedding ? tensor_type_find(o->embedding) : NULL,
                                          .name = o->name,
                                          .pre = o->pre,
                                          .scale = scale_of(o->scale),
                                          .tiles = o->tiles.at,
                                          .n_tiles = o->tiles.n,
                                          .force = o->force,
                                          .half_scales = o->half_scales,
                                          .interrupted = app->interrupted,
                                          .progress = bnt_progress_show,
                                          .ctx = &progress,
                                          .warn = bnt_msg_warn_fn};
    bnt_progress_begin(&progress, argv[1], 0, false);
    enum bnt_status st = bnt_convert(argv[0], argv[1], &c, &report, &err);
    bnt_progress_end(&progress);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    return print_report(o, argv[1], &report, &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_convert = {
    .name = "convert",
    .synopsis = "[OPTIONS] FOLDER OUT",
    .summary = "make a GGUF file of a Hugging Face checkpoint",
    .description =
        "FOLDER holds config.json, the weights as safetensors (one file, or shards with their "
        "index) and tokenizer.json or tokenizer.model. Families: BitNet b1.58, with float masters "
        "or packed to two bits, LLaMA, Qwen2 and Qwen3.\n\n"
        "Masters of a ternary model are ternarised by absmean, as its paper says; packed weights "
        "keep their codes. Weights are streamed, within 1 GB of memory whatever their size. The "
        "file is written whole or not at all, and read again before it gets its name: types, "
        "shapes, places, and a few tokens through all layers.\n\n"
        "A tensor that the family does not have, one that is missing and one of another shape are "
        "errors: nothing is left out silently.",
    .examples = "  bnt convert bitnet-b1.58-2B-4T-bf16/ model.gguf           # masters to i2_s\n"
                "  bnt convert bitnet-b1.58-2B-4T/ model.gguf --type tq2_0   # packed weights\n"
                "  bnt convert Qwen2.5-0.5B/ qwen.gguf --type q8_0           # any other model",
    .opts = options,
    .opts_size = sizeof(struct convert_opts),
    .run = run,
};
