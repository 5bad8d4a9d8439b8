#include "engine/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fault.h"
#include "base/file.h"
#include "engine/hf_config.h"

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

static enum bnt_status broken(struct bnt_err *err, const char *path, const char *name,
                              const char *what)
{
    bnt_err_hint(err, "the download may be incomplete: fetch the checkpoint again");
    return name ? bnt_err_set(err, BNT_E_FILE, "%s: tensor %.120s: %s", path, name, what)
                : bnt_err_set(err, BNT_E_FILE, "%s: %s", path, what);
}

static enum bnt_status read_at(const struct st_shard *s, uint64_t offset, uint64_t n, void *dst,
                               struct bnt_err *err)
{
    uint8_t *p = dst;
    while (n > 0) {
        ssize_t got = pread(s->fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return bnt_err_errno(err, "%s: cannot read at byte %llu", s->path,
                                 (unsigned long long)offset);
        }
        if (got == 0) {
            return broken(err, s->path, NULL, "the file ends early");
        }
        p += got;
        offset += (uint64_t)got;
        n -= (uint64_t)got;
    }
    return BNT_OK;
}

/* ---- one tensor of a header ---- */

static const struct {
    const char *name;
    enum st_dtype dtype;
    unsigned bytes; /* of an element */
} dtypes[] = {{"F32", ST_F32, 4},   {"F16", ST_F16, 2},       {"BF16", ST_BF16, 2},
              {"U8", ST_U8, 1},     {"I8", ST_OTHER, 1},      {"BOOL", ST_OTHER, 1},
              {"I16", ST_OTHER, 2}, {"U16", ST_OTHER, 2},     {"I32", ST_OTHER, 4},
              {"U32", ST_OTHER, 4}, {"I64", ST_OTHER, 8},     {"U64", ST_OTHER, 8},
              {"F64", ST_OTHER, 8}, {"F8_E4M3", ST_OTHER, 1}, {"F8_E5M2", ST_OTHER, 1}};

/* dtype, and the bytes of an element; 0: no such dtype. */
static unsigned read_dtype(const json_t *v, struct st_tensor *t)
{
    const char *text = json_string_value(json_object_get(v, "dtype"));
    for (size_t i = 0; text && i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(text, dtypes[i].name) == 0) {
            t->dtype = dtypes[i].dtype;
            snprintf(t->dtype_name, sizeof t->dtype_name, "%s", text);
            return dtypes[i].bytes;
        }
    }
    return 0;
}

static bool read_count(const json_t *v, uint64_t *out)
{
    *out = (uint64_t)json_integer_value(v);
    return json_is_integer(v) && json_integer_value(v) >= 0;
}

/* Shape and the bytes it takes. */
static const char *read_shape(const json_t *v, unsigned width, struct st_tensor *t, uint64_t *bytes)
{
    const json_t *shape = json_object_get(v, "shape");
    size_t n = json_array_size(shape);
    *bytes = width;
    if (!json_is_array(shape) || n > SAFETENSORS_MAX_DIMS) {
        return "shape is no list of at most four numbers";
    }
    t->n_dims = (int)n;
    for (size_t i = 0; i < SAFETENSORS_MAX_DIMS; i++) {
        t->shape[i] = 1;
        if (i < n && !read_count(json_array_get(shape, i), &t->shape[i])) {
            return "shape is no list of whole numbers";
        }
        if (!bnt_mul_u64(*bytes, t->shape[i], bytes)) {
            return "shape is larger than any memory";
        }
    }
    return NULL;
}

/* What is wrong with an entry, or NULL. data_bytes: of the file behind its header. */
static const char *read_entry(const json_t *v, uint64_t data_bytes, struct st_tensor *t)
{
    uint64_t begin, end, bytes;
    const json_t *offsets = json_object_get(v, "data_offsets");
    unsigned width = read_dtype(v, t);
    if (width == 0) {
        return "dtype is missing or unknown";
    }
    const char *what = read_shape(v, width, t, &bytes);
    if (what) {
        return what;
    }
    if (json_array_size(offsets) != 2 || !read_count(json_array_get(offsets, 0), &begin) ||
        !read_count(json_array_get(offsets, 1), &end)) {
        return "data_offsets are no two whole numbers";
    }
    if (begin > end || (end > data_bytes && !BNT_FAULT(safetensors_bounds))) {
        return "data_offsets lie outside the file";
    }
    if (end - begin != bytes) {
        return "data_offsets do not fit dtype and shape";
    }
    t->offset = begin;
    t->size = bytes;
    return NULL;
}

