/* Completion scripts from the option tables: bash without any helper package, zsh by _arguments,
 * fish by complete.
 *
 * What a value or an operand completes to follows from the tables alone:
 *     choices "a|b|c", or such a word in a synopsis   those words
 *     an argument or synopsis that names DIR          folders
 *     one that names FILE or PATH                     files
 *     a synopsis that names COMMAND                   the commands
 * and anything else to nothing. */
#include <stdio.h>
#include <string.h>

#include "base/opt.h"
#include "base/opt_text.h"

enum { WORDS_MAX_BYTES = 4096, LITERAL_MAX_BYTES = 128 };

/* How the generated scripts mark the kinds that are not lists of words. */
#define KIND_NONE "@any"
#define KIND_FILE "@file"
#define KIND_DIR "@dir"

/* ---- what completes to what ---- */

/* "a|b|c" as "a b c"; cut at the ceiling, which no table comes near. */
static void split_choices(const char *choices, char *words, size_t size)
{
    snprintf(words, size, "%s", choices);
    for (char *p = words; *p; p++) {
        if (*p == '|') {
            *p = ' ';
        }
    }
}

static const char *path_kind(const char *name)
{
    if (name && strstr(name, "DIR")) {
        return KIND_DIR;
    }
    return name && (strstr(name, "FILE") || strstr(name, "PATH")) ? KIND_FILE : KIND_NONE;
}

static void value_kind(const struct bnt_opt *o, char *kind, size_t size)
{
    if (o->choices) {
        split_choices(o->choices, kind, size);
    } else {
        snprintf(kind, size, "%s", path_kind(o->arg));
    }
}

/* A word of the synopsis that is a choice among literals: lower case with a bar. "" when there is
 * none. */
static void literal_choice(const char *synopsis, char *word, size_t size)
{
    word[0] = '\0';
    while (*synopsis) {
        size_t n = strcspn(synopsis, " ");
        if (memchr(synopsis, '|', n) &&
            strspn(synopsis, "abcdefghijklmnopqrstuvwxyz0123456789-|") >= n && n < size) {
            memcpy(word, synopsis, n);
            word[n] = '\0';
            return;
        }
        synopsis += n;
        synopsis += strspn(synopsis, " ");
    }
}

static void append_name(char *words, size_t size, const char *name)
{
    size_t len = strlen(words);
    snprintf(words + len, size - len, "%s%s", len ? " " : "", name);
}

static void command_names(const struct bnt_cmd *const *commands, char *words, size_t size)
{
    words[0] = '\0';
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        append_name(words, size, (*c)->name);
    }
}

static void operand_kind(const struct bnt_cmd *cmd, const struct bnt_cmd *const *top, char *kind,
                         size_t size)
{
    const char *synopsis = cmd->synopsis ? cmd->synopsis : "";
    char literal[LITERAL_MAX_BYTES];
    literal_choice(synopsis, literal, sizeof literal);
    if (literal[0] && literal[0] != '-') {
        split_choices(literal, kind, size);
    } else if (strstr(synopsis, "COMMAND")) {
        command_names(top, kind, size);
    } else {
        snprintf(kind, size, "%s", path_kind(synopsis));
    }
}

/* ---- bash ---- */

/* The part that needs no table. `--name=value` arrives as three words, since '=' breaks words in
 * readline. */
static const char bash_engine[] =
    "_bnt_reply() {\n"
    "    case $1 in\n"
    "    '' | " KIND_NONE ") ;;\n"
    "    " KIND_FILE
    ") compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
    "    " KIND_DIR
    ") compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") ;;\n"
    "    *) mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\") ;;\n"
    "    esac\n"
    "}\n"
    "_bnt() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} path=bnt kind subs options operand i\n"
    "    COMPREPLY=()\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        if _bnt_value \"$path\" \"${COMP_WORDS[i]}\"; then\n"
    "            [[ ${COMP_WORDS[i + 1]} == '=' ]] && ((i++))\n"
    "            [[ $cur == '=' ]] && cur=''\n"
    "            if ((++i >= COMP_CWORD)); then\n"
    "                _bnt_reply \"$kind\"\n"
    "                return\n"
    "            fi\n"
    "            continue\n"
    "        fi\n"
    "        _bnt_words \"$path\"\n"
    "        [[ \" $subs \" == *\" ${COMP_WORDS[i]} \"* ]] && path+=\" ${COMP_WORDS[i]}\"\n"
    "    done\n"
    "    _bnt_words \"$path\"\n"
    "    case $cur in\n"
    "    -*) _bnt_reply \"$options\" ;;\n"
    "    *) _bnt_reply \"${subs:-$operand}\" ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _bnt bnt\n";

