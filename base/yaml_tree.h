/* A YAML file as a tree of maps, lists and texts, each with its place in the file. Only what a
 * person writes by hand: one document, no anchors, aliases, tags or merge keys, so that no small
 * file can stand for a large tree. */
#ifndef BNT_YAML_TREE_H
#define BNT_YAML_TREE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/status.h"

#define YAML_TREE_MAX_BYTES (256u << 10) /* of the file */
#define YAML_TREE_MAX_DEPTH 24
#define YAML_TREE_MAX_NODES 8000

enum yaml_tree_kind { TREE_TEXT, TREE_LIST, TREE_MAP };

struct yaml_node {
    enum yaml_tree_kind kind;
    bool plain;       /* a text without quotes */
    const char *text; /* TREE_TEXT; "" otherwise */
    const char *key;  /* of a member of a map; NULL otherwise */
    unsigned key_line, key_column;
    unsigned line, column;         /* from 1 */
    const struct yaml_node *first; /* of the members of a map or list, in order */
    const struct yaml_node *next;  /* sibling */
};

struct yaml_tree {
    struct bnt_arena arena;       /* has room for 1 KiB more per node, for the caller */
    const struct yaml_node *root; /* NULL: the file holds nothing */
};

/* What a value may be: one line, as names and paths are; or lines and tabs, as prompts are. */
enum yaml_tree_texts { YAML_TREE_ONE_LINE, YAML_TREE_LINES };

/* Read and check. Keys of a map are texts and unique. `shown` is what errors call the file. Errors:
 * FILE with "shown:line:column: what"; those of bnt_file_read. */
enum bnt_status yaml_tree_read(struct yaml_tree *t, const char *path, const char *shown,
                               enum yaml_tree_texts texts, struct bnt_err *err);
void yaml_tree_release(struct yaml_tree *t);

/* "map", "list" or "text", for messages. */
const char *yaml_kind_name(const struct yaml_node *n);
/* A value that is not there: `key:` with nothing behind it, or null. */
bool yaml_is_null(const struct yaml_node *n);

#endif