/* ---- a shard ---- */

static enum bnt_status add_tensor(struct safetensors *s, const char *name, struct st_tensor **out,
                                  struct bnt_err *err)
{
    if (s->n_tensors == s->cap_tensors) {
        size_t cap = s->cap_tensors ? 2 * s->cap_tensors : 512;
        struct st_tensor *all = realloc(s->tensors, cap * sizeof *all);
        if (!all) {
            return bnt_err_nomem(err, "a checkpoint's tensors", cap * sizeof *all);
        }
        s->tensors = all;
        s->cap_tensors = cap;
    }
    char *copy = strdup(name);
    if (!copy) {
        return bnt_err_nomem(err, "a name", strlen(name));
    }
    *out = &s->tensors[s->n_tensors++];
    **out = (struct st_tensor){.name = copy, .file = s->n_shards - 1};
    return BNT_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct st_tensor *s = a, *t = b;
    return s->offset != t->offset ? (s->offset < t->offset ? -1 : 1)
                                  : (s->size > t->size) - (s->size < t->size);
}

/* The n tensors from first on, which are those of the shard, cover its data once. */
static enum bnt_status check_cover(struct safetensors *s, size_t first, uint64_t data_bytes,
                                   struct bnt_err *err)
{
    const char *path = s->shards[s->n_shards - 1].path;
    uint64_t at = 0;
    if (s->n_tensors > first) {
        qsort(s->tensors + first, s->n_tensors - first, sizeof *s->tensors, by_place);
    }
    for (size_t i = first; i < s->n_tensors; i++) {
        const struct st_tensor *t = &s->tensors[i];
        if (t->offset != at && !BNT_FAULT(safetensors_overlap)) {
            return broken(err, path, t->name,
                          t->offset < at ? "its bytes overlap those of another tensor"
                                         : "there is a gap in front of its bytes");
        }
        at = t->offset + t->size;
    }
    return at == data_bytes || BNT_FAULT(safetensors_overlap)
               ? BNT_OK
               : broken(err, path, NULL, "bytes behind the last tensor belong to none");
}

static enum bnt_status read_tensors(struct safetensors *s, const json_t *header, uint64_t data_at,
                                    uint64_t file_bytes, struct bnt_err *err)
{
    const size_t first = s->n_tensors;
    const char *path = s->shards[s->n_shards - 1].path;
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)header, name, v)
    {
        struct st_tensor *t = NULL;
        if (strcmp(name, "__metadata__") == 0) {
            continue;
        }
        enum bnt_status st = add_tensor(s, name, &t, err);
        const char *what = st == BNT_OK ? read_entry(v, file_bytes - data_at, t) : NULL;
        if (st != BNT_OK || what) {
            return st != BNT_OK ? st : broken(err, path, name, what);
        }
    }
    enum bnt_status st = check_cover(s, first, file_bytes - data_at, err);
    for (size_t i = first; i < s->n_tensors; i++) {
        s->tensors[i].offset += data_at;
    }
    return st;
}

static enum bnt_status parse_header(struct safetensors *s, const char *text, uint64_t n,
                                    uint64_t file_bytes, struct bnt_err *err)
{
    json_error_t at;
    const char *path = s->shards[s->n_shards - 1].path;
    json_t *header = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &at);
    if (!json_is_object(header)) {
        const char *why = header ? "it is another value" : at.text;
        json_decref(header);
        bnt_err_hint(err, "the download may be incomplete: fetch the checkpoint again");
        return bnt_err_set(err, BNT_E_FILE, "%s: the header is no JSON object: %s (byte %d)", path,
                           why, at.position);
    }
    enum bnt_status st = read_tensors(s, header, 8 + n, file_bytes, err);
    json_decref(header);
    return st;
}