static void bash_values(struct opt_text *t, const char *path, const struct bnt_opt *table)
{
    char kind[WORDS_MAX_BYTES];
    for (const struct bnt_opt *o = table; opt_more(o); o++) {
        if (!opt_is_option(o) || o->kind == BNT_OPT_FLAG) {
            continue;
        }
        value_kind(o, kind, sizeof kind);
        OPT_TEXT(t, "    '%s --%s'", path, o->long_name);
        if (o->short_name) {
            OPT_TEXT(t, " | '%s -%c'", path, o->short_name);
        }
        OPT_TEXT(t, ") kind='%s' ;;\n", kind);
    }
}

static void bash_words(struct opt_text *t, const char *path, const struct bnt_opt *table,
                       const struct bnt_cmd *const *subs, const char *operand)
{
    char names[WORDS_MAX_BYTES];
    command_names(subs, names, sizeof names);
    OPT_TEXT(t, "    '%s')\n        subs='%s'\n        operand='%s'\n        options='--help", path,
             names, operand);
    for (const struct bnt_opt *o = table; opt_more(o); o++) {
        if (opt_is_option(o) && o->help) {
            OPT_TEXT(t, " --%s", o->long_name);
        }
    }
    OPT_TEXT(t, "'\n        ;;\n");
}

/* The rows of one command and of all below it; values: the rows of _bnt_value, else of _bnt_words.
 */
static void bash_command(struct opt_text *t, const char *prefix, const struct bnt_cmd *cmd,
                         const struct bnt_cmd *const *top, bool values)
{
    char path[OPT_PATH_MAX], operand[WORDS_MAX_BYTES];
    opt_path(t, path, prefix, ' ', cmd->name);
    if (values) {
        bash_values(t, path, cmd->opts);
    } else {
        operand_kind(cmd, top, operand, sizeof operand);
        bash_words(t, path, cmd->opts, cmd->subs, operand);
    }
    for (const struct bnt_cmd *const *sub = cmd->subs; sub && *sub; sub++) {
        bash_command(t, path, *sub, top, values);
    }
}

static void bash_script(struct opt_text *t, const struct bnt_cmd *const *commands,
                        const struct bnt_opt *globals)
{
    OPT_TEXT(t, "# bash completion of bnt, made by: bnt completion bash\n"
                "# What the value of option $2 of command $1 is; fails when the option has none.\n"
                "_bnt_value() {\n    case \"$1 $2\" in\n");
    bash_values(t, "bnt", globals);
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        bash_command(t, "bnt", *c, commands, true);
    }
    OPT_TEXT(t, "    *) return 1 ;;\n    esac\n}\n"
                "# What may follow command $1.\n"
                "_bnt_words() {\n    subs='' options='' operand=''\n    case $1 in\n");
    bash_words(t, "bnt", globals, commands, "");
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        bash_command(t, "bnt", *c, commands, false);
    }
    OPT_TEXT(t, "    esac\n}\n%s", bash_engine);
}

/* ---- zsh ---- */

/* Text inside single quotes and, there, inside the brackets or the colons of an _arguments
 * specification. */
static void zsh_quoted(struct opt_text *t, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'') {
            OPT_TEXT(t, "'\\''");
        } else {
            OPT_TEXT(t, "%s%c", strchr("[]:\\", *p) ? "\\" : "", *p);
        }
    }
}

static const char *zsh_action(const char *kind, char *action, size_t size)
{
    if (strcmp(kind, KIND_NONE) == 0) {
        return " ";
    }
    if (strcmp(kind, KIND_FILE) == 0) {
        return "_files";
    }
    if (strcmp(kind, KIND_DIR) == 0) {
        return "_files -/";
    }
    snprintf(action, size, "(%s)", kind);
    return action;
}

static void zsh_option(struct opt_text *t, const struct bnt_opt *o)
{
    char kind[WORDS_MAX_BYTES], action[WORDS_MAX_BYTES + 2];
    bool flag = o->kind == BNT_OPT_FLAG;
    const char *many = o->kind == BNT_OPT_LIST ? "*" : "";
    if (o->short_name && !*many) {
        OPT_TEXT(t, "        '(-%c --%s)'{-%c%s,--%s%s}'[", o->short_name, o->long_name,
                 o->short_name, flag ? "" : "+", o->long_name, flag ? "" : "=");
    } else if (o->short_name) {
        OPT_TEXT(t, "        '*'{-%c+,--%s=}'[", o->short_name, o->long_name);
    } else {
        OPT_TEXT(t, "        '%s--%s%s[", many, o->long_name, flag ? "" : "=");
    }
    zsh_quoted(t, o->help);
    OPT_TEXT(t, "]");
    if (!flag) {
        value_kind(o, kind, sizeof kind);
        OPT_TEXT(t, ":");
        zsh_quoted(t, o->arg ? o->arg : "VALUE");
        OPT_TEXT(t, ":%s", zsh_action(kind, action, sizeof action));
    }
    OPT_TEXT(t, "' \\\n");
}

