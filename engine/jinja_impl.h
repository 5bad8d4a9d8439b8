/* Shared by jinja.c (tags) and jinja_expr.c (expressions). */
#ifndef BNT_JINJA_IMPL_H
#define BNT_JINJA_IMPL_H

#include <stdbool.h>

#include "engine/jinja.h"

enum { JINJA_MAX_DEPTH = 48, JINJA_MAX_NAMES = 64 };

enum jinja_kind {
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,     /* n */
    JINJA_INT,      /* n */
    JINJA_STR,      /* text */
    JINJA_MESSAGE,  /* n: which */
    JINJA_MESSAGES, /* n to end - 1; backwards: the last first */
    JINJA_LOOP,     /* n: step, end: steps */
    JINJA_SPLIT,    /* text, cut at each `by` */
    JINJA_NAMESPACE /* n: which */
};

struct jinja_text {
    const char *at;
    size_t len;
};

struct jinja_value {
    enum jinja_kind kind;
    long n, end;
    bool backwards;
    struct jinja_text text, by;
};

struct jinja_name {
    struct jinja_text name;
    struct jinja_value value;
    long space; /* > 0: a member of that namespace */
};

struct jinja {
    const struct jinja_input *in;
    struct jinja_name names[JINJA_MAX_NAMES]; /* the last of a name counts */
    size_t n_names;
    struct jinja_name members[JINJA_MAX_NAMES]; /* of namespaces: they outlive a loop's step */
    size_t n_members;
    long n_spaces;
    char *room; /* texts made by expressions, JINJA_MAX_ROOM bytes */
    size_t used;
    size_t work;
    unsigned depth;
    enum jinja_end end; /* other than DONE: the run is over */
    /* The expression that is read. */
    struct jinja_text left;
    unsigned dead; /* > 0: read for its length, what it means is left open */
};

/* The value of the expression that `text` is, all of it. */
struct jinja_value jinja_value_of(struct jinja *j, struct jinja_text text);
bool jinja_is_true(struct jinja_value v);
void jinja_stop(struct jinja *j, enum jinja_end end); /* the first one counts */
/* Set a member of a namespace. */
void jinja_set_member(struct jinja *j, long space, struct jinja_text name, struct jinja_value v);
/* Take a name or a keyword from the front of j->left, blanks before it dropped; empty: none. */
struct jinja_text jinja_take_word(struct jinja *j);
bool jinja_take(struct jinja *j, const char *sign); /* no word */
bool jinja_is(struct jinja_text t, const char *word);

#endif
