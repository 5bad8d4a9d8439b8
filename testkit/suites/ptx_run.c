/* The machine. Owns the registers of a block's warps, which are kept for the next launch, its
 * shared memory, and the copies that are on their way. Warps run one after the other from barrier
 * to barrier. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testkit/suites/ptx_module.h"
#include "testkit/suites/ptx_watch.h"

enum { MAX_DEPTH = 64, ARGS_MOST = 4 << 10, NOISE = 0xa5 };
#define ALL_LANES UINT32_MAX

/* Lanes that go on together until they meet others at `meet`. */
struct side {
    uint32_t pc, meet, lanes;
};

/* Of one instruction: a lane each. */
struct copy {
    uint32_t lanes, bytes, group;
    uint32_t to[PTX_LANES], n[PTX_LANES];
    uint64_t from[PTX_LANES];
};

struct warp {
    W *registers; /* at first what the block before has left */
    size_t n_registers;
    struct side side[MAX_DEPTH];
    uint32_t depth, first_thread;
    uint32_t ended; /* lanes */
    bool at_barrier, waited_for_grid;
    struct copy *copies;
    uint32_t n_copies, cap_copies, group;
};

struct machine {
    const struct ptx_kernel *kernel;
    const struct ptx_launch *launch;
    ptx_reaches_fn *reaches;
    struct ptx_counts counts;
    uint32_t x, y, n_warps;
    struct warp warps[PTX_MAX_WARPS];
    const struct ptx_instruction *at; /* in work */
    _Alignas(64) unsigned char shared[PTX_MAX_SHARED];
    _Alignas(64) unsigned char args[ARGS_MOST];
};

static struct machine machine;

__attribute__((format(printf, 1, 2), noreturn)) static void trap(const char *format, ...)
{
    fprintf(stderr, "ptx: %s, line %u, block %u, %u: ", machine.launch->kernel,
            machine.at ? machine.at->line : 0, machine.x, machine.y);
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    abort();
}

/* ---- memory ---- */

static W *slot(struct warp *w, uint32_t at)
{
    return w->registers + (size_t)at * PTX_LANES;
}

static D value_of(struct warp *w, uint32_t at, bool wide, uint32_t lane)
{
    return wide ? ((D *)(void *)slot(w, at))[lane] : slot(w, at)[lane];
}

static void set_value(struct warp *w, uint32_t at, bool wide, uint32_t lane, D value)
{
    if (wide) {
        ((D *)(void *)slot(w, at))[lane] = value;
    } else {
        slot(w, at)[lane] = (W)value;
    }
}

struct places {
    uint64_t address[PTX_LANES];
    uint32_t lanes, bytes;
    enum ptx_space space;
    enum ptx_use use;
    bool constant; /* read as what nothing writes */
};

/* The space that an instruction without one means, which all lanes must agree on. */
static void name_space(struct places *p)
{
    if (p->space != PTX_GENERIC) {
        return;
    }
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (p->lanes >> i & 1) {
            uint64_t a = p->address[i];
            enum ptx_space space = a >= PTX_ARGS && a < 2 * PTX_ARGS       ? PTX_PARAM
                                   : a >= PTX_SHARED && a < 2 * PTX_SHARED ? PTX_SHARED_SPACE
                                                                           : PTX_GLOBAL;
            if (p->space != PTX_GENERIC && p->space != space) {
                trap("lanes of one access reach several kinds of memory");
            }
            p->space = space;
            p->address[i] -= space == PTX_SHARED_SPACE ? PTX_SHARED : 0;
        }
    }
}

/* Turns of the 32 banks of 4 bytes: lanes of 8 bytes go by halves of a warp, of 16 by quarters;
 * each word is taken once for all lanes that want it. */
