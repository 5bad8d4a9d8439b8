/* Getting at the bytes: opening by mapping or by pread, tensor views and reads, byte order.
 *
 * Mapped: priv->bytes is the whole file. Streamed: priv->bytes is a heap copy of the header, which
 * grows while it is parsed and stays afterwards, since names and values point into it; tensors come
 * by pread from priv->fd. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "engine/gguf_impl.h"

/* First read of a streamed header; it doubles from there. */
#define FIRST_HEADER_BYTES (64u << 10)

/* Where a block of a type holds numbers of more than one byte. */
struct swap_rule {
    enum tensor_type type;
    uint8_t unit; /* bytes of the numbers that fill the whole block; 0: only those listed */
    uint8_t n16;  /* 16-bit numbers from byte at16 on */
    uint8_t at16;
    uint8_t at32; /* one 32-bit number from this byte on; 0: none */
};

static const struct swap_rule swap_rules[] = {
    {TENSOR_F32, 4, 0, 0, 0},       {TENSOR_F16, 2, 0, 0, 0},    {TENSOR_BF16, 2, 0, 0, 0},
    {TENSOR_Q4_0, 0, 1, 0, 0},      {TENSOR_Q4_1, 0, 2, 0, 0},   {TENSOR_Q5_0, 0, 1, 0, 2},
    {TENSOR_Q5_1, 0, 2, 0, 4},      {TENSOR_Q8_0, 0, 1, 0, 0},   {TENSOR_Q4_K, 0, 2, 0, 0},
    {TENSOR_Q5_K, 0, 2, 0, 0},      {TENSOR_Q6_K, 0, 1, 208, 0}, {TENSOR_TQ1_0, 0, 1, 52, 0},
    {TENSOR_TQ2_0, 0, 1, 64, 0},    {TENSOR_Q1_0, 0, 1, 0, 0},   {TENSOR_Q2_0, 0, 1, 0, 0},
    {TENSOR_Q2_0_G128, 0, 1, 0, 0}, {TENSOR_Q2_K, 0, 2, 80, 0},  {TENSOR_Q3_K, 0, 1, 108, 0},
    {TENSOR_IQ4_NL, 0, 1, 0, 0},    {TENSOR_IQ4_XS, 0, 2, 0, 0},
};

static void reverse(uint8_t *p, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++) {
        uint8_t b = p[i];
        p[i] = p[n - 1 - i];
        p[n - 1 - i] = b;
    }
}

/* Types whose only number is the f32 scale at the start of their last 32 bytes. */
static bool has_tail(const struct gguf_tensor *t)
{
    return t->type == TENSOR_I2_S || t->type == TENSOR_TL1 || t->type == TENSOR_TL2;
}

/* Does [offset, offset + n) of t cut no number in two? */
static bool is_whole(const struct gguf_tensor *t, uint64_t offset, uint64_t n)
{
    if (has_tail(t)) {
        uint64_t scale = t->size - 32, end = offset + n;
        return (offset <= scale || offset >= scale + 4) && (end <= scale || end >= scale + 4);
    }
    uint64_t unit = tensor_unit_bytes(t->type, t->ne[0]);
    return offset % unit == 0 && n % unit == 0;
}

static void swap_blocks(const struct swap_rule *rule, uint32_t block_bytes, uint8_t *p, uint64_t n)
{
    for (uint64_t b = 0; b + block_bytes <= n; b += block_bytes) {
        uint8_t *block = p + b;
        if (rule->unit) {
            reverse(block, rule->unit);
        }
        for (unsigned i = 0; i < rule->n16; i++) {
            reverse(block + rule->at16 + 2 * i, 2);
        }
        if (rule->at32) {
            reverse(block + rule->at32, 4);
        }
    }
}

/* Convert bytes [offset, offset + n) of tensor t, which are whole, from the foreign byte order to
 * the host's. */
static void swap_tensor(const struct gguf_tensor *t, uint64_t offset, uint64_t n, uint8_t *p)
{
    if (has_tail(t)) {
        uint64_t scale = t->size - 32;
        if (offset <= scale && offset + n > scale) {
            reverse(p + (scale - offset), 4);
        }
        return;
    }
    const struct tensor_type_info *info = tensor_type_info((uint32_t)t->type);
    const uint64_t unit = tensor_unit_bytes(t->type, t->ne[0]), scale = info->row_scale_bytes;
    for (uint64_t at = 0; scale && at < n; at += unit) {
        for (uint64_t k = 0; k < info->rows_together; k++) {
            reverse(p + at + k * scale, (unsigned)scale);
        }
    }
    for (size_t i = 0; i < sizeof swap_rules / sizeof swap_rules[0]; i++) {
        if (swap_rules[i].type == t->type) {
            swap_blocks(&swap_rules[i], info->block_bytes, p, n);
        }
    }
}

