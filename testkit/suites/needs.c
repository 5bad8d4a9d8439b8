/* The needs that a test may state, each with the check that decides it here and now. A need that
 * nobody can check does not exist: a word outside this table fails the test that uses it. */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sysinfo.h"
#include "testkit/proc.h"
#include "testkit/suite.h"
#include "testkit/suites/net_namespace.h"
#include "testkit/suites/official.h"
#include "testkit/suites/support.h"

struct need {
    const char *name;
    bool (*met)(const char *arg);
    const char *arg;
    const char *missing; /* said when it is not met */
};

static bool program_in_path(const char *name)
{
    const char *path = getenv("PATH");
    char file[BNT_PATH_MAX];
    for (const char *at = path ? path : ""; *at;) {
        size_t len = strcspn(at, ":");
        if (bnt_path_format(file, NULL, "%.*s/%s", (int)len, at, name) == BNT_OK &&
            access(file, X_OK) == 0) {
            return true;
        }
        at += len + (at[len] == ':');
    }
    return false;
}

static bool shared_folder(const char *arg)
{
    (void)arg;
    return support_shared_dir() != NULL;
}

static bool source_tree(const char *arg)
{
    (void)arg;
    return support_source_dir() != NULL;
}

static bool file_in_variable(const char *variable)
{
    const char *path = getenv(variable);
    return path && path[0] && access(path, R_OK) == 0;
}

static bool variable_is_1(const char *variable)
{
    const char *value = getenv(variable);
    return value && strcmp(value, "1") == 0;
}

static bool file_exists(const char *path)
{
    return access(path, R_OK) == 0;
}

static bool memory_gib(const char *gib)
{
    return bnt_memory_limit() >> 30 >= strtoull(gib, NULL, 10);
}

/* Where tests have their folders. */
static bool disk_gib(const char *gib)
{
    struct statvfs fs;
    const char *dir = getenv("TMPDIR");
    return statvfs(dir && dir[0] ? dir : "/tmp", &fs) == 0 &&
           (uint64_t)fs.f_bavail * fs.f_frsize >> 30 >= strtoull(gib, NULL, 10);
}

/* By the system's Python: that is the one Debian's packages serve. */
static bool python_module(const char *module)
{
    char line[64];
    snprintf(line, sizeof line, "import %s", module);
    char python[] = "/usr/bin/python3";
    char flag[] = "-c";
    char *argv[] = {python, flag, line, NULL};
    struct proc p;
    bool met =
        proc_run(&p, &(struct proc_spec){.argv = argv, .timeout_ms = 20000}, NULL) == BNT_OK &&
        p.end == PROC_EXITED && p.code == 0;
    proc_release(&p);
    return met;
}

/* Debian has it where only root's PATH leads. */
static bool nginx(const char *arg)
{
    (void)arg;
    return program_in_path("nginx") || file_exists("/usr/sbin/nginx");
}

/* All four servers, with the part that speaks S3. */
static bool swift_s3api(const char *arg)
{
    (void)arg;
    return program_in_path("swift-proxy-server") && program_in_path("swift-account-server") &&
           program_in_path("swift-container-server") && program_in_path("swift-object-server") &&
           program_in_path("swift-ring-builder") && python_module("swift.common.middleware.s3api");
}

/* Its version, by the number of the system call that asks for it; -1 without. */
static bool landlock(const char *least)
{
    return syscall(444, NULL, 0, 1) >= strtol(least, NULL, 10);
}

static bool net_namespace(const char *arg)
{
    (void)arg;
    net_namespace_prepare(true);
    return net_namespace_is_there(true);
}

/* Asked of a program: a driver that was started in this process would not survive its forks. Where
 * the driver has no device file nothing is asked. */
static bool cuda_gpu(const char *arg)
{
    (void)arg;
    char bnt[BNT_PATH_MAX], devices[] = "devices", json[] = "--json";
    char *argv[] = {bnt, devices, json, NULL};
    struct proc p;
    if ((!file_exists("/dev/nvidiactl") && !file_exists("/dev/dxg")) ||
        bnt_path_format(bnt, NULL, "%s", suite_bnt()) != BNT_OK) {
        return false;
    }
    bool ran =
        proc_run(&p, &(struct proc_spec){.argv = argv, .timeout_ms = 60000}, NULL) == BNT_OK &&
        p.end == PROC_EXITED && p.code == 0;
    char *said = ran ? proc_output(&p, 0) : NULL;
    bool met = said && strstr(said, "\"supported\": true") && !strstr(said, "\"fake\": true");
    free(said);
    proc_release(&p);
    return met;
}

