/* Tags: a template is cut into texts, expressions and statements once, and these are walked for
 * each conversation. Blocks that are not taken are walked over without a look at their expressions,
 * so what a template does with tools need not be known here. */
#include "engine/jinja.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "engine/jinja_impl.h"

enum part_kind { PART_TEXT, PART_PRINT, PART_STATEMENT };

struct part {
    enum part_kind kind;
    struct jinja_text text;
};

struct program {
    struct part *at;
    size_t n, cap;
    bool no_memory;
};

struct walk {
    struct jinja j;
    struct program program;
    struct bnt_buf *out;
    size_t i; /* the next part */
};

/* ---- cutting ---- */

struct cutter {
    const char *p, *end;
    bool newline_goes, blanks_go; /* of the text that comes: after a block, after a dash */
};

static bool at(const struct cutter *c, const char *text)
{
    return (size_t)(c->end - c->p) >= 2 && memcmp(c->p, text, 2) == 0;
}

static bool add_part(struct program *g, enum part_kind kind, const char *from, const char *to)
{
    if (g->n == g->cap) {
        size_t cap = 2 * g->cap + 32;
        struct part *grown = realloc(g->at, cap * sizeof(*grown));
        if (grown == NULL) {
            g->no_memory = true;
            return false;
        }
        g->at = grown;
        g->cap = cap;
    }
    g->at[g->n++] = (struct part){kind, {from, (size_t)(to - from)}};
    return true;
}

/* The text up to the next tag, without what the tags on both sides take away. */
static bool cut_text(struct cutter *c, struct program *g, const char *begin)
{
    const char *from = c->p;
    while (c->p < c->end && !at(c, "{{") && !at(c, "{%") && !at(c, "{#")) {
        c->p++;
    }
    const char *to = c->p;
    char mark = c->end - c->p > 2 ? c->p[2] : '\0';
    bool block = c->p < c->end && c->p[1] != '{' && mark != '+';
    from += c->newline_goes && from < to && *from == '\n';
    while (c->blanks_go && from < to && isspace((unsigned char)*from)) {
        from++;
    }
    if (mark == '-') {
        while (to > from && isspace((unsigned char)to[-1])) {
            to--;
        }
    } else if (block) {
        const char *t = to;
        while (t > from && (t[-1] == ' ' || t[-1] == '\t')) {
            t--;
        }
        to = t == begin || t[-1] == '\n' ? t : to;
    }
    return to == from || add_part(g, PART_TEXT, from, to);
}

/* The end of a tag; texts in quotes may hold what looks like one. */
static const char *find_close(const char *p, const char *end, const char *close)
{
    char quote = '\0';
    for (; end - p >= 2; p++) {
        if (quote != '\0' && *p == '\\') {
            p++;
        } else if (quote != '\0') {
            quote = *p == quote ? '\0' : quote;
        } else if (*p == '\'' || *p == '"') {
            quote = *p;
        } else if (memcmp(p, close, 2) == 0) {
            return p;
        }
    }
    return NULL;
}

static bool cut_tag(struct cutter *c, struct program *g)
{
    bool print = c->p[1] == '{', comment = c->p[1] == '#';
    const char *from = c->p + 2;
    const char *to = comment ? memmem(from, (size_t)(c->end - from), "#}", 2)
                             : find_close(from, c->end, print ? "}}" : "%}");
    if (to == NULL) {
        return false;
    }
    c->p = to + 2;
    c->blanks_go = to > from && to[-1] == '-';
    c->newline_goes = !print && !c->blanks_go && !(to > from && to[-1] == '+');
    from += from < to && (*from == '-' || *from == '+');
    to -= to > from && (to[-1] == '-' || (to[-1] == '+' && !print));
    return comment || add_part(g, print ? PART_PRINT : PART_STATEMENT, from, to);
}

