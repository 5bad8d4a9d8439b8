/* Checkpoints in the safetensors format: one file, or shards with an index.
 *
 * Format: eight bytes of little-endian header length, the header as a JSON object (name -> dtype,
 * shape, data_offsets), the data. What opened is sound: every tensor lies inside its file, has the
 * bytes that dtype and shape ask for, shares none with another and leaves no gap; every tensor of
 * the index is in the shard that the index says. Data are read by pread, nothing is mapped. */
#ifndef BNT_SAFETENSORS_H
#define BNT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define SAFETENSORS_MAX_HEADER_BYTES (25u << 20)
#define SAFETENSORS_MAX_SHARDS 4096u
#define SAFETENSORS_MAX_DIMS 4

enum st_dtype { ST_F32, ST_F16, ST_BF16, ST_U8, ST_OTHER };

struct st_tensor {
    char *name;
    enum st_dtype dtype;
    char dtype_name[12]; /* "BF16" */
    int n_dims;
    uint64_t shape[SAFETENSORS_MAX_DIMS]; /* the last one is contiguous; unused ones are 1 */
    size_t file;                          /* index of its shard */
    uint64_t offset, size;                /* bytes in that file */
};

struct st_shard {
    char *path;
    int fd;
};

struct safetensors {
    struct st_shard *shards;
    struct st_tensor *tensors; /* by name, ascending */
    size_t n_shards, n_tensors, cap_tensors;
};

/* The checkpoint in a folder: model.safetensors.index.json and its shards, or model.safetensors.
 * Errors: NOT_FOUND (none there, or a shard is missing), FILE for what is malformed: shard, tensor
 * and number are named. */
enum bnt_status safetensors_open(const char *dir, struct safetensors *out, struct bnt_err *err);
void safetensors_close(struct safetensors *s);
/* NULL when absent. */
const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* n bytes from `offset` within the tensor, as they stand in the file (little-endian). */
enum bnt_status safetensors_read(const struct safetensors *s, const struct st_tensor *t,
                                 uint64_t offset, uint64_t n, void *dst, struct bnt_err *err);

#endif