static bool official_file_is_there(const char *arg)
{
    (void)arg;
    return official_find();
}

/* To become somebody else. */
static bool is_root(const char *arg)
{
    (void)arg;
    return geteuid() == 0;
}

static int own_mounts(void *ctx)
{
    (void)ctx;
    return unshare(CLONE_NEWNS) == 0 ? 0 : 1;
}

/* The kernel knows XFS, which shares blocks, and this process may mount a file as one where nobody
 * else sees it. */
static bool xfs_in_a_file(const char *arg)
{
    (void)arg;
    struct bnt_buf known = BNT_BUF(64 << 10);
    bool met = file_exists("/usr/sbin/mkfs.xfs") && file_exists("/dev/loop-control") &&
               bnt_file_read("/proc/filesystems", &known, NULL) == BNT_OK &&
               memmem(known.data, known.len, "\txfs\n", 5);
    bnt_buf_release(&known);
    struct proc p = {0};
    met = met && proc_run(&p, &(struct proc_spec){.body = own_mounts}, NULL) == BNT_OK &&
          p.end == PROC_EXITED && p.code == 0;
    proc_release(&p);
    return met;
}

/* Times mean something, and long computations end soon. */
static bool release_build(const char *arg)
{
    (void)arg;
    return strcmp(BNT_CONFIG, "release") == 0;
}

static bool fault_build(const char *arg)
{
    (void)arg;
    return support_fault_bnt() != NULL;
}

static bool no_tsan(const char *arg)
{
    (void)arg;
    return strcmp(BNT_CONFIG, "tsan") != 0;
}

/* What a process holds is what the program took. */
static bool plain_memory(const char *arg)
{
    (void)arg;
    return strcmp(BNT_CONFIG, "tsan") != 0 && strcmp(BNT_CONFIG, "asan") != 0;
}

static const struct need needs_table[] = {
    {"no-tsan", no_tsan, NULL,
     "ThreadSanitizer delays signals, and knows no threads of a forked child"},
    {"fault-build", fault_build, NULL,
     "no bnt with planted defects as new as this one: make CONFIG=fault B=build/fault all"},
    {"plain-memory", plain_memory, NULL, "a sanitizer's memory counts as the program's"},
    {"release-build", release_build, NULL, "this is a " BNT_CONFIG " build"},
    {"shared", shared_folder, NULL, "no shared folder: set BNT_SHARED"},
    {"source", source_tree, NULL, "no source tree: set BNT_SOURCE_DIR"},
    {"synth2b", file_in_variable, "BNT_SYNTH2B", "set BNT_SYNTH2B to the synthetic 2B GGUF"},
    {"official2b", official_file_is_there, NULL,
     "not in the cache: bnt fetch hf://microsoft/bitnet-b1.58-2B-4T-gguf/ggml-model-i2_s.gguf, or "
     "set "
     "BNT_OFFICIAL_2B to it"},
    {"llama3-vocab", file_in_variable, "BNT_LLAMA3_VOCAB",
     "set BNT_LLAMA3_VOCAB to a LLaMA-3 vocabulary GGUF"},
    {"bitnet-server", file_in_variable, "BNT_BITNET_SERVER",
     "set BNT_BITNET_SERVER to the llama-server of bitnet.cpp"},
    {"network", variable_is_1, "BNT_TEST_NETWORK", "set BNT_TEST_NETWORK=1 to allow the network"},
    {"xfs", xfs_in_a_file, NULL,
     "no mkfs.xfs (xfsprogs), no XFS in the kernel, or no right to mount a file"},
    {"root", is_root, NULL, "this user is not root"},
    {"user-mode-linux", program_in_path, "linux.uml", "no program linux.uml (user-mode-linux)"},
    {"qemu-aarch64", program_in_path, "qemu-aarch64", "no program qemu-aarch64"},
    {"aarch64-gcc", program_in_path, "aarch64-linux-gnu-gcc", "no program aarch64-linux-gnu-gcc"},
    {"landlock", landlock, "1", "this kernel has no Landlock"},
    {"landlock-signals", landlock, "6", "the Landlock of this kernel does not know signals"},
    {"net-namespace", net_namespace, NULL, "no network namespace may be made here"},
    {"cuda", cuda_gpu, NULL, "no GPU that the module for CUDA can use: bnt devices says why"},
    {"addr2line", program_in_path, "addr2line", "no program addr2line (binutils)"},
    {"gdb", program_in_path, "gdb", "no program gdb"},
    {"gcc", program_in_path, "gcc", "no program gcc"},
    {"clang", program_in_path, "clang", "no program clang"},
    {"make", program_in_path, "make", "no program make"},
    {"git", program_in_path, "git", "no program git"},
    {"python3", program_in_path, "python3", "no program python3"},
    {"openssl", program_in_path, "openssl", "no program openssl"},
    {"strace", program_in_path, "strace", "no program strace"},
    {"valgrind", program_in_path, "valgrind", "no program valgrind"},
    {"xmllint", program_in_path, "xmllint", "no program xmllint"},
    {"docker-registry", program_in_path, "docker-registry", "no program docker-registry"},
    {"htpasswd", program_in_path, "htpasswd", "no program htpasswd (apache2-utils)"},
    {"nginx", nginx, NULL, "no program nginx"},
    {"swift-s3api", swift_s3api, NULL, "no program swift-proxy-server, or no swift of Python"},
    {"python3-numpy", python_module, "numpy", "/usr/bin/python3 cannot import numpy"},
    {"corpus-asked", variable_is_1, "BNT_CORPUS_ASKED", "by design"},
    {"disk-2g", disk_gib, "2", "less than 2 GiB free for temporary files"},
    {"memory-2g", memory_gib, "2", "less than 2 GiB of memory"},
    {"memory-4g", memory_gib, "4", "less than 4 GiB of memory"},
    {"memory-8g", memory_gib, "8", "less than 8 GiB of memory"},
};