static void count_turns(const struct places *p)
{
    struct ptx_counts *counts = &machine.counts;
    uint32_t words = p->bytes < 4 ? 1 : p->bytes / 4, together = PTX_LANES / words;
    for (uint32_t first = 0; first < PTX_LANES; first += together) {
        uint64_t seen[PTX_LANES][PTX_LANES];
        uint32_t n[PTX_LANES] = {0}, most = 0;
        for (uint32_t i = first; i < first + together; i++) {
            for (uint32_t j = 0; j < words && (p->lanes >> i & 1); j++) {
                uint64_t word = p->address[i] / 4 + j;
                uint32_t bank = word % PTX_LANES, k = 0;
                while (k < n[bank] && seen[bank][k] != word) {
                    k++;
                }
                if (k == n[bank]) {
                    seen[bank][n[bank]++] = word;
                }
                most = n[bank] > most ? n[bank] : most;
            }
        }
        counts->shared += most != 0;
        counts->shared_turns += most;
    }
}

static void count_sectors(const struct places *p)
{
    struct ptx_counts *counts = &machine.counts;
    uint64_t seen[PTX_LANES];
    uint32_t n = 0;
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (p->lanes >> i & 1) {
            uint64_t sector = p->address[i] / 32;
            uint32_t j = n;
            while (j > 0 && seen[j - 1] != sector) {
                j--;
            }
            if (j == 0) {
                seen[n++] = sector;
            }
            counts->global_bytes += p->bytes;
        }
    }
    counts->sectors += n;
}

static void check_shared(const struct warp *w, const struct places *p)
{
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (!(p->lanes >> i & 1)) {
            continue;
        }
        uint64_t offset = p->address[i] - PTX_SHARED_FIRST;
        if (p->address[i] < PTX_SHARED_FIRST || offset + p->bytes > machine.launch->shared_bytes) {
            trap("thread %u reaches byte %lld of %u of shared memory", w->first_thread + i,
                 (long long)offset, machine.launch->shared_bytes);
        }
        const char *problem =
            ptx_watch_use((uint32_t)offset, p->bytes, w->first_thread + i, p->use);
        if (problem) {
            trap("thread %u, byte %llu of shared memory: %s", w->first_thread + i,
                 (unsigned long long)offset, problem);
        }
    }
}

static bool reaches(const struct warp *w, const struct places *p, uint64_t first, uint64_t last)
{
    return machine.reaches(first, last, p->use != PTX_READS, !w->waited_for_grid || p->constant);
}

/* Together, mostly: lanes may also look at different allocations. */
static void check_global(const struct warp *w, const struct places *p)
{
    uint64_t first = UINT64_MAX, last = 0;
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (p->lanes >> i & 1) {
            first = p->address[i] < first ? p->address[i] : first;
            last = p->address[i] > last ? p->address[i] : last;
        }
    }
    if (reaches(w, p, first, last + p->bytes - 1)) {
        return;
    }
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        uint64_t a = p->address[i];
        if ((p->lanes >> i & 1) && !reaches(w, p, a, a + p->bytes - 1)) {
            trap("thread %u reaches %llx of global memory, which is not allocated%s",
                 w->first_thread + i, (unsigned long long)a,
                 w->waited_for_grid && !p->constant ? "" : ", or was written by a launch");
        }
    }
}

static void check_places(struct warp *w, struct places *p)
{
    name_space(p);
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if ((p->lanes >> i & 1) && p->address[i] % p->bytes != 0) {
            trap("thread %u: %llx is not a multiple of %u", w->first_thread + i,
                 (unsigned long long)p->address[i], p->bytes);
        }
    }
    if (p->space == PTX_SHARED_SPACE) {
        check_shared(w, p);
        count_turns(p);
    } else if (p->space == PTX_GLOBAL) {
        check_global(w, p);
        count_sectors(p);
    } else {
        for (uint32_t i = 0; i < PTX_LANES; i++) {
            uint64_t offset = p->address[i] - PTX_ARGS;
            if ((p->lanes >> i & 1) &&
                (p->use != PTX_READS || offset + p->bytes > machine.launch->args_bytes)) {
                trap("byte %llu of the arguments", (unsigned long long)offset);
            }
        }
    }
}

