/* Reading the values of a suite file (user_suite.c): each reader checks one value, fills parameters
 * in and writes it to where `into` points. Errors: FILE with line and column, and a hint. */
#ifndef BNT_USER_VALUES_H
#define BNT_USER_VALUES_H

#include "base/yaml_tree.h"
#include "testkit/user_suite.h"

#define USER_ARENA_BYTES                                                                           \
    ((size_t)64 << 20) /* reserved, not touched, for what parameters multiply */

struct user_reader {
    struct user_suite *suite; /* texts and lists lie in its arena */
    const char *shown;
    const struct yaml_node *with; /* the parameters that texts are filled with; may be NULL */
    struct bnt_err *err;
};

typedef enum bnt_status user_read_fn(struct user_reader *r, const struct yaml_node *n, void *into);

struct user_key {
    const char *name;
    user_read_fn *read;
};

/* Hand every member of a map to its key's reader, with into[] of the same index. `keys` end with a
 * NULL; there are at most 32. */
enum bnt_status user_read_map(struct user_reader *r, const struct yaml_node *n,
                              const struct user_key *keys, void *const *into);
/* An error at the node's key, or where it has none at the node. */
enum bnt_status user_bad(const struct user_reader *r, const struct yaml_node *n, const char *what);

/* Zeroed bytes of the suite's arena, and a copy of a text there. NULL and "" when *st is no BNT_OK,
 * which they set when the arena is full. */
void *user_take(struct user_reader *r, size_t n, enum bnt_status *st);
const char *user_keep(struct user_reader *r, const char *text, size_t n, enum bnt_status *st);

size_t user_count(const struct yaml_node *n); /* of a list's members */

user_read_fn user_read_text;     /* const char * */
user_read_fn user_read_texts;    /* struct user_texts: a list, not empty, or one text */
user_read_fn user_read_parts;    /* the same, no text empty */
user_read_fn user_read_patterns; /* the same, POSIX extended regular expressions */
user_read_fn user_read_matches;  /* such, of which none matches every text */
user_read_fn user_read_words;    /* const char *: words with commas between them */
user_read_fn user_read_u32;      /* uint32_t, at most INT32_MAX */
user_read_fn user_read_i32;      /* int32_t, not negative */
user_read_fn user_read_seed;     /* uint64_t, at most 2^53 */
user_read_fn user_read_double;   /* finite */
user_read_fn user_read_size;     /* double, bytes: "500MB" */
user_read_fn user_read_flag;     /* bool */
user_read_fn user_read_ids;      /* struct user_ids, zeroed before: a list, not empty */

#endif
