/* What the gguf_*.c files share: the private half of a struct gguf, loads in either byte order,
 * text for messages. */
#ifndef BNT_GGUF_IMPL_H
#define BNT_GGUF_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/file.h"
#include "engine/gguf.h"

/* Open-addressed table from a name to its index in kv or tensors. */
struct gguf_index {
    uint32_t *slots; /* index + 1; 0: free */
    uint64_t mask;   /* number of slots - 1, a power of two of which at most half are taken */
};

struct gguf_priv {
    struct bnt_mapping map; /* the file, when this gguf mapped it */
    const uint8_t *bytes;   /* whole file when g->mapped, else its first `have` bytes */
    uint64_t have;
    uint8_t *header; /* streamed: owns what bytes points at */
    uint64_t header_cap;
    int fd; /* streamed: for tensors; else -1 */
    uint64_t hash_seed;
    struct gguf_index kv_index, tensor_index;
};

/* Number of kv or tensor names that gguf_index_build looks at, and name i of them. */
typedef struct gguf_str gguf_name_fn(const struct gguf *g, uint32_t i);

/* Fill `index` with names 0..n-1; of equal ones the first is found. *duplicate is n, or the index
 * of the first name that an earlier one equals. */
enum bnt_status gguf_index_build(const struct gguf *g, gguf_name_fn *name, uint32_t n,
                                 struct gguf_index *index, uint32_t *duplicate,
                                 struct bnt_err *err);
struct gguf_str gguf_kv_name(const struct gguf *g, uint32_t i);
struct gguf_str gguf_tensor_name(const struct gguf *g, uint32_t i);

/* Bytes of one value of a type of fixed size; 0 for strings, arrays and unknown types. */
unsigned gguf_value_size(uint32_t type);

/* The index of a name, UINT32_MAX when it is not there. */
uint32_t gguf_index_find(const struct gguf *g, gguf_name_fn *name, const struct gguf_index *index,
                         struct gguf_str s);

/* ---- the parser: gguf.c, then gguf_place.c ---- */

/* Where a key, a value or a tensor's name stands, until pointers are final. */
struct gguf_kv_place {
    uint64_t key, raw;
};
struct gguf_tensor_place {
    uint64_t name;
    uint32_t type_id;
};

struct gguf_reader {
    struct gguf *g;
    uint64_t at;
    /* What is being read, for messages: "key 3", "tensor 12". */
    const char *what;
    uint64_t which;
    struct gguf_kv *kv;
    struct gguf_tensor *tensors;
    struct gguf_kv_place *kv_places;
    struct gguf_tensor_place *tensor_places;
    bool long_q2_0;                 /* tensor_type.h: its blocks of this file are of 128 weights */
    struct bnt_err *err;            /* never NULL */
    const struct gguf_watch *watch; /* NULL: the first defect ends the reading */
    struct gguf_place where;        /* of the defect that ended it */
};

/* Parse and check the header of a g whose path, file_size, mapped and priv (bytes, have or fd) are
 * set. watch may be NULL. */
enum bnt_status gguf_parse(struct gguf *g, const struct gguf_watch *watch, struct bnt_err *err);
/* What follows the infos: names that stand twice, alignment, tensor types, sizes and extents. */
enum bnt_status gguf_place_all(struct gguf_reader *r);
/* After a defect that one can read on after: tell the watcher and be OK; st where nobody watches.
 */
enum bnt_status gguf_go_on(struct gguf_reader *r, enum bnt_status st, struct gguf_place where);

/* Streamed: read on until priv->have >= want, which must not pass the file's end. Moves
 * priv->bytes. */
enum bnt_status gguf_header_more(struct gguf *g, uint64_t want, struct bnt_err *err);

/* A name from the file, cut and with unprintable bytes replaced, for a message. */
struct gguf_shown {
    char text[72];
};
struct gguf_shown gguf_show(struct gguf_str s);

static inline bool gguf_host_is_big(void)
{
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
}

static inline uint16_t gguf_load16(const uint8_t *p, bool big)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return big == gguf_host_is_big() ? v : __builtin_bswap16(v);
}

static inline uint32_t gguf_load32(const uint8_t *p, bool big)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return big == gguf_host_is_big() ? v : __builtin_bswap32(v);
}

static inline uint64_t gguf_load64(const uint8_t *p, bool big)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return big == gguf_host_is_big() ? v : __builtin_bswap64(v);
}

#endif
