/* Instructions of PTX that compute each lane for itself, and what the reader and the machine share.
 * A register is a slot of 32 lanes of 4 bytes, or two slots for 32 lanes of 8; values of 16 bits
 * lie in the low half of 4, predicates are 0 or 1. Constants are registers that are never written.
 */
#ifndef BNT_PTX_MODULE_H
#define BNT_PTX_MODULE_H

#include <stdbool.h>
#include <stdint.h>

#include "testkit/suites/ptx.h"

typedef uint32_t W; /* 32 bits, or less */
typedef uint64_t D; /* 64 */

/* Threads of a warp; warps of a block and bytes that it shares, at most. */
enum { PTX_LANES = 32, PTX_MAX_WARPS = 32, PTX_MAX_SHARED = 228 << 10 };

/* X(name, widths of the result and of up to four operands, value); a, b, c, e are the operands. */
#define PTX_OPS(X)                                                                                 \
    X("add.s32", W, W, W, W, W, a + b)                                                             \
    X("sub.s32", W, W, W, W, W, a - b)                                                             \
    X("mul.lo.s32", W, W, W, W, W, a *b)                                                           \
    X("mad.lo.s32", W, W, W, W, W, a *b + c)                                                       \
    X("neg.s32", W, W, W, W, W, 0 - a)                                                             \
    X("mul.hi.u32", W, W, W, W, W, (W)((D)a * b >> 32))                                            \
    X("mul.wide.u32", D, W, W, W, W, (D)a *b)                                                      \
    X("div.u32", W, W, W, W, W, b ? a / b : ~0u)                                                   \
    X("rem.u32", W, W, W, W, W, b ? a % b : a)                                                     \
    X("min.u32", W, W, W, W, W, a < b ? a : b)                                                     \
    X("max.u32", W, W, W, W, W, a > b ? a : b)                                                     \
    X("and.b32", W, W, W, W, W, a &b)                                                              \
    X("or.b32", W, W, W, W, W, a | b)                                                              \
    X("xor.b32", W, W, W, W, W, a ^ b)                                                             \
    X("not.b32", W, W, W, W, W, ~a)                                                                \
    X("shl.b32", W, W, W, W, W, b > 31 ? 0 : a << (b & 31))                                        \
    X("shr.u32", W, W, W, W, W, b > 31 ? 0 : a >> (b & 31))                                        \
    X("shr.s32", W, W, W, W, W, (W)((int32_t)a >> (b > 31 ? 31 : b)))                              \
    X("bfi.b32", W, W, W, W, W, (W)ptx_bfi(a, b, c, e, 32))                                        \
    X("brev.b32", W, W, W, W, W, ptx_brev(a))                                                      \
    X("bfind.shiftamt.u32", W, W, W, W, W, a ? (W)__builtin_clz(a) : ~0u)                          \
    X("prmt.b32", W, W, W, W, W, ptx_prmt(a, b, c))                                                \
    X("dp4a.u32.s32", W, W, W, W, W, ptx_dp4a(a, b, c, 0))                                         \
    X("dp4a.s32.s32", W, W, W, W, W, ptx_dp4a(a, b, c, 1))                                         \
    X("sub.s16", W, W, W, W, W, (uint16_t)(a - b))                                                 \
    X("mul.lo.s16", W, W, W, W, W, (uint16_t)(a * b))                                              \
    X("mul.wide.u16", W, W, W, W, W, (a & 0xffff) * (b & 0xffff))                                  \
    X("div.u16", W, W, W, W, W, (b & 0xffff) ? (a & 0xffff) / (b & 0xffff) : 0xffff)               \
    X("and.b16", W, W, W, W, W, (uint16_t)(a & b))                                                 \
    X("shl.b16", W, W, W, W, W, b > 15 ? 0 : (uint16_t)(a << (b & 15)))                            \
    X("shr.u16", W, W, W, W, W, b > 15 ? 0 : (uint16_t)a >> (b & 15))                              \
    X("add.s64", D, D, D, D, W, a + b)                                                             \
    X("mul.lo.s64", D, D, D, D, W, a *b)                                                           \
    X("mad.lo.s64", D, D, D, D, W, a *b + c)                                                       \
    X("and.b64", D, D, D, D, W, a &b)                                                              \
    X("or.b64", D, D, D, D, W, a | b)                                                              \
    X("shl.b64", D, D, W, W, W, b > 63 ? 0 : a << (b & 63))                                        \
    X("shr.u64", D, D, W, W, W, b > 63 ? 0 : a >> (b & 63))                                        \
    X("min.u64", D, D, D, D, W, a < b ? a : b)                                                     \
    X("max.u64", D, D, D, D, W, a > b ? a : b)                                                     \
    X("bfi.b64", D, D, D, W, W, ptx_bfi(a, b, c, e, 64))                                           \
    X("mov.b16", W, W, W, W, W, a)                                                                 \
    X("mov.u16", W, W, W, W, W, a)                                                                 \
    X("mov.b32", W, W, W, W, W, a)                                                                 \
    X("mov.u32", W, W, W, W, W, a)                                                                 \
    X("mov.f32", W, W, W, W, W, a)                                                                 \
    X("mov.pred", W, W, W, W, W, a)                                                                \
    X("mov.b64", D, D, D, D, W, a)                                                                 \
    X("mov.u64", D, D, D, D, W, a)                                                                 \
    X("mov.f64", D, D, D, D, W, a)                                                                 \
    X("cvta.to.global.u64", D, D, D, D, W, a)                                                      \
    X("cvta.param.u64", D, D, D, D, W, a)                                                          \
    X("cvta.shared.u64", D, D, D, D, W, a | PTX_SHARED)                                            \
    X("cvta.to.shared.u64", D, D, D, D, W, a & ~PTX_SHARED)                                        \
    X("selp.b32", W, W, W, W, W, c ? a : b)                                                        \
    X("selp.u32", W, W, W, W, W, c ? a : b)                                                        \
    X("selp.s32", W, W, W, W, W, c ? a : b)                                                        \
    X("selp.f32", W, W, W, W, W, c ? a : b)                                                        \
    X("selp.b64", D, D, D, W, W, c ? a : b)                                                        \
    X("selp.f64", D, D, D, W, W, c ? a : b)                                                        \
    X("and.pred", W, W, W, W, W, a &b)                                                             \
    X("or.pred", W, W, W, W, W, a | b)                                                             \
    X("not.pred", W, W, W, W, W, !a)                                                               \
    X("setp.eq.s16", W, W, W, W, W, (uint16_t)a == (uint16_t)b)                                    \
    X("setp.ne.s16", W, W, W, W, W, (uint16_t)a != (uint16_t)b)                                    \
    X("setp.eq.s32", W, W, W, W, W, a == b)                                                        \
    X("setp.ne.s32", W, W, W, W, W, a != b)                                                        \
    X("setp.lt.s32", W, W, W, W, W, (int32_t)a < (int32_t)b)                                       \
    X("setp.lt.u32", W, W, W, W, W, a < b)                                                         \
    X("setp.le.u32", W, W, W, W, W, a <= b)                                                        \
    X("setp.gt.u32", W, W, W, W, W, a > b)                                                         \
    X("setp.ge.u32", W, W, W, W, W, a >= b)                                                        \
    X("setp.eq.s64", W, D, D, D, W, a == b)                                                        \
    X("setp.ne.s64", W, D, D, D, W, a != b)                                                        \
    X("setp.lt.s64", W, D, D, D, W, (int64_t)a < (int64_t)b)                                       \
    X("setp.le.u64", W, D, D, D, W, a <= b)                                                        \
    X("setp.gt.u64", W, D, D, D, W, a > b)                                                         \
    X("setp.ge.u64", W, D, D, D, W, a >= b)                                                        \
    X("setp.eq.f32", W, W, W, W, W, F(a) == F(b))                                                  \
    X("setp.equ.f32", W, W, W, W, W, !(F(a) < F(b) || F(a) > F(b)))                                \
    X("setp.neu.f32", W, W, W, W, W, F(a) != F(b))                                                 \
    X("setp.lt.f32", W, W, W, W, W, F(a) < F(b))                                                   \
    X("setp.gt.f32", W, W, W, W, W, F(a) > F(b))                                                   \
    X("setp.geu.f32", W, W, W, W, W, !(F(a) < F(b)))                                               \
    X("setp.lt.f64", W, D, D, D, W, G(a) < G(b))                                                   \
    X("setp.le.f64", W, D, D, D, W, G(a) <= G(b))                                                  \
    X("setp.gt.f64", W, D, D, D, W, G(a) > G(b))                                                   \
    X("setp.geu.f64", W, D, D, D, W, !(G(a) < G(b)))                                               \
    X("setp.gtu.f64", W, D, D, D, W, !(G(a) <= G(b)))                                              \
    X("add.rn.f32", W, W, W, W, W, PF(F(a) + F(b)))                                                \
    X("sub.rn.f32", W, W, W, W, W, PF(F(a) - F(b)))                                                \
    X("mul.rn.f32", W, W, W, W, W, PF(F(a) * F(b)))                                                \
    X("div.rn.f32", W, W, W, W, W, PF(F(a) / F(b)))                                                \
    X("rcp.rn.f32", W, W, W, W, W, PF(1.0f / F(a)))                                                \
    X("sqrt.rn.f32", W, W, W, W, W, PF(sqrtf(F(a))))                                               \
    X("abs.f32", W, W, W, W, W, a & 0x7fffffff)                                                    \
    X("neg.f32", W, W, W, W, W, a ^ 0x80000000)                                                    \
    X("add.rn.f64", D, D, D, D, W, PG(G(a) + G(b)))                                                \
    X("sub.rn.f64", D, D, D, D, W, PG(G(a) - G(b)))                                                \
    X("mul.rn.f64", D, D, D, D, W, PG(G(a) * G(b)))                                                \
    X("div.rn.f64", D, D, D, D, W, PG(G(a) / G(b)))                                                \
    X("sqrt.rn.f64", D, D, D, D, W, PG(sqrt(G(a))))                                                \
    X("cvt.f32.f16", W, W, W, W, W, ptx_from_half(a))                                              \
    X("cvt.rn.f16.f32", W, W, W, W, W, ptx_to_half(a))                                             \
    X("cvt.f64.f32", D, W, W, W, W, PG((double)F(a)))                                              \
    X("cvt.rn.f32.f64", W, D, D, D, W, PF((float)G(a)))                                            \
    X("cvt.rn.f32.s32", W, W, W, W, W, PF((float)(int32_t)a))                                      \
    X("cvt.rn.f32.u32", W, W, W, W, W, PF((float)a))                                               \
    X("cvt.rn.f64.s16", D, W, W, W, W, PG((double)(int16_t)a))                                     \
    X("cvt.rni.f64.f64", D, D, D, D, W, PG(rint(G(a))))                                            \
    X("cvt.rzi.s32.f32", W, W, W, W, W, ptx_to_int((double)F(a)))                                  \
    X("cvt.rzi.s32.f64", W, D, D, D, W, ptx_to_int(G(a)))                                          \
    X("cvt.s16.s8", W, W, W, W, W, (uint16_t)(int8_t)a)                                            \
    X("cvt.s32.s8", W, W, W, W, W, (W)(int8_t)a)                                                   \
    X("cvt.s8.s32", W, W, W, W, W, (uint16_t)(int8_t)a)                                            \
    X("cvt.u16.u32", W, W, W, W, W, (uint16_t)a)                                                   \
    X("cvt.u16.u64", W, D, D, D, W, (uint16_t)a)                                                   \
    X("cvt.u32.u16", W, W, W, W, W, (uint16_t)a)                                                   \
    X("cvt.u32.u64", W, D, D, D, W, (W)a)                                                          \
    X("cvt.u64.u16", D, W, W, W, W, (uint16_t)a)                                                   \
    X("cvt.u64.u32", D, W, W, W, W, a)

