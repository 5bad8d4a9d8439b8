/* libyaml's events become nodes of one arena. The arena has room for every node and every text that
 * a file within the ceilings can have, so a refusal by the arena is a bug here. */
#include "base/yaml_tree.h"

#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "base/file.h"

/* Per node: itself, its text, its key, and what the owner of the tree makes of it. */
#define NODE_BYTES 1536
#define ARENA_BYTES ((size_t)YAML_TREE_MAX_NODES * NODE_BYTES + 2 * YAML_TREE_MAX_BYTES)

struct reading {
    struct yaml_tree *tree;
    const char *shown;
    enum yaml_tree_texts texts;
    const struct bnt_buf *bytes; /* of the file */
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    bool have_event;
    unsigned n_nodes;
    struct bnt_err *err;
};

/* Bytes that are no text: libyaml says at which byte, and no line. */
static enum bnt_status no_text(struct reading *r)
{
    unsigned line = 1, column = 1;
    for (size_t i = 0; i < r->parser.problem_offset && i < r->bytes->len; i++) {
        const bool end = r->bytes->data[i] == '\n';
        line += end;
        column = end ? 1 : column + 1;
    }
    enum bnt_status st = bnt_err_set(r->err, BNT_E_FILE, "%s:%u:%u: %s", r->shown, line, column,
                                     r->parser.problem ? r->parser.problem : "not YAML");
    bnt_err_hint(r->err, "write it in UTF-8");
    return st;
}

static enum bnt_status next_event(struct reading *r)
{
    if (r->have_event) {
        yaml_event_delete(&r->event);
        r->have_event = false;
    }
    if (yaml_parser_parse(&r->parser, &r->event)) {
        r->have_event = true;
        return BNT_OK;
    }
    if (r->parser.error == YAML_MEMORY_ERROR) {
        return bnt_err_nomem(r->err, r->shown, 0);
    }
    if (r->parser.error == YAML_READER_ERROR) {
        return no_text(r);
    }
    const yaml_mark_t *at =
        r->parser.problem_mark.line ? &r->parser.problem_mark : &r->parser.context_mark;
    enum bnt_status st =
        bnt_err_set(r->err, BNT_E_FILE, "%s:%zu:%zu: %s%s%s", r->shown, at->line + 1,
                    at->column + 1, r->parser.problem ? r->parser.problem : "not YAML",
                    r->parser.context ? ", " : "", r->parser.context ? r->parser.context : "");
    bnt_err_hint(r->err,
                 "indent with blanks, and quote texts that hold ': ' or ' #' or end with ':'");
    return st;
}

static enum bnt_status refuse(struct reading *r, const char *what)
{
    return bnt_err_set(r->err, BNT_E_FILE, "%s:%zu:%zu: %s", r->shown, r->event.start_mark.line + 1,
                       r->event.start_mark.column + 1, what);
}

/* Anchors and tags of the current event. */
static enum bnt_status check_plain(struct reading *r)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        return refuse(r, "an alias; write the value out");
    case YAML_SCALAR_EVENT:
        anchor = r->event.data.scalar.anchor;
        tag = r->event.data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->event.data.sequence_start.anchor;
        tag = r->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = r->event.data.mapping_start.anchor;
        tag = r->event.data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor) {
        return refuse(r, "an anchor; write the value out where it is needed");
    }
    return tag ? refuse(r, "a tag; leave out what begins with !") : BNT_OK;
}

static const char *keep_text(struct reading *r, const yaml_char_t *bytes, size_t n)
{
    char *text = bnt_arena_alloc(&r->tree->arena, n + 1);
    if (text) {
        memcpy(text, bytes, n); /* the arena is zeroed */
    }
    return text;
}

static enum bnt_status scalar_text(struct reading *r, enum yaml_tree_texts texts, const char **text)
{
    const yaml_char_t *bytes = r->event.data.scalar.value;
    size_t n = r->event.data.scalar.length;
    for (size_t i = 0; i < n; i++) {
        const bool line = bytes[i] == '\n' || bytes[i] == '\t';
        if ((bytes[i] < ' ' || bytes[i] == 0x7f) && !(line && texts == YAML_TREE_LINES)) {
            return refuse(r, texts == YAML_TREE_LINES
                                 ? "a text with a control character"
                                 : "a text with a control character or a line break");
        }
    }
    *text = keep_text(r, bytes, n);
    return *text ? BNT_OK : refuse(r, "too large");
}

/* The node of the current event; consumes all of its events. */
static enum bnt_status read_node(struct reading *r, unsigned depth, struct yaml_node **out);