static enum bnt_status read_header(struct safetensors *s, struct bnt_err *err)
{
    const struct st_shard *shard = &s->shards[s->n_shards - 1];
    uint8_t head[32];
    struct stat sb;
    uint64_t n = 0;
    if (fstat(shard->fd, &sb) != 0) {
        return bnt_err_errno(err, "%s", shard->path);
    }
    uint64_t size = (uint64_t)sb.st_size;
    if (!S_ISREG(sb.st_mode) || size < 8) {
        return broken(err, shard->path, NULL, "no safetensors file: it has no header");
    }
    const size_t n_head = size < sizeof head ? (size_t)size : sizeof head;
    enum bnt_status st = read_at(shard, 0, n_head, head, err);
    const char *other = st == BNT_OK ? hf_not_itself(head, n_head) : NULL;
    if (other) {
        return bnt_err_set(err, BNT_E_FILE, "%s: it is %s", shard->path, other);
    }
    for (int i = 7; i >= 0; i--) {
        n = n << 8 | head[i];
    }
    if (st == BNT_OK && (n < 2 || n > SAFETENSORS_MAX_HEADER_BYTES || n > size - 8)) {
        bnt_err_hint(err, "the download may be incomplete: fetch the checkpoint again");
        return bnt_err_set(err, BNT_E_FILE,
                           "%s: a header of %llu bytes in a file of %llu (at most %u are read)",
                           shard->path, (unsigned long long)n, (unsigned long long)size,
                           SAFETENSORS_MAX_HEADER_BYTES);
    }
    char *text = st == BNT_OK ? malloc((size_t)n) : NULL;
    if (st == BNT_OK) {
        st = text ? read_at(shard, 8, n, text, err) : bnt_err_nomem(err, "a header", n);
    }
    if (st == BNT_OK) {
        st = parse_header(s, text, n, size, err);
    }
    free(text);
    return st;
}

static enum bnt_status open_shard(struct safetensors *s, const char *dir, const char *name,
                                  struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(path, err, "%s/%s", dir, name);
    if (st != BNT_OK) {
        return st;
    }
    struct st_shard *all = realloc(s->shards, (s->n_shards + 1) * sizeof *all);
    if (all) {
        s->shards = all;
    }
    char *copy = all ? strdup(path) : NULL;
    if (!copy) {
        return bnt_err_nomem(err, "shards", (s->n_shards + 1) * sizeof *all);
    }
    struct st_shard *shard = &s->shards[s->n_shards++];
    *shard = (struct st_shard){.path = copy, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (shard->fd < 0) {
        bnt_err_hint(err, "the index names it: fetch all files of the checkpoint");
        return bnt_err_errno(err, "shard %s", path);
    }
    return read_header(s, err);
}

/* ---- the whole ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static enum bnt_status sort_names(struct safetensors *s, struct bnt_err *err)
{
    if (s->n_tensors > 0) {
        qsort(s->tensors, s->n_tensors, sizeof *s->tensors, by_name);
    }
    for (size_t i = 1; i < s->n_tensors; i++) {
        const struct st_tensor *a = &s->tensors[i - 1], *b = &s->tensors[i];
        if (strcmp(a->name, b->name) == 0) {
            bnt_err_hint(err, "a shard of another checkpoint may lie in the folder");
            return bnt_err_set(err, BNT_E_FILE, "tensor %.120s stands in two shards: %s and %s",
                               a->name, s->shards[a->file < b->file ? a->file : b->file].path,
                               s->shards[a->file < b->file ? b->file : a->file].path);
        }
    }
    return BNT_OK;
}

/* A name in the folder and nowhere else. */
static bool is_plain_name(const char *name)
{
    return name && name[0] && name[0] != '.' && !strchr(name, '/');
}

static bool is_open(const struct safetensors *s, const char *dir, const char *name)
{
    for (size_t i = 0; i < s->n_shards; i++) {
        if (strcmp(s->shards[i].path + strlen(dir) + 1, name) == 0) {
            return true;
        }
    }
    return false;
}

static enum bnt_status open_shards(struct safetensors *s, const char *dir, const char *path,
                                   const json_t *map, struct bnt_err *err)
{
    const char *name;
    json_t *v;
    enum bnt_status st = BNT_OK;
    json_object_foreach((json_t *)(uintptr_t)map, name, v)
    {
        const char *file = json_string_value(v);
        if (!is_plain_name(file)) {
            return broken(err, path, name, "its shard is no name of a file in this folder");
        }
        if (!is_open(s, dir, file)) {
            st = s->n_shards < SAFETENSORS_MAX_SHARDS
                     ? open_shard(s, dir, file, err)
                     : broken(err, path, NULL, "the index names too many shards");
        }
        if (st != BNT_OK) {
            return st;
        }
    }
    return sort_names(s, err);
}

static enum bnt_status check_map(const struct safetensors *s, const char *dir, const char *path,
                                 const json_t *map, struct bnt_err *err)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)map, name, v)
    {
        const struct st_tensor *t = safetensors_find(s, name);
        if (!t || strcmp(s->shards[t->file].path + strlen(dir) + 1, json_string_value(v)) != 0) {
            return broken(err, path, name, "it is not in the shard that the index says");
        }
    }
    return BNT_OK;
}

