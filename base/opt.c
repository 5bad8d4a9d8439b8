/* Option parsing and help, driven by the tables of opt.h. Completion and the man page read the same
 * tables (opt_completion.c, opt_man.c). */
#include "base/fault.h"
#include "base/opt.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/app.h"
#include "base/checked.h"
#include "base/msg.h"

enum {
    WORDS_BYTES = 128,
    NAME_MAX_BYTES = 64,
    HELP_MAX_BYTES = 1 << 20,
    MAX_OPTIONS = 128,
    HELP_COLUMN = 30,
    HELP_WIDTH = 96
};

/* ---- values ---- */

enum bnt_status bnt_parse_size(const char *text, uint64_t *bytes, struct bnt_err *err)
{
    static const struct {
        const char *suffix;
        double factor;
    } units[] = {
        {"", 1},          {"B", 1},           {"k", 1e3},          {"kB", 1e3},   {"K", 1e3},
        {"KB", 1e3},      {"M", 1e6},         {"MB", 1e6},         {"G", 1e9},    {"GB", 1e9},
        {"T", 1e12},      {"TB", 1e12},       {"Ki", 1024},        {"KiB", 1024}, {"Mi", 1048576},
        {"MiB", 1048576}, {"Gi", 1073741824}, {"GiB", 1073741824},
    };
    char *end;
    bool decimal = isdigit((unsigned char)text[0]) && !strpbrk(text, "xX");
    double value = decimal ? strtod(text, &end) : -1;
    if (value >= 0 && isfinite(value)) {
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            double total = value * units[i].factor;
            /* A part of a byte is no 0, which often means that there is no limit. */
            bool whole = value == 0 || total >= 1;
            if (strcmp(end, units[i].suffix) == 0 && total < 9.2e18 && whole) {
                *bytes = (uint64_t)total;
                return BNT_OK;
            }
        }
    }
    bnt_err_set(err, BNT_E_USAGE, "'%s' is not a size", text);
    bnt_err_hint(err, "write bytes with an optional suffix, e.g. 500M, 1.5G, 512Mi");
    return BNT_E_USAGE;
}

enum bnt_status bnt_parse_duration(const char *text, int64_t *seconds, struct bnt_err *err)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char *end = NULL;
    errno = 0;
    uint64_t n = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0, total;
    for (size_t i = 0; end && errno == 0 && i < sizeof units / sizeof units[0]; i++) {
        if (*end == units[i].unit && end[1] == '\0' && n > 0 &&
            bnt_mul_u64(n, units[i].seconds, &total) && total <= INT64_MAX) {
            *seconds = (int64_t)total;
            return BNT_OK;
        }
    }
    bnt_err_set(err, BNT_E_USAGE, "'%.40s' is not a time", text);
    bnt_err_hint(err, "write a number and s, m, h or d: 7d");
    return BNT_E_USAGE;
}

static enum bnt_status out_of_range(const struct bnt_opt *o, const char *text, struct bnt_err *err)
{
    return bnt_err_set(err, BNT_E_USAGE, "--%s %s: must be from %.15g to %.15g", o->long_name, text,
                       o->min, o->max);
}

static enum bnt_status set_int(const struct bnt_opt *o, const char *text, int64_t *out,
                               struct bnt_err *err)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || isspace((unsigned char)text[0])) {
        return bnt_err_set(err, BNT_E_USAGE, "--%s %s: not a whole number", o->long_name, text);
    }
    if (o->max > o->min && ((double)v < o->min || (double)v > o->max)) {
        return out_of_range(o, text, err);
    }
    *out = v;
    return BNT_OK;
}

