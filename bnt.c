/* bnt: main. Signals, global options, the table of commands: the only file that knows all folders.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/env.h"
#include "base/msg.h"
#include "base/opt.h"
#include "cache/commands.h"
#include "ci/commands.h"
#include "engine/commands.h"
#include "fetch/commands.h"
#include "mock/commands.h"
#include "testkit/commands.h"

enum { TEXT_MAX_BYTES = 4 << 20, HELP_WORDS_MAX = 3 /* a command has two at most */ };

static volatile sig_atomic_t interrupted;

struct global_opts {
    bool quiet, verbose, version;
    const char *color;
};

static const struct bnt_opt global_options[] = {
    {.kind = BNT_OPT_FLAG,
     .short_name = 'q',
     .long_name = "quiet",
     .help = "no notes and no progress on stderr",
     .offset = offsetof(struct global_opts, quiet)},
    {.kind = BNT_OPT_FLAG,
     .short_name = 'v',
     .long_name = "verbose",
     .help = "say more on stderr",
     .offset = offsetof(struct global_opts, verbose)},
    {.kind = BNT_OPT_STR,
     .long_name = "color",
     .arg = "WHEN",
     .help = "colour on stderr and in tables",
     .offset = offsetof(struct global_opts, color),
     .def = "auto",
     .choices = "auto|always|never"},
    {.kind = BNT_OPT_FLAG,
     .short_name = 'V',
     .long_name = "version",
     .help = "version, build and back ends",
     .offset = offsetof(struct global_opts, version)},
    BNT_OPT_END,
};

/* ---- bnt help, bnt completion ---- */

struct help_opts {
    bool man;
};

static const struct bnt_opt help_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "man",
     .help = "print the man page (roff)",
     .offset = offsetof(struct help_opts, man)},
    BNT_OPT_END,
};

static enum bnt_status run_help(struct bnt_app *app, const void *opts, int argc, char **argv);
static enum bnt_status run_completion(struct bnt_app *app, const void *opts, int argc, char **argv);

static const struct bnt_cmd cmd_help = {
    .name = "help",
    .synopsis = "[COMMAND]...",
    .summary = "what a command does",
    .opts = help_options,
    .opts_size = sizeof(struct help_opts),
    .examples = "  bnt help infer            # the same as bnt infer --help\n"
                "  bnt help cache gc         # of a command below another one\n"
                "  bnt help --man | man -l - # the whole manual",
    .run = run_help,
};

static const struct bnt_cmd cmd_completion = {
    .name = "completion",
    .synopsis = "bash|zsh|fish",
    .summary = "completion script for a shell",
    .examples = "  source <(bnt completion bash)                  # bash, this session\n"
                "  bnt completion zsh > \"${fpath[1]}/_bnt\"        # zsh, for good\n"
                "  bnt completion fish | source                   # fish, this session",
    .run = run_completion,
};

static const struct bnt_cmd *const commands[] = {
    &bnt_cmd_fetch,    &bnt_cmd_lock,       &bnt_cmd_update,  &bnt_cmd_path,
    &bnt_cmd_cache,    &bnt_cmd_mirror,     &bnt_cmd_infer,   &bnt_cmd_inspect,
    &bnt_cmd_validate, &bnt_cmd_fix,        &bnt_cmd_convert, &bnt_cmd_quantize,
    &bnt_cmd_tokenize, &bnt_cmd_perplexity, &bnt_cmd_devices, &bnt_cmd_trace,
    &bnt_cmd_diff,     &bnt_cmd_bisect,     &bnt_cmd_bench,   &bnt_cmd_crossval,
    &bnt_cmd_test,     &bnt_cmd_mock,       &bnt_cmd_ci,      &bnt_cmd_doctor,
    &bnt_cmd_env,      &cmd_help,           &cmd_completion,  NULL,
};

static const struct bnt_cmd root = {
    .name = "bnt",
    .synopsis = "[OPTIONS] COMMAND ...",
    .summary = "real 1-bit language models in continuous integration",
    .opts = global_options,
    .subs = commands,
    .examples = "  bnt infer -p \"Once upon a time\"     # the bundled model answers\n"
                "  bnt fetch bundled: && bnt cache ls  # a model in the cache\n"
                "  bnt test --tier fast                # the suites, on a real model\n"
                "  bnt COMMAND --help                  # what a command does",
};

/* Print generated text, or the error that kept it from being made. */
static enum bnt_status print_text(enum bnt_status st, struct bnt_buf *text,
                                  const struct bnt_err *err)
{
    if (st != BNT_OK) {
        st = bnt_msg_error(err);
    } else {
        bnt_msg_puts(bnt_buf_view(text));
    }
    bnt_buf_release(text);
    return st;
}

