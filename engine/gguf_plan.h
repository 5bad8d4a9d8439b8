/* A GGUF file before it is bytes: keys in order with their values as the file will hold them, and
 * tensors with their places. A mock may plan what is wrong on purpose, so that nothing is checked
 * here but by gguf_writer_open (engine/gguf_write.h); sound plans come out as version 3,
 * little-endian. */
#ifndef BNT_GGUF_PLAN_H
#define BNT_GGUF_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "engine/gguf.h"

#define GPLAN_MAX_BYTES (256u << 20) /* of one value, and of a header */
#define GPLAN_DEFAULT_ALIGNMENT 32u

struct gplan_kv {
    char *key;
    struct bnt_buf value; /* as in the file, from the value type on */
};

struct gplan_tensor {
    char name[GGUF_MAX_NAME_BYTES + 1];
    uint32_t type; /* enum tensor_type, or what no reader knows */
    int n_dims;
    uint64_t ne[GGUF_MAX_DIMS];
    uint64_t offset, size; /* bytes; offset from the start of the data */
};

struct gguf_plan {
    uint32_t version, alignment;
    struct gplan_kv *kv;
    size_t n_kv, cap_kv;
    struct gplan_tensor *tensors;
    size_t n_tensors, cap_tensors;
};

void gplan_init(struct gguf_plan *p);
void gplan_release(struct gguf_plan *p);

struct gplan_kv *gplan_find(const struct gguf_plan *p, const char *key);
void gplan_drop(struct gguf_plan *p, const char *key);
/* A key at the end, or another value for one that is there. */
enum bnt_status gplan_put_u32(struct gguf_plan *p, const char *key, uint32_t v,
                              struct bnt_err *err);
enum bnt_status gplan_put_f32(struct gguf_plan *p, const char *key, float v, struct bnt_err *err);
enum bnt_status gplan_put_bool(struct gguf_plan *p, const char *key, bool v, struct bnt_err *err);
enum bnt_status gplan_put_str(struct gguf_plan *p, const char *key, const char *text,
                              struct bnt_err *err);
/* `bytes`: the n elements as the file holds them. */
enum bnt_status gplan_put_array(struct gguf_plan *p, const char *key, enum gguf_value_type elem,
                                uint64_t n, const struct bnt_buf *bytes, struct bnt_err *err);
/* The key of another file with its value, from either byte order. Errors: UNSUPPORTED for nested
 * arrays of a foreign one. */
enum bnt_status gplan_put_copy(struct gguf_plan *p, const struct gguf *g, const struct gguf_kv *kv,
                               struct bnt_err *err);
/* A key at the end even if it is there, with these bytes for a value. */
enum bnt_status gplan_add_raw(struct gguf_plan *p, const char *key, const void *value, size_t n,
                              struct bnt_err *err);

/* A tensor at the end; one column is a vector. Errors: USAGE when the type cannot have the shape.
 */
enum bnt_status gplan_add_tensor(struct gguf_plan *p, const char *name, enum tensor_type type,
                                 uint64_t cols, uint64_t rows, struct bnt_err *err);
/* A tensor of another file at the end: its name, type and shape. */
enum bnt_status gplan_copy_tensor(struct gguf_plan *p, const struct gguf_tensor *t,
                                  struct bnt_err *err);
/* A tensor's name as a string; cut never, since a reader has checked it. */
void gplan_name(char out[GGUF_MAX_NAME_BYTES + 1], struct gguf_str name);
struct gplan_tensor *gplan_find_tensor(const struct gguf_plan *p, const char *name);
void gplan_drop_tensor(struct gguf_plan *p, const char *name);
/* Offsets one after the other. */
void gplan_place(struct gguf_plan *p);
/* Header and padding: out ends where the data begin. */
enum bnt_status gplan_header(const struct gguf_plan *p, struct bnt_buf *out, struct bnt_err *err);

/* Numbers as the file holds them, and text with its length, appended. */
enum bnt_status gplan_append_number(struct bnt_buf *out, uint64_t v, unsigned width,
                                    struct bnt_err *err);
enum bnt_status gplan_append_text(struct bnt_buf *out, const char *text, size_t len,
                                  struct bnt_err *err);

#endif