static enum bnt_status set_float(const struct bnt_opt *o, const char *text, double *out,
                                 struct bnt_err *err)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || isspace((unsigned char)text[0])) {
        return bnt_err_set(err, BNT_E_USAGE, "--%s %s: not a number", o->long_name, text);
    }
    if (o->max > o->min && (v < o->min || v > o->max)) {
        return out_of_range(o, text, err);
    }
    *out = v;
    return BNT_OK;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strcspn(text, "|");
    if (text[n] == '|') {
        return false;
    }
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        if (n > 0 && strncmp(p, text, n) == 0 && (p[n] == '|' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static enum bnt_status set_value(const struct bnt_opt *o, void *opts, const char *text,
                                 struct bnt_err *err)
{
    char *at = (char *)opts + o->offset;
    switch (o->kind) {
    case BNT_OPT_FLAG:
        *(bool *)at = strcmp(text, "false") != 0;
        return BNT_OK;
    case BNT_OPT_STR:
        if (o->choices && !is_choice(o->choices, text)) {
            return bnt_err_set(err, BNT_E_USAGE, "--%s %s: must be one of %s", o->long_name, text,
                               o->choices);
        }
        *(const char **)(void *)at = text;
        return BNT_OK;
    case BNT_OPT_INT:
        return set_int(o, text, (int64_t *)(void *)at, err);
    case BNT_OPT_FLOAT:
        return set_float(o, text, (double *)(void *)at, err);
    case BNT_OPT_SIZE:
        if (bnt_parse_size(text, (uint64_t *)(void *)at, err) != BNT_OK) {
            return bnt_err_context(err, "--%s", o->long_name);
        }
        return BNT_OK;
    case BNT_OPT_LIST: {
        struct bnt_strs *list = (struct bnt_strs *)(void *)at;
        if (list->n == BNT_STRS_MAX) {
            return bnt_err_set(err, BNT_E_USAGE, "--%s: given more than %d times", o->long_name,
                               BNT_STRS_MAX);
        }
        list->at[list->n++] = text;
        return BNT_OK;
    }
    default:
        return bnt_err_set(err, BNT_E_INTERNAL, "option table: bad kind %d", (int)o->kind);
    }
}

/* ---- look-up ---- */

static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(b);
    size_t row[NAME_MAX_BYTES + 1];
    if (n > NAME_MAX_BYTES) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[n];
}

const char *bnt_did_you_mean(const char *word, const char *const *names)
{
    const char *best = NULL;
    const size_t len = strlen(word), third = len / 3 + 2, half = len > 4 ? (len + 1) / 2 : 2;
    size_t best_distance = third < half ? third : half; /* as many edits make another word */
    for (; *names; names++) {
        size_t d = edit_distance(word, *names);
        bool prefix = len >= 3 && strncmp(word, *names, len) == 0;
        if (prefix || d < best_distance) {
            best = *names;
            best_distance = prefix ? 0 : d;
        }
    }
    return best;
}

static bool takes_value(const struct bnt_opt *o)
{
    return o->kind != BNT_OPT_FLAG;
}

static const struct bnt_opt *find_long(const struct bnt_opt *table, const char *name, size_t n)
{
    for (const struct bnt_opt *o = table; o->kind != BNT_OPT_KIND_END; o++) {
        if (o->kind != BNT_OPT_HEADING && o->long_name && strncmp(o->long_name, name, n) == 0 &&
            !o->long_name[n]) {
            return o;
        }
    }
    return NULL;
}

static const struct bnt_opt *find_short(const struct bnt_opt *table, char c)
{
    for (const struct bnt_opt *o = table; o->kind != BNT_OPT_KIND_END; o++) {
        if (o->kind != BNT_OPT_HEADING && o->short_name == c) {
            return o;
        }
    }
    return NULL;
}

static enum bnt_status unknown_option(const struct bnt_opt *table, const char *arg, size_t n,
                                      struct bnt_err *err)
{
    const char *names[MAX_OPTIONS + 2];
    size_t count = 0;
    for (const struct bnt_opt *o = table; o->kind != BNT_OPT_KIND_END && count < MAX_OPTIONS; o++) {
        if (o->long_name) {
            names[count++] = o->long_name;
        }
    }
    names[count++] = "help";
    names[count] = NULL;
    bnt_err_set(err, BNT_E_USAGE, "unknown option %.*s", (int)n, arg);
    char word[NAME_MAX_BYTES];
    snprintf(word, sizeof word, "%.*s", n > 2 ? (int)n - 2 : 0, arg + 2);
    const char *near = n > 3 && arg[1] == '-' ? bnt_did_you_mean(word, names) : NULL;
    if (near) {
        bnt_err_hint(err, "did you mean --%s?", near);
    } else {
        bnt_err_hint(err, "--help lists the options");
    }
    return BNT_FAULT(unknown_option) ? BNT_OK : BNT_E_USAGE;
}

/* ---- parsing ---- */

struct parser {
    const struct bnt_opt *table;
    void *opts;
    int argc, i; /* i: argument being read */
    char **argv;
    bool *help;
    struct bnt_err *err;
};

static enum bnt_status need_value(struct parser *p, const struct bnt_opt *o, const char **value)
{
    if (p->i + 1 >= p->argc) {
        bnt_err_set(p->err, BNT_E_USAGE, "--%s needs a value: --%s %s", o->long_name, o->long_name,
                    o->arg ? o->arg : "VALUE");
        return BNT_E_USAGE;
    }
    *value = p->argv[++p->i];
    return BNT_OK;
}

static enum bnt_status parse_long(struct parser *p)
{
    const char *arg = p->argv[p->i];
    const char *name = arg + 2;
    const char *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    if (n == 4 && strncmp(name, "help", 4) == 0) {
        *p->help = true;
        return BNT_OK;
    }
    const struct bnt_opt *o = find_long(p->table, name, n);
    if (!o && n > 3 && strncmp(name, "no-", 3) == 0) {
        o = find_long(p->table, name + 3, n - 3);
        if (o && o->kind == BNT_OPT_FLAG && !equals) {
            return set_value(o, p->opts, "false", p->err);
        }
        o = NULL;
    }
    if (!o) {
        return unknown_option(p->table, arg, n + 2, p->err);
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!takes_value(o)) {
        if (value) {
            return bnt_err_set(p->err, BNT_E_USAGE, "--%s takes no value", o->long_name);
        }
        return set_value(o, p->opts, "true", p->err);
    }
    enum bnt_status st = value ? BNT_OK : need_value(p, o, &value);
    return st == BNT_OK ? set_value(o, p->opts, value, p->err) : st;
}

static enum bnt_status parse_short(struct parser *p)
{
    const char *arg = p->argv[p->i];
    for (const char *c = arg + 1; *c; c++) {
        const struct bnt_opt *o = find_short(p->table, *c);
        if (!o && *c == 'h') {
            *p->help = true;
            return BNT_OK;
        }
        if (!o) {
            return unknown_option(p->table, arg, 2, p->err);
        }
        enum bnt_status st;
        if (takes_value(o)) {
            const char *value = c + 1;
            st = *value ? BNT_OK : need_value(p, o, &value);
            return st == BNT_OK ? set_value(o, p->opts, value, p->err) : st;
        }
        st = set_value(o, p->opts, "true", p->err);
        if (st != BNT_OK) {
            return st;
        }
    }
    return BNT_OK;
}

static enum bnt_status set_defaults(const struct bnt_opt *table, void *opts, struct bnt_err *err)
{
    for (const struct bnt_opt *o = table; o->kind != BNT_OPT_KIND_END; o++) {
        if (o->kind != BNT_OPT_HEADING && o->def) {
            enum bnt_status st = set_value(o, opts, o->def, err);
            if (st != BNT_OK) {
                return st;
            }
        }
    }
    return BNT_OK;
}

/* A lone "-" and anything that starts like a negative number are operands. */
static bool is_option(const char *arg)
{
    return arg[0] == '-' && arg[1] != '\0' && !isdigit((unsigned char)arg[1]);
}

enum bnt_status bnt_opt_parse(const struct bnt_opt *table, void *opts, int argc, char **argv,
                              int *n_operands, bool *help, struct bnt_err *err)
{
    struct parser p = {
        .table = table, .opts = opts, .argc = argc, .argv = argv, .help = help, .err = err};
    enum bnt_status st = set_defaults(table, opts, err);
    *n_operands = 0;
    *help = false;
    bool only_operands = false;
    for (p.i = 0; st == BNT_OK && p.i < argc; p.i++) {
        char *arg = argv[p.i];
        if (only_operands || !is_option(arg)) {
            argv[(*n_operands)++] = arg;
        } else if (strcmp(arg, "--") == 0) {
            only_operands = true;
        } else {
            st = arg[1] == '-' ? parse_long(&p) : parse_short(&p);
        }
    }
    return st;
}

/* ---- help and dispatch ---- */

/* Append text with lines broken at blanks; lines but the first begin at `indent`. column: where the
 * text begins. A newline in the text stands. */
static enum bnt_status wrap(struct bnt_buf *out, const char *text, size_t column, size_t indent,
                            struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && *text) {
        size_t word = strcspn(text, " \n");
        st = bnt_buf_append(out, text, word, err);
        column += word;
        text += word;
        size_t blanks = strspn(text, " ");
        size_t next = strcspn(text + blanks, " \n");
        bool newline = *text == '\n' || (*text && column + blanks + next > HELP_WIDTH);
        if (st == BNT_OK && newline) {
            st = bnt_buf_printf(out, err, "\n%*s", (int)indent, "");
            column = indent;
            text += *text == '\n' ? 1 : blanks;
        } else if (st == BNT_OK) {
            st = bnt_buf_append(out, text, blanks, err);
            column += blanks;
            text += blanks;
        }
    }
    return st;
}

