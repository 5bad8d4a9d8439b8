/* What the kernel holds a test to. See confine.h.
 *
 * Landlock is called by its numbers, since the headers of older systems know only its first
 * version; what a version lacks is left out of what we ask for, and reported. */
#include "testkit/suites/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/app.h"
#include "base/fault.h"
#include "base/file.h"
#include "testkit/memory_group.h"
#include "testkit/suites/body.h"
#include "testkit/suites/net_namespace.h"
#include "testkit/suites/test_place.h"
#include "testkit/suites/support.h"

/* linux/landlock.h, as of its version 6. */
enum { NR_CREATE_RULESET = 444, NR_ADD_RULE = 445, NR_RESTRICT_SELF = 446 };
enum { RULE_PATH_BENEATH = 1, ABI_QUERY = 1 };
#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define FS_ALL_OF_1 ((1ull << 13) - 1)
#define FS_REFER (1ull << 13)
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define FS_READ (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
#define SCOPE_ABSTRACT_UNIX (1ull << 0)
#define SCOPE_SIGNAL (1ull << 1)

struct ruleset_attr {
    uint64_t handled_fs, handled_net, scoped;
};

struct path_beneath {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

/* A ruleset in the making. */
struct rules {
    int fd;
    uint64_t handled;
};

static void allow(const struct rules *r, const char *path, uint64_t access_rights)
{
    struct stat st;
    int fd = path && path[0] ? open(path, O_PATH | O_CLOEXEC) : -1;
    if (fd < 0) {
        return; /* what is not there needs no permission */
    }
    uint64_t allowed = access_rights & r->handled;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) {
        allowed &= FS_OF_FILES;
    }
    const struct path_beneath rule = {allowed, fd};
    (void)syscall(NR_ADD_RULE, r->fd, RULE_PATH_BENEATH, &rule, 0);
    close(fd);
}

/* Folders of a list like PATH; of one that ends in bin, the folder around it, where a program's own
 * files are (but never a home folder). */
static void allow_search_path(const struct rules *r, const char *list)
{
    char dir[BNT_PATH_MAX];
    const char *home = test_place_outer_home();
    for (const char *at = list ? list : ""; *at;) {
        size_t len = strcspn(at, ":");
        if (len > 1 && bnt_path_format(dir, NULL, "%.*s", (int)len, at) == BNT_OK) {
            allow(r, dir, FS_READ);
            char *name = strrchr(dir, '/');
            if (name && (strcmp(name, "/bin") == 0 || strcmp(name, "/shims") == 0)) {
                *name = '\0';
                allow(r, strcmp(home, dir) == 0 ? "" : dir, FS_READ);
            }
        }
        at += len + (at[len] == ':');
    }
}

static void allow_system(const struct rules *r)
{
    static const char *const readable[] = {"/usr",  "/lib", "/lib32", "/lib64",  "/bin",
                                           "/sbin", "/etc", "/proc",  "/sys",    "/dev",
                                           "/run",  "/opt", "/nix",   "/var/lib"};
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                          "/dev/tty",  "/dev/ptmx", "/dev/pts",  "/dev/urandom"};
    for (size_t i = 0; i < sizeof readable / sizeof readable[0]; i++) {
        allow(r, readable[i], FS_READ);
    }
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        allow(r, devices[i], FS_READ | FS_WRITE_FILE | FS_IOCTL_DEV);
    }
    /* Root could change the system there; others only what is theirs. */
    allow(r, geteuid() == 0 ? "/proc/self" : "/proc", FS_READ | FS_WRITE_FILE);
    allow_search_path(r, getenv("PATH"));
}

