/* Second stacks for signal handlers. See thread_stack.h. */
#include "testkit/suites/thread_stack.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

static _Thread_local uintptr_t bottom;
static bool any_started, refused;
static unsigned n_alive;

static void set_alternate(void *memory, size_t bytes)
{
    stack_t now;
    const stack_t alternate = {.ss_sp = memory, .ss_size = bytes};
    if (sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE)) {
        sigaltstack(&alternate, NULL);
    }
}

void thread_stack_prepare(void *memory, size_t bytes)
{
    pthread_attr_t attr;
    void *low = NULL;
    size_t size = 0;
    set_alternate(memory, bytes);
    any_started = false; /* what the process that was forked did says nothing of this one */
    n_alive = 0;
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        (void)pthread_attr_getstack(&attr, &low, &size);
        pthread_attr_destroy(&attr);
    }
    bottom = (uintptr_t)low;
}

uintptr_t thread_stack_bottom(void)
{
    return bottom;
}

bool thread_stack_any_started(void)
{
    return __atomic_load_n(&any_started, __ATOMIC_RELAXED);
}

unsigned thread_stack_alive(void)
{
    return __atomic_load_n(&n_alive, __ATOMIC_RELAXED);
}

void thread_stack_refuse(bool refuse)
{
    refused = refuse;
}

/* ---- threads of the code under test ---- */

struct thread_start {
    void *(*main)(void *arg);
    void *arg;
    void *alternate;
    size_t stack_bytes;
};

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *arg),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *arg),
                          void *arg);

static void thread_release(void *ctx)
{
    struct thread_start *start = ctx;
    stack_t now; /* a sanitizer's own stays: it takes it away itself */
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == start->alternate) {
        sigaltstack(&(const stack_t){.ss_flags = SS_DISABLE}, NULL);
    }
    munmap(start->alternate, THREAD_ALTERNATE_BYTES);
    free(start);
    __atomic_fetch_sub(&n_alive, 1, __ATOMIC_RELAXED);
}

static void *thread_main(void *ctx)
{
    struct thread_start *start = ctx;
    void *result;
    set_alternate(start->alternate, THREAD_ALTERNATE_BYTES);
    bottom = (uintptr_t)&result - start->stack_bytes;
    pthread_cleanup_push(thread_release, start);
    result = start->main(start->arg);
    pthread_cleanup_pop(1);
    return result;
}

/* What the thread will get; asking the thread itself would allocate, amid the code under test. */
static size_t stack_size(const pthread_attr_t *attr)
{
    pthread_attr_t defaults;
    size_t bytes = 0;
    if (attr) {
        (void)pthread_attr_getstacksize(attr, &bytes);
    } else if (pthread_attr_init(&defaults) == 0) {
        (void)pthread_attr_getstacksize(&defaults, &bytes);
        pthread_attr_destroy(&defaults);
    }
    return bytes;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *arg),
                          void *arg)
{
    if (refused) {
        return EAGAIN;
    }
    struct thread_start *start = malloc(sizeof *start);
    void *alternate = mmap(NULL, THREAD_ALTERNATE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rc = EAGAIN;
    if (start && alternate != MAP_FAILED) {
        *start = (struct thread_start){main, arg, alternate, stack_size(attr)};
        __atomic_store_n(&any_started, true, __ATOMIC_RELAXED);
        __atomic_fetch_add(&n_alive, 1, __ATOMIC_RELAXED);
        rc = __real_pthread_create(thread, attr, thread_main, start);
        __atomic_fetch_sub(&n_alive, rc != 0, __ATOMIC_RELAXED);
    }
    if (rc != 0) {
        if (alternate != MAP_FAILED) {
            munmap(alternate, THREAD_ALTERNATE_BYTES);
        }
        free(start);
    }
    return rc;
}