static enum bnt_status help_option(const struct bnt_opt *o, struct bnt_buf *out,
                                   struct bnt_err *err)
{
    char left[96], text[512];
    char letter[8] = "    ";
    if (o->kind == BNT_OPT_HEADING) {
        return bnt_buf_printf(out, err, "\n%s:\n", o->help);
    }
    if (!o->help) {
        return BNT_OK;
    }
    if (o->short_name) {
        snprintf(letter, sizeof letter, "-%c, ", o->short_name);
    }
    snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->long_name, o->arg ? " " : "",
             o->arg ? o->arg : "");
    bool shows_default = o->def && o->kind != BNT_OPT_FLAG;
    snprintf(text, sizeof text, "%s%s%s%s%s%s", o->help, o->choices ? ": " : "",
             o->choices ? o->choices : "", shows_default ? " [" : "", shows_default ? o->def : "",
             shows_default ? "]" : "");
    enum bnt_status st = strlen(left) < HELP_COLUMN
                             ? bnt_buf_printf(out, err, "%-*s ", HELP_COLUMN, left)
                             : bnt_buf_printf(out, err, "%s\n%*s ", left, HELP_COLUMN, "");
    if (st == BNT_OK) {
        st = wrap(out, text, HELP_COLUMN + 1, HELP_COLUMN + 1, err);
    }
    return st == BNT_OK ? bnt_buf_putc(out, '\n', err) : st;
}

