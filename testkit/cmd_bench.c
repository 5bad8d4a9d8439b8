/* `bnt bench`: how fast a model runs here, and in how much memory. The command is the testkit's
 * because it also compares programs; what is measured is engine/bench.h's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/msg.h"
#include "engine/file_facts.h"
#include "engine/engine_arg.h"
#include "testkit/cmd_bench_impl.h"
#include "testkit/commands.h"
#include "testkit/perf_verdict.h"

#define ROW(kind_, short_, long_, arg_, help_, member, ...)                                        \
    {                                                                                              \
        .kind = BNT_OPT_##kind_, .short_name = short_, .long_name = long_, .arg = arg_,            \
        .help = help_, .offset = offsetof(struct bench_opts, member), __VA_ARGS__                  \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("What is measured"),
    BNT_MODEL_ARG_ROWS(struct bench_opts, model),
    ROW(STR, 0, "prompt-lengths", "N,N...",
        "prompts of so many tokens; single tokens are measured after one of the first length; "
        "default: 10,50,100,200,512, and 200 with --compare",
        prompt_lengths, .def = NULL),
    ROW(INT, 'n', "decode", "N", "single tokens of one repetition; 0: prompts alone", decode,
        .def = "128", .min = 0, .max = BENCH_DECODE_MAX),
    ROW(INT, 0, "sequences", "N",
        "decode so many sequences together, each with a KV cache of its own: the weights are read "
        "once for a token of each; tokens/s are those of all of them",
        sequences, .def = "1", .min = 1, .max = BNT_MAX_SEQUENCES),
    ROW(INT, 'r', "repetitions", "N", "how often all of it is measured", repetitions, .def = "5",
        .min = 1, .max = BENCH_REPS_MAX),
    ROW(INT, 'w', "warmup", "N", "repetitions before those that count", warmup, .def = "1",
        .min = 0, .max = BENCH_REPS_MAX),
    ROW(FLAG, 0, "no-bandwidth", NULL,
        "leave out the probe of the memory's speed, which takes a third of a second or more",
        no_bandwidth, .def = NULL),
    BNT_OPT_HEAD("Comparison"),
    ROW(STR, 0, "compare", "FILE|URL",
        "measure this program in turn with another bnt, or with a server (llama-server's protocol "
        "or OpenAI's) that runs the same model, and exit 17 when this one is slower, 3 when that "
        "cannot be told",
        compare, .def = NULL),
    ROW(INT, 0, "pairs", "N", "how often each of the two runs; default: 60", pairs, .def = NULL,
        .min = PERF_PAIRS_MIN, .max = PERF_PAIRS_MAX),
    ROW(FLOAT, 0, "margin", "PERCENT",
        "changes below this do not matter; default: 2.5, and 0.5 with --clock instructions", margin,
        .def = NULL, .min = 0.1, .max = 90),
    ROW(STR, 0, "clock", "WHICH",
        "cpu: processor time, which other programs of the machine do not lengthen; wall: the time "
        "that passes, for a quiet machine; instructions: counted by valgrind in one repetition, "
        "the same on every run; default: cpu, and wall with a server",
        clock, .def = NULL, .choices = "cpu|wall|instructions"),
    BNT_OPT_HEAD("Single operations"),
    ROW(FLAG, 0, "ops", NULL,
        "instead of a model, time each ternary product beside the float32 product of equal shape, "
        "and each quantiser",
        ops, .def = NULL),
    ROW(STR, 0, "shapes", "LIST",
        "with --ops, shapes of products: model (those of -m), 2b, 3b, odd, ROWSxCOLS; default: "
        "model,2b,3b,odd",
        shapes, .def = NULL),
    ROW(STR, 0, "batches", "N,N...", "with --ops, how many tokens at a time; default: 1,8,128",
        batches, .def = NULL),
    ROW(FLAG, 0, "gate", NULL,
        "with --ops, exit 17 when a ternary product reaches less than 0.7 of the float32 one's "
        "speed (0.9 on a GPU), or less than 60 % of the memory's where that binds it",
        gate, .def = NULL),
    BNT_OPT_HEAD("Model of time"),
    ROW(FLAG, 0, "explain", NULL,
        "predict the times from bytes, operations and probed rates, and show them beside the "
        "measured ones; with --gate, exit 1 when one is off by more than 15 %",
        explain, .def = NULL),
    ROW(STR, 0, "machine", "FILE|KEY=N,...",
        "with --explain, predict another machine, and say what is assumed: cores, bandwidth "
        "(GB/s), peak (GMAC/s of all cores), job_us, core_speed, cache_mb, zeros (the part of what "
        "meets the down matrices); the same predictions for this machine are held against the "
        "clock",
        machine, .def = NULL),
    ROW(STR, 0, "shape", "NAME", "with --machine, a model that need not be there: 2b or 3b", shape,
        .def = NULL),
    BNT_OPT_HEAD("Engine"),
    ROW(INT, 't', "threads", "N", "threads; 0: all this process may use, or 1 with --compare",
        engine.threads, .def = "0", .min = 0, .max = BNT_MAX_THREADS),
    ROW(INT, 0, "batch", "N", "tokens of a prompt that are evaluated together; 0: 128", batch,
        .def = "0", .min = 0, .max = 65536),
    BNT_ENGINE_KERNEL_ROW(struct bench_opts),
    BNT_ENGINE_DEVICE_ROWS(struct bench_opts),
    BNT_ENGINE_KV_TYPE_ROW(struct bench_opts),
    BNT_ENGINE_LAYOUT_ROW(struct bench_opts),
    BNT_ENGINE_PACKED_ROW(struct bench_opts),
    BNT_ENGINE_TL_ROW(struct bench_opts),
    BNT_ENGINE_TILES_ROW(struct bench_opts),
    BNT_ENGINE_HEAD_ROW(struct bench_opts),
    BNT_ENGINE_MEMORY_ROW(struct bench_opts),
    BNT_OPT_HEAD("Output"),
    ROW(FLAG, 0, "json", NULL, "one JSON object with every measured time", json, .def = NULL),
    BNT_OPT_END,
};

enum bnt_status bench_parse_list(struct bench_list list, uint32_t *out, size_t n_max, size_t *n,
                                 struct bnt_err *err)
{
    const char *at = list.text;
    do {
        char *end;
        errno = 0;
        unsigned long value = strtoul(at, &end, 10);
        if (*at < '0' || *at > '9' || errno != 0 || value == 0 || value > list.largest ||
            (*end != ',' && *end != '\0')) {
            return bnt_err_set(err, BNT_E_USAGE,
                               "%s %s: must be numbers from 1 to %u with commas between them",
                               list.option, list.text, list.largest);
        }
        if (*n == n_max) {
            return bnt_err_set(err, BNT_E_USAGE, "%s %s: more than %zu numbers", list.option,
                               list.text, n_max);
        }
        out[(*n)++] = (uint32_t)value;
        at = *end == ',' ? end + 1 : end;
    } while (*at != '\0' || at[-1] == ',');
    return BNT_OK;
}

static bool on_gpu(const struct bench_opts *o)
{
    return strncmp(o->engine.device, "cuda", 4) == 0;
}

static enum bnt_status plan_of(const struct bnt_app *app, const struct bench_opts *o,
                               struct bench_plan *plan, struct bnt_err *err)
{
    plan->n_decode = (uint32_t)o->decode;
    plan->n_sequences = (uint32_t)o->sequences;
    plan->n_warmups = (uint32_t)o->warmup;
    plan->n_reps = (uint32_t)o->repetitions;
    plan->packed = o->engine.packed;
    plan->model = bnt_engine_model(&o->engine);
    if (o->sequences > 1 && !on_gpu(o)) { /* a step of several reads the head in full */
        plan->model.head = BNT_HEAD_FULL;
    }
    /* The probe reads a large buffer: not below a limit that somebody set. */
    plan->no_bandwidth = o->no_bandwidth || o->engine.memory_limit > 0;
    plan->session = bnt_engine_session(&o->engine);
    plan->session.n_batch = (uint32_t)o->batch;
    plan->session.interrupted = app->interrupted;
    plan->progress = bnt_progress_show;
    struct bench_list lengths = {"--prompt-lengths",
                                 o->prompt_lengths ? o->prompt_lengths
                                 : o->compare      ? BENCH_COMPARE_LENGTHS
                                                   : "10,50,100,200,512",
                                 BENCH_LENGTH_MAX};
    return bench_parse_list(lengths, plan->lengths, BENCH_LENGTHS_MAX, &plan->n_lengths, err);
}

