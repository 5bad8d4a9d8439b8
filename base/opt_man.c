/* The man page bnt(1) from the option tables. Plain man(7) macros, so that man-db, groff and mandoc
 * all render it. */
#include <stdio.h>
#include <string.h>

#include "base/opt.h"
#include "base/opt_text.h"

/* One line of text with roff's characters escaped; `start`: it begins an output line, where a dot
 * or an apostrophe would be a request. */
static void escaped(struct opt_text *t, const char *text, size_t len, bool start)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (start && i == 0 && (c == '.' || c == '\'')) {
            OPT_TEXT(t, "\\&");
        }
        switch (c) {
        case '\\':
            OPT_TEXT(t, "\\e");
            break;
        case '-':
            OPT_TEXT(t, "\\-");
            break;
        case '\'':
            OPT_TEXT(t, "\\(aq");
            break;
        case '`':
            OPT_TEXT(t, "\\(ga");
            break;
        case '^':
            OPT_TEXT(t, "\\(ha");
            break;
        case '~':
            OPT_TEXT(t, "\\(ti");
            break;
        default:
            OPT_TEXT(t, "%c", c);
            break;
        }
    }
}

static void escaped_word(struct opt_text *t, const char *text)
{
    escaped(t, text, strlen(text), false);
}

/* Choices, between which a line may end. */
static void choices(struct opt_text *t, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "|");
        escaped(t, text, n, false);
        OPT_TEXT(t, "%s", text[n] ? "|\\:" : "");
        text += n + (text[n] == '|');
    }
}

/* Lines as they are, between .EX and .EE. */
static void verbatim(struct opt_text *t, const char *text)
{
    OPT_TEXT(t, ".PP\n.EX\n");
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (n) {
            escaped(t, text, n, true);
        } else {
            OPT_TEXT(t, "\\&");
        }
        OPT_TEXT(t, "\n");
        text += n + (text[n] == '\n');
    }
    OPT_TEXT(t, ".EE\n");
}

/* A line that is indented stands as it is (tables, examples); an empty line starts a paragraph. */
static void paragraphs(struct opt_text *t, const char *text)
{
    bool was_example = false, gap = true;
    for (; *text; text += *text == '\n') {
        size_t n = strcspn(text, "\n");
        bool example = n > 0 && text[0] == ' ';
        if (was_example && !example) {
            OPT_TEXT(t, ".EE\n");
        }
        if (n > 0 && (gap || example != was_example)) {
            OPT_TEXT(t, ".PP\n");
        }
        if (example && !was_example) {
            OPT_TEXT(t, ".EX\n");
        }
        if (n > 0) {
            escaped(t, text, n, true);
            OPT_TEXT(t, "\n");
        }
        was_example = example;
        gap = n == 0;
        text += n;
    }
    if (was_example) {
        OPT_TEXT(t, ".EE\n");
    }
}

static void option(struct opt_text *t, const struct bnt_opt *o)
{
    OPT_TEXT(t, ".TP\n");
    if (o->short_name) {
        OPT_TEXT(t, "\\fB\\-%c\\fR, ", o->short_name);
    }
    OPT_TEXT(t, "\\fB\\-\\-");
    escaped_word(t, o->long_name);
    OPT_TEXT(t, "\\fR");
    if (o->arg) {
        OPT_TEXT(t, " \\fI");
        escaped_word(t, o->arg);
        OPT_TEXT(t, "\\fR");
    }
    OPT_TEXT(t, "\n");
    escaped(t, o->help, strlen(o->help), true);
    if (o->choices) {
        OPT_TEXT(t, ": ");
        choices(t, o->choices);
    }
    if (o->def && o->kind != BNT_OPT_FLAG) {
        OPT_TEXT(t, " (default: ");
        escaped_word(t, o->def);
        OPT_TEXT(t, ")");
    }
    OPT_TEXT(t, "\n");
}

static void options(struct opt_text *t, const struct bnt_opt *table)
{
    for (const struct bnt_opt *o = table; opt_more(o); o++) {
        if (o->kind == BNT_OPT_HEADING) {
            OPT_TEXT(t, ".PP\n\\fI");
            escaped_word(t, o->help);
            OPT_TEXT(t, ":\\fR\n");
        } else if (o->help && o->long_name) {
            option(t, o);
        }
    }
}

static void command(struct opt_text *t, const char *prefix, const struct bnt_cmd *cmd)
{
    char path[OPT_PATH_MAX];
    opt_path(t, path, prefix, ' ', cmd->name);
    OPT_TEXT(t, ".SS \"");
    escaped_word(t, path);
    OPT_TEXT(t, "\"\n\\fB");
    escaped_word(t, path);
    OPT_TEXT(t, "\\fR");
    const char *synopsis = cmd->subs && !cmd->run ? "COMMAND ..." : cmd->synopsis;
    if (synopsis && synopsis[0]) {
        OPT_TEXT(t, " ");
        escaped_word(t, synopsis);
    }
    OPT_TEXT(t, "\n.PP\n");
    escaped(t, cmd->summary, strlen(cmd->summary), true);
    OPT_TEXT(t, "\n");
    if (cmd->description) {
        paragraphs(t, cmd->description);
    }
    options(t, cmd->opts);
    if (cmd->examples) {
        verbatim(t, cmd->examples);
    }
    for (const struct bnt_cmd *const *sub = cmd->subs; sub && *sub; sub++) {
        command(t, path, *sub);
    }
}

static void exit_codes(struct opt_text *t)
{
    static const struct {
        int number;
        const char *meaning;
    } rows[] = {
#define ROW(number, identifier, meaning) {number, meaning},
        BNT_EXIT_TABLE(ROW)
#undef ROW
    };
    OPT_TEXT(t, ".SH EXIT STATUS\n.PD 0\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        OPT_TEXT(t, ".TP 6\n\\fB%d\\fR\n", rows[i].number);
        escaped(t, rows[i].meaning, strlen(rows[i].meaning), true);
        OPT_TEXT(t, "\n");
    }
    OPT_TEXT(t, ".PD\n");
}

enum bnt_status bnt_cmd_man(const struct bnt_cmd *const *commands, const struct bnt_opt *globals,
                            struct bnt_buf *out, struct bnt_err *err)
{
    struct opt_text t = {.out = out, .err = err, .st = BNT_OK};
    /* Flush left: choices are one word of any length, which no line can spread. */
    OPT_TEXT(&t, ".TH BNT 1 \"\" \"bnt " BNT_VERSION "\" \"User Commands\"\n"
                 ".ad l\n"
                 ".SH NAME\nbnt \\- real 1-bit language models in continuous integration\n"
                 ".SH SYNOPSIS\n\\fBbnt\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR ...\n"
                 ".SH DESCRIPTION\n"
                 "Fetches a 1-bit language model once, keeps it in a cache, runs it in its\n"
                 "own inference engine, and runs test suites against it.\n"
                 ".SH OPTIONS\n");
    options(&t, globals);
    OPT_TEXT(&t, ".SH COMMANDS\n");
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        command(&t, "bnt", *c);
    }
    exit_codes(&t);
    OPT_TEXT(&t, ".SH ENVIRONMENT\n"
                 "\\fBbnt env\\fR prints every variable that is honoured.\n");
    return t.st;
}