static unsigned char *host_of(const struct places *p, uint32_t lane)
{
    uint64_t a = p->address[lane];
    return p->space == PTX_SHARED_SPACE ? machine.shared + (a - PTX_SHARED_FIRST)
           : p->space == PTX_PARAM      ? machine.args + (a - PTX_ARGS)
                                        : (unsigned char *)(uintptr_t)a;
}

static void find_places(struct warp *w, const struct ptx_instruction *in, uint32_t lanes,
                        enum ptx_use use, struct places *p)
{
    p->lanes = lanes;
    p->bytes = (uint32_t)in->bytes * in->n;
    p->space = in->space;
    p->use = use;
    p->constant = in->constant;
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        p->address[i] = value_of(w, in->at[0], in->wide_base, i) + (uint64_t)in->offset;
        p->address[i] = in->wide_base ? p->address[i] : (uint32_t)p->address[i];
    }
    check_places(w, p);
}

/* Of 1, 2, 4 or 8 bytes: copies of a known length need no call. */
static D value_at(const unsigned char *from, uint32_t bytes)
{
    uint16_t two;
    uint32_t four;
    D eight;
    switch (bytes) {
    case 1:
        return *from;
    case 2:
        memcpy(&two, from, sizeof two);
        return two;
    case 4:
        memcpy(&four, from, sizeof four);
        return four;
    default:
        memcpy(&eight, from, sizeof eight);
        return eight;
    }
}

static D extended(D value, const struct ptx_instruction *in)
{
    unsigned unused = 64 - 8u * in->bytes;
    return in->sign ? (D)((int64_t)(value << unused) >> unused) : value;
}

static void load(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    struct places p;
    find_places(w, in, lanes, PTX_READS, &p);
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        const unsigned char *from = lanes >> i & 1 ? host_of(&p, i) : NULL;
        for (uint32_t j = 0; from && j < in->n; j++) {
            D value = value_at(from + (size_t)j * in->bytes, in->bytes);
            set_value(w, in->at[1 + j], in->wide[j], i, extended(value, in));
        }
    }
}

static void store(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    struct places p;
    find_places(w, in, lanes, PTX_WRITES, &p);
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        unsigned char *to = lanes >> i & 1 ? host_of(&p, i) : NULL;
        for (uint32_t j = 0; to && j < in->n; j++) {
            D value = value_of(w, in->at[1 + j], in->wide[j], i);
            memcpy(to + (size_t)j * in->bytes, &value, in->bytes);
        }
    }
}

static void atomic(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    struct places p;
    bool wide = in->bytes == 8;
    find_places(w, in, lanes, PTX_ADDS, &p);
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (lanes >> i & 1) {
            unsigned char *place = host_of(&p, i);
            D was = 0, with = value_of(w, in->at[2], wide, i);
            memcpy(&was, place, in->bytes);
            D is = in->rule == PTX_ADD ? was + with : was > with ? was : with;
            memcpy(place, &is, in->bytes);
            set_value(w, in->at[1], wide, i, was);
        }
    }
}

/* ---- copies behind the back of a thread ---- */

static void send(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    if (w->n_copies == w->cap_copies) {
        w->cap_copies = w->cap_copies ? 2 * w->cap_copies : 16;
        w->copies = realloc(w->copies, w->cap_copies * sizeof *w->copies);
        if (!w->copies) {
            trap("out of memory");
        }
    }
    struct copy *c = &w->copies[w->n_copies++];
    struct places to = {
        .lanes = lanes, .bytes = in->bytes, .space = PTX_SHARED_SPACE, .use = PTX_SENDS};
    struct places from = {.lanes = 0, .bytes = in->bytes, .space = PTX_GLOBAL, .use = PTX_READS};
    *c = (struct copy){.lanes = lanes, .bytes = in->bytes, .group = w->group};
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        to.address[i] = c->to[i] = slot(w, in->at[0])[i];
        from.address[i] = c->from[i] = value_of(w, in->at[1], true, i);
        c->n[i] = slot(w, in->at[2])[i];
        if ((lanes >> i & 1) && c->n[i] != 0) {
            from.lanes |= 1u << i;
            if (c->n[i] != in->bytes) {
                trap("a copy of %u of %u bytes", c->n[i], in->bytes);
            }
        }
    }
    check_places(w, &to);
    if (from.lanes) {
        check_places(w, &from);
    }
}

