/* `bnt perplexity`: the option table and the order of the steps. */
#include <math.h>
#include <string.h>

#include "engine/cmd_perplexity_impl.h"
#include "engine/commands.h"
#include "engine/engine_arg.h"

#define ROW(kind_, short_, long_, arg_, help_, member, ...)                                        \
    {                                                                                              \
        .kind = BNT_OPT_##kind_, .short_name = short_, .long_name = long_, .arg = arg_,            \
        .help = help_, .offset = offsetof(struct perplexity_opts, member), __VA_ARGS__             \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("Model and text"),
    BNT_MODEL_ARG_ROWS(struct perplexity_opts, model),
    ROW(STR, 'f', "file", "FILE", "the text, or - for stdin", file, .def = NULL),
    ROW(INT, 0, "max-tokens", "N", "only the first N tokens of the text; 0: all", max_tokens,
        .def = "0", .min = 0, .max = INT32_MAX),
    ROW(INT, 0, "window", "N",
        "positions that are read at a time; 0: those of the record, else 512, or as many as the "
        "model was trained with",
        window, .def = "0", .min = 0, .max = 1 << 22),
    ROW(INT, 0, "stride", "N",
        "a window begins N tokens after the one before it, so that every token has at least "
        "window - N before it; 0: windows do not overlap",
        stride, .def = "0", .min = 0, .max = 1 << 22),
    ROW(FLAG, 0, "dequantize", NULL,
        "ternary weights as F32, activations not quantised: what the format costs", dequantize,
        .def = NULL),
    BNT_OPT_HEAD("Comparison"),
    ROW(STR, 0, "record", "FILE", "keep the 64 best logits of every position in FILE", record,
        .def = NULL),
    ROW(STR, 0, "against", "FILE",
        "compare with such a record, or with dequantized: (the same model, run as by --dequantize)",
        against, .def = NULL),
    BNT_OPT_HEAD("Limits (exit 7 when one is broken, 3 when the text is too short to tell)"),
    ROW(FLOAT, 0, "max-perplexity", "X", "perplexity may be X at most", max_perplexity, .def = NULL,
        .min = 0, .max = 1e12),
    ROW(FLOAT, 0, "max-loss", "PERCENT",
        "perplexity may be so much above the reference's; 0: 2 against dequantised weights, 0.1 "
        "(either way) against weights that run the same way",
        max_loss, .def = "0", .min = 0, .max = 1e6),
    ROW(FLOAT, 0, "max-kl", "NATS",
        "mean divergence from the reference; 0: 0.0003 where both run the same way, else no limit",
        max_kl, .def = "0", .min = 0, .max = 1e6),
    ROW(FLOAT, 0, "min-match", "SHARE",
        "positions where the best token is the reference's, or as good; 0: no limit", min_match,
        .def = "0", .min = 0, .max = 1),
    ROW(FLOAT, 0, "confidence", "C", "of the intervals by which is judged", confidence,
        .def = "0.95", .min = 0.5, .max = 0.9999),
    ROW(INT, 0, "seed", "N", "of the resampling; the same seed gives the same interval", seed,
        .def = "1", .min = 0, .max = INT32_MAX),
    BNT_OPT_HEAD("Output"),
    ROW(FLAG, 0, "json", NULL, "one JSON object", json, .def = NULL),
    ROW(FLAG, 0, "per-token", NULL, "a JSON line per token, and the summary as the last one",
        per_token, .def = NULL),
    BNT_OPT_HEAD("Engine"),
    BNT_ENGINE_THREADS_ROW(struct perplexity_opts),
    BNT_ENGINE_KERNEL_ROW(struct perplexity_opts),
    BNT_ENGINE_DEVICE_ROWS(struct perplexity_opts),
    BNT_ENGINE_KV_TYPE_ROW(struct perplexity_opts),
    BNT_ENGINE_MEMORY_ROW(struct perplexity_opts),
    BNT_ENGINE_LAYOUT_ROW(struct perplexity_opts),
    BNT_ENGINE_PACKED_ROW(struct perplexity_opts),
    BNT_ENGINE_TL_ROW(struct perplexity_opts),
    BNT_ENGINE_TILES_ROW(struct perplexity_opts),
    BNT_ENGINE_PRE_ROW(struct perplexity_opts),
    BNT_OPT_END,
};

