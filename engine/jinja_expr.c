/* Expressions, evaluated as they are read. What `and`, `or` and `if` leave out is read with `dead`
 * set: for its length alone, whatever it holds. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "engine/jinja_impl.h"

static const struct jinja_value nothing = {.kind = JINJA_UNDEFINED};

static struct jinja_value expression(struct jinja *j);

void jinja_stop(struct jinja *j, enum jinja_end end)
{
    j->end = j->end == JINJA_DONE ? end : j->end;
}

/* A construct that is not known here, unless its meaning is left open. */
static struct jinja_value unknown(struct jinja *j)
{
    if (j->dead == 0) {
        jinja_stop(j, JINJA_UNKNOWN);
    }
    return nothing;
}

/* What is no expression at all. */
static struct jinja_value malformed(struct jinja *j)
{
    jinja_stop(j, JINJA_UNKNOWN);
    return nothing;
}

bool jinja_is(struct jinja_text t, const char *word)
{
    return t.len == strlen(word) && memcmp(t.at, word, t.len) == 0;
}

static bool equal(struct jinja_text a, struct jinja_text b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

bool jinja_is_true(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_BOOL:
    case JINJA_INT:
        return v.n != 0;
    case JINJA_STR:
        return v.text.len > 0;
    case JINJA_MESSAGES:
        return v.end > v.n;
    case JINJA_MESSAGE:
    case JINJA_LOOP:
    case JINJA_SPLIT:
    case JINJA_NAMESPACE:
        return true;
    default:
        return false;
    }
}

static struct jinja_value truth(bool yes)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .n = yes};
}

static struct jinja_value number(long n)
{
    return (struct jinja_value){.kind = JINJA_INT, .n = n};
}

static struct jinja_value string(const char *at, size_t len)
{
    return (struct jinja_value){.kind = JINJA_STR, .text = {at, len}};
}

/* ---- reading ---- */

static void skip(struct jinja *j, size_t n)
{
    j->left.at += n;
    j->left.len -= n;
    j->work += n;
    if (j->work > JINJA_MAX_WORK) {
        jinja_stop(j, JINJA_UNKNOWN);
    }
}

static void skip_blanks(struct jinja *j)
{
    while (j->left.len > 0 && isspace((unsigned char)*j->left.at)) {
        skip(j, 1);
    }
}

static struct jinja_text peek_word(struct jinja *j)
{
    skip_blanks(j);
    size_t n = 0;
    while (n < j->left.len && (isalnum((unsigned char)j->left.at[n]) || j->left.at[n] == '_')) {
        n++;
    }
    bool name = n > 0 && !isdigit((unsigned char)*j->left.at);
    return (struct jinja_text){j->left.at, name ? n : 0};
}

struct jinja_text jinja_take_word(struct jinja *j)
{
    struct jinja_text word = peek_word(j);
    skip(j, word.len);
    return word;
}

static bool take_keyword(struct jinja *j, const char *word)
{
    struct jinja_text next = peek_word(j);
    bool yes = jinja_is(next, word);
    skip(j, yes ? next.len : 0);
    return yes;
}

bool jinja_take(struct jinja *j, const char *sign)
{
    size_t n = strlen(sign);
    skip_blanks(j);
    bool yes = j->left.len >= n && memcmp(j->left.at, sign, n) == 0;
    skip(j, yes ? n : 0);
    return yes;
}

/* Room for a text of n bytes; NULL when there is none. */
static char *make_room(struct jinja *j, size_t n)
{
    if (n > JINJA_MAX_ROOM - j->used) {
        jinja_stop(j, JINJA_UNKNOWN);
        return NULL;
    }
    char *at = j->room + j->used;
    j->used += n;
    return at;
}

