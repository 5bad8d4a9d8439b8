/* `bnt infer`: the option table, and the run of one prompt. Output goes to stdout piece by piece as
 * it becomes certain; everything that is no answer goes to stderr. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/msg.h"
#include "engine/cmd_infer_impl.h"
#include "engine/commands.h"
#include "engine/engine_arg.h"
#include "engine/quality.h"

#define ROW(kind_, short_, long_, arg_, help_, member, ...)                                        \
    {                                                                                              \
        .kind = BNT_OPT_##kind_, .short_name = short_, .long_name = long_, .arg = arg_,            \
        .help = help_, .offset = offsetof(struct infer_opts, member), __VA_ARGS__                  \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("Model and prompt"),
    BNT_MODEL_ARG_ROWS(struct infer_opts, model),
    ROW(STR, 'p', "prompt", "TEXT", "the prompt", prompt, .def = NULL),
    ROW(STR, 'f', "file", "FILE",
        "the prompt from a file, or - for stdin; one newline at its end is dropped", file,
        .def = NULL),
    ROW(STR, 0, "prompts", "FILE",
        "each line is a prompt of its own, - for stdin; a beginning that a prompt shares with the "
        "one before is not evaluated again",
        prompts, .def = NULL),
    ROW(FLAG, 0, "echo", NULL, "print the prompt before the answer", echo, .def = NULL),
    ROW(FLAG, 0, "no-special", NULL, "text of control tokens in the prompt stays text", no_special,
        .def = NULL),
    BNT_OPT_HEAD("Chat"),
    ROW(FLAG, 0, "chat", NULL,
        "use the model's chat template; without a prompt, converse line by line", chat,
        .def = NULL),
    ROW(STR, 0, "system", "TEXT", "system message of the chat", system, .def = NULL),
    ROW(STR, 0, "chat-template", "FORM", "the chat form, instead of the file's", chat_template,
        .choices = BNT_CHAT_FORMS),
    ROW(FLAG, 0, "raw", NULL,
        "no chat template: text goes to the model as it is (the default without --chat)", raw,
        .def = NULL),
    BNT_OPT_HEAD("Sampling"),
    ROW(FLOAT, 0, "temperature", "T",
        "0 takes the likeliest token and ignores the next five and the seed", temperature,
        .def = "0", .min = 0, .max = 1000),
    ROW(INT, 0, "top-k", "K", "keep the K likeliest; 0: all", top_k, .def = "40", .min = 0,
        .max = INT32_MAX),
    ROW(FLOAT, 0, "typical-p", "P", "keep locally typical tokens of total probability P; 1: all",
        typical_p, .def = "1", .min = 0, .max = 1),
    ROW(FLOAT, 0, "top-p", "P", "keep the likeliest of total probability P; 1: all", top_p,
        .def = "0.95", .min = 0, .max = 1),
    ROW(FLOAT, 0, "min-p", "P", "keep those at least P times as likely as the likeliest; 0: all",
        min_p, .def = "0.05", .min = 0, .max = 1),
    ROW(STR, 0, "seed", "N",
        "same seed, same text; drawn and shown by --json and bnt --verbose if not given", seed,
        .def = NULL),
    ROW(FLAG, 0, "deterministic", NULL,
        "insist on temperature 0 and no seed (equal on every machine and kernel)", deterministic,
        .def = NULL),
    ROW(FLOAT, 0, "repeat-penalty", "X", "divide the logit of recent tokens; 1: off",
        repeat_penalty, .def = "1", .min = 1e-3, .max = 1e3),
    ROW(FLOAT, 0, "frequency-penalty", "X", "subtract X per recent occurrence", frequency_penalty,
        .def = "0", .min = -1e3, .max = 1e3),
    ROW(FLOAT, 0, "presence-penalty", "X", "subtract X from recent tokens", presence_penalty,
        .def = "0", .min = -1e3, .max = 1e3),
    ROW(INT, 0, "penalty-last-n", "N", "tokens that count as recent; -1: all", penalty_last_n,
        .def = "64", .min = -1, .max = 1048576),
    ROW(LIST, 0, "logit-bias", "ID=VALUE", "add VALUE (-inf bans) to a token's logit; repeatable",
        logit_bias, .def = NULL),
    BNT_OPT_HEAD("End of the answer"),
    ROW(INT, 'n', "max-tokens", "N",
        "at most N tokens; -1: until the end; default 0: 32 where stdout is no terminal, else "
        "until the end",
        max_tokens, .def = NULL, .min = -1, .max = INT32_MAX),
    ROW(LIST, 0, "stop", "TEXT", "end before this text; repeatable", stop, .def = NULL),
    ROW(LIST, 0, "stop-id", "ID", "end before this token; repeatable", stop_id, .def = NULL),
    ROW(FLAG, 0, "ignore-eos", NULL, "go on past the model's end tokens", ignore_eos, .def = NULL),
    BNT_OPT_HEAD("Output"),
    ROW(FLAG, 0, "json", NULL, "one JSON object instead of text", json, .def = NULL),
    ROW(INT, 0, "logprobs", "N", "the N best log-probabilities of every token", logprobs,
        .def = "0", .min = 0, .max = BNT_LOGPROBS_MAX),
    ROW(FLAG, 0, "metrics", NULL, "times, speed and memory", metrics, .def = NULL),
    ROW(FLAG, 0, "validate-output", NULL,
        "exit 7 on an empty, endlessly repeating or undecodable answer, 16 on broken logits",
        validate, .def = NULL),
    BNT_OPT_HEAD("Speed and sessions"),
    ROW(INT, 0, "speculate", "N",
        "draft up to N tokens from where the text repeats itself, and verify them at once: the "
        "same "
        "text, sooner if it does; 0: off",
        speculate, .def = "0", .min = 0, .max = BNT_SPECULATE_MAX),
    ROW(STR, 0, "session-save", "FILE",
        "afterwards, write what was evaluated (prompt and answer) for a later run", session_save,
        .def = NULL),
    ROW(STR, 0, "session-load", "FILE",
        "begin with a saved session: what the whole prompt shares with it is not evaluated again",
        session_load, .def = NULL),
    BNT_OPT_HEAD("Engine"),
    BNT_ENGINE_THREADS_ROW(struct infer_opts),
    BNT_ENGINE_KERNEL_ROW(struct infer_opts),
    BNT_ENGINE_DEVICE_ROWS(struct infer_opts),
    BNT_ENGINE_CTX_ROW(struct infer_opts),
    BNT_ENGINE_KV_TYPE_ROW(struct infer_opts),
    BNT_ENGINE_MEMORY_ROW(struct infer_opts),
    BNT_ENGINE_LAYOUT_ROW(struct infer_opts),
    BNT_ENGINE_PACKED_ROW(struct infer_opts),
    BNT_ENGINE_TL_ROW(struct infer_opts),
    BNT_ENGINE_TILES_ROW(struct infer_opts),
    BNT_ENGINE_HEAD_ROW(struct infer_opts),
    BNT_ENGINE_PRE_ROW(struct infer_opts),
    BNT_OPT_END,
};

enum bnt_status infer_write_stdout(void *ctx, const char *bytes, size_t n, struct bnt_err *err)
{
    (void)ctx;
    return bnt_msg_write(bytes, n, err);
}

/* ---- The prompt. */