static enum bnt_status check_options(const struct perplexity_opts *o, int argc, char **argv)
{
    bool dequantized = o->against && strcmp(o->against, PERPLEXITY_DEQUANTIZED) == 0;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "the text is an option: -f FILE", "unexpected operand: %s",
                            argv[0]);
    }
    if (!o->file) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt perplexity -f text.txt", "no text");
    }
    if (o->window == 1 || (o->window > 0 && o->stride >= o->window)) {
        return bnt_msg_fail(BNT_E_USAGE, NULL,
                            "--window %lld --stride %lld: a window has at least two positions, and "
                            "the stride is less than the window",
                            (long long)o->window, (long long)o->stride);
    }
    if (o->dequantize && dequantized) {
        return bnt_msg_fail(BNT_E_USAGE, "leave --dequantize away",
                            "--dequantize --against dequantized: compares a run with itself");
    }
    if (!o->against && (o->max_loss > 0 || o->max_kl > 0 || o->min_match > 0)) {
        return bnt_msg_fail(BNT_E_USAGE, "add --against FILE or --against dequantized:",
                            "--max-loss, --max-kl and --min-match need something to compare with");
    }
    return BNT_OK;
}

static enum bnt_status measure(struct perplexity *p, struct bnt_err *err)
{
    enum bnt_status st = perplexity_read(p, err);
    if (st == BNT_OK) {
        st = perplexity_open_reference(p, err);
    }
    if (st == BNT_OK) {
        st = perplexity_score(p, err);
    }
    return st == BNT_OK ? perplexity_report(p, err) : st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    struct perplexity p = {.app = app, .o = opts, .text = BNT_BUF(PERPLEXITY_MAX_TEXT)};
    struct bnt_err err = {0};
    enum bnt_status st = check_options(p.o, argc, argv);
    if (st != BNT_OK) {
        return st;
    }
    st = measure(&p, &err);
    if (st == BNT_OK) {
        st = bnt_gates_status(p.gates, p.n_gates, p.n, &err);
    }
    if (st != BNT_OK) {
        st = bnt_msg_error(&err);
    }
    st = bnt_model_arg_exit(st, p.mock);
    perplexity_close(&p);
    return st;
}

const struct bnt_cmd bnt_cmd_perplexity = {
    .name = "perplexity",
    .synopsis = "[OPTIONS] -f FILE",
    .summary = "how well a model predicts a text, and whether two runs of it agree",
    .description =
        "Reads a text in windows and tells the perplexity of its tokens, with the interval in "
        "which it lies for texts of this kind, and the bits that the model needs for a byte.\n\n"
        "--record keeps what the model thought at every position; --against holds a run against "
        "such a record: loss of perplexity, divergence (KL), token match. The record may come from "
        "another kernel, machine, build or engine. --against dequantized: asks what ternary "
        "arithmetic costs: the same weights as F32, activations not quantised.\n\n"
        "A limit is kept when the whole interval keeps it and broken when all of it is past the "
        "limit. Else, and with fewer than 2048 tokens, the answer is \"not enough tokens to "
        "decide\" and the exit code 3, never a pass.",
    .examples =
        "  bnt perplexity -f text.txt                             # of the bundled model\n"
        "  bnt perplexity -f text.txt --against dequantized:      # the quality gate: at most 2 %\n"
        "  bnt perplexity -f text.txt --record good.rec           # keep what it thinks now\n"
        "  bnt perplexity -f text.txt --against good.rec          # does it still?\n"
        "  bnt perplexity -m NAME -f text.txt --max-perplexity 20 --max-tokens 20000\n",
    .opts = options,
    .opts_size = sizeof(struct perplexity_opts),
    .run = run,
};
