/* GGUF files: parse, check, map or stream.
 *
 * Format: the GGUF specification of the ggml project (docs/gguf.md there), versions 2 and 3, little
 * and big endian. Version 1 is refused with its own message. Every count, length, dimension and
 * offset is checked before use; a `struct gguf` that opened is sound: all names, values and tensor
 * extents lie inside the file, no two tensors overlap and no key or tensor name stands twice.
 *
 * A gguf is immutable after open and may be shared by threads. */
#ifndef BNT_GGUF_H
#define BNT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/tensor_type.h"

/* Ceilings on hostile numbers. */
#define GGUF_MAX_TENSORS 65536u
#define GGUF_MAX_KV 65536u
#define GGUF_MAX_KEY_BYTES 65535u
#define GGUF_MAX_ARRAY_DEPTH 4u
#define GGUF_MAX_HEADER_BYTES (1ull << 30) /* metadata and tensor infos together */
#define GGUF_MAX_DIMS 4
#define GGUF_MAX_NAME_BYTES 255u

enum gguf_value_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STR,
    GGUF_ARR,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N_VALUE_TYPES
};

/* What can be wrong with a model file. Each class has a name, a hint, an exit status and whether
 * the file can be put right without fetching it again (`bnt_err.foreign` with domain "gguf" is one
 * of these). */
enum gguf_fault {
    GGUF_FAULT_NONE,
    GGUF_FAULT_HEADER,    /* no GGUF magic, or the file ends inside the header */
    GGUF_FAULT_VERSION,   /* version 1 or one from the future */
    GGUF_FAULT_ALIGNMENT, /* general.alignment or a tensor offset */
    GGUF_FAULT_SIZE,      /* truncated: a tensor ends past the file */
    GGUF_FAULT_BOUNDS,    /* a count, length or offset out of its bounds, or tensors that overlap */
    GGUF_FAULT_UNSUPPORTED_TYPE, /* tensor or value type not known here */
    GGUF_FAULT_SCALE,            /* a scale that is NaN, infinite or absurd */
    GGUF_FAULT_MISSING_METADATA, /* a key that the architecture needs */
    GGUF_FAULT_CORRUPT,      /* duplicate key or tensor, invalid text, codes outside their range */
    GGUF_FAULT_DIMENSIONS,   /* a tensor's shape is not what the architecture derives */
    GGUF_FAULT_ARCHITECTURE, /* unknown architecture, or one whose tensors are missing */
    GGUF_FAULT_TOKENIZER,    /* vocabulary inconsistent or of an unknown kind */
    GGUF_N_FAULTS
};
struct gguf_fault_info {
    const char *name; /* "alignment" */
    enum bnt_status status;
    const char *hint;
    bool recoverable;
};
/* Row of the table for a class; the NONE row for anything outside it. */
const struct gguf_fault_info *gguf_fault_info(int fault);
/* The number of "at byte N" in a message; false without one. */
bool gguf_fault_offset(const char *message, uint64_t *offset);
/* Set err to this class: status, domain and hint come from the table. */
enum bnt_status gguf_fail(struct bnt_err *err, enum gguf_fault fault, const char *fmt, ...)
    BNT_PRINTF(3, 4);

/* Text inside the file: not terminated. */
struct gguf_str {
    const char *data;
    size_t len; /* bytes */
};
bool gguf_str_eq(struct gguf_str s, const char *text);

struct gguf_kv {
    struct gguf_str key;
    enum gguf_value_type type;
    enum gguf_value_type elem_type; /* arrays: type of the elements (GGUF_ARR when nested) */
    uint64_t n;                     /* arrays: elements; else 1 */
    const uint8_t *raw; /* value bytes in the file's byte order (arrays: first element) */
    uint64_t raw_len;
};

struct gguf_tensor {
    struct gguf_str name;
    enum tensor_type type;
    int n_dims;
    uint64_t ne[GGUF_MAX_DIMS]; /* ne[0] is contiguous (columns); unused dimensions are 1 */
    uint64_t offset;            /* from the start of the file, bytes */
    uint64_t size;              /* bytes, from type and shape */
};