static void arrive(struct warp *w, const struct copy *c)
{
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (!(c->lanes >> i & 1)) {
            continue;
        }
        uint32_t offset = c->to[i] - PTX_SHARED_FIRST;
        memset(machine.shared + offset, 0, c->bytes);
        memcpy(machine.shared + offset, (const void *)(uintptr_t)c->from[i], c->n[i]);
        const char *problem = ptx_watch_use(offset, c->bytes, w->first_thread + i, PTX_ARRIVES);
        if (problem) {
            trap("thread %u, byte %u of shared memory, a copy that arrives: %s",
                 w->first_thread + i, offset, problem);
        }
    }
}

/* All but the last `left` groups. */
static void wait_for_copies(struct warp *w, int64_t left)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n_copies; i++) {
        if ((int64_t)w->copies[i].group + left < (int64_t)w->group) {
            arrive(w, &w->copies[i]);
        } else {
            w->copies[kept++] = w->copies[i];
        }
    }
    w->n_copies = kept;
}

/* ---- what looks across a warp ---- */

static void reduce(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    W sum = 0;
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (lanes >> i & 1) {
            W value = slot(w, in->at[1])[i];
            sum = in->rule == PTX_ADD ? sum + value : value > sum ? value : sum;
            if (slot(w, in->at[2])[i] != lanes) {
                trap("redux of lanes %08x where %08x are", slot(w, in->at[2])[i], lanes);
            }
        }
    }
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        if (lanes >> i & 1) {
            slot(w, in->at[0])[i] = sum;
        }
    }
}

/* D = A * B + C of m16n8k32: A 16 rows of 32 bytes without sign, B 8 columns of 32 with. Where a
 * lane's values stand: ISA, "Matrix Fragments for mma.m16n8k32". */
static void multiply(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    int32_t a[16][32], b[32][8];
    if (lanes != ALL_LANES) {
        trap("mma of a part of a warp: %08x", lanes);
    }
    for (uint32_t lane = 0; lane < PTX_LANES; lane++) {
        uint32_t group = lane >> 2, in_group = lane % 4;
        for (uint32_t i = 0; i < 16; i++) {
            uint32_t row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
            uint32_t col = in_group * 4 + (i & 3) + (i < 8 ? 0 : 16);
            a[row][col] = slot(w, in->at[4 + i / 4])[lane] >> 8 * (i & 3) & 0xff;
        }
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t row = in_group * 4 + (i & 3) + (i < 4 ? 0 : 16);
            b[row][group] = (int8_t)(slot(w, in->at[8 + i / 4])[lane] >> 8 * (i & 3));
        }
    }
    W out[PTX_LANES][4];
    for (uint32_t lane = 0; lane < PTX_LANES; lane++) {
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t row = (lane >> 2) + (i < 2 ? 0 : 8), col = lane % 4 * 2 + (i & 1);
            W sum = slot(w, in->at[10 + i])[lane];
            for (uint32_t k = 0; k < 32; k++) {
                sum += (W)(a[row][k] * b[k][col]);
            }
            out[lane][i] = sum;
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t lane = 0; lane < PTX_LANES; lane++) {
            slot(w, in->at[i])[lane] = out[lane][i];
        }
    }
}

/* ---- ways ---- */

