/* Guards the machine for PTX (ptx.h): lanes that do not meet again where their ways do, and what it
 * exists to see and lets pass: races, barriers, addresses, copies. Small kernels, written here. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testkit/suite.h"
#include "testkit/suites/ptx.h"

enum { THREADS = 64, SHARED = 512 };

/* What stands around the statements of a kernel k: its argument is where `out` lies. */
#define BEGIN                                                                                      \
    ".target sm_90\n.extern .shared .align 16 .b8 block_shared[];\n"                               \
    ".entry _Z8k_global1a(.param .align 8 .b8 _Z8k_global1a_param_0[8])\n{\n"                      \
    ".reg .pred %p<4>;\n.reg .b32 %r<10>;\n.reg .b64 %rd<5>;\n"                                    \
    "ld.param.u64 %rd1, [_Z8k_global1a_param_0];\n"                                                \
    "mov.u32 %r1, %tid.x;\nshl.b32 %r2, %r1, 2;\n"                                                 \
    "mov.u32 %r3, block_shared;\nadd.s32 %r3, %r3, %r2;\n" /* the thread's word of both */         \
    "mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd2, %rd1, %rd2;\n"
#define END "st.global.u32 [%rd2], %r4;\nret;\n}\n"
#define WAIT "griddepcontrol.wait;\n"

static _Alignas(32) uint32_t out[THREADS]; /* whole sectors */

static bool reaches(uint64_t first, uint64_t last, bool store, bool early)
{
    uint64_t begin = (uint64_t)(uintptr_t)out;
    (void)store;
    return first >= begin && last < begin + sizeof out && !early;
}

static struct ptx_module *module_of(const char *text, char *why, size_t size)
{
    const char *path = suite_in_scratch("kernel.ptx");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return ptx_open(path, why, size);
}

static struct ptx_counts run(const struct ptx_module *m, bool downwards)
{
    uint32_t *argument = out;
    return ptx_run(m,
                   &(struct ptx_launch){.kernel = "k",
                                        .grid_x = 1,
                                        .grid_y = 1,
                                        .n_threads = THREADS,
                                        .shared_bytes = SHARED,
                                        .args = &argument,
                                        .args_bytes = sizeof argument,
                                        .downwards = downwards},
                   reaches);
}

/* Each lane goes round a loop as often as its number says, odd ones by another way, and all of them
 * are one again behind it. */
static void lanes_part_and_meet(void **state)
{
    (void)state;
    char why[200] = "";
    struct ptx_module *m =
        module_of(BEGIN "and.b32 %r5, %r1, 31;\nmov.u32 %r4, 0;\n"
                        "setp.eq.s32 %p1, %r5, 0;\n@%p1 bra $L_out;\n"
                        "$L_loop:\nand.b32 %r6, %r5, 1;\n"
                        "setp.ne.s32 %p2, %r6, 0;\n@%p2 bra $L_odd;\n"
                        "add.s32 %r4, %r4, 256;\nbra.uni $L_next;\n"
                        "$L_odd:\nadd.s32 %r4, %r4, 1;\n"
                        "$L_next:\nsub.s32 %r5, %r5, 1;\n"
                        "setp.ne.s32 %p3, %r5, 0;\n@%p3 bra $L_loop;\n"
                        "$L_out:\nactivemask.b32 %r7;\nnot.b32 %r7, %r7;\n"
                        "shl.b32 %r7, %r7, 16;\nor.b32 %r4, %r4, %r7;\n" WAIT END,
                  why, sizeof why);
    assert_string_equal(why, "");
    struct ptx_counts n = run(m, false);
    for (uint32_t t = 0; t < THREADS; t++) {
        uint32_t odd = (t % 32 + 1) / 2, even = t % 32 / 2;
        assert_int_equal(out[t], odd + even * 256);
    }
    assert_true(n.instructions > 2 * (31 * 8) && n.instructions < 2 * (31 * 9 + 40));
    ptx_close(m);
}

/* All lanes of a warp take words of one bank but the first form: 32 turns for an access of one. */
static void turns_of_the_banks_are_counted(void **state)
{
    (void)state;
    char why[200] = "";
    struct ptx_module *m =
        module_of(BEGIN "mov.u32 %r4, 7;\nst.shared.u32 [%r3], %r4;\nbar.sync 0;\n"
                        "and.b32 %r5, %r1, 1;\nshl.b32 %r5, %r5, 7;\nmov.u32 %r6, block_shared;\n"
                        "add.s32 %r5, %r5, %r6;\nld.shared.u32 %r4, [%r5];\n" WAIT END,
                  why, sizeof why);
    assert_string_equal(why, "");
    struct ptx_counts n = run(m, true);
    assert_int_equal(n.shared, 4);
    assert_int_equal(n.shared_turns, 2 + 2 * 2); /* two words of bank 0, each for 16 lanes */
    assert_int_equal(n.global_bytes, 4 * THREADS);
    assert_int_equal(n.sectors * 32, 4 * THREADS);
    assert_int_equal(out[THREADS - 1], 7);
    ptx_close(m);
}

