/* Guards limits of memory by control groups: a limit that is not set, a process that does not
 * enter, a kill that is not seen, a test that is called something else than out of memory. */
#include "testkit/memory_group.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testkit/suite.h"

static void write_file(const char *dir, const char *file, const char *text)
{
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", dir, file), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void holds(const char *dir, const char *file, const char *want)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(4096);
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", dir, file), BNT_OK);
    assert_int_equal(bnt_file_read(path, &text, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&text), want);
    bnt_buf_release(&text);
}

/* A folder as the kernel would have made it for this process, with the files of its version. */
static const char *kernel_made(const char *mount, const char *const *files)
{
    char name[64];
    snprintf(name, sizeof name, "%s/bnt-memory-%d", mount, (int)getpid());
    assert_int_equal(mkdir(suite_in_scratch(mount), 0700), 0);
    const char *dir = suite_in_scratch(name);
    assert_int_equal(mkdir(dir, 0700), 0);
    for (; *files; files++) {
        write_file(dir, *files, "");
    }
    return dir;
}

/* What /proc/self/cgroup is where both versions are mounted; a machine may have either alone. */
static const char *list_of_groups(void)
{
    const char *list = suite_in_scratch("list");
    write_file(suite_scratch(), "list", "4:memory:/jobs/17\n3:cpuset:/\n0::/jobs/17\n");
    return list;
}

