/* For each byte: the last thread that wrote it and the last that read it, and between which
 * barriers. Of several threads that read, that is one or "several". */
#include "testkit/suites/ptx_watch.h"

#include <stddef.h>

enum { MOST_BYTES = 228 << 10 };
#define SEVERAL UINT32_MAX

struct byte {
    uint64_t written, read; /* the span between two barriers; 0: never */
    uint32_t writer, reader;
    bool atomic, on_its_way;
};

static struct byte all[MOST_BYTES];
static uint64_t span = 1, first_of_block;

void ptx_watch_block(void)
{
    first_of_block = ++span;
}

void ptx_watch_barrier(void)
{
    span++;
}

static const char *check(const struct byte *b, uint32_t thread, enum ptx_use use)
{
    if (b->on_its_way && b->written >= first_of_block && use != PTX_ARRIVES) {
        return use == PTX_READS ? "a copy is read that was not waited for"
                                : "a copy is written over that was not waited for";
    }
    if (b->written == span && b->writer != thread && !(use == PTX_ADDS && b->atomic)) {
        return use == PTX_READS ? "a byte is read that another thread has written since the barrier"
                                : "a byte is written by two threads between barriers";
    }
    if (use != PTX_READS && b->read == span && b->reader != thread) {
        return "a byte is written that another thread has read since the barrier";
    }
    return NULL;
}

const char *ptx_watch_use(uint32_t offset, uint32_t bytes, uint32_t thread, enum ptx_use use)
{
    for (uint32_t i = 0; i < bytes && offset + i < MOST_BYTES; i++) {
        struct byte *b = &all[offset + i];
        const char *problem = check(b, thread, use);
        if (problem) {
            return problem;
        }
        if (use == PTX_READS) {
            b->reader = b->read == span && b->reader != thread ? SEVERAL : thread;
            b->read = span;
        } else {
            b->written = span;
            b->writer = thread;
            b->atomic = use == PTX_ADDS;
            b->on_its_way = use == PTX_SENDS;
        }
    }
    return NULL;
}