/* Measure, then hash: a file that was just hashed lies in memory, and would open faster. */
static enum bnt_status measure(struct bnt_app *app, struct bench_plan *plan,
                               struct bnt_model_ref *ref, struct bench_result *r,
                               struct bnt_err *err)
{
    bnt_progress_begin(plan->ctx, "repetitions", (uint64_t)plan->n_warmups + plan->n_reps, false);
    plan->path = ref->path;
    plan->digest = ref->digest;
    enum bnt_status st = bench_run(plan, r, err);
    bnt_progress_end(plan->ctx);
    if (st == BNT_OK && r->kernel_note[0] != '\0') {
        bnt_msg_warn(NULL, "%s", r->kernel_note);
    }
    if (st == BNT_OK && ref->digest[0] == '\0') {
        bool hashed;
        st = bnt_digest_of_file(ref->path, app->interrupted, ref->digest, &hashed, err);
    }
    return st;
}

/* Options that say nothing without another one, or that exclude each other. */
static enum bnt_status check_options(const struct bench_opts *o, struct bnt_err *err)
{
    if (o->ops + o->explain + (o->compare != NULL) > 1) {
        return bnt_err_set(err, BNT_E_USAGE, "--ops, --explain and --compare: take one of them");
    }
    if (o->sequences > 1 && (o->ops || o->explain || o->compare)) {
        return bnt_err_set(err, BNT_E_USAGE, "--sequences excludes --ops, --explain and --compare");
    }
    if (o->sequences > 1 && strcmp(o->engine.head, "screened") == 0 && !on_gpu(o)) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "--head screened of several --sequences needs --device cuda");
    }
    if (!o->compare && (o->pairs > 0 || o->margin > 0 || o->clock)) {
        return bnt_err_set(err, BNT_E_USAGE, "--pairs, --margin and --clock are of --compare");
    }
    if (o->no_bandwidth && (o->ops || o->explain)) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "--ops and --explain need what --no-bandwidth leaves "
                           "out");
    }
    if (o->ops && o->prompt_lengths) {
        return bnt_err_set(err, BNT_E_USAGE, "--ops has no prompts: --batches are its tokens");
    }
    if (!o->ops && (o->shapes || o->batches)) {
        return bnt_err_set(err, BNT_E_USAGE, "--shapes and --batches are of --ops");
    }
    if (o->gate && !o->ops && (!o->explain || o->shape)) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "--gate is of --ops, or of --explain with a model that is here");
    }
    if (o->explain && strcmp(o->engine.device, "cpu") != 0) {
        return bnt_err_set(err, BNT_E_USAGE, "--explain knows the processor alone: no --device");
    }
    if ((o->machine && !o->explain) || (o->shape && !o->machine)) {
        return bnt_err_set(err, BNT_E_USAGE, "--machine is of --explain, --shape of --machine");
    }
    if (o->shape && o->model.name) {
        return bnt_err_set(err, BNT_E_USAGE, "--shape stands for a model: no --model");
    }
    return BNT_OK;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct bench_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_progress progress;
    struct bench_plan plan = {.ctx = &progress};
    struct bench_result r = {0};
    struct bnt_model_ref ref = {.kind = "real"};
    bool mock = false;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "the model is an option: -m FILE",
                            "unexpected operand: %s", argv[0]);
    }
    enum bnt_status st = check_options(o, &err);
    st = st == BNT_OK ? plan_of(app, o, &plan, &err) : st;
    if (st == BNT_OK) {
        st = bnt_model_arg_resolve(app, &o->model, &ref, &mock, &err);
    }
    if (st == BNT_OK && mock) {
        bnt_model_arg_warn(&ref);
    }
    if (st == BNT_OK && (o->compare != NULL || o->ops || o->explain)) {
        st = o->ops       ? bench_ops(app, o, &ref)
             : o->explain ? bench_explain(app, o, &plan, &ref)
                          : bench_compare(app, o, &plan, &ref);
        return bnt_model_arg_exit(st, mock);
    }
    if (st == BNT_OK) {
        st = measure(app, &plan, &ref, &r, &err);
    }
    if (st == BNT_OK) {
        struct bench_report report = {.o = o, .r = &r, .ref = &ref};
        st = o->json ? bench_print_json(&report, &err) : bench_print_table(&report, &err);
    }
    bench_release(&r);
    return st == BNT_OK ? bnt_model_arg_exit(st, mock) : bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_bench = {
    .name = "bench",
    .also = "benchmark",
    .synopsis = "[OPTIONS]",
    .summary = "measure how fast a model runs here, and in how much memory",
    .description =
        "A repetition evaluates a prompt of every length, then one of the first length and single "
        "tokens after it, each the likeliest one. The text is fixed, so the work is the same in "
        "every run. Without -m the bundled model is measured.\n\n"
        "The table shows, for each, tokens per second by the median repetition and the quantiles "
        "of its times: for a prompt the time to the first new token, for single tokens the time "
        "of one. Then what opening took, the peak of resident memory, the bytes that one token "
        "reads (weights, and keys and values in the middle of the measured tokens) and the share "
        "of the memory's speed, probed in the same process, that this is; past 100 % the weights "
        "lie in a cache of the processor. Energy is shown where the processor's counters (RAPL) "
        "may be read; most systems let only the superuser.\n\n"
        "With --compare, FILE and this program run in turn, each run a fresh process with the same "
        "options. Of every run the fastest repetition counts. The verdict is slower, faster, same "
        "or undecided, from the bootstrap interval of the ratio over all pairs. Exit codes: 0 same "
        "or faster, 17 slower, 3 undecided: more --pairs may tell.\n\n"
        "With --ops single operations are timed instead, each by itself with its weights coming "
        "from memory: the multiply-adds per second of each ternary product and of the float32 "
        "product of equal shape, their ratio (with the quantiser of activations), the bytes and "
        "their share of the probed bandwidth, and what bounds the product by what was probed.\n\n"
        "With --explain a model of time predicts each figure at 1, 2, 4... threads from what was "
        "probed: how fast memory is read, what one thread takes for each product and step, what "
        "handing out a job costs. --machine predicts with it what is not there.",
    .examples =
        "  bnt bench                                    # the bundled model\n"
        "  bnt bench -m bitnet-2b -t 1 -r 10            # a cached model, one thread\n"
        "  bnt bench --prompt-lengths 512 -n 0 --json   # one prompt, for a script\n"
        "  bnt bench --sequences 64 --device cuda       # what a server for many users would "
        "reach\n"
        "  bnt bench --compare old/bnt                  # is this bnt slower than that one?\n"
        "  bnt bench --ops --gate --kernel avx2         # is a kernel as fast as it must be?\n"
        "  bnt bench --explain --machine cores=16,bandwidth=100 --shape 3b\n",
    .opts = options,
    .opts_size = sizeof(struct bench_opts),
    .run = run,
};
