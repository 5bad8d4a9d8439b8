/* bnt quantize: a GGUF model in another type. */
#include <jansson.h>
#include <stdio.h>

#include "base/app.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "engine/commands.h"
#include "engine/quantize_file.h"

struct quantize_opts {
    const char *embedding, *i2s_layout;
    struct bnt_strs tiles;
    bool force, half_scales, json;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "embedding",
     .arg = "TYPE",
     .help = "type of the embedding and of the head: f32, f16, bf16, q8_0, q6_k, q4_0 (default: as "
             "they are)",
     .offset = offsetof(struct quantize_opts, embedding),
     .choices = "f32|f16|bf16|q8_0|q6_k|q4_0"},
    {.kind = BNT_OPT_LIST,
     .long_name = "tiles",
     .arg = "ROWSxCOLS=BM,BK,INNER",
     .help = "tl1, tl2: tile sizes of a shape that no preset knows, in OUT, or in IN where OUT has "
             "none; may be given many times",
     .offset = offsetof(struct quantize_opts, tiles)},
    {.kind = BNT_OPT_STR,
     .long_name = "i2s-layout",
     .arg = "NAME",
     .help = "packing of i2_s in IN (default: found by scoring a text under each)",
     .offset = offsetof(struct quantize_opts, i2s_layout),
     .choices = "auto|128/32|64/16|4-rows"},
    {.kind = BNT_OPT_FLAG,
     .long_name = "half-scales",
     .help =
         "tq1_0, tq2_0: round scales to float16, as ggml does, instead of adding .scale tensors",
     .offset = offsetof(struct quantize_opts, half_scales)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "force",
     .help = "ternarise a model that was not trained for it; round what was rounded before",
     .offset = offsetof(struct quantize_opts, force)},
    BNT_OPT_HEAD("Output"),
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value: path, digest, bytes, type, tensors",
     .offset = offsetof(struct quantize_opts, json)},
    BNT_OPT_END,
};

static enum bnt_status print_report(const struct quantize_opts *o, const char *path,
                                    const char *type, const struct mwrite_report *r,
                                    struct bnt_err *err)
{
    if (!o->json) {
        printf("%s  %s\n", r->digest, path);
        return BNT_OK;
    }
    json_t *v =
        json_pack("{s:o, s:s, s:I, s:s, s:I}", "path", bnt_json_text(path), "digest", r->digest,
                  "bytes", (json_int_t)r->bytes, "type", type, "tensors", (json_int_t)r->n_tensors);
    return bnt_json_print(v, JSON_COMPACT, err);
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct quantize_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_model_ref ref;
    struct mwrite_report report = {0};
    if (argc != 3) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt quantize model.gguf model-tq2.gguf tq2_0",
                            "three words are needed: the file to read, the file to write, a type");
    }
    const struct tensor_type_info *type = tensor_type_find(argv[2]);
    if (!type) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt quantize --help lists the types",
                            "%s is no type of weights", argv[2]);
    }
    struct bnt_progress progress;
    struct bnt_quantize_options q = {.type = type->type,
                                     .embedding =
                                         o->embedding ? tensor_type_find(o->embedding) : NULL,
                                     .tiles = o->tiles.at,
                                     .n_tiles = o->tiles.n,
                                     .i2s_layout = o->i2s_layout,
                                     .force = o->force,
                                     .half_scales = o->half_scales,
                                     .interrupted = app->interrupted,
                                     .progress = bnt_progress_show,
                                     .ctx = &progress,
                                     .warn = bnt_msg_warn_fn};
    enum bnt_status st = app->resolve_model(app, argv[0], &ref, &err);
    if (st == BNT_OK) {
        bnt_progress_begin(&progress, argv[1], 0, false);
        st = bnt_quantize(ref.path, argv[1], &q, &report, &err);
        bnt_progress_end(&progress);
    }
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    return print_report(o, argv[1], type->name, &report, &err) == BNT_OK ? BNT_OK
                                                                         : bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_quantize = {
    .name = "quantize",
    .synopsis = "[OPTIONS] IN OUT TYPE",
    .summary = "write a model's weights in another type",
    .description =
        "IN is a GGUF file or the name of a cached model. TYPE is one of the ternary types i2_s, "
        "tl1, tl2, tq1_0, tq2_0, iq1_bn, iq2_bn, iq2_bn_r4 or one of q8_0, q6_k, q4_0, f16, bf16, "
        "f32; the linear "
        "weights of all layers get it, everything else stays as it is.\n\n"
        "Between ternary types nothing is lost: the codes are kept, and a scale that tq1_0, "
        "tq2_0 or iq1_bn cannot hold exactly becomes a tensor of its own. From f32, f16 and bf16 a "
        "model of "
        "the BitNet family is ternarised by absmean, as its paper says; weights that are a scale "
        "times -1, 0, 1 already keep that scale. Any other model is refused: ternary weights that "
        "were not trained say nothing (--force).\n\n"
        "The file is written whole or not at all, and read again before it gets its name: types, "
        "shapes, places, and a few tokens through all layers. i2_s is written as 128/32; tl1 and "
        "tl2 of shapes without a preset need --tiles, which the file then records for bnt.",
    .examples = "  bnt quantize model-f16.gguf model.gguf i2_s                # by absmean\n"
                "  bnt quantize model.gguf model-tq2.gguf tq2_0               # lossless\n"
                "  bnt quantize model.gguf m.gguf i2_s --embedding q6_k       # a smaller head\n"
                "  bnt quantize m.gguf t.gguf tl2 --tiles 256x768=64,96,32    # unknown shape",
    .opts = options,
    .opts_size = sizeof(struct quantize_opts),
    .run = run,
};