static struct jinja_value read_literal(struct jinja *j)
{
    char quote = *j->left.at;
    char *text = make_room(j, j->left.len);
    size_t n = 0, i = 1;
    for (; text != NULL && i < j->left.len && j->left.at[i] != quote; i++) {
        char c = j->left.at[i];
        if (c == '\\' && i + 1 < j->left.len) {
            c = j->left.at[++i];
            if (strchr("ntr\\'\"", c) == NULL || c == '\0') {
                return malformed(j); /* escapes of a character's number */
            }
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        }
        text[n++] = c;
    }
    if (text == NULL || i >= j->left.len) {
        return malformed(j);
    }
    j->used -= j->left.len - n;
    skip(j, i + 1);
    return string(text, n);
}

/* ---- names, members ---- */

static struct jinja_value value_of_name(struct jinja *j, struct jinja_text name)
{
    for (size_t i = j->n_names; i > 0; i--) {
        if (equal(j->names[i - 1].name, name)) {
            return j->names[i - 1].value;
        }
    }
    if (jinja_is(name, "messages")) {
        return (struct jinja_value){.kind = JINJA_MESSAGES, .end = (long)j->in->n};
    }
    if (jinja_is(name, "bos_token")) {
        return string(j->in->bos, strlen(j->in->bos));
    }
    if (jinja_is(name, "eos_token")) {
        return string(j->in->eos, strlen(j->in->eos));
    }
    bool yes = jinja_is(name, "true") || jinja_is(name, "True");
    if (yes || jinja_is(name, "false") || jinja_is(name, "False")) {
        return truth(yes);
    }
    if (jinja_is(name, "none") || jinja_is(name, "None")) {
        return (struct jinja_value){.kind = JINJA_NONE};
    }
    return jinja_is(name, "add_generation_prompt") ? truth(true) : nothing;
}

void jinja_set_member(struct jinja *j, long space, struct jinja_text name, struct jinja_value v)
{
    size_t i = 0;
    while (i < j->n_members && (j->members[i].space != space || !equal(j->members[i].name, name))) {
        i++;
    }
    if (i == JINJA_MAX_NAMES) {
        jinja_stop(j, JINJA_UNKNOWN);
        return;
    }
    j->n_members += i == j->n_members;
    j->members[i] = (struct jinja_name){name, v, space};
}

static struct jinja_value member_of_space(const struct jinja *j, long space, struct jinja_text name)
{
    for (size_t i = 0; i < j->n_members; i++) {
        if (j->members[i].space == space && equal(j->members[i].name, name)) {
            return j->members[i].value;
        }
    }
    return nothing;
}

static struct jinja_value member(struct jinja *j, struct jinja_value of, struct jinja_text name)
{
    if (of.kind == JINJA_NAMESPACE) {
        return member_of_space(j, of.n, name);
    }
    if (of.kind == JINJA_MESSAGE) {
        const struct bnt_chat_message *m = &j->in->messages[of.n];
        const char *text = jinja_is(name, "role")      ? m->role
                           : jinja_is(name, "content") ? m->content
                                                       : NULL;
        return text != NULL ? string(text, strlen(text)) : nothing;
    }
    if (of.kind == JINJA_LOOP) {
        return jinja_is(name, "index0")   ? number(of.n)
               : jinja_is(name, "index")  ? number(of.n + 1)
               : jinja_is(name, "length") ? number(of.end)
               : jinja_is(name, "first")  ? truth(of.n == 0)
               : jinja_is(name, "last")   ? truth(of.n + 1 == of.end)
                                          : unknown(j);
    }
    return unknown(j);
}

static struct jinja_value changed(struct jinja *j, struct jinja_text t, struct jinja_text how);

static const struct jinja_text blanks = {" \t\n\r\v\f", 6};

/* Without the bytes of `what` at its ends. */
static struct jinja_value stripped(struct jinja_text t, struct jinja_text what, bool left,
                                   bool right)
{
    while (left && t.len > 0 && memchr(what.at, *t.at, what.len) != NULL) {
        t.at++;
        t.len--;
    }
    while (right && t.len > 0 && memchr(what.at, t.at[t.len - 1], what.len) != NULL) {
        t.len--;
    }
    return string(t.at, t.len);
}