/* n bytes at `offset` of fd into dst. */
static enum bnt_status read_at(const struct gguf *g, uint64_t offset, uint64_t n, void *dst,
                               struct bnt_err *err)
{
    uint8_t *p = dst;
    while (n > 0) {
        ssize_t got = pread(g->priv->fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return bnt_err_errno(err, "cannot read at byte %llu", (unsigned long long)offset);
        }
        if (got == 0) {
            return gguf_fail(err, GGUF_FAULT_SIZE,
                             "file ends at byte %llu: it was cut since it was opened",
                             (unsigned long long)offset);
        }
        p += got;
        offset += (uint64_t)got;
        n -= (uint64_t)got;
    }
    return BNT_OK;
}

enum bnt_status gguf_header_more(struct gguf *g, uint64_t want, struct bnt_err *err)
{
    struct gguf_priv *priv = g->priv;
    uint64_t cap = priv->header_cap ? priv->header_cap : FIRST_HEADER_BYTES;
    while (cap < want) {
        cap *= 2;
    }
    if (cap > g->file_size) {
        cap = g->file_size;
    }
    if (cap > priv->header_cap) {
        uint8_t *bigger = realloc(priv->header, cap);
        if (!bigger) {
            return bnt_err_nomem(err, "GGUF header", cap);
        }
        priv->header = bigger;
        priv->bytes = bigger;
        priv->header_cap = cap;
    }
    enum bnt_status st = read_at(g, priv->have, cap - priv->have, priv->header + priv->have, err);
    if (st == BNT_OK) {
        priv->have = cap;
    }
    return st;
}

/* A gguf with nothing in it but its path; NULL without memory. */
static struct gguf *new_gguf(const char *path)
{
    struct gguf *g = calloc(1, sizeof *g);
    struct gguf_priv *priv = calloc(1, sizeof *priv);
    char *copy = strdup(path);
    if (!g || !priv || !copy) {
        free(g);
        free(priv);
        free(copy);
        return NULL;
    }
    priv->fd = -1;
    /* A seed that cannot be guessed keeps look-ups fast on hostile files; without one they are
     * merely slower. */
    if (getentropy(&priv->hash_seed, sizeof priv->hash_seed) != 0) {
        priv->hash_seed = 0x9e3779b97f4a7c15u;
    }
    g->priv = priv;
    g->path = copy;
    return g;
}

static void use_bytes(struct gguf *g, const uint8_t *bytes, uint64_t size)
{
    g->mapped = true;
    g->file_size = size;
    g->priv->bytes = bytes;
    g->priv->have = size < GGUF_MAX_HEADER_BYTES ? size : GGUF_MAX_HEADER_BYTES;
}

static enum bnt_status open_mapped(struct gguf *g, struct bnt_err *err)
{
    enum bnt_status st = bnt_map_file(g->path, &g->priv->map, err);
    if (st == BNT_OK) {
        use_bytes(g, g->priv->map.data, g->priv->map.size);
    }
    return st;
}

static enum bnt_status open_streamed(struct gguf *g, struct bnt_err *err)
{
    int fd = open(g->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return bnt_err_errno(err, "cannot open %s", g->path);
    }
    g->priv->fd = fd;
    struct stat sb;
    if (fstat(fd, &sb) != 0) {
        return bnt_err_errno(err, "cannot stat %s", g->path);
    }
    if (!S_ISREG(sb.st_mode)) {
        return bnt_err_set(err, BNT_E_FILE, "%s is not a regular file", g->path);
    }
    g->file_size = (uint64_t)sb.st_size;
    return BNT_OK;
}

