/* Making forms. Owns the temporaries of the folder packed/.
 *
 * A form is written straight into the mapping of its file, so that it takes memory once and nothing
 * is copied. There is room on the disk before anything is written, since a mapping of a file
 * without room would end the process. When the file comes to nothing, the form moves into memory,
 * under the address that it has. */
#include "engine/packed_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/packed_dir.h"
#include "base/thread.h"

static uint8_t *form_of(const struct packed_kept *k)
{
    return (uint8_t *)(uintptr_t)k->map.data + PACKED_HEADER_BYTES;
}

/* Zeros to write into. */
static enum bnt_status map_memory(uint64_t bytes, struct bnt_mapping *out, struct bnt_err *err)
{
    void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return bnt_err_nomem(err, "packed weights", bytes);
    }
    *out = (struct bnt_mapping){.data = p, .size = bytes};
    return BNT_OK;
}

enum bnt_status packed_make_in_memory(const struct packed_want *want, struct packed *out,
                                      struct bnt_err *err)
{
    struct bnt_mapping map;
    enum bnt_status st = map_memory(want->size, &map, err);
    if (st != BNT_OK) {
        return st;
    }
    *out = (struct packed){.data = map.data, .size = want->size, .map = map};
    st = want->fill(want->ctx, (uint8_t *)(uintptr_t)map.data, err);
    if (st != BNT_OK) {
        packed_release(out);
    }
    return st;
}

/* ---- a file without a name ---- */

static enum bnt_status open_temporary(struct packed_kept *k, const char *dir, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    uint64_t bytes = PACKED_HEADER_BYTES + k->size;
    enum bnt_status st =
        bnt_path_format(path, err, "%s/%s.%u" BNT_PACKED_SUFFIX, dir, k->layout, k->version);
    if (st == BNT_OK) {
        st = bnt_durable_open(&k->file, path, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    struct bnt_err refused = {0};
    st = bnt_map_new_file(k->file.fd, bytes, path, &k->map, &refused);
    k->in_file = st == BNT_OK;
    if (st == BNT_E_UNSUPPORTED) {
        return map_memory(bytes, &k->map, err);
    }
    if (st != BNT_OK) {
        *err = refused;
        return st;
    }
    /* Who maps the file later reads it faster from large pages of the page cache. */
    (void)madvise((void *)(uintptr_t)k->map.data, (size_t)bytes, MADV_HUGEPAGE);
    return BNT_OK;
}

enum bnt_status packed_kept_new(const char *dir, const struct packed_want *want,
                                struct packed_kept **out, struct bnt_err *err)
{
    struct packed_kept *k = calloc(1, sizeof *k);
    if (!k) {
        return bnt_err_nomem(err, "a form's file", sizeof *k);
    }
    k->version = want->version;
    k->size = want->size;
    k->users = 1;
    k->file.fd = -1;
    snprintf(k->layout, sizeof k->layout, "%s", want->layout);
    enum bnt_status st = open_temporary(k, dir, err);
    if (st != BNT_OK) {
        packed_kept_drop(k);
        return st;
    }
    *out = k;
    return BNT_OK;
}

static void *keep_main(void *arg)
{
    struct packed_kept *k = arg;
    const char *path = k->file.target;
    k->st = k->in_file ? BNT_OK
                       : bnt_pwrite_all(k->file.fd, form_of(k), k->size, PACKED_HEADER_BYTES, path,
                                        &k->why);
    k->st = k->st == BNT_OK ? bnt_err_interrupted(k->interrupted, &k->why) : k->st;
    if (k->st == BNT_OK) { /* the disk works while the processor hashes */
        sync_file_range(k->file.fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        k->st = bnt_sha256_text(form_of(k), k->size, k->digest, &k->why);
    }
    k->st = k->st == BNT_OK ? bnt_err_interrupted(k->interrupted, &k->why) : k->st;
    if (k->st == BNT_OK && bnt_file_sync(k->file.fd) != 0) {
        k->st = bnt_err_errno(&k->why, "cannot sync %s", path);
    }
    return NULL;
}

void packed_kept_start(struct packed_kept *k)
{
    (void)mprotect((void *)(uintptr_t)k->map.data, (size_t)k->map.size, PROT_READ);
    k->started = bnt_thread_start(&k->thread, keep_main, k) == 0;
    if (!k->started) {
        keep_main(k);
    }
}

void packed_kept_join(struct packed_kept *k)
{
    if (k->started) {
        pthread_join(k->thread, NULL);
        k->started = false;
    }
}

void packed_kept_replace(struct packed_kept *k, struct bnt_mapping *by)
{
    void *at = (void *)(uintptr_t)k->map.data;
    struct bnt_mapping memory;
    if (!by) {
        if (!k->in_file || k->users == 1 || map_memory(k->map.size, &memory, NULL) != BNT_OK) {
            return;
        }
        memcpy((void *)(uintptr_t)memory.data, at, (size_t)memory.size);
        (void)mprotect((void *)(uintptr_t)memory.data, (size_t)memory.size, PROT_READ);
        by = &memory;
    }
    size_t n = (size_t)by->size;
    if (mremap((void *)(uintptr_t)by->data, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at) {
        *by = (struct bnt_mapping){0};
    }
    bnt_unmap(by);
}

void packed_kept_drop(struct packed_kept *k)
{
    if (--k->users == 0) {
        bnt_durable_release(&k->file);
        bnt_unmap(&k->map);
        free(k);
    }
}

void packed_release(struct packed *p)
{
    if (p->kept) {
        packed_kept_drop(p->kept);
    }
    bnt_unmap(&p->map);
    *p = (struct packed){0};
}