/* The first piece (index 0) or the last (-1) of a text that is cut. */
static struct jinja_value piece(struct jinja *j, struct jinja_value of, long index)
{
    struct jinja_text left = of.text;
    const char *cut = memmem(left.at, left.len, of.by.at, of.by.len);
    if (index == 0) {
        return string(left.at, cut != NULL ? (size_t)(cut - left.at) : left.len);
    }
    for (; cut != NULL; cut = memmem(left.at, left.len, of.by.at, of.by.len)) {
        left.len -= (size_t)(cut - left.at) + of.by.len;
        left.at = cut + of.by.len;
    }
    return index == -1 ? string(left.at, left.len) : unknown(j);
}

/* [index], ['name'], [from:] or [::-1], behind the bracket. */
static struct jinja_value subscript(struct jinja *j, struct jinja_value of)
{
    if (jinja_take(j, "::")) {
        bool turned = jinja_take(j, "-") && jinja_take(j, "1") && jinja_take(j, "]");
        of.backwards = !of.backwards;
        return turned && of.kind == JINJA_MESSAGES ? of : unknown(j);
    }
    struct jinja_value key = expression(j);
    bool rest = jinja_take(j, ":");
    if (!jinja_take(j, "]")) {
        return malformed(j);
    }
    if (key.kind == JINJA_STR && !rest) {
        return member(j, of, key.text);
    }
    if (key.kind == JINJA_INT && of.kind == JINJA_SPLIT && !rest) {
        return piece(j, of, key.n);
    }
    if (key.kind != JINJA_INT || of.kind != JINJA_MESSAGES || of.backwards) {
        return unknown(j);
    }
    long n = of.end - of.n, i = key.n < 0 ? key.n + n : key.n;
    if (rest) {
        of.n += i < 0 ? 0 : i > n ? n : i;
        return of;
    }
    return i >= 0 && i < n ? (struct jinja_value){.kind = JINJA_MESSAGE, .n = of.n + i} : nothing;
}

/* Arguments of a call behind its bracket; the first one's value, and how many there are. */
static struct jinja_value arguments(struct jinja *j, size_t *n)
{
    struct jinja_value first = nothing;
    *n = 0;
    while (j->end == JINJA_DONE && !jinja_take(j, ")")) {
        struct jinja_value v = expression(j);
        first = *n == 0 ? v : first;
        if (jinja_take(j, "=")) {
            return malformed(j);
        }
        ++*n;
        if (!jinja_take(j, ",") && (j->left.len == 0 || *j->left.at != ')')) {
            return malformed(j);
        }
    }
    return first;
}

/* namespace(name=value, ...), behind the bracket. */
static struct jinja_value namespace(struct jinja *j)
{
    struct jinja_value space = {.kind = JINJA_NAMESPACE, .n = ++j->n_spaces};
    while (j->end == JINJA_DONE && !jinja_take(j, ")")) {
        struct jinja_text name = jinja_take_word(j);
        if (name.len == 0 || !jinja_take(j, "=")) {
            return malformed(j);
        }
        jinja_set_member(j, space.n, name, expression(j));
        if (!jinja_take(j, ",") && (j->left.len == 0 || *j->left.at != ')')) {
            return malformed(j);
        }
    }
    return space;
}

static struct jinja_value call(struct jinja *j, struct jinja_text name)
{
    if (jinja_is(name, "namespace")) {
        return namespace(j);
    }
    size_t n;
    (void)arguments(j, &n);
    if (j->dead == 0 && jinja_is(name, "raise_exception")) {
        jinja_stop(j, JINJA_RAISED);
    }
    return unknown(j);
}

static struct jinja_value method_by_text(struct jinja *j, struct jinja_text t,
                                         struct jinja_text name, struct jinja_text arg)
{
    bool start = jinja_is(name, "startswith"), left = jinja_is(name, "lstrip"),
         right = jinja_is(name, "rstrip");
    if (start || jinja_is(name, "endswith")) {
        return truth(arg.len <= t.len &&
                     memcmp(start ? t.at : t.at + t.len - arg.len, arg.at, arg.len) == 0);
    }
    if (left || right || jinja_is(name, "strip")) {
        return stripped(t, arg, !right, !left);
    }
    return jinja_is(name, "split") && arg.len > 0
               ? (struct jinja_value){.kind = JINJA_SPLIT, .text = t, .by = arg}
               : unknown(j);
}