static enum bnt_status open_index(struct safetensors *s, const char *dir, const char *path,
                                  struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(SAFETENSORS_MAX_HEADER_BYTES);
    json_error_t at;
    enum bnt_status st = bnt_file_read(path, &text, err);
    if (st != BNT_OK) {
        return st;
    }
    json_t *root = json_loadb(bnt_buf_view(&text), text.len, 0, &at);
    const char *other = root ? NULL : hf_not_itself(bnt_buf_view(&text), text.len);
    bnt_buf_release(&text);
    const json_t *map = json_object_get(root, "weight_map");
    if (other) {
        st = bnt_err_set(err, BNT_E_FILE, "%s: it is %s", path, other);
    } else if (!root) {
        st = bnt_err_set(err, BNT_E_FILE, "%s: no JSON: %s (line %d)", path, at.text, at.line);
    } else if (!json_is_object(map)) {
        st = broken(err, path, NULL, "it has no weight_map");
    }
    if (st == BNT_OK) {
        st = open_shards(s, dir, path, map, err);
    }
    if (st == BNT_OK) {
        st = check_map(s, dir, path, map, err);
    }
    json_decref(root);
    return st;
}

static enum bnt_status none_there(const char *dir, struct bnt_err *err)
{
    bnt_err_hint(err, "bnt convert takes a Hugging Face folder with " SINGLE_NAME " or " INDEX_NAME
                      "; .bin files must be saved as safetensors first");
    return bnt_err_set(err, BNT_E_NOT_FOUND, "%s: no safetensors checkpoint is there", dir);
}

enum bnt_status safetensors_open(const char *dir, struct safetensors *out, struct bnt_err *err)
{
    char index[BNT_PATH_MAX], single[BNT_PATH_MAX];
    *out = (struct safetensors){0};
    enum bnt_status st = bnt_path_format(index, err, "%s/" INDEX_NAME, dir);
    if (st == BNT_OK) {
        st = bnt_path_format(single, err, "%s/" SINGLE_NAME, dir);
    }
    if (st == BNT_OK && access(index, F_OK) == 0 && access(single, F_OK) == 0) {
        bnt_err_hint(err, "leave the one that is meant: libraries differ in which they take");
        st = bnt_err_set(err, BNT_E_FILE, "%s: both " INDEX_NAME " and " SINGLE_NAME " are there",
                         dir);
    } else if (st == BNT_OK && access(index, F_OK) == 0) {
        st = open_index(out, dir, index, err);
    } else if (st == BNT_OK && access(single, F_OK) == 0) {
        st = open_shard(out, dir, SINGLE_NAME, err);
        st = st == BNT_OK ? sort_names(out, err) : st;
    } else if (st == BNT_OK) {
        st = none_there(dir, err);
    }
    if (st != BNT_OK) {
        safetensors_close(out);
    }
    return st;
}

void safetensors_close(struct safetensors *s)
{
    for (size_t i = 0; i < s->n_shards; i++) {
        free(s->shards[i].path);
        if (s->shards[i].fd >= 0) {
            close(s->shards[i].fd);
        }
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        free(s->tensors[i].name);
    }
    free(s->shards);
    free(s->tensors);
    *s = (struct safetensors){0};
}

const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    const struct st_tensor key = {.name = (char *)(uintptr_t)name};
    return s->n_tensors ? bsearch(&key, s->tensors, s->n_tensors, sizeof key, by_name) : NULL;
}

enum bnt_status safetensors_read(const struct safetensors *s, const struct st_tensor *t,
                                 uint64_t offset, uint64_t n, void *dst, struct bnt_err *err)
{
    const struct st_shard *shard = &s->shards[t->file];
    if (offset > t->size || n > t->size - offset) {
        return bnt_err_set(err, BNT_E_INTERNAL, "%s: %s has no bytes from %llu on", shard->path,
                           t->name, (unsigned long long)offset);
    }
    return read_at(shard, t->offset + offset, n, dst, err);
}
