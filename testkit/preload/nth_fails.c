/* Preloaded into a program under test: the N-th call of a kind fails, all the others are what they
 * were. suite_fault_sweep.c says what must hold.
 *
 *     BNT_NTH=KIND:N    alloc  malloc, calloc, realloc and their like: no memory
 *                       map    mmap: no memory
 *                       read   read, pread: an input/output error
 *                       piece  read, pread: half of what was asked for comes
 *                       write  write, pwrite: no space left
 *                       part   write, pwrite: half of what was given is taken
 *     BNT_NTH_COUNT=FILE    write there how many calls of that kind there were
 *
 * Which call it is depends on the program alone as long as it has one thread. The allocations of
 * libcrypto are left alone: version 3.0 itself crashes when some of them fail. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { KIND_NONE, KIND_ALLOC, KIND_MAP, KIND_READ, KIND_PIECE, KIND_WRITE, KIND_PART };

static const char *const kind_names[] = {"", "alloc", "map", "read", "piece", "write", "part"};

static enum kind armed;
static unsigned long nth;
static atomic_ulong calls;

/* Allocators of who comes after us: those of a sanitizer, or of the C library. */
static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
} next;

/* What the search for those needs itself; never given back. */
static _Alignas(16) char early[65536];
static size_t early_used;

static void *early_take(size_t n)
{
    const size_t at = early_used;
    n = (n + 31) & ~(size_t)15;
    if (sizeof early - at < n) {
        return NULL;
    }
    early_used += n;
    memcpy(early + at, &n, sizeof n);
    return early + at + 16;
}

static bool is_early(const void *p)
{
    return (uintptr_t)p - (uintptr_t)early < sizeof early;
}

/* ISO C has no conversion between pointers to objects and to functions; POSIX has this one. */
static void find(const char *name, void *to)
{
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(to, &found, sizeof found);
}

static void find_next(void)
{
    static bool looking;
    if (looking) {
        return;
    }
    looking = true;
    find("malloc", &next.malloc);
    find("calloc", &next.calloc);
    find("realloc", &next.realloc);
    find("posix_memalign", &next.posix_memalign);
    find("aligned_alloc", &next.aligned_alloc);
    find("free", &next.free); /* the last: with it all are there */
}

__attribute__((constructor)) static void arm(void)
{
    const char *text = getenv("BNT_NTH");
    find_next();
    for (size_t i = 1; text && i < sizeof kind_names / sizeof kind_names[0]; i++) {
        const size_t n = strlen(kind_names[i]);
        if (strncmp(text, kind_names[i], n) == 0 && text[n] == ':') {
            nth = strtoul(text + n + 1, NULL, 10);
            atomic_store(&calls, 0);
            armed = (enum kind)i;
        }
    }
}

__attribute__((destructor)) static void tell_count(void)
{
    const char *path = getenv("BNT_NTH_COUNT");
    char text[32];
    const int n = snprintf(text, sizeof text, "%lu\n", atomic_load(&calls));
    armed = KIND_NONE;
    const int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        (void)!write(fd, text, (size_t)n);
        close(fd);
    }
}

/* Whether this is the one. */
static bool hit(enum kind kind)
{
    return armed == kind && atomic_fetch_add(&calls, 1) + 1 == nth;
}

/* The same for an allocation that code at `caller` asks for. */
static bool hit_alloc(const void *caller)
{
    Dl_info at;
    return armed == KIND_ALLOC &&
           !(dladdr(caller, &at) && at.dli_fname && strstr(at.dli_fname, "libcrypto")) &&
           hit(KIND_ALLOC);
}

#define ALLOC_FAILS hit_alloc(__builtin_return_address(0))

/* ---- memory ---- */

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t n)
{
    if (!next.free) {
        find_next();
    }
    return !next.free ? early_take(n) : ALLOC_FAILS ? no_memory() : next.malloc(n);
}

void *calloc(size_t n, size_t size)
{
    if (!next.free) {
        find_next();
    }
    return !next.free    ? early_take(n * size) /* zeroed, as all of it */
           : ALLOC_FAILS ? no_memory()
                         : next.calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    if (!next.free || is_early(p)) {
        void *moved = malloc(n);
        size_t had = 0;
        if (p) {
            memcpy(&had, (char *)p - 16, sizeof had);
            had -= 16;
        }
        return moved && p ? memcpy(moved, p, had < n ? had : n) : moved;
    }
    return ALLOC_FAILS ? no_memory() : next.realloc(p, n);
}

void free(void *p)
{
    if (p && !is_early(p)) {
        next.free(p);
    }
}

int posix_memalign(void **out, size_t alignment, size_t n)
{
    return ALLOC_FAILS ? ENOMEM : next.posix_memalign(out, alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    return ALLOC_FAILS ? no_memory() : next.aligned_alloc(alignment, n);
}

static void *map(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    if (hit(KIND_MAP)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return map(at, n, protection, flags, fd, offset);
}

/* Programs that were built for large files call these by other names. */
void *mmap64(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return map(at, n, protection, flags, fd, offset);
}

/* ---- files ---- */

/* How many bytes of n the call may move; -1: it fails. */
static ssize_t allowed(enum kind fails, enum kind shortens, size_t n, int code)
{
    if (hit(fails)) {
        errno = code;
        return -1;
    }
    return (ssize_t)(n > 1 && hit(shortens) ? n / 2 : n);
}

ssize_t read(int fd, void *to, size_t n)
{
    const ssize_t may = allowed(KIND_READ, KIND_PIECE, n, EIO);
    return may < 0 ? may : syscall(SYS_read, fd, to, (size_t)may);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    const ssize_t may = allowed(KIND_READ, KIND_PIECE, n, EIO);
    return may < 0 ? may : syscall(SYS_pread64, fd, to, (size_t)may, at);
}

ssize_t pread64(int fd, void *to, size_t n, off_t at)
{
    return pread(fd, to, n, at);
}

ssize_t write(int fd, const void *from, size_t n)
{
    const ssize_t may = allowed(KIND_WRITE, KIND_PART, n, ENOSPC);
    return may < 0 ? may : syscall(SYS_write, fd, from, (size_t)may);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    const ssize_t may = allowed(KIND_WRITE, KIND_PART, n, ENOSPC);
    return may < 0 ? may : syscall(SYS_pwrite64, fd, from, (size_t)may, at);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off_t at)
{
    return pwrite(fd, from, n, at);
}