static struct jinja_value method(struct jinja *j, struct jinja_value of, struct jinja_text name)
{
    size_t n;
    struct jinja_value arg = arguments(j, &n);
    bool text = of.kind == JINJA_STR;
    if (text && n == 1 && arg.kind == JINJA_STR) {
        return method_by_text(j, of.text, name, arg.text);
    }
    if (of.kind == JINJA_MESSAGE && n == 1 && arg.kind == JINJA_STR && jinja_is(name, "get")) {
        return member(j, of, arg.text);
    }
    return text && n == 0 ? changed(j, of.text, name) : unknown(j);
}

/* ---- filters, tests ---- */

/* A text as a filter or a method without arguments makes it. */
static struct jinja_value changed(struct jinja *j, struct jinja_text t, struct jinja_text how)
{
    bool upper = jinja_is(how, "upper"), capital = jinja_is(how, "capitalize");
    if (jinja_is(how, "trim") || jinja_is(how, "strip")) {
        return stripped(t, blanks, true, true);
    }
    if (jinja_is(how, "lstrip") || jinja_is(how, "rstrip")) {
        return stripped(t, blanks, *how.at == 'l', *how.at == 'r');
    }
    if (!upper && !capital && !jinja_is(how, "lower")) {
        return unknown(j);
    }
    char *made = make_room(j, t.len);
    for (size_t i = 0; made != NULL && i < t.len; i++) {
        unsigned char c = (unsigned char)t.at[i];
        made[i] = (char)(upper || (capital && i == 0) ? toupper(c) : tolower(c));
    }
    return string(made, made != NULL ? t.len : 0);
}

static struct jinja_value filter(struct jinja *j, struct jinja_value v)
{
    struct jinja_text name = jinja_take_word(j);
    size_t n = 0;
    if (jinja_take(j, "(")) {
        (void)arguments(j, &n);
    }
    if (n == 0 && v.kind == JINJA_MESSAGES &&
        (jinja_is(name, "length") || jinja_is(name, "count"))) {
        return number(v.end - v.n);
    }
    return n == 0 && v.kind == JINJA_STR ? changed(j, v.text, name) : unknown(j);
}

static struct jinja_value test(struct jinja *j, struct jinja_value v)
{
    bool negated = take_keyword(j, "not");
    struct jinja_text name = jinja_take_word(j);
    bool list = v.kind == JINJA_MESSAGES, text = v.kind == JINJA_STR, yes;
    if (jinja_is(name, "defined") || jinja_is(name, "undefined")) {
        yes = (v.kind != JINJA_UNDEFINED) == (name.len == strlen("defined"));
    } else if (jinja_is(name, "none") || jinja_is(name, "None")) {
        yes = v.kind == JINJA_NONE;
    } else if (jinja_is(name, "string")) {
        yes = text;
    } else if (jinja_is(name, "mapping")) {
        yes = v.kind == JINJA_MESSAGE;
    } else if (jinja_is(name, "iterable") || jinja_is(name, "sequence")) {
        yes = list || text || v.kind == JINJA_MESSAGE;
    } else {
        return unknown(j);
    }
    return truth(yes != negated);
}

/* ---- operators, from the tightest to the loosest ---- */

static struct jinja_value primary(struct jinja *j)
{
    struct jinja_text word = jinja_take_word(j);
    if (word.len > 0) {
        return jinja_take(j, "(") ? call(j, word) : value_of_name(j, word);
    }
    if (jinja_take(j, "(")) {
        struct jinja_value v = expression(j);
        return jinja_take(j, ")") ? v : malformed(j);
    }
    char c = j->left.len > 0 ? *j->left.at : '\0';
    if (c == '\'' || c == '"') {
        return read_literal(j);
    }
    long n = 0;
    size_t digits = 0;
    for (; digits < j->left.len && digits < 9 && isdigit((unsigned char)j->left.at[digits]);
         digits++) {
        n = 10 * n + (j->left.at[digits] - '0');
    }
    skip(j, digits);
    return digits > 0 ? number(n) : malformed(j);
}

