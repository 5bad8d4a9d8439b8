/* Forms of weights in a module, in place of engine/packed.c: there is no folder to keep them in, so
 * each is made in memory. */
#include "engine/packed.h"

#if defined(__wasm__)

#include <stdlib.h>
#include <string.h>

enum { FORM_ALIGN = 4096 };

enum bnt_status packed_store_init(struct packed_store *s, const char *path,
                                  const struct bnt_model_options *opts, struct bnt_err *err)
{
    (void)path, (void)opts, (void)err;
    *s = (struct packed_store){0};
    return BNT_OK;
}

bool packed_store_keeps(const struct packed_store *s, uint64_t bytes)
{
    (void)s, (void)bytes;
    return false;
}

void packed_store_release(struct packed_store *s)
{
    *s = (struct packed_store){0};
}

enum bnt_status packed_open(struct packed_store *s, const struct packed_want *want,
                            struct packed *out, struct bnt_err *err)
{
    *out = (struct packed){0};
    uint64_t bytes = (want->size + FORM_ALIGN - 1) / FORM_ALIGN * FORM_ALIGN;
    uint8_t *data = bytes <= SIZE_MAX ? aligned_alloc(FORM_ALIGN, (size_t)bytes) : NULL;
    if (data == NULL) {
        return bnt_err_nomem(err, want->layout, want->size);
    }
    memset(data, 0, (size_t)bytes);
    enum bnt_status st = want->fill(want->ctx, data, err);
    if (st != BNT_OK) {
        free(data);
        return st;
    }
    *out = (struct packed){.data = data, .size = want->size};
    s->made_bytes += want->size;
    return BNT_OK;
}

void packed_finish(struct packed_store *s)
{
    (void)s;
}

void packed_release(struct packed *p)
{
    free((void *)(uintptr_t)p->data);
    *p = (struct packed){0};
}

#endif