/* The number of an instruction is its place: these first, then those that look beyond a lane. */
enum {
#define PTX_ONE(...) +1
    PTX_N_LANE_OPS = 0 PTX_OPS(PTX_ONE),
#undef PTX_ONE
    PTX_BRA = PTX_N_LANE_OPS,
    PTX_RET,
    PTX_LOAD,
    PTX_STORE,
    PTX_ATOMIC,
    PTX_COPY,       /* cp.async */
    PTX_COPIES_END, /* a group of them */
    PTX_COPIES_WAIT,
    PTX_BARRIER,
    PTX_WARP_BARRIER,
    PTX_ACTIVE,
    PTX_REDUX,
    PTX_MMA,
    PTX_WAIT_GRID,
    PTX_NOTHING /* prefetch, launch_dependents */
};

enum ptx_space { PTX_GENERIC, PTX_GLOBAL, PTX_SHARED_SPACE, PTX_PARAM };
enum ptx_rule { PTX_ADD, PTX_MAX };

/* Addresses that are no place of the host's: of shared memory and of arguments, seen by
 * instructions that name no space. */
#define PTX_SHARED (UINT64_C(1) << 60)
#define PTX_ARGS (UINT64_C(1) << 61)
/* Where the shared memory of a kernel begins within the block's: a GPU keeps the first bytes. */
#define PTX_SHARED_FIRST 1024u