static enum bnt_status check_options(const struct infer_opts *o)
{
    if ((o->json || o->logprobs > 0) && infer_json.print == NULL) {
        return bnt_msg_fail(BNT_E_UNSUPPORTED, "use them with a native bnt",
                            "--json and --logprobs need a JSON library, which this build has not");
    }
    if ((o->prompt != NULL) + (o->file != NULL) + (o->prompts != NULL) > 1) {
        return bnt_msg_fail(BNT_E_USAGE, NULL, "--prompt, --file and --prompts: give one of them");
    }
    if (o->system != NULL && !o->chat) {
        return bnt_msg_fail(BNT_E_USAGE, "add --chat", "--system needs a chat");
    }
    if (o->raw && (o->chat_template != NULL || o->system != NULL)) {
        return bnt_msg_fail(BNT_E_USAGE, NULL,
                            "--raw leaves no place for --chat-template or --system");
    }
    if (o->chat_template != NULL && !o->chat) {
        return bnt_msg_fail(BNT_E_USAGE, "add --chat", "--chat-template needs a chat");
    }
    if (o->deterministic && (o->temperature > 0 || o->seed != NULL)) {
        return bnt_msg_fail(BNT_E_USAGE, NULL, "--deterministic excludes --temperature and --seed");
    }
    if (infer_converses(o) && (o->json || o->logprobs > 0 || o->metrics)) {
        return bnt_msg_fail(BNT_E_USAGE, "give the user's message with -p or -f",
                            "--json, --logprobs and --metrics need one prompt, not a conversation");
    }
    return BNT_OK;
}