static struct jinja_value postfix(struct jinja *j)
{
    bool minus = jinja_take(j, "-");
    struct jinja_value v = primary(j);
    if (minus) {
        v = v.kind == JINJA_INT ? number(-v.n) : unknown(j);
    }
    while (j->end == JINJA_DONE) {
        if (jinja_take(j, ".")) {
            struct jinja_text name = jinja_take_word(j);
            v = name.len == 0        ? malformed(j)
                : jinja_take(j, "(") ? method(j, v, name)
                                     : member(j, v, name);
        } else if (jinja_take(j, "[")) {
            v = subscript(j, v);
        } else if (jinja_take(j, "|")) {
            v = filter(j, v);
        } else if (take_keyword(j, "is")) {
            v = test(j, v);
        } else {
            break;
        }
    }
    return v;
}

static struct jinja_value joined(struct jinja *j, struct jinja_value a, struct jinja_value b)
{
    if (a.kind != JINJA_STR || b.kind != JINJA_STR) {
        return unknown(j);
    }
    char *text = make_room(j, a.text.len + b.text.len);
    if (text != NULL) {
        memcpy(text, a.text.at, a.text.len);
        memcpy(text + a.text.len, b.text.at, b.text.len);
    }
    return string(text, text != NULL ? a.text.len + b.text.len : 0);
}

static struct jinja_value modulo(struct jinja *j)
{
    struct jinja_value v = postfix(j);
    while (j->end == JINJA_DONE && jinja_take(j, "%")) {
        struct jinja_value by = postfix(j);
        bool numbers = v.kind == JINJA_INT && by.kind == JINJA_INT && v.n >= 0 && by.n > 0;
        v = numbers ? number(v.n % by.n) : unknown(j);
    }
    return v;
}

static struct jinja_value sum(struct jinja *j)
{
    struct jinja_value v = modulo(j);
    while (j->end == JINJA_DONE) {
        if (jinja_take(j, "+") || jinja_take(j, "~")) {
            struct jinja_value b = modulo(j);
            bool numbers = v.kind == JINJA_INT && b.kind == JINJA_INT;
            v = numbers ? number(v.n + b.n) : joined(j, v, b);
        } else if (jinja_take(j, "-")) {
            struct jinja_value b = modulo(j);
            v = v.kind == JINJA_INT && b.kind == JINJA_INT ? number(v.n - b.n) : unknown(j);
        } else {
            break;
        }
    }
    return v;
}

static bool comparable(struct jinja_value a, struct jinja_value b)
{
    return a.kind <= JINJA_STR && b.kind <= JINJA_STR;
}

static bool same(struct jinja_value a, struct jinja_value b)
{
    bool numbers = (a.kind == JINJA_INT || a.kind == JINJA_BOOL) &&
                   (b.kind == JINJA_INT || b.kind == JINJA_BOOL);
    return numbers ? a.n == b.n
                   : a.kind == b.kind && (a.kind != JINJA_STR || equal(a.text, b.text));
}

/* `in`: a list that is written out, a text, or the members of a message. */
static struct jinja_value contained(struct jinja *j, struct jinja_value v)
{
    bool yes = false, known = true;
    if (jinja_take(j, "[")) {
        while (j->end == JINJA_DONE && !jinja_take(j, "]")) {
            struct jinja_value e = sum(j);
            known = known && comparable(v, e);
            yes = yes || same(v, e);
            if (!jinja_take(j, ",") && (j->left.len == 0 || *j->left.at != ']')) {
                return malformed(j);
            }
        }
        return known ? truth(yes) : unknown(j);
    }
    struct jinja_value in = sum(j);
    if (v.kind != JINJA_STR || (in.kind != JINJA_STR && in.kind != JINJA_MESSAGE)) {
        return unknown(j);
    }
    return truth(in.kind == JINJA_STR
                     ? memmem(in.text.at, in.text.len, v.text.at, v.text.len) != NULL
                     : jinja_is(v.text, "role") || jinja_is(v.text, "content"));
}