static enum bnt_status run_help(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct help_opts *o = opts;
    struct bnt_buf text = BNT_BUF(TEXT_MAX_BYTES);
    struct bnt_err err = {0};
    if (o->man) {
        return print_text(bnt_cmd_man(app->commands, app->globals, &text, &err), &text, &err);
    }
    if (argc == 0) {
        return print_text(bnt_cmd_help(&root, "", &text, &err), &text, &err);
    }
    char program[] = "bnt", ask[] = "--help";
    char *words[HELP_WORDS_MAX + 2] = {program};
    if (argc > HELP_WORDS_MAX) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt help COMMAND", "too many words");
    }
    memcpy(words + 1, argv, (size_t)argc * sizeof *argv);
    words[argc + 1] = ask;
    return bnt_cmd_run(&root, "", app, argc + 2, words);
}

static enum bnt_status run_completion(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    struct bnt_buf text = BNT_BUF(TEXT_MAX_BYTES);
    struct bnt_err err = {0};
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt completion bash",
                            "which shell? bash, zsh or fish");
    }
    return print_text(bnt_cmd_completion(argv[0], app->commands, app->globals, &text, &err), &text,
                      &err);
}

/* ---- main ---- */

static enum bnt_status print_version(void)
{
#ifdef __clang__
    const char *compiler = "";
#else
    const char *compiler = "gcc ";
#endif
    printf("bnt %s (%s build, %s%s)\nback ends: cpu\n", BNT_VERSION, BNT_CONFIG, compiler,
           __VERSION__);
    return BNT_OK;
}

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* A page of a mapped file that is no longer there: somebody cut the file short. Results of this run
 * are lost, so it ends, saying why; only calls that are safe in a handler. Several threads may meet
 * the hole at the same time: the first one speaks for all. */
static void on_bus_error(int number)
{
    (void)number;
    static atomic_flag told = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&told)) {
        pause();
    }
    static const char text[] = "error: a model file was cut short while it was in use\n"
                               "  hint: replace models by rename, as bnt fetch does\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    _exit(written < 0 ? BNT_E_INTERNAL : BNT_E_FILE);
}

/* A file that is opened while standard output or error is closed would take its place, and what is
 * printed would land in it. What stands there now fails as a closed one does. */
static void fill_closed_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

/* The first SIGINT, SIGTERM or SIGHUP (the terminal was closed) asks for a clean stop; the second
 * one kills, since the handler is gone by then. nohup has SIGHUP ignored, and so it stays. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (signal(SIGHUP, SIG_IGN) != SIG_IGN) {
        sigaction(SIGHUP, &action, NULL);
    }
    action.sa_handler = on_bus_error;
    action.sa_flags = 0;
    sigaction(SIGBUS, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* these two are errors of the write: it is told, and cleaned up */
    signal(SIGXFSZ, SIG_IGN);
}

/* Global options stand before the command's name: how many arguments they take up, program name
 * included. */
static int count_globals(int argc, char **argv)
{
    int i = 1;
    while (i < argc && argv[i][0] == '-' && argv[i][1] != '\0') {
        i += strcmp(argv[i], "--color") == 0 ? 2 : 1;
    }
    return i < argc ? i : argc;
}

static enum bnt_status dispatch(struct bnt_app *app, int argc, char **argv)
{
    struct global_opts globals = {0};
    struct bnt_err err = {0};
    int n_operands = 0, first = count_globals(argc, argv);
    bool help = false;
    if (bnt_opt_parse(global_options, &globals, first - 1, argv + 1, &n_operands, &help, &err) !=
        BNT_OK) {
        return bnt_msg_error(&err);
    }
    enum bnt_color color = strcmp(globals.color, "always") == 0  ? BNT_COLOR_ALWAYS
                           : strcmp(globals.color, "never") == 0 ? BNT_COLOR_NEVER
                                                                 : BNT_COLOR_AUTO;
    bnt_msg_setup(globals.quiet     ? BNT_MSG_QUIET
                  : globals.verbose ? BNT_MSG_VERBOSE
                                    : BNT_MSG_NORMAL,
                  color);
    if (globals.version) {
        return print_version();
    }
    if (help) {
        return run_help(app, &(struct help_opts){0}, 0, NULL);
    }
    if (bnt_env_switch("BNT_OFFLINE") < 0) { /* it must not use a network that it was denied */
        return bnt_msg_fail(BNT_E_USAGE, "write 1, true, yes or on; or 0, false, no or off",
                            "BNT_OFFLINE says neither yes nor no: %s", bnt_env("BNT_OFFLINE"));
    }
    return bnt_cmd_run(&root, "", app, argc - first + 1, argv + first - 1);
}

/* A verdict that the disk had no room for was told to nobody, so its code says nothing. */
static enum bnt_status written_status(enum bnt_status st)
{
    const enum bnt_status written = bnt_msg_flush();
    return st == BNT_OK || written == BNT_E_NO_SPACE ? written : st;
}

int main(int argc, char **argv)
{
    fill_closed_streams();
    catch_signals();
    struct bnt_app app = {
        .commands = commands,
        .globals = global_options,
        .interrupted = &interrupted,
        .resolve_model = cache_resolve_model,
        .source = &fetch_source,
        .cpu_has = engine_cpu_has,
        .network = &fetch_network,
    };
    return (int)written_status(dispatch(&app, argc, argv));
}