static enum bnt_status read_key(struct reading *r, const struct yaml_node *map,
                                struct yaml_node *place)
{
    if (check_plain(r) != BNT_OK) {
        return BNT_E_FILE;
    }
    if (r->event.type != YAML_SCALAR_EVENT) {
        return refuse(r, "a key that is not a text");
    }
    enum bnt_status st = scalar_text(r, YAML_TREE_ONE_LINE, &place->key);
    if (st != BNT_OK) {
        return st;
    }
    place->key_line = (unsigned)r->event.start_mark.line + 1;
    place->key_column = (unsigned)r->event.start_mark.column + 1;
    for (const struct yaml_node *n = map->first; n; n = n->next) {
        if (strcmp(n->key, place->key) == 0) {
            st = bnt_err_set(r->err, BNT_E_FILE, "%s:%u:%u: '%.80s' is there twice", r->shown,
                             place->key_line, place->key_column, place->key);
            bnt_err_hint(r->err, "the first one is in line %u", n->key_line);
            return st;
        }
    }
    return next_event(r);
}

static enum bnt_status read_members(struct reading *r, unsigned depth, struct yaml_node *parent,
                                    yaml_event_type_t end)
{
    const struct yaml_node **tail = &parent->first;
    enum bnt_status st = next_event(r);
    while (st == BNT_OK && r->event.type != end) {
        struct yaml_node key = {0}, *node;
        if (parent->kind == TREE_MAP) {
            st = read_key(r, parent, &key);
        }
        if (st == BNT_OK) {
            st = read_node(r, depth + 1, &node);
        }
        if (st == BNT_OK) {
            node->key = key.key;
            node->key_line = key.key_line;
            node->key_column = key.key_column;
            *tail = node;
            tail = &node->next;
            st = next_event(r);
        }
    }
    return st;
}

static enum bnt_status read_node(struct reading *r, unsigned depth, struct yaml_node **out)
{
    enum bnt_status st = check_plain(r);
    if (st != BNT_OK) {
        return st;
    }
    if (depth > YAML_TREE_MAX_DEPTH) {
        return refuse(r, "nested too deeply");
    }
    struct yaml_node *n =
        ++r->n_nodes > YAML_TREE_MAX_NODES ? NULL : bnt_arena_alloc(&r->tree->arena, sizeof *n);
    if (!n) {
        return refuse(r, "too many values");
    }
    *n = (struct yaml_node){.text = "",
                            .line = (unsigned)r->event.start_mark.line + 1,
                            .column = (unsigned)r->event.start_mark.column + 1};
    *out = n;
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        n->plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        return scalar_text(r, r->texts, &n->text);
    case YAML_SEQUENCE_START_EVENT:
        n->kind = TREE_LIST;
        return read_members(r, depth, n, YAML_SEQUENCE_END_EVENT);
    case YAML_MAPPING_START_EVENT:
        n->kind = TREE_MAP;
        return read_members(r, depth, n, YAML_MAPPING_END_EVENT);
    default:
        return refuse(r, "not a value");
    }
}

/* STREAM-START [DOCUMENT-START node DOCUMENT-END] STREAM-END. */
static enum bnt_status read_stream(struct reading *r)
{
    struct yaml_node *root = NULL;
    enum bnt_status st = next_event(r);
    if (st == BNT_OK) {
        st = next_event(r);
    }
    if (st != BNT_OK || r->event.type == YAML_STREAM_END_EVENT) {
        return st;
    }
    st = next_event(r);
    if (st == BNT_OK) {
        st = read_node(r, 1, &root);
    }
    for (int i = 0; st == BNT_OK && i < 2; i++) {
        st = next_event(r);
    }
    if (st == BNT_OK && r->event.type != YAML_STREAM_END_EVENT) {
        st = refuse(r, "a second document");
    }
    r->tree->root = root;
    return st;
}

enum bnt_status yaml_tree_read(struct yaml_tree *t, const char *path, const char *shown,
                               enum yaml_tree_texts texts, struct bnt_err *err)
{
    struct bnt_buf bytes = BNT_BUF(YAML_TREE_MAX_BYTES);
    struct reading r = {.tree = t, .shown = shown, .texts = texts, .bytes = &bytes, .err = err};
    *t = (struct yaml_tree){0};
    enum bnt_status st = bnt_file_read(path, &bytes, err);
    if (st == BNT_OK) {
        st = bnt_arena_init(&t->arena, ARENA_BYTES, err);
    }
    if (st == BNT_OK && !yaml_parser_initialize(&r.parser)) {
        st = bnt_err_nomem(err, shown, 0);
    } else if (st == BNT_OK) {
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.parser, (const yaml_char_t *)bnt_buf_view(&bytes),
                                     bytes.len);
        st = read_stream(&r);
        if (r.have_event) {
            yaml_event_delete(&r.event);
        }
        yaml_parser_delete(&r.parser);
    }
    bnt_buf_release(&bytes);
    if (st != BNT_OK) {
        yaml_tree_release(t);
    }
    return st;
}

void yaml_tree_release(struct yaml_tree *t)
{
    bnt_arena_release(&t->arena);
    t->root = NULL;
}

const char *yaml_kind_name(const struct yaml_node *n)
{
    return n->kind == TREE_MAP ? "map" : n->kind == TREE_LIST ? "list" : "text";
}

bool yaml_is_null(const struct yaml_node *n)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (n->kind != TREE_TEXT || !n->plain) {
        return false;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(n->text, words[i]) == 0) {
            return true;
        }
    }
    return false;
}