/* Options of a command, then either its sub-commands or its operands. Without -S, so that options
 * may follow operands up to a lone "--". */
static void zsh_function(struct opt_text *t, const char *name, const struct bnt_opt *table,
                         const struct bnt_cmd *const *subs, const char *operand)
{
    char action[WORDS_MAX_BYTES + 2];
    OPT_TEXT(t,
             "%s() {\n    local curcontext=$curcontext state line\n    _arguments -C -s \\\n"
             "        '--help[help of this command]' \\\n",
             name);
    for (const struct bnt_opt *o = table; opt_more(o); o++) {
        if (opt_is_option(o) && o->help) {
            zsh_option(t, o);
        }
    }
    if (!subs) {
        OPT_TEXT(t, "        '*:operand:%s'\n}\n", zsh_action(operand, action, sizeof action));
        return;
    }
    OPT_TEXT(t, "        '1: :->command' '*:: :->rest'\n    case $state in\n    (command)\n"
                "        local -a commands=(\n");
    for (const struct bnt_cmd *const *c = subs; c && *c; c++) {
        OPT_TEXT(t, "            '%s:", (*c)->name);
        zsh_quoted(t, (*c)->summary);
        OPT_TEXT(t, "'\n");
    }
    OPT_TEXT(t,
             "        )\n        _describe -t commands command commands\n        ;;\n"
             "    (rest) (( $+functions[%s_$words[1]] )) && %s_$words[1] ;;\n    esac\n}\n",
             name, name);
}

static void zsh_command(struct opt_text *t, const char *prefix, const struct bnt_cmd *cmd,
                        const struct bnt_cmd *const *top)
{
    char name[OPT_PATH_MAX], operand[WORDS_MAX_BYTES];
    opt_path(t, name, prefix, '_', cmd->name);
    operand_kind(cmd, top, operand, sizeof operand);
    zsh_function(t, name, cmd->opts, cmd->subs, operand);
    for (const struct bnt_cmd *const *sub = cmd->subs; sub && *sub; sub++) {
        zsh_command(t, name, *sub, top);
    }
}

/* The script serves as an autoloaded file of $fpath and by being sourced. */
static void zsh_script(struct opt_text *t, const struct bnt_cmd *const *commands,
                       const struct bnt_opt *globals)
{
    OPT_TEXT(t, "#compdef bnt\n# zsh completion of bnt, made by: bnt completion zsh\n");
    zsh_function(t, "_bnt", globals, commands, "");
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        zsh_command(t, "_bnt", *c, commands);
    }
    OPT_TEXT(
        t,
        "if [[ $funcstack[1] == _bnt ]]; then\n    _bnt \"$@\"\nelse\n    compdef _bnt bnt\nfi\n");
}

/* ---- fish ---- */

/* Whether the words before the cursor lead to the command $argv; of options with a value the value
 * is no command. */
static const char fish_engine[] = "function __bnt_at\n"
                                  "    set -l path bnt\n"
                                  "    set -l value no\n"
                                  "    for word in (commandline -opc)[2..-1]\n"
                                  "        if test $value = yes\n"
                                  "            set value no\n"
                                  "        else if contains -- \"$path $word\" $__bnt_values\n"
                                  "            set value yes\n"
                                  "        else if contains -- \"$path $word\" $__bnt_commands\n"
                                  "            set path \"$path $word\"\n"
                                  "        end\n"
                                  "    end\n"
                                  "    test \"$path\" = \"$argv\"\n"
                                  "end\n"
                                  "complete -c bnt -f\n"
                                  "complete -c bnt -l help -d 'help of this command'\n";

static void fish_quoted(struct opt_text *t, const char *text)
{
    OPT_TEXT(t, "'");
    for (const char *p = text; *p; p++) {
        OPT_TEXT(t, "%s%c", *p == '\'' || *p == '\\' ? "\\" : "", *p);
    }
    OPT_TEXT(t, "'");
}

/* What completes, as options of complete; needs_value: of an option, else of an operand. */
static void fish_kind(struct opt_text *t, const char *kind, bool needs_value)
{
    const bool files = strcmp(kind, KIND_FILE) == 0;
    OPT_TEXT(t, "%s", !needs_value ? "" : files ? " -r" : " -x");
    if (files) {
        OPT_TEXT(t, " -F");
    } else if (strcmp(kind, KIND_DIR) == 0) {
        OPT_TEXT(t, " -a '(__fish_complete_directories)'");
    } else if (strcmp(kind, KIND_NONE) != 0 && kind[0]) {
        OPT_TEXT(t, " -a '%s'", kind);
    }
}