#define PTX_NONE UINT32_MAX

struct ptx_instruction {
    uint32_t op, line;
    uint32_t guard; /* a predicate, or PTX_NONE */
    bool guard_not;
    /* of memory: */
    enum ptx_space space;
    uint8_t bytes, n;         /* of an element; elements */
    bool sign, wide[4];       /* elements are signed; registers are of two slots */
    bool wide_base, constant; /* ld.nc */
    enum ptx_rule rule;
    int64_t offset;  /* of an address; groups left */
    uint32_t target; /* of a branch, and where its sides meet: instructions */
    uint32_t meet;
    uint32_t at[14]; /* slots: results first */
};

struct ptx_constant {
    uint64_t value;
    uint32_t slot;
    bool wide;
};

struct ptx_kernel {
    char name[64];
    struct ptx_instruction *code;
    uint32_t n, cap;
    uint32_t n_slots;
    uint32_t tid, ctaid_x, ctaid_y, ntid; /* slots, PTX_NONE where not asked for */
    struct ptx_constant *constants;
    uint32_t n_constants;
    size_t args_bytes;
    bool waits_for_grid; /* or the launch before it has ended when it begins */
};

struct ptx_module {
    struct ptx_kernel *kernels;
    size_t n;
    uint32_t target;
};

/* An instruction of PTX_OPS, for the lanes of a warp whose bits are set. */
void ptx_run_lanes(W *registers, const struct ptx_instruction *in, uint32_t lanes);

/* Sets `meet` of every branch: the first instruction that all ways from it reach, or k->n, the end
 * of the kernel. */
void ptx_find_meetings(struct ptx_kernel *k);

#endif