static bool cut(const char *jinja, size_t len, struct program *g)
{
    len -= len > 0 && jinja[len - 1] == '\n'; /* one newline at the end is none of the text */
    struct cutter c = {.p = jinja, .end = jinja + len};
    bool ok = true;
    while (ok && c.p < c.end) {
        ok = cut_text(&c, g, jinja);
        if (ok && c.p < c.end) {
            ok = cut_tag(&c, g);
        }
    }
    return ok;
}

/* ---- walking ---- */

static void run_block(struct walk *w, bool live);

static bool over(const struct walk *w)
{
    return w->j.end != JINJA_DONE || w->i >= w->program.n;
}

static void charge(struct walk *w, size_t bytes)
{
    w->j.work += bytes + 1;
    if (w->j.work > JINJA_MAX_WORK) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
    }
}

static void print_text(struct walk *w, const char *text, size_t len)
{
    if (len > JINJA_MAX_TEXT - w->out->len) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
    } else if (bnt_buf_append(w->out, text, len, NULL) != BNT_OK) {
        jinja_stop(&w->j, JINJA_NO_MEMORY);
    }
}

static void print_value(struct walk *w, struct jinja_value v)
{
    if (v.kind == JINJA_STR) {
        print_text(w, v.text.at, v.text.len);
    } else if (v.kind != JINJA_UNDEFINED) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
    }
}

static void set_name(struct walk *w, struct jinja_text name, struct jinja_value v)
{
    if (w->j.n_names == JINJA_MAX_NAMES) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
        return;
    }
    w->j.names[w->j.n_names++] = (struct jinja_name){.name = name, .value = v};
}

/* The first word of part i, "" when it is no statement. */
static struct jinja_text keyword(const struct walk *w, size_t i)
{
    struct jinja reader = {.left = w->program.at[i].text};
    return w->program.at[i].kind == PART_STATEMENT ? jinja_take_word(&reader)
                                                   : (struct jinja_text){"", 0};
}

/* if ... elif ... else ... endif; w->i is at the `if`. */
static void run_if(struct walk *w, bool live)
{
    bool taken = false;
    while (!over(w)) {
        struct jinja_text text = w->program.at[w->i].text, word = keyword(w, w->i);
        w->i++;
        if (jinja_is(word, "endif")) {
            return;
        }
        bool now = live && !taken;
        if (jinja_is(word, "endfor")) {
            break;
        }
        if (now && !jinja_is(word, "else")) {
            size_t skipped = (size_t)(word.at + word.len - text.at);
            text = (struct jinja_text){text.at + skipped, text.len - skipped};
            now = jinja_is_true(jinja_value_of(&w->j, text));
        }
        taken = taken || now;
        run_block(w, now);
    }
    jinja_stop(&w->j, JINJA_UNKNOWN); /* no endif, or not before that of a loop */
}

/* for NAME in EXPRESSION ... endfor, over messages; w->i is behind the `for`. */
static void run_for(struct walk *w, struct jinja_text text, bool live)
{
    struct jinja_value over_what = {0};
    struct jinja_text name = {0};
    if (live) {
        w->j.left = text;
        (void)jinja_take_word(&w->j);
        name = jinja_take_word(&w->j);
        if (name.len == 0 || !jinja_is(jinja_take_word(&w->j), "in")) {
            jinja_stop(&w->j, JINJA_UNKNOWN);
            return;
        }
        over_what = jinja_value_of(&w->j, w->j.left);
        if (over_what.kind != JINJA_MESSAGES) {
            jinja_stop(&w->j, JINJA_UNKNOWN);
        }
    }
    size_t begin = w->i, names = w->j.n_names;
    long steps = over_what.end - over_what.n;
    for (long k = 0; k < steps && w->j.end == JINJA_DONE; k++) {
        w->i = begin;
        struct jinja_value loop = {.kind = JINJA_LOOP, .n = k, .end = steps};
        set_name(w, (struct jinja_text){"loop", 4}, loop);
        long which = over_what.backwards ? over_what.end - 1 - k : over_what.n + k;
        set_name(w, name, (struct jinja_value){.kind = JINJA_MESSAGE, .n = which});
        run_block(w, true);
        w->j.n_names = names; /* what is set in a loop ends with the step */
    }
    if (steps <= 0) {
        run_block(w, false);
    }
    if (over(w) || !jinja_is(keyword(w, w->i), "endfor")) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
    }
    w->i++;
}