static struct jinja_value ordered(struct jinja *j, struct jinja_value a)
{
    bool less = jinja_take(j, "<");
    if (!less && !jinja_take(j, ">")) {
        return a;
    }
    bool or_same = jinja_take(j, "=");
    struct jinja_value b = sum(j);
    if (a.kind != JINJA_INT || b.kind != JINJA_INT) {
        return unknown(j);
    }
    return truth(less ? a.n < b.n || (or_same && a.n == b.n)
                      : a.n > b.n || (or_same && a.n == b.n));
}

static struct jinja_value comparison(struct jinja *j)
{
    struct jinja_value v = sum(j);
    while (j->end == JINJA_DONE) {
        bool alike = jinja_take(j, "==");
        struct jinja_text before = j->left;
        if (alike || jinja_take(j, "!=")) {
            struct jinja_value b = sum(j);
            v = comparable(v, b) ? truth(same(v, b) == alike) : unknown(j);
        } else if (take_keyword(j, "in")) {
            v = contained(j, v);
        } else if (take_keyword(j, "not") && take_keyword(j, "in")) {
            v = contained(j, v);
            v = v.kind == JINJA_BOOL ? truth(v.n == 0) : v;
        } else {
            j->left = before;
            return ordered(j, v);
        }
    }
    return v;
}

static struct jinja_value negation(struct jinja *j)
{
    bool negated = false, any = false;
    while (take_keyword(j, "not")) {
        negated = !negated;
        any = true;
    }
    struct jinja_value v = comparison(j);
    return any ? truth(jinja_is_true(v) != negated) : v;
}

/* Operands with `word` between them: the value of the first whose truth decides, else the last. */
static struct jinja_value chained(struct jinja *j, const char *word, bool decides,
                                  struct jinja_value (*operand)(struct jinja *))
{
    struct jinja_value v = operand(j);
    while (j->end == JINJA_DONE && take_keyword(j, word)) {
        bool decided = jinja_is_true(v) == decides;
        j->dead += decided;
        struct jinja_value b = operand(j);
        j->dead -= decided;
        v = decided ? v : b;
    }
    return v;
}

static struct jinja_value conjunction(struct jinja *j)
{
    return chained(j, "and", false, negation);
}

static struct jinja_value disjunction(struct jinja *j)
{
    return chained(j, "or", true, conjunction);
}

/* Where a condition follows, what stands before it is read once more, now that it is known whether
 * it counts. */
static struct jinja_value conditional(struct jinja *j)
{
    struct jinja_text begin = j->left;
    size_t used = j->used;
    j->dead++;
    (void)disjunction(j);
    j->dead--;
    j->used = used;
    if (!take_keyword(j, "if")) {
        j->left = begin;
        return disjunction(j);
    }
    bool yes = jinja_is_true(disjunction(j));
    struct jinja_text behind = j->left;
    j->left = begin;
    struct jinja_value v = nothing;
    if (yes) {
        v = disjunction(j);
    }
    j->left = behind;
    if (take_keyword(j, "else")) {
        j->dead += yes;
        struct jinja_value other = conditional(j);
        j->dead -= yes;
        v = yes ? v : other;
    }
    return v;
}

static struct jinja_value expression(struct jinja *j)
{
    if (++j->depth > JINJA_MAX_DEPTH) {
        jinja_stop(j, JINJA_UNKNOWN);
        j->left.len = 0;
    }
    struct jinja_value v = j->end == JINJA_DONE ? conditional(j) : nothing;
    j->depth--;
    return v;
}

struct jinja_value jinja_value_of(struct jinja *j, struct jinja_text text)
{
    j->left = text;
    struct jinja_value v = expression(j);
    skip_blanks(j);
    return j->end == JINJA_DONE && j->left.len > 0 ? malformed(j) : v;
}