/* Device files of a graphics card. */
static void allow_cards(const struct rules *r)
{
    DIR *dir = opendir("/dev");
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        char path[280];
        if (strncmp(e->d_name, "nvidia", 6) == 0) {
            snprintf(path, sizeof path, "/dev/%s", e->d_name);
            allow(r, path, FS_READ | FS_WRITE_FILE | FS_IOCTL_DEV);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static void allow_project(const struct rules *r, const struct body_spec *spec)
{
    char dir[BNT_PATH_MAX], lib[BNT_PATH_MAX];
    bool golden = getenv("BNT_UPDATE_GOLDEN") != NULL;
    bool coverage = strcmp(BNT_CONFIG, "coverage") == 0;
    allow(r, support_source_dir(), golden ? r->handled : FS_READ);
    allow(r, support_shared_dir(), FS_READ);
    for (size_t i = 0; test_place_outer_file(i); i++) {
        allow(r, test_place_outer_file(i), FS_READ);
    }
    if (bnt_bundled_model(dir, NULL) == BNT_OK) {
        allow(r, dir, FS_READ);
    }
    if (bnt_exe_dir(dir, NULL) == BNT_OK) {
        allow(r, dir, coverage ? r->handled : FS_READ);
        /* Where it is installed, bnt and the module for CUDA lie elsewhere. */
        allow(r, support_bnt(), FS_READ);
        if (bnt_path_format(lib, NULL, "%s/../../lib/bnt", dir) == BNT_OK) {
            allow(r, lib, FS_READ);
        }
    }
    if (spec->test->reads) {
        allow(r, spec->test->reads, FS_READ);
    }
    if (suite_needs_word(spec->test->needs, "cuda") || strcmp(suite_on_device(), "cpu") != 0) {
        allow_cards(r);
    }
    if (spec->test->makes_groups && spec->group && spec->group->kind != MEMORY_GROUP_NONE) {
        allow(r, spec->group->path, r->handled);
    }
    allow(r, BNT_FAULT(confine_files) ? "/" : spec->root, r->handled);
}

static uint64_t handled_rights(long abi)
{
    return FS_ALL_OF_1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) |
           (abi >= 5 ? FS_IOCTL_DEV : 0);
}

/* Returns the gaps. */
static unsigned enter_landlock(const struct body_spec *spec)
{
    long abi = syscall(NR_CREATE_RULESET, NULL, 0, ABI_QUERY);
    if (abi < 1) {
        return CONFINE_FILES | CONFINE_SIGNALS;
    }
    struct ruleset_attr attr = {.handled_fs = handled_rights(abi)};
    attr.scoped = abi >= 6 ? SCOPE_SIGNAL | SCOPE_ABSTRACT_UNIX : 0;
    size_t size = abi >= 6 ? sizeof attr : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
    struct rules r = {.handled = attr.handled_fs};
    r.fd = (int)syscall(NR_CREATE_RULESET, &attr, size, 0);
    if (r.fd < 0) {
        return CONFINE_FILES | CONFINE_SIGNALS;
    }
    allow_system(&r);
    allow_project(&r, spec);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    bool done = syscall(NR_RESTRICT_SELF, r.fd, 0) == 0;
    close(r.fd);
    return !done ? CONFINE_FILES | CONFINE_SIGNALS : abi < 6 ? CONFINE_SIGNALS : 0;
}

static bool is_on(void)
{
    const char *value = getenv("BNT_TEST_CONFINE");
    return !value || strcmp(value, "0") != 0;
}

static enum suite_network network_of(const struct suite_test *test)
{
    return suite_needs_network(test->needs) ? SUITE_NETWORK_OPEN : test->network;
}

static uint64_t address_space(void)
{
    unsigned long long pages = 0;
    char text[64] = "";
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        pages = fgets(text, sizeof text, f) ? strtoull(text, NULL, 10) : 0;
        fclose(f);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A sanitizer's shadow takes terabytes of address space: there the resident memory is watched. */
static void limit_memory(const struct body_spec *spec)
{
    static const char *const without[] = {"asan", "tsan", "fuzz"};
    struct rlimit limit;
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        if (strcmp(BNT_CONFIG, without[i]) == 0) {
            return;
        }
    }
    if (spec->test->memory_mib > 0 && getrlimit(RLIMIT_AS, &limit) == 0) {
        uint64_t bytes = address_space() + ((uint64_t)spec->test->memory_mib << 20);
        limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
        if (setrlimit(RLIMIT_AS, &limit) == 0) {
            spec->page->memory_limit = limit.rlim_cur;
        }
    }
}

static void close_inherited(void)
{
    if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0) {
        long n = sysconf(_SC_OPEN_MAX);
        for (int fd = 3; fd < (n > 0 && n < 65536 ? n : 65536); fd++) {
            close(fd);
        }
    }
}

void confine_prepare(const struct suite_test *test)
{
    if (is_on() && network_of(test) != SUITE_NETWORK_OPEN) {
        net_namespace_prepare(network_of(test) == SUITE_NETWORK_LOOPBACK);
    }
}

bool confine_enter(const struct body_spec *spec)
{
    unsigned gaps = is_on() ? 0 : CONFINE_OFF;
    if (!gaps && network_of(spec->test) != SUITE_NETWORK_OPEN &&
        !net_namespace_enter(network_of(spec->test) == SUITE_NETWORK_LOOPBACK)) {
        gaps |= CONFINE_NETWORK;
    }
    close_inherited();
    if (!(gaps & CONFINE_OFF) && !spec->test->mounts) {
        gaps |= enter_landlock(spec);
    }
    limit_memory(spec);
    spec->page->not_enforced |= gaps;
    return true;
}

const char *confine_gaps(unsigned gaps)
{
    static const struct {
        unsigned gap;
        const char *text;
    } rows[] = {
        {CONFINE_OFF, "files, signals and network (BNT_TEST_CONFINE=0)"},
        {CONFINE_FILES, "files (no Landlock in this kernel)"},
        {CONFINE_SIGNALS, "signals to others (Landlock of Linux 6.12)"},
        {CONFINE_NETWORK, "network (no namespace may be made here)"},
        {CONFINE_MEMORY, "memory by the kernel (no cgroup is writable here: watched from outside)"},
    };
    static char text[256];
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (gaps & rows[i].gap) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", len ? ", " : "",
                                    rows[i].text);
        }
    }
    return text;
}