static enum bnt_status help_subs(const struct bnt_cmd *cmd, struct bnt_buf *out,
                                 struct bnt_err *err)
{
    enum bnt_status st = bnt_buf_puts(out, "\nCommands:\n", err);
    for (const struct bnt_cmd *const *s = cmd->subs; st == BNT_OK && *s; s++) {
        st = bnt_buf_printf(out, err, "  %-14s %s\n", (*s)->name, (*s)->summary);
    }
    return st;
}

/* The words that call a command: "bnt cache ls"; the root's prefix is empty. */
static void command_words(const struct bnt_cmd *cmd, const char *prefix, char *out, size_t size)
{
    snprintf(out, size, "%s%s%s", prefix, prefix[0] ? " " : "", cmd->name);
}

enum bnt_status bnt_cmd_help(const struct bnt_cmd *cmd, const char *prefix, struct bnt_buf *out,
                             struct bnt_err *err)
{
    char words[WORDS_BYTES];
    command_words(cmd, prefix, words, sizeof words);
    enum bnt_status st = bnt_buf_printf(out, err, "%s: %s\n\nUsage: %s %s\n", words, cmd->summary,
                                        words, cmd->synopsis ? cmd->synopsis : "");
    if (st == BNT_OK && cmd->description) {
        st = bnt_buf_putc(out, '\n', err);
        st = st == BNT_OK ? wrap(out, cmd->description, 0, 0, err) : st;
        st = st == BNT_OK ? bnt_buf_putc(out, '\n', err) : st;
    }
    if (st == BNT_OK && cmd->subs) {
        st = help_subs(cmd, out, err);
    }
    if (st == BNT_OK && cmd->opts && cmd->opts[0].kind != BNT_OPT_HEADING &&
        cmd->opts[0].kind != BNT_OPT_KIND_END) {
        st = bnt_buf_puts(out, "\nOptions:\n", err);
    }
    for (const struct bnt_opt *o = cmd->opts; st == BNT_OK && o && o->kind != BNT_OPT_KIND_END;
         o++) {
        st = help_option(o, out, err);
    }
    if (st == BNT_OK && cmd->examples) {
        st = bnt_buf_printf(out, err, "\nExamples:\n%s\n", cmd->examples);
    }
    return st;
}

static enum bnt_status print_help(const struct bnt_cmd *cmd, const char *prefix)
{
    struct bnt_err err = {0};
    struct bnt_buf out = BNT_BUF(HELP_MAX_BYTES);
    enum bnt_status st = bnt_cmd_help(cmd, prefix, &out, &err);
    if (st == BNT_OK) {
        bnt_msg_puts(bnt_buf_view(&out));
    } else {
        bnt_msg_error(&err);
    }
    bnt_buf_release(&out);
    return st;
}

