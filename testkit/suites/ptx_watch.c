/* For each byte: the last thread that wrote it and the last that read it, and when. Of several
 * threads that read, that is a warp, or all. Time goes by barriers; one of a warp is told by the
 * warp's own clock, which only its threads look at. */
#include "testkit/suites/ptx_watch.h"

#include <stddef.h>

#include "base/fault.h"
#include "testkit/suites/ptx_module.h"

#define SEVERAL UINT32_MAX /* of several warps */
#define LANE_ANY PTX_LANES /* several of a warp */

/* Of a time between two barriers; 0: never. */
struct use {
    uint64_t span, warp_span;
    uint32_t warp, lane;
};

struct byte {
    struct use written, read;
    bool atomic, on_its_way;
};

static struct byte all[PTX_MAX_SHARED];
static uint64_t span = 1, first_of_block, warp_spans[PTX_MAX_WARPS];

void ptx_watch_block(void)
{
    first_of_block = ++span;
}

void ptx_watch_barrier(void)
{
    span++;
}

void ptx_watch_warp_barrier(uint32_t warp)
{
    warp_spans[warp]++;
}

/* Whether another thread's use may happen before or after this one. */
static bool in_doubt(const struct use *was, const struct use *now)
{
    return was->span == now->span && ((was->warp != now->warp && !BNT_FAULT(ptx_race)) ||
                                      (was->lane != now->lane && was->warp_span == now->warp_span));
}

static const char *check(const struct byte *b, const struct use *now, enum ptx_use use)
{
    if (b->on_its_way && b->written.span >= first_of_block && use != PTX_ARRIVES) {
        return use == PTX_READS ? "a copy is read that was not waited for"
                                : "a copy is written over that was not waited for";
    }
    if (in_doubt(&b->written, now) && !(use == PTX_ADDS && b->atomic)) {
        return use == PTX_READS ? "a byte is read that another thread has written since the barrier"
                                : "a byte is written by two threads between barriers";
    }
    if (use != PTX_READS && in_doubt(&b->read, now)) {
        return "a byte is written that another thread has read since the barrier";
    }
    return NULL;
}

static void add_reader(struct use *read, const struct use *now)
{
    if (read->span != now->span) {
        *read = *now;
        return;
    }
    bool same_warp = read->warp == now->warp;
    bool same_lane = read->lane == now->lane || read->warp_span != now->warp_span;
    read->warp_span = now->warp_span;
    read->lane = same_lane ? now->lane : LANE_ANY;
    read->warp = same_warp ? now->warp : SEVERAL;
}

const char *ptx_watch_use(uint32_t offset, uint32_t bytes, uint32_t thread, enum ptx_use use)
{
    struct use now = {span, warp_spans[thread / PTX_LANES], thread / PTX_LANES, thread % PTX_LANES};
    for (uint32_t i = 0; i < bytes && offset + i < PTX_MAX_SHARED; i++) {
        struct byte *b = &all[offset + i];
        const char *problem = check(b, &now, use);
        if (problem) {
            return problem;
        }
        if (use == PTX_READS) {
            add_reader(&b->read, &now);
        } else {
            b->written = now;
            b->atomic = use == PTX_ADDS;
            b->on_its_way = use == PTX_SENDS;
        }
    }
    return NULL;
}
