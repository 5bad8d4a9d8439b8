/* Who fills which hole.
 *
 * Holes are handed out from the front of the file in chunks, so that the hash keeps up (next_hole).
 * When none is left, an idle connection takes half of the largest that is being filled; what is too
 * small for that and too slow is filled by two, from another mirror where there is one, and the
 * first to be done wins: no connection that hangs keeps the end of the file.
 *
 * Nothing here waits or talks to a server; the holes are those of the part, and a cut is written
 * into its record before anybody fills the second half. */
#include <stdint.h>

#include "base/clock.h"
#include "base/fault.h"
#include "fetch/transfer_impl.h"

#define CHUNK_MIN_BYTES (4u << 20)
#define CHUNK_MAX_BYTES (32u << 20)
#define STEAL_BYTES (256u << 10) /* less is not worth a request of its own */
#define HEDGE_S 2                /* a hole that would take longer is filled by two */
#define STEAL_S 1                /* what is done so soon is left to who does it */

static size_t conns_on(const struct transfer *t, size_t hole)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_conns; i++) {
        n += t->conns[i].mirror && t->conns[i].hole == hole;
    }
    return n;
}

/* The first hole that nobody fills; PART_HOLES when there is none. */
static size_t free_hole(const struct transfer *t)
{
    size_t best = PART_HOLES;
    const struct part_hole *h = t->part->record.holes;
    for (size_t i = 0; i < PART_HOLES; i++) {
        bool waits = h[i].begin < h[i].end && conns_on(t, i) == 0;
        if (waits && (best == PART_HOLES || h[i].begin < h[best].begin)) {
            best = i;
        }
    }
    return best;
}

static size_t unused_hole(const struct transfer *t)
{
    size_t i = 0;
    const struct part_hole *h = t->part->record.holes;
    while (i < PART_HOLES && (h[i].begin < h[i].end || conns_on(t, i) > 0)) {
        i++;
    }
    return i;
}

/* Cut a hole in two at `at`; the number of the second half, or PART_HOLES when there is no room. */
size_t transfer_cut(struct transfer *t, size_t hole, uint64_t at, struct bnt_err *err)
{
    size_t rest = unused_hole(t);
    if (rest == PART_HOLES) {
        return PART_HOLES;
    }
    return part_cut(t->part, hole, rest, at, err) == BNT_OK ? rest : PART_HOLES;
}

/* Whether several connections may fill the part: its size is known, and what they bring belongs
 * together. */
bool transfer_may_split(const struct transfer *t)
{
    bool ranges = false;
    for (size_t i = 0; i < t->n_mirrors; i++) {
        const struct mirror *m = &t->mirrors[i];
        ranges = ranges || (!m->dead && m->ranges_seen && !m->no_ranges);
    }
    const struct part_record *r = &t->part->record;
    return t->n_conns > 1 && r->total > 0 && ranges && (t->spec->digest[0] || r->validator[0]);
}

static uint64_t chunk_bytes(const struct transfer *t)
{
    uint64_t chunk = t->part->record.total / (t->n_conns * 8);
    chunk = chunk < CHUNK_MIN_BYTES ? CHUNK_MIN_BYTES : chunk;
    return chunk < CHUNK_MAX_BYTES ? chunk : CHUNK_MAX_BYTES;
}

double transfer_seconds_left(const struct conn *c)
{
    const struct part_hole *h = &c->t->part->record.holes[c->hole];
    double took_s = (double)(bnt_clock_now_ns() - c->began_ns) * 1e-9;
    return took_s * (double)(h->end - h->begin) / ((double)c->got_bytes + 1);
}

/* The hole with the most left that one connection fills, and that one; PART_HOLES when there is
 * none. */
static size_t largest_hole(const struct transfer *t, const struct conn **filler)
{
    size_t best = PART_HOLES;
    const struct part_hole *h = t->part->record.holes;
    for (size_t i = 0; i < t->n_conns; i++) {
        const struct conn *c = &t->conns[i];
        bool one = c->mirror && !c->done && conns_on(t, c->hole) == 1;
        if (one && (best == PART_HOLES ||
                    h[c->hole].end - h[c->hole].begin > h[best].end - h[best].begin)) {
            best = c->hole;
            *filler = c;
        }
    }
    return best;
}

/* A rate says something only after a while. */
static bool worth_stealing(const struct conn *c)
{
    uint64_t took_ns = bnt_clock_now_ns() - c->began_ns;
    return took_ns > NS_PER_S / 2 && transfer_seconds_left(c) > STEAL_S;
}

/* A hole that its only connection fills too slowly, and that connection. */
static size_t slow_hole(const struct transfer *t, const struct conn **filler)
{
    for (size_t i = 0; i < t->n_conns; i++) {
        const struct conn *c = &t->conns[i];
        bool running = c->mirror && !c->done && conns_on(t, c->hole) == 1;
        if (running && bnt_clock_now_ns() - c->began_ns > HEDGE_S * (uint64_t)NS_PER_S &&
            transfer_seconds_left(c) > HEDGE_S && !BNT_FAULT(hedge)) {
            *filler = c;
            return c->hole;
        }
    }
    return PART_HOLES;
}

/* What an idle connection should fill. *avoid: the mirror that is too slow at it, or NULL. */
size_t transfer_next_hole(struct transfer *t, const struct mirror **avoid, struct bnt_err *err)
{
    const struct part_hole *h = t->part->record.holes;
    const struct conn *filler = NULL;
    size_t i = free_hole(t);
    *avoid = NULL;
    if (i < PART_HOLES) {
        uint64_t chunk = chunk_bytes(t);
        if (transfer_may_split(t) && h[i].end - h[i].begin > chunk + CHUNK_MIN_BYTES) {
            (void)transfer_cut(t, i, h[i].begin + chunk, err);
        }
        return i;
    }
    if (!transfer_may_split(t)) {
        return PART_HOLES;
    }
    i = largest_hole(t, &filler);
    if (i < PART_HOLES && h[i].end - h[i].begin >= 2 * STEAL_BYTES && worth_stealing(filler)) {
        return transfer_cut(t, i, h[i].begin + (h[i].end - h[i].begin) / 2, err);
    }
    filler = NULL;
    i = slow_hole(t, &filler);
    *avoid = filler ? filler->mirror : NULL;
    return i;
}
