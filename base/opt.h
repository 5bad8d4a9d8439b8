/* Commands and options as data. One table per command drives parsing, --help, shell completion and
 * the man page, so that none of them can drift from the others.
 *
 *     struct greet_opts { const char *name; bool loud; };
 *     static const struct bnt_opt options[] = {
 *         {.kind = BNT_OPT_STR, .short_name = 'n', .long_name = "name", .arg = "NAME",
 *          .help = "whom to greet", .offset = offsetof(struct greet_opts, name)},
 *         BNT_OPT_END,
 *     };
 *     const struct bnt_cmd bnt_cmd_greet = {
 *         .name = "greet", .synopsis = "[OPTIONS]", .summary = "say hello",
 *         .opts = options, .opts_size = sizeof(struct greet_opts), .run = run};
 *
 * The parser owns `--help`, `--`, `--name=value`, `--name value`, `-xVALUE`, `-x VALUE`, grouped
 * flags and unambiguous errors with a "did you mean". `--no-NAME` clears a BNT_OPT_FLAG. Operands
 * and options may be mixed. */
#ifndef BNT_OPT_H
#define BNT_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

struct bnt_app;

enum bnt_opt_kind {
    BNT_OPT_KIND_END,
    BNT_OPT_HEADING, /* help: a heading in --help and the man page */
    BNT_OPT_FLAG,    /* bool */
    BNT_OPT_STR,     /* const char *, borrowed from argv or from `def` */
    BNT_OPT_INT,     /* int64_t, within [min, max] when max > min */
    BNT_OPT_FLOAT,   /* double, finite, within [min, max] when max > min */
    BNT_OPT_SIZE,    /* uint64_t bytes; suffixes k M G (1000), Ki Mi Gi (1024), an optional B */
    BNT_OPT_LIST,    /* struct bnt_strs: may be given many times */
};

struct bnt_strs { /* up to BNT_STRS_MAX borrowed strings; more is a usage error */
    size_t n;
#define BNT_STRS_MAX 64
    const char *at[BNT_STRS_MAX];
};

struct bnt_opt {
    enum bnt_opt_kind kind;
    char short_name;       /* 0: none */
    const char *long_name; /* without dashes */
    const char *arg;       /* name of the value, "FILE" (FILE, DIR complete as paths); NULL: flag */
    const char *help;      /* a sentence without a final stop; NULL hides a row (an alias) */
    size_t offset;         /* where the value goes in the command's options struct */
    const char *def;       /* default as text, parsed like a value; NULL: zero */
    double min, max;
    const char *choices; /* BNT_OPT_STR: "auto|cpu|cuda"; anything else is a usage error */
};

#define BNT_OPT_END                                                                                \
    {                                                                                              \
        .kind = BNT_OPT_KIND_END                                                                   \
    }
#define BNT_OPT_HEAD(text)                                                                         \
    {                                                                                              \
        .kind = BNT_OPT_HEADING, .help = (text)                                                    \
    }

struct bnt_cmd {
    const char *name;
    const char *synopsis;    /* what follows the name: "[OPTIONS] FILE" */
    const char *summary;     /* one line, no final stop */
    const char *description; /* paragraphs for --help and the man page */
    const char *also;        /* what other programs call it, "pull download": hints know it */
    const char *examples;    /* lines "  command    # what it does" */
    const struct bnt_opt *opts;
    size_t opts_size;
    /* NULL-terminated sub-commands. A command with both runs itself unless the first word names
     * one. */
    const struct bnt_cmd *const *subs;
    /* opts: the filled struct; argv[0..argc-1]: operands. Returns the exit code. */
    enum bnt_status (*run)(struct bnt_app *app, const void *opts, int argc, char **argv);
};

/* Parse argv[1..] for cmd (walking into sub-commands) and run it. Usage errors are printed; --help
 * prints and is ok. prefix: the words so far, "bnt"; "" for the program itself. */
enum bnt_status bnt_cmd_run(const struct bnt_cmd *cmd, const char *prefix, struct bnt_app *app,
                            int argc, char **argv);

/* Parse only: fills opts (zeroed by the caller; defaults first) and moves operands to
 * argv[0..*n_operands-1]; sets *help when --help was seen. */
enum bnt_status bnt_opt_parse(const struct bnt_opt *table, void *opts, int argc, char **argv,
                              int *n_operands, bool *help, struct bnt_err *err);

/* Text that the tables generate; appended to out. commands is NULL-terminated; globals are the
 * options before the command's name. */
enum bnt_status bnt_cmd_help(const struct bnt_cmd *cmd, const char *prefix, struct bnt_buf *out,
                             struct bnt_err *err);
enum bnt_status bnt_cmd_completion(const char *shell, const struct bnt_cmd *const *commands,
                                   const struct bnt_opt *globals, struct bnt_buf *out,
                                   struct bnt_err *err);
enum bnt_status bnt_cmd_man(const struct bnt_cmd *const *commands, const struct bnt_opt *globals,
                            struct bnt_buf *out, struct bnt_err *err);

/* Bytes from decimal text with a suffix (see BNT_OPT_SIZE): 0, or at least one byte. */
enum bnt_status bnt_parse_size(const char *text, uint64_t *bytes, struct bnt_err *err);

/* Seconds from text with a unit: 90s, 30m, 12h, 7d; more than 0. */
enum bnt_status bnt_parse_duration(const char *text, int64_t *seconds, struct bnt_err *err);

/* The closest of NULL-terminated names to `word` by edit distance, or NULL when none is near. */
const char *bnt_did_you_mean(const char *word, const char *const *names);

#endif