static const struct wrong {
    const char *text, *says; /* says NULL: it is right */
} wrongs[] = {
    {BEGIN "st.shared.u32 [%r3], %r1;\nbar.sync 0;\nxor.b32 %r5, %r2, 128;\n"
           "mov.u32 %r6, block_shared;\nadd.s32 %r6, %r6, %r5;\n"
           "ld.shared.u32 %r4, [%r6];\n" WAIT END,
     NULL},
    {BEGIN "st.shared.u32 [%r3], %r1;\nxor.b32 %r5, %r2, 128;\n"
           "mov.u32 %r6, block_shared;\nadd.s32 %r6, %r6, %r5;\n"
           "ld.shared.u32 %r4, [%r6];\n" WAIT END,
     "another thread has"},
    {BEGIN "st.shared.u32 [%r3], %r1;\nbar.warp.sync -1;\nxor.b32 %r5, %r2, 4;\n"
           "mov.u32 %r6, block_shared;\nadd.s32 %r6, %r6, %r5;\n"
           "ld.shared.u32 %r4, [%r6];\n" WAIT END,
     NULL},
    {BEGIN "st.shared.u32 [%r3], %r1;\nbar.warp.sync -1;\nxor.b32 %r5, %r2, 128;\n"
           "mov.u32 %r6, block_shared;\nadd.s32 %r6, %r6, %r5;\n"
           "ld.shared.u32 %r4, [%r6];\n" WAIT END,
     "another thread has"},
    {BEGIN "mov.u32 %r6, block_shared;\nst.shared.u32 [%r6], %r1;\n" WAIT END,
     "written by two threads"},
    {BEGIN "setp.lt.u32 %p1, %r1, 7;\n@%p1 bra $L_in;\nbra.uni $L_on;\n"
           "$L_in:\nbar.sync 0;\n$L_on:\n" WAIT END,
     "are at a barrier"},
    {BEGIN "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra $L_end;\nbar.sync 0;\n"
           "$L_end:\nmov.u32 %r4, 0;\n" WAIT END,
     "have ended"},
    {BEGIN "ld.shared.u32 %r4, [%r3+2];\n" WAIT END, "not a multiple of 4"},
    {BEGIN "ld.shared.u32 %r4, [%r3+512];\n" WAIT END, "of shared memory"},
    {BEGIN WAIT "ld.global.u32 %r4, [%rd2+256];\n" END, "not allocated"},
    {BEGIN "ld.global.u32 %r4, [%rd2];\n" WAIT END, "was written"},
    {BEGIN WAIT "ld.global.nc.u32 %r4, [%rd2];\n" END, "was written"},
    {BEGIN WAIT "mov.u32 %r5, 4;\ncp.async.ca.shared.global [%r3], [%rd2], 4, %r5;\n"
                "cp.async.commit_group;\ncp.async.wait_group 0;\nld.shared.u32 %r4, [%r3];\n" END,
     NULL},
    {BEGIN WAIT "mov.u32 %r5, 4;\ncp.async.ca.shared.global [%r3], [%rd2], 4, %r5;\n"
                "cp.async.commit_group;\ncp.async.wait_group 1;\nld.shared.u32 %r4, [%r3];\n" END,
     "a copy is read"},
    {BEGIN "setp.lt.u32 %p1, %r1, 3;\n@%p1 bra $L_in;\nbra.uni $L_on;\n"
           "$L_in:\nmov.u32 %r5, -1;\nredux.sync.add.s32 %r4, %r1, %r5;\n$L_on:\n" WAIT END,
     "redux of lanes"},
};

static void what_nobody_can_rely_on_ends_the_process(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        const struct wrong *w = &wrongs[i];
        char said[300] = "";
        int pipes[2], status = 0;
        struct ptx_module *m = module_of(w->text, said, sizeof said);
        assert_string_equal(said, "");
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            dup2(pipes[1], 2);
            signal(SIGABRT, SIG_DFL);
            run(m, false);
            _exit(0);
        }
        close(pipes[1]);
        ssize_t n;
        for (size_t len = 0; (n = read(pipes[0], said + len, sizeof said - 1 - len)) > 0;) {
            len += (size_t)n;
        }
        close(pipes[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (w->says ? !WIFSIGNALED(status) || !strstr(said, w->says)
                    : !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fail_msg("kernel %zu: status %x, says: %s", i, (unsigned)status, said);
        }
        ptx_close(m);
    }
}

static void what_is_not_known_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {BEGIN "sin.approx.f32 %r4, %r1;\n" END, "line 15: instruction sin.approx.f32"},
        {BEGIN "add.s32 %r4, %r11, 1;\n" END, "no register %r11"},
        {BEGIN "add.s64 %rd3, %r1, 1;\n" END, "%r1 is of another width"},
        {BEGIN "bra.uni $L_away;\n" END, "no label $L_away"},
        {BEGIN "mov.u32 %r4, 0;\n", "ends in a kernel"},
        {"nothing", "no kernels"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char why[200] = "";
        assert_null(module_of(cases[i].text, why, sizeof why));
        if (!strstr(why, cases[i].says)) {
            fail_msg("case %zu: %s", i, why);
        }
    }
}

static const struct suite_test tests[] = {
    {.name = "ptx_lanes_part_and_meet", .body = lanes_part_and_meet},
    {.name = "ptx_turns_of_the_banks_are_counted", .body = turns_of_the_banks_are_counted},
    {.name = "ptx_what_nobody_can_rely_on_ends_the_process",
     .body = what_nobody_can_rely_on_ends_the_process},
    {.name = "ptx_what_is_not_known_is_refused_with_its_line",
     .body = what_is_not_known_is_refused_with_its_line},
    {0},
};

const struct suite suite_ptx = {"ptx", tests, "ptx_race"};