static enum bnt_status read_prompt(const struct infer_opts *o, struct bnt_buf *text,
                                   struct bnt_err *err)
{
    if (o->prompt != NULL) {
        return bnt_buf_puts(text, o->prompt, err);
    }
    if (o->file == NULL && isatty(STDIN_FILENO)) {
        bnt_err_set(err, BNT_E_USAGE, "no prompt");
        bnt_err_hint(err, "give one with -p TEXT, -f FILE or on stdin; --chat converses");
        return BNT_E_USAGE;
    }
    enum bnt_status st = bnt_file_read(o->file != NULL ? o->file : "-", text, err);
    if (st == BNT_OK && text->len > 0 && text->data[text->len - 1] == '\n') {
        text->data[--text->len] = '\0';
    }
    return st;
}

/* The prompt's ids. An empty prompt is BOS alone, for models that have one. */
static enum bnt_status encode_prompt(struct infer *in, const struct bnt_buf *text,
                                     struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st;
    if (in->chat.form != BNT_CHAT_UNKNOWN) {
        struct bnt_chat_message messages[2] = {{"system", in->o->system},
                                               {"user", bnt_buf_view(text)}};
        size_t skip = in->o->system == NULL;
        st = strlen(bnt_buf_view(text)) == text->len
                 ? bnt_chat_encode(&in->chat, in->t, messages + skip, 2 - skip, &in->prompt, err)
                 : bnt_err_set(err, BNT_E_USAGE, "a chat message cannot hold NUL bytes");
    } else {
        unsigned flags =
            BNT_ENCODE_ADD_SPECIAL | (in->o->no_special ? 0 : BNT_ENCODE_PARSE_SPECIAL);
        st = bnt_tokenizer_encode(in->t, bnt_buf_view(text), text->len, flags, &in->prompt, err);
    }
    if (st == BNT_OK && in->prompt.n == 0 && bnt_tokenizer_bos(in->t) >= 0) {
        st = bnt_ids_push(&in->prompt, bnt_tokenizer_bos(in->t), err);
    }
    if (st == BNT_OK && in->prompt.n == 0) {
        st = bnt_err_set(err, BNT_E_USAGE,
                         "the prompt is empty, and the model has no token to begin with");
    }
    in->tokenize_ns = bnt_clock_now_ns() - t0;
    return st;
}

/* ---- One prompt. */

static enum bnt_status report(struct infer *in, const struct bnt_generation *g, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (in->o->json) {
        return infer_json.print(in, g, err);
    }
    if (in->o->logprobs > 0) {
        st = infer_json.print_logprobs(in, g, err);
    }
    return st == BNT_OK && in->o->metrics ? infer_print_metrics(in, g, err) : st;
}

static enum bnt_status validate(const struct infer *in, const struct bnt_generation *g,
                                struct bnt_err *err)
{
    if (!in->o->validate || g->finish == BNT_FINISH_INTERRUPTED) {
        return BNT_OK;
    }
    return bnt_quality_answer(g->ids.at, g->ids.n, bnt_buf_view(&g->text), g->text.len,
                              g->finish != BNT_FINISH_STOP, err);
}

static enum bnt_status answer(struct infer *in, const struct bnt_buf *prompt,
                              struct bnt_generation *g, struct bnt_err *err)
{
    struct bnt_generate_params p = infer_params(in);
    if (!in->o->json) {
        p.on_text = infer_write_stdout;
    }
    enum bnt_status st = encode_prompt(in, prompt, err);
    if (st == BNT_OK && in->o->echo && !in->o->json) {
        st = infer_write_stdout(NULL, bnt_buf_view(prompt), prompt->len, err);
    }
    if (st == BNT_OK) {
        st = bnt_generate(in->session, in->t, in->sampler, in->prompt.at, in->prompt.n, &p, g, err);
    }
    if (!in->o->json &&
        (g->ids.n > 0 ||
         st == BNT_OK)) { /* also after a failure: what was produced ends its line */
        enum bnt_status written = infer_write_stdout(NULL, "\n", 1, err);
        st = st == BNT_OK ? written : st;
    }
    return st;
}

static enum bnt_status tell(struct bnt_err *err, const char *where)
{
    if (where) {
        (void)bnt_err_context(err, "%s", where);
    }
    return bnt_msg_error(err);
}