enum { N_NEEDS = sizeof needs_table / sizeof needs_table[0] };

/* The next comma-separated word; false at the end. */
static bool next_word(const char **at, char *word, size_t size)
{
    *at += strspn(*at, ", ");
    size_t len = strcspn(*at, ", ");
    snprintf(word, size, "%.*s", (int)len, *at);
    *at += len;
    return len > 0;
}

static const struct need *find(const char *word)
{
    for (int i = 0; i < N_NEEDS; i++) {
        if (strcmp(needs_table[i].name, word) == 0) {
            return &needs_table[i];
        }
    }
    return NULL;
}

/* Each need is checked once per process. */
static bool is_met(const struct need *need)
{
    enum { UNKNOWN, MET, MISSING };
    static signed char known[N_NEEDS];
    signed char *k = &known[need - needs_table];
    if (*k == UNKNOWN) {
        *k = need->met(need->arg) ? MET : MISSING;
    }
    return *k == MET;
}

const char *suite_need_unknown(const char *needs)
{
    static char word[64];
    for (const char *at = needs ? needs : ""; next_word(&at, word, sizeof word);) {
        if (!find(word)) {
            return word;
        }
    }
    return NULL;
}

const char *suite_need_missing(const char *needs)
{
    static char why[192];
    char word[64];
    for (const char *at = needs ? needs : ""; next_word(&at, word, sizeof word);) {
        const struct need *need = find(word);
        if (!need || !is_met(need)) {
            snprintf(why, sizeof why, "%s (%s)", word, need ? need->missing : "unknown need");
            return why;
        }
    }
    return NULL;
}

bool support_program_in_path(const char *name)
{
    return program_in_path(name);
}

bool suite_needs_word(const char *needs, const char *wanted)
{
    char word[64];
    for (const char *at = needs ? needs : ""; next_word(&at, word, sizeof word);) {
        if (strcmp(word, wanted) == 0) {
            return true;
        }
    }
    return false;
}

bool suite_needs_network(const char *needs)
{
    /* Those that stand for machines and servers which the test does not start itself. */
    static const char *const open[] = {"network"};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        if (suite_needs_word(needs, open[i])) {
            return true;
        }
    }
    return false;
}