static uint32_t guarded(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    if (in->guard == PTX_NONE) {
        return lanes;
    }
    const W *p = slot(w, in->guard);
    uint32_t yes = 0;
    for (uint32_t i = 0; i < PTX_LANES; i++) {
        yes |= (p[i] & 1) << i;
    }
    return lanes & (in->guard_not ? ~yes : yes);
}

static void push(struct warp *w, uint32_t pc, uint32_t meet, uint32_t lanes)
{
    if (w->depth == MAX_DEPTH) {
        trap("more than %d ways apart", MAX_DEPTH);
    }
    w->side[w->depth++] = (struct side){pc, meet, lanes};
}

static void branch(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    struct side *s = &w->side[w->depth - 1];
    uint32_t going = guarded(w, in, lanes), staying = lanes & ~going, next = s->pc + 1;
    if (staying == 0 || going == 0) {
        s->pc = staying == 0 ? in->target : next;
        return;
    }
    s->pc = in->meet;
    if (in->target != in->meet) {
        push(w, in->target, in->meet, going);
    }
    if (next != in->meet) {
        push(w, next, in->meet, staying);
    }
}

static void end_lanes(struct warp *w, uint32_t lanes)
{
    w->ended |= lanes;
    for (uint32_t i = 0; i < w->depth; i++) {
        w->side[i].lanes &= ~lanes;
    }
    w->side[w->depth - 1].pc++;
}

static void step(struct warp *w, const struct ptx_instruction *in, uint32_t lanes)
{
    switch (in->op) {
    case PTX_LOAD:
        load(w, in, lanes);
        break;
    case PTX_STORE:
        store(w, in, lanes);
        break;
    case PTX_ATOMIC:
        atomic(w, in, lanes);
        break;
    case PTX_COPY:
        send(w, in, lanes);
        break;
    case PTX_COPIES_END:
        w->group++;
        break;
    case PTX_COPIES_WAIT:
        wait_for_copies(w, in->offset);
        break;
    case PTX_ACTIVE:
        for (uint32_t i = 0; i < PTX_LANES; i++) {
            slot(w, in->at[0])[i] = lanes;
        }
        break;
    case PTX_REDUX:
        reduce(w, in, lanes);
        break;
    case PTX_MMA:
        multiply(w, in, lanes);
        machine.counts.products++;
        break;
    case PTX_WARP_BARRIER:
        if (lanes != ALL_LANES) {
            trap("lanes %08x are at a barrier of the warp", lanes);
        }
        ptx_watch_warp_barrier(w->first_thread / PTX_LANES);
        break;
    case PTX_WAIT_GRID:
        w->waited_for_grid = true;
        break;
    case PTX_NOTHING:
        break;
    default:
        ptx_run_lanes(w->registers, in, lanes);
    }
}

/* Until a barrier, or the end. */
static void run_warp(struct warp *w)
{
    const struct ptx_kernel *k = machine.kernel;
    uint64_t instructions = 0;
    while (w->depth > 0) {
        struct side *s = &w->side[w->depth - 1];
        if (s->lanes == 0 || s->pc == s->meet) {
            w->depth--;
            continue;
        }
        const struct ptx_instruction *in = &k->code[s->pc];
        machine.at = in;
        instructions++;
        if (in->op == PTX_BRA) {
            branch(w, in, s->lanes);
            continue;
        }
        uint32_t lanes = guarded(w, in, s->lanes);
        if (in->op == PTX_RET) {
            end_lanes(w, lanes);
            continue;
        }
        s->pc++;
        if (in->op == PTX_BARRIER) {
            if (lanes != ~w->ended) {
                trap("lanes %08x of %08x are at a barrier", lanes, ~w->ended);
            }
            w->at_barrier = true;
            break;
        }
        if (lanes) {
            step(w, in, lanes);
        }
    }
    machine.counts.instructions += instructions;
}

/* ---- blocks ---- */

static void set_special(struct warp *w, uint32_t at, W value, W more)
{
    for (uint32_t i = 0; at != PTX_NONE && i < PTX_LANES; i++) {
        slot(w, at)[i] = value + more * i;
    }
}