static enum bnt_status open_bytes(struct gguf *g, enum gguf_mode mode, struct bnt_err *err)
{
    if (mode == GGUF_MODE_STREAM) {
        return open_streamed(g, err);
    }
    if (mode == GGUF_MODE_MAP) {
        return open_mapped(g, err);
    }
    /* A refusal by the system (no address space, no mmap on this file system) is no reason to fail;
     * if the file cannot be opened at all, streaming says so. */
    struct bnt_err refused = {0};
    if (open_mapped(g, &refused) == BNT_OK) {
        return BNT_OK;
    }
    return open_streamed(g, err);
}

static enum bnt_status finish_open(struct gguf *g, const struct gguf_watch *watch,
                                   struct gguf **out, struct bnt_err *err)
{
    enum bnt_status st = gguf_parse(g, watch, err);
    if (st != BNT_OK) {
        bnt_err_context(err, "%s", g->path);
        gguf_close(g);
        return st;
    }
    *out = g;
    return BNT_OK;
}

enum bnt_status gguf_open(const char *path, enum gguf_mode mode, struct gguf **out,
                          struct bnt_err *err)
{
    return gguf_open_watched(path, mode, NULL, out, err);
}

enum bnt_status gguf_open_watched(const char *path, enum gguf_mode mode,
                                  const struct gguf_watch *watch, struct gguf **out,
                                  struct bnt_err *err)
{
    struct gguf *g = new_gguf(path);
    if (!g) {
        return bnt_err_nomem(err, "GGUF", sizeof *g);
    }
    enum bnt_status st = open_bytes(g, mode, err);
    if (st != BNT_OK) {
        gguf_close(g);
        return st;
    }
    return finish_open(g, watch, out, err);
}

enum bnt_status gguf_open_memory(const void *bytes, uint64_t size, const char *name,
                                 struct gguf **out, struct bnt_err *err)
{
    struct gguf *g = new_gguf(name);
    if (!g) {
        return bnt_err_nomem(err, "GGUF", sizeof *g);
    }
    use_bytes(g, bytes, size);
    return finish_open(g, NULL, out, err);
}

void gguf_close(struct gguf *g)
{
    if (!g) {
        return;
    }
    struct gguf_priv *priv = g->priv;
    bnt_unmap(&priv->map);
    if (priv->fd >= 0) {
        close(priv->fd);
    }
    free(priv->header);
    free(priv->kv_index.slots);
    free(priv->tensor_index.slots);
    free((void *)(uintptr_t)g->kv);
    free((void *)(uintptr_t)g->tensors);
    free((void *)(uintptr_t)g->path);
    free(priv);
    free(g);
}

const void *gguf_tensor_view(const struct gguf *g, const struct gguf_tensor *t)
{
    if (!g->mapped || g->big_endian != gguf_host_is_big()) {
        return NULL;
    }
    return g->priv->bytes + t->offset;
}

enum bnt_status gguf_tensor_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t offset,
                                 uint64_t n, void *dst, struct bnt_err *err)
{
    if (offset > t->size || n > t->size - offset) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS,
                         "%s: tensor %s: read of %llu bytes at %llu, it has %llu", g->path,
                         gguf_show(t->name).text, (unsigned long long)n, (unsigned long long)offset,
                         (unsigned long long)t->size);
    }
    bool foreign = g->big_endian != gguf_host_is_big();
    if (foreign && !is_whole(t, offset, n)) {
        return gguf_fail(
            err, GGUF_FAULT_BOUNDS, "%s: tensor %s: read of %llu bytes at %llu cuts a block in two",
            g->path, gguf_show(t->name).text, (unsigned long long)n, (unsigned long long)offset);
    }
    if (g->mapped) {
        memcpy(dst, g->priv->bytes + t->offset + offset, n);
    } else {
        enum bnt_status st = read_at(g, t->offset + offset, n, dst, err);
        if (st != BNT_OK) {
            bnt_err_context(err, "%s: tensor %s", g->path, gguf_show(t->name).text);
            return st;
        }
    }
    if (foreign && !BNT_FAULT(gguf_byte_order)) {
        swap_tensor(t, offset, n, dst);
    }
    return BNT_OK;
}

/* Whole pages within the tensor: a page at its edge may hold another one. Only advice: a refusal
 * changes nothing. */
void gguf_tensor_release(const struct gguf *g, const struct gguf_tensor *t)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t from = (t->offset + page - 1) / page * page, to = (t->offset + t->size) / page * page;
    if (g->priv->map.data && from < to) {
        madvise((void *)(uintptr_t)(g->priv->map.data + from), to - from, MADV_DONTNEED);
    }
}