/* set NAME = EXPRESSION, set NAMESPACE.NAME = EXPRESSION */
static void run_set(struct walk *w, struct jinja_text text)
{
    w->j.left = text;
    (void)jinja_take_word(&w->j);
    struct jinja_text name = jinja_take_word(&w->j), member = {"", 0};
    if (jinja_take(&w->j, ".")) {
        member = jinja_take_word(&w->j);
    }
    struct jinja_text value = w->j.left;
    struct jinja_value space =
        member.len > 0 ? jinja_value_of(&w->j, name) : (struct jinja_value){0};
    w->j.left = value;
    bool known = name.len > 0 && (member.len == 0 || space.kind == JINJA_NAMESPACE);
    if (!known || !jinja_take(&w->j, "=")) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
    } else if (member.len > 0) {
        jinja_set_member(&w->j, space.n, member, jinja_value_of(&w->j, w->j.left));
    } else {
        set_name(w, name, jinja_value_of(&w->j, w->j.left));
    }
}

static bool ends_block(struct jinja_text word)
{
    return jinja_is(word, "elif") || jinja_is(word, "else") || jinja_is(word, "endif") ||
           jinja_is(word, "endfor");
}

static void run_statement(struct walk *w, struct jinja_text word, bool live)
{
    struct jinja_text text = w->program.at[w->i].text;
    if (jinja_is(word, "if")) {
        run_if(w, live);
        return;
    }
    w->i++;
    if (jinja_is(word, "for")) {
        run_for(w, text, live);
    } else if (live && jinja_is(word, "set")) {
        run_set(w, text);
    } else if (live || jinja_is(word, "raw")) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
    }
}

/* Parts up to the one that ends the block they are in, which is left to the caller. */
static void run_block(struct walk *w, bool live)
{
    if (++w->j.depth > JINJA_MAX_DEPTH) {
        jinja_stop(&w->j, JINJA_UNKNOWN);
    }
    while (!over(w)) {
        const struct part *part = &w->program.at[w->i];
        struct jinja_text word = keyword(w, w->i);
        charge(w, part->text.len);
        if (part->kind == PART_STATEMENT && ends_block(word)) {
            break;
        }
        if (part->kind == PART_STATEMENT) {
            run_statement(w, word, live);
            continue;
        }
        if (live && part->kind == PART_TEXT) {
            print_text(w, part->text.at, part->text.len);
        } else if (live) {
            print_value(w, jinja_value_of(&w->j, part->text));
        }
        w->i++;
    }
    w->j.depth--;
}

enum jinja_end jinja_run(const char *jinja, size_t len, const struct jinja_input *in,
                         struct bnt_buf *out)
{
    struct bnt_buf printed = BNT_BUF(JINJA_MAX_TEXT);
    struct walk w = {.j = {.in = in, .room = malloc(JINJA_MAX_ROOM)}, .out = &printed};
    if (w.j.room == NULL) {
        return JINJA_NO_MEMORY;
    }
    if (!cut(jinja, len, &w.program)) {
        jinja_stop(&w.j, w.program.no_memory ? JINJA_NO_MEMORY : JINJA_UNKNOWN);
    }
    run_block(&w, true);
    if (w.j.end == JINJA_DONE && w.i < w.program.n) {
        jinja_stop(&w.j, JINJA_UNKNOWN); /* an end without a beginning */
    }
    if (w.j.end == JINJA_DONE && printed.len > 0 &&
        bnt_buf_append(out, printed.data, printed.len, NULL) != BNT_OK) {
        jinja_stop(&w.j, JINJA_NO_MEMORY);
    }
    free(w.j.room);
    free(w.program.at);
    bnt_buf_release(&printed);
    return w.j.end;
}