static void fish_options(struct opt_text *t, const char *path, const struct bnt_opt *table)
{
    char kind[WORDS_MAX_BYTES];
    for (const struct bnt_opt *o = table; opt_more(o); o++) {
        if (!opt_is_option(o) || !o->help) {
            continue;
        }
        OPT_TEXT(t, "complete -c bnt -n '__bnt_at %s' -l %s", path, o->long_name);
        if (o->short_name) {
            OPT_TEXT(t, " -s %c", o->short_name);
        }
        if (o->kind != BNT_OPT_FLAG) {
            value_kind(o, kind, sizeof kind);
            fish_kind(t, kind, true);
        }
        OPT_TEXT(t, " -d ");
        fish_quoted(t, o->help);
        OPT_TEXT(t, "\n");
    }
}

static void fish_subs(struct opt_text *t, const char *path, const struct bnt_cmd *const *subs)
{
    for (const struct bnt_cmd *const *c = subs; c && *c; c++) {
        OPT_TEXT(t, "complete -c bnt -n '__bnt_at %s' -a %s -d ", path, (*c)->name);
        fish_quoted(t, (*c)->summary);
        OPT_TEXT(t, "\n");
    }
}

/* Elements of $__bnt_values: the options that have a value. */
static void fish_values(struct opt_text *t, const char *path, const struct bnt_opt *table)
{
    for (const struct bnt_opt *o = table; opt_more(o); o++) {
        if (opt_is_option(o) && o->kind != BNT_OPT_FLAG) {
            OPT_TEXT(t, " \\\n    '%s --%s'", path, o->long_name);
            if (o->short_name) {
                OPT_TEXT(t, " '%s -%c'", path, o->short_name);
            }
        }
    }
}

enum fish_part { FISH_COMMANDS, FISH_VALUES, FISH_LINES };

static void fish_command(struct opt_text *t, const char *prefix, const struct bnt_cmd *cmd,
                         const struct bnt_cmd *const *top, enum fish_part part)
{
    char path[OPT_PATH_MAX], operand[WORDS_MAX_BYTES];
    opt_path(t, path, prefix, ' ', cmd->name);
    if (part == FISH_COMMANDS) {
        OPT_TEXT(t, " \\\n    '%s'", path);
    } else if (part == FISH_VALUES) {
        fish_values(t, path, cmd->opts);
    } else {
        fish_options(t, path, cmd->opts);
        fish_subs(t, path, cmd->subs);
        operand_kind(cmd, top, operand, sizeof operand);
        if (!cmd->subs && strcmp(operand, KIND_NONE) != 0) {
            OPT_TEXT(t, "complete -c bnt -n '__bnt_at %s'", path);
            fish_kind(t, operand, false);
            OPT_TEXT(t, "\n");
        }
    }
    for (const struct bnt_cmd *const *sub = cmd->subs; sub && *sub; sub++) {
        fish_command(t, path, *sub, top, part);
    }
}

static void fish_script(struct opt_text *t, const struct bnt_cmd *const *commands,
                        const struct bnt_opt *globals)
{
    OPT_TEXT(t, "# fish completion of bnt, made by: bnt completion fish\nset -g __bnt_commands");
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        fish_command(t, "bnt", *c, commands, FISH_COMMANDS);
    }
    OPT_TEXT(t, "\nset -g __bnt_values");
    fish_values(t, "bnt", globals);
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        fish_command(t, "bnt", *c, commands, FISH_VALUES);
    }
    OPT_TEXT(t, "\n%s", fish_engine);
    fish_options(t, "bnt", globals);
    fish_subs(t, "bnt", commands);
    for (const struct bnt_cmd *const *c = commands; c && *c; c++) {
        fish_command(t, "bnt", *c, commands, FISH_LINES);
    }
}

enum bnt_status bnt_cmd_completion(const char *shell, const struct bnt_cmd *const *commands,
                                   const struct bnt_opt *globals, struct bnt_buf *out,
                                   struct bnt_err *err)
{
    struct opt_text t = {.out = out, .err = err, .st = BNT_OK};
    if (strcmp(shell, "bash") == 0) {
        bash_script(&t, commands, globals);
    } else if (strcmp(shell, "zsh") == 0) {
        zsh_script(&t, commands, globals);
    } else if (strcmp(shell, "fish") == 0) {
        fish_script(&t, commands, globals);
    } else {
        bnt_err_hint(err, "write: bnt completion bash, zsh or fish");
        return bnt_err_set(err, BNT_E_USAGE, "completion: '%s' is not a shell that is known",
                           shell);
    }
    return t.st;
}