/* Whether `word` is one of `also`, words with blanks between them. */
static bool is_called(const char *also, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = also; at && *at && n > 0; at += strcspn(at, " "), at += *at == ' ') {
        if (strcspn(at, " ") == n && strncmp(at, word, n) == 0) {
            return true;
        }
    }
    return false;
}

static enum bnt_status unknown_sub(const struct bnt_cmd *cmd, const char *words, const char *word)
{
    const char *names[MAX_OPTIONS + 1], *elsewhere = NULL;
    size_t n = 0;
    for (const struct bnt_cmd *const *s = cmd->subs; *s && n < MAX_OPTIONS; s++) {
        elsewhere = is_called((*s)->also, word) ? (*s)->name : elsewhere;
        names[n++] = (*s)->name;
    }
    names[n] = NULL;
    char hint[WORDS_BYTES + 64];
    const char *near = elsewhere ? elsewhere : bnt_did_you_mean(word, names);
    if (near) {
        snprintf(hint, sizeof hint, "did you mean: %s %s?", words, near);
    } else {
        snprintf(hint, sizeof hint, "%s --help lists the commands", words);
    }
    return bnt_msg_fail(BNT_E_USAGE, hint, "unknown command: %s %s", words, word);
}

static bool names_sub(const struct bnt_cmd *cmd, int argc, char **argv)
{
    for (const struct bnt_cmd *const *s = cmd->subs; argc > 1 && *s; s++) {
        if (strcmp((*s)->name, argv[1]) == 0) {
            return true;
        }
    }
    return false;
}

static enum bnt_status run_sub(const struct bnt_cmd *cmd, const char *prefix, struct bnt_app *app,
                               int argc, char **argv)
{
    char words[WORDS_BYTES];
    command_words(cmd, prefix, words, sizeof words);
    if (argc < 2) {
        print_help(cmd, prefix);
        return BNT_E_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return print_help(cmd, prefix);
    }
    for (const struct bnt_cmd *const *s = cmd->subs; *s; s++) {
        if (strcmp((*s)->name, argv[1]) == 0) {
            return bnt_cmd_run(*s, words, app, argc - 1, argv + 1);
        }
    }
    return unknown_sub(cmd, words, argv[1]);
}

/* An option that is not this command's may be one of all of them, which stand before its name. */
static void hint_at_global(const struct bnt_opt *globals, struct bnt_err *err)
{
    char as_long[WORDS_BYTES], as_short[WORDS_BYTES];
    for (const struct bnt_opt *o = globals; o && o->kind != BNT_OPT_KIND_END; o++) {
        snprintf(as_long, sizeof as_long, "unknown option --%s", o->long_name);
        snprintf(as_short, sizeof as_short, "unknown option -%c", o->short_name);
        if (strcmp(err->msg, as_long) == 0 || (o->short_name && strcmp(err->msg, as_short) == 0)) {
            snprintf(err->hint, sizeof err->hint,
                     "it stands before the command: bnt --%s COMMAND ...", o->long_name);
        }
    }
}

enum bnt_status bnt_cmd_run(const struct bnt_cmd *cmd, const char *prefix, struct bnt_app *app,
                            int argc, char **argv)
{
    static const struct bnt_opt no_options[] = {BNT_OPT_END};
    if (cmd->subs && !(cmd->run && !names_sub(cmd, argc, argv))) {
        return run_sub(cmd, prefix, app, argc, argv);
    }
    struct bnt_err err = {0};
    int n_operands = 0;
    bool help = false;
    void *opts = calloc(1, cmd->opts_size ? cmd->opts_size : 1);
    if (!opts) {
        bnt_err_nomem(&err, "options", cmd->opts_size);
        return bnt_msg_error(&err);
    }
    enum bnt_status st = bnt_opt_parse(cmd->opts ? cmd->opts : no_options, opts, argc - 1, argv + 1,
                                       &n_operands, &help, &err);
    if (help) {
        st = print_help(cmd, prefix);
    } else if (st != BNT_OK) {
        hint_at_global(app ? app->globals : NULL, &err);
        bnt_err_context(&err, "%s %s", prefix, cmd->name);
        bnt_err_hint(&err, "see: %s %s --help", prefix, cmd->name);
        bnt_msg_error(&err);
    } else {
        st = cmd->run(app, opts, n_operands, argv + 1);
    }
    free(opts);
    return st;
}