static void both_versions_are_limited_entered_and_counted(void **state)
{
    (void)state;
    static const struct {
        const char *mount, *files[6], *events, *limit, *swap, *swap_limit, *name;
    } cases[] = {
        {"two",
         {"memory.max", "memory.swap.max", "memory.events", "cgroup.procs", NULL},
         "memory.events",
         "memory.max",
         "memory.swap.max",
         "0",
         "cgroup v2"},
        {"one",
         {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control",
          "cgroup.procs", NULL},
         "memory.oom_control",
         "memory.limit_in_bytes",
         "memory.memsw.limit_in_bytes",
         "1000000",
         "cgroup v1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct memory_group g;
        const char *dir = kernel_made(cases[i].mount, cases[i].files);
        bool v2 = strcmp(cases[i].mount, "two") == 0;
        memory_group_open_in(&g, list_of_groups(), v2 ? suite_in_scratch("two") : "/nowhere",
                             v2 ? "/nowhere" : suite_in_scratch("one"));
        assert_string_equal(memory_group_name(&g), cases[i].name);
        write_file(dir, cases[i].events, "low 0\noom_kill 3\noom_kill_disable 0\n");
        assert_true(memory_group_limit(&g, 1000000));
        holds(dir, cases[i].limit, "1000000");
        holds(dir, cases[i].swap, cases[i].swap_limit);
        /* What stood there before is overwritten from its beginning. */
        assert_true(memory_group_enter(&g));
        holds(dir, "cgroup.procs", "0");
        assert_int_equal(memory_group_kills(&g), 0);
        write_file(dir, cases[i].events, "low 0\noom_kill 5\noom_kill_disable 0\n");
        assert_int_equal(memory_group_kills(&g), 2);
        memory_group_close(&g);
        assert_int_equal(g.kind, MEMORY_GROUP_NONE);
    }
}

static void without_groups_nothing_is_done(void **state)
{
    (void)state;
    struct memory_group g;
    memory_group_open_in(&g, list_of_groups(), "/nowhere", suite_in_scratch("empty"));
    assert_int_equal(g.kind, MEMORY_GROUP_NONE);
    memory_group_open_in(&g, "/nowhere", suite_in_scratch("empty"), suite_in_scratch("empty"));
    assert_int_equal(g.kind, MEMORY_GROUP_NONE);
    assert_false(memory_group_limit(&g, 1000000));
    assert_false(memory_group_enter(&g));
    assert_int_equal(memory_group_kills(&g), 0);
    memory_group_close(&g);
}

/* Run a test of the corpus; what it was called must have the words. */
static void is_called(const char *name, const char *verdict, const char *const *words)
{
    char program[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    struct suite_output o;
    assert_int_equal(bnt_exe_dir(dir, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(program, NULL, "%s/bnt-suites", dir), BNT_OK);
    suite_run((const char *const[]){program, "--corpus", "--run", name, NULL}, NULL, 0, &o);
    for (; *words; words++) {
        if (!strstr(o.out, verdict) || !strstr(o.out, *words)) {
            fail_msg("%s is not %s, %s:\n%s", name, verdict, *words, o.out);
        }
    }
    suite_output_release(&o);
}

/* Whether a folder has no group of ours but one. */
static bool no_group_but(const char *dir, const char *name)
{
    bool none = true;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        none = none && (strncmp(e->d_name, "bnt-memory-", 11) != 0 || strcmp(e->d_name, name) == 0);
    }
    if (d) {
        closedir(d);
    }
    return none;
}

static void the_kernel_ends_what_takes_too_much(void **state)
{
    (void)state;
    struct memory_group g;
    memory_group_open(&g);
    if (g.kind == MEMORY_GROUP_NONE) {
        suite_skip("no control group can be made below that of a test here");
    }
    is_called(
        "corpus_children_take_too_much", "# verdict: out-of-memory\n",
        (const char *const[]){"held more than 256 MiB of memory", memory_group_name(&g), NULL});
    is_called("corpus_passes", "# verdict: passed\n", (const char *const[]){"ok 1", NULL});
    is_called("corpus_leaves_control_groups", "# verdict: assertion\n",
              (const char *const[]){memory_group_name(&g), NULL});
    /* Nothing of theirs is left beside what this test made itself. */
    char *dir = strrchr(g.path, '/');
    *dir = '\0';
    bool alone = no_group_but(g.path, dir + 1);
    *dir = '/';
    memory_group_close(&g);
    assert_true(alone);
    assert_int_not_equal(access(g.path, F_OK), 0);
}

/* Version 2 as a kernel has it, on a machine that has it or not: a kernel that runs as a program
 * (user-mode Linux) has the folders of this machine and a hierarchy of its own. */
static void version_2_of_a_kernel_does(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], script[2 * BNT_PATH_MAX];
    char init[BNT_PATH_MAX + 8], own[BNT_PATH_MAX + 8];
    struct suite_output o;
    struct bnt_buf out = BNT_BUF(1 << 16);
    assert_int_equal(bnt_exe_dir(dir, NULL), BNT_OK);
    snprintf(script, sizeof script,
             "#!/bin/sh\nexport PATH=/usr/bin:/bin TMPDIR=/run HOME=/run\nexec >%s/out 2>&1\n"
             "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run\n"
             "mount -t cgroup2 cgroup2 /sys/fs/cgroup\nfor t in children_take_too_much passes "
             "leaves_control_groups; do\n%s/bnt-suites --corpus --run corpus_$t\ndone\n"
             "find /sys/fs/cgroup -name 'bnt-*'\necho o >/proc/sysrq-trigger; sleep 60\n",
             suite_scratch(), dir);
    write_file(suite_scratch(), "init", script);
    assert_int_equal(chmod(suite_in_scratch("init"), 0700), 0);
    snprintf(init, sizeof init, "init=%s", suite_in_scratch("init"));
    snprintf(own, sizeof own, "uml_dir=%s", suite_scratch());
    /* In a namespace, which ends the kernel's helpers with it. */
    suite_run((const char *const[]){"unshare", "--pid", "--fork", "linux.uml", "mem=800M",
                                    "root=/dev/root", "rootfstype=hostfs", "rw", "con=null",
                                    "con0=null,fd:1", own, init, NULL},
              NULL, 0, &o);
    if (bnt_file_read(suite_in_scratch("out"), &out, NULL) != BNT_OK) {
        fail_msg("the kernel did not start:\n%s%s", o.out, o.err);
    }
    const char *text = bnt_buf_view(&out);
    if (!strstr(text, "# verdict: out-of-memory\n") || !strstr(text, "(cgroup v2)") ||
        !strstr(text, "# verdict: passed\n") || !strstr(text, "its group is cgroup v2") ||
        strstr(text, "/sys/fs/cgroup/bnt-")) {
        fail_msg("another verdict, or a group that was left:\n%s", text);
    }
    bnt_buf_release(&out);
    suite_output_release(&o);
}

static void where_no_group_is_writable_that_is_said(void **state)
{
    (void)state;
    struct memory_group g;
    memory_group_open(&g);
    if (g.kind != MEMORY_GROUP_NONE) {
        memory_group_close(&g);
        suite_skip("control groups are writable even from a test here");
    }
    is_called("corpus_children_take_too_much", "# verdict: out-of-memory\n",
              (const char *const[]){"held more than 256 MiB of memory",
                                    "# not enforced here: memory by the kernel", NULL});
}

static const struct suite_test tests[] = {
    {.name = "memory_group_both_versions_are_limited_entered_and_counted",
     .body = both_versions_are_limited_entered_and_counted},
    {.name = "memory_group_without_any_nothing_is_done", .body = without_groups_nothing_is_done},
    {.name = "memory_group_kernel_ends_what_takes_too_much",
     .body = the_kernel_ends_what_takes_too_much,
     .makes_groups = true},
    {.name = "memory_group_version_2_of_a_kernel_does",
     .body = version_2_of_a_kernel_does,
     .needs = "user-mode-linux,root,release-build",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {.name = "memory_group_where_none_is_writable_that_is_said",
     .body = where_no_group_is_writable_that_is_said},
    {0},
};
const struct suite suite_memory_group = {"memory_group", tests, "memory_group_blind"};