enum bnt_status infer_run_prompt(struct infer *in, const struct bnt_buf *prompt, const char *where)
{
    struct bnt_err err = {0}, quality = {0};
    struct bnt_generation g;
    bnt_generation_init(&g);
    enum bnt_status st = answer(in, prompt, &g, &err);
    if (st == BNT_OK && in->app->interrupted != NULL && *in->app->interrupted != 0) {
        g.finish = BNT_FINISH_INTERRUPTED;
    }
    if (st == BNT_OK) {
        st = report(in, &g, &err);
    }
    if (st != BNT_OK) {
        st = tell(&err, where);
    } else if (validate(in, &g, &quality) != BNT_OK) {
        st = tell(&quality, where);
    } else if (g.finish == BNT_FINISH_INTERRUPTED) {
        bnt_msg_note("interrupted after %zu tokens", g.ids.n);
        st = BNT_E_INTERRUPTED;
    } else if (g.finish == BNT_FINISH_CONTEXT && !in->o->json) {
        bnt_msg_warn("give a larger --ctx", "the context of %u positions is full",
                     bnt_session_n_ctx(in->session));
    }
    bnt_generation_release(&g);
    return st;
}

static enum bnt_status prepare(struct infer *in, struct bnt_buf *prompt, bool converse,
                               struct bnt_err *err)
{
    bool later = converse || in->o->prompts != NULL;
    const char *save = in->o->session_save;
    enum bnt_status st = save ? bnt_file_may_write(save, err) : BNT_OK;
    if (st == BNT_OK && !later) {
        st = read_prompt(in->o, prompt, err);
    }
    if (st == BNT_OK) {
        st = infer_open(in, err);
    }
    if (st == BNT_OK) {
        st = infer_load_session(in, err);
    }
    if (st == BNT_OK) {
        st = infer_make_sampler(in, err);
    }
    return st == BNT_OK ? infer_make_stops(in, err) : st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    struct infer in = {.app = app, .o = opts};
    bool converse = infer_converses(in.o);
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "the prompt is an option: -p TEXT",
                            "unexpected operand: %s", argv[0]);
    }
    enum bnt_status st = check_options(in.o);
    if (st != BNT_OK) {
        return st;
    }
    struct bnt_err err = {0};
    struct bnt_buf prompt = BNT_BUF(INFER_MAX_PROMPT);
    st = prepare(&in, &prompt, converse, &err);
    if (st != BNT_OK) {
        st = bnt_msg_error(&err);
    } else {
        st = converse                ? infer_converse(&in)
             : in.o->prompts != NULL ? infer_run_prompts(&in)
                                     : infer_run_prompt(&in, &prompt, NULL);
    }
    if ((st == BNT_OK || st == BNT_E_INTERRUPTED) && infer_save_session(&in, &err) != BNT_OK) {
        st = bnt_msg_error(&err);
    }
    st = bnt_model_arg_exit(st, in.mock);
    bnt_buf_release(&prompt);
    infer_close(&in);
    return st;
}

const struct bnt_cmd bnt_cmd_infer = {
    .name = "infer",
    .also = "run chat generate complete prompt",
    .synopsis = "[OPTIONS] [-p TEXT | -f FILE]",
    .summary = "let a model continue a prompt, or converse",
    .description =
        "Prints the answer to stdout as it is produced. Without -m the bundled model answers; "
        "without -p and -f the "
        "prompt is read from stdin.\n\n"
        "The default is greedy: temperature 0, the likeliest token, ties to the lower id. Greedy "
        "answers are the same "
        "on every processor, with every kernel and any number of threads, so --deterministic "
        "changes nothing but "
        "refuses options that would. With a temperature the same seed gives the same text.\n\n"
        "--json prints one object: prompt_ids, ids (generated, without the end token), text, "
        "finish_reason (stop, "
        "length, context or interrupted), model {path, digest, kind}, sampling, metrics (with "
        "reused_tokens of the prompt that did not have to be evaluated). After "
        "Ctrl-C what was "
        "produced is still printed, and the exit code is 130; a second Ctrl-C ends at once.",
    .examples =
        "  bnt infer -p \"Once upon a time\"                    # the bundled model tells a story\n"
        "  bnt infer -m bitnet-2b --chat                      # converse with a cached model\n"
        "  bnt infer -m FILE.gguf -p Hello -n 16 --json       # ids, text and metrics for a "
        "script\n"
        "  bnt infer -p Hello --temperature 0.8 --seed 7      # sampled, repeatable\n"
        "  bnt infer -f report.txt --speculate 16             # an answer that quotes, sooner\n"
        "  bnt infer --prompts questions.txt --json           # a line of JSON for each\n",
    .opts = options,
    .opts_size = sizeof(struct infer_opts),
    .run = run,
};