struct gguf {
    const char *path; /* owned copy */
    uint32_t version;
    bool big_endian;
    bool mapped; /* false: streamed, tensor data comes by gguf_tensor_read only */
    uint64_t file_size, alignment, data_offset;
    uint64_t n_kv, n_tensors;
    const struct gguf_kv *kv;
    const struct gguf_tensor *tensors; /* in file order */
    struct gguf_priv *priv;
};

enum gguf_mode {
    GGUF_MODE_AUTO, /* map; stream when the mapping is refused */
    GGUF_MODE_MAP,
    GGUF_MODE_STREAM /* header in memory, tensors by pread: for little address space */
};

enum bnt_status gguf_open(const char *path, enum gguf_mode mode, struct gguf **out,
                          struct bnt_err *err);

/* Where a defect is: views, valid during the call; data is NULL where it is in none. */
struct gguf_place {
    struct gguf_str key, tensor;
};
/* Who wants to hear of every defect, not just the first. `defect` is of domain "gguf", without the
 * file's name in front. */
struct gguf_watch {
    void (*defect)(void *ctx, const struct bnt_err *defect, const struct gguf_place *where);
    void *ctx;
};
/* The same, going on after a defect wherever the format allows it. When it returns OK although
 * defects were told, the gguf is not sound: of a name that stands twice the first is found, tensors
 * may overlap or begin unaligned, and a tensor of size 0 (whose type may be none that is known) has
 * no data to be read. Otherwise the defect that ended the reading was told too. watch NULL: as
 * gguf_open. */
enum bnt_status gguf_open_watched(const char *path, enum gguf_mode mode,
                                  const struct gguf_watch *watch, struct gguf **out,
                                  struct bnt_err *err);
/* Over bytes in memory that outlive the gguf (tests, fuzzing). */
enum bnt_status gguf_open_memory(const void *bytes, uint64_t size, const char *name,
                                 struct gguf **out, struct bnt_err *err);
void gguf_close(struct gguf *g); /* NULL is fine */

/* Look-ups by name, O(1); NULL when absent. */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);
bool gguf_has_type(const struct gguf *g, enum tensor_type type); /* of any tensor */

/* Typed values. gguf_get_*: false when the key is absent or is no such number (integers of any
 * width that fit, floats from f32 and f64). gguf_get_str: a view. */
bool gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out);
bool gguf_get_i64(const struct gguf *g, const char *key, int64_t *out);
bool gguf_get_f64(const struct gguf *g, const char *key, double *out);
bool gguf_get_number(const struct gguf *g, const char *key, double *out); /* either of them */
bool gguf_get_bool(const struct gguf *g, const char *key, bool *out);
bool gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out);

/* Walk an array of numbers or strings once, front to back. */
struct gguf_iter {
    const struct gguf *g;
    const struct gguf_kv *kv;
    uint64_t i;        /* index of the next element */
    const uint8_t *at; /* its bytes */
};
/* False when the key is absent or no array of `elem_type`. */
bool gguf_iter_begin(const struct gguf *g, const char *key, enum gguf_value_type elem_type,
                     struct gguf_iter *it);
bool gguf_iter_str(struct gguf_iter *it, struct gguf_str *out); /* false at the end */
bool gguf_iter_f64(struct gguf_iter *it, double *out);          /* any number type */
bool gguf_iter_i64(struct gguf_iter *it, int64_t *out);         /* any integer type or bool */

/* Tensor bytes where they lie, in host byte order; NULL when streamed, or when the file's byte
 * order is foreign. */
const void *gguf_tensor_view(const struct gguf *g, const struct gguf_tensor *t);
/* Copy `n` bytes from `offset` within the tensor to dst, converted to host byte order. offset and n
 * must lie on block boundaries of the type when the byte order is foreign. Errors: FILE (short
 * read, bounds). */
enum bnt_status gguf_tensor_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t offset,
                                 uint64_t n, void *dst, struct bnt_err *err);
/* Advice for mapped files: the pages of this tensor are not needed for now. */
void gguf_tensor_release(const struct gguf *g, const struct gguf_tensor *t);

const char *gguf_value_type_name(enum gguf_value_type t);

#endif