static void begin_warp(struct warp *w, uint32_t number)
{
    const struct ptx_kernel *k = machine.kernel;
    w->first_thread = number * PTX_LANES;
    w->depth = w->ended = w->n_copies = w->group = 0;
    w->at_barrier = false;
    w->waited_for_grid = !k->waits_for_grid;
    for (uint32_t i = 0; i < k->n_constants; i++) {
        for (uint32_t lane = 0; lane < PTX_LANES; lane++) {
            set_value(w, k->constants[i].slot, k->constants[i].wide, lane, k->constants[i].value);
        }
    }
    set_special(w, k->tid, w->first_thread, 1);
    set_special(w, k->ntid, machine.launch->n_threads, 0);
    set_special(w, k->ctaid_x, machine.x, 0);
    set_special(w, k->ctaid_y, machine.y, 0);
    push(w, 0, k->n, ALL_LANES);
}

/* Whether all warps that have not ended are at a barrier, which then is behind them. */
static bool cross_barrier(void)
{
    uint32_t waiting = 0, ended = 0;
    for (uint32_t i = 0; i < machine.n_warps; i++) {
        waiting += machine.warps[i].at_barrier;
        ended += !machine.warps[i].at_barrier;
        machine.warps[i].at_barrier = false;
    }
    if (waiting && ended) {
        trap("%u warps are at a barrier, %u have ended", waiting, ended);
    }
    ptx_watch_barrier();
    return waiting > 0;
}

static void run_block(void)
{
    memset(machine.shared, NOISE, machine.launch->shared_bytes);
    ptx_watch_block();
    for (uint32_t i = 0; i < machine.n_warps; i++) {
        begin_warp(&machine.warps[i], i);
    }
    do {
        for (uint32_t i = 0; i < machine.n_warps; i++) {
            uint32_t at = machine.launch->downwards ? machine.n_warps - 1 - i : i;
            run_warp(&machine.warps[at]);
        }
    } while (cross_barrier());
}

static const struct ptx_kernel *kernel_of(const struct ptx_module *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++) {
        if (!strcmp(m->kernels[i].name, name)) {
            return &m->kernels[i];
        }
    }
    return NULL;
}

static void make_registers(struct warp *w, size_t n)
{
    if (n <= w->n_registers) {
        return;
    }
    free(w->registers);
    w->registers = aligned_alloc(64, n * sizeof(W));
    w->n_registers = n;
    if (!w->registers) {
        trap("out of memory");
    }
    memset(w->registers, NOISE, n * sizeof(W));
}

static void begin_launch(void)
{
    const struct ptx_launch *l = machine.launch;
    const struct ptx_kernel *k = machine.kernel;
    machine.n_warps = l->n_threads / PTX_LANES;
    if (!k || k->args_bytes != l->args_bytes || l->args_bytes > ARGS_MOST ||
        l->shared_bytes > PTX_MAX_SHARED || machine.n_warps > PTX_MAX_WARPS ||
        l->n_threads % PTX_LANES != 0) {
        trap("a launch that does not fit the kernel");
    }
    memcpy(machine.args, l->args, l->args_bytes);
    for (uint32_t i = 0; i < machine.n_warps; i++) {
        make_registers(&machine.warps[i], (size_t)k->n_slots * PTX_LANES);
    }
}

struct ptx_counts ptx_run(const struct ptx_module *m, const struct ptx_launch *l,
                          ptx_reaches_fn *reaches_fn)
{
    machine.kernel = kernel_of(m, l->kernel);
    machine.launch = l;
    machine.reaches = reaches_fn;
    machine.counts = (struct ptx_counts){0};
    machine.at = NULL;
    begin_launch();
    uint32_t n = l->grid_x * l->grid_y;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = l->downwards ? n - 1 - i : i;
        machine.x = at % l->grid_x;
        machine.y = at / l->grid_x;
        run_block();
    }
    return machine.counts;
}
