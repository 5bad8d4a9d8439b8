/* What the engine uses of POSIX threads, for a libc that has none: one thread, so nothing ever
 * waits, and a second one cannot be started. Empty elsewhere, where the system has the true header.
 */
#ifndef BNT_WASM_PTHREAD_H
#define BNT_WASM_PTHREAD_H

#if defined(__wasm__)

#define __NEED_pthread_t
#define __NEED_pthread_attr_t
#define __NEED_pthread_mutex_t
#define __NEED_pthread_cond_t
#define __NEED_pthread_once_t
#include <bits/alltypes.h>

#include <errno.h>
#include <stddef.h>

#define PTHREAD_ONCE_INIT 0
#define PTHREAD_MUTEX_INITIALIZER                                                                  \
    {                                                                                              \
        {                                                                                          \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

static inline int pthread_once(pthread_once_t *once, void (*fn)(void))
{
    if (*once == PTHREAD_ONCE_INIT) {
        *once = 1;
        fn();
    }
    return 0;
}

static inline int pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *),
                                 void *arg)
{
    (void)id, (void)attr, (void)fn, (void)arg;
    return EAGAIN;
}

static inline int pthread_join(pthread_t id, void **out)
{
    (void)id, (void)out;
    return ESRCH;
}

#define BNT_WASM_NOTHING(name, type)                                                               \
    static inline int name(type *object)                                                           \
    {                                                                                              \
        (void)object;                                                                              \
        return 0;                                                                                  \
    }
BNT_WASM_NOTHING(pthread_mutex_lock, pthread_mutex_t)
BNT_WASM_NOTHING(pthread_mutex_unlock, pthread_mutex_t)
BNT_WASM_NOTHING(pthread_mutex_destroy, pthread_mutex_t)
BNT_WASM_NOTHING(pthread_cond_signal, pthread_cond_t)
BNT_WASM_NOTHING(pthread_cond_broadcast, pthread_cond_t)
BNT_WASM_NOTHING(pthread_cond_destroy, pthread_cond_t)

static inline int pthread_mutex_init(pthread_mutex_t *m, const void *attr)
{
    (void)attr;
    *m = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    return 0;
}

static inline int pthread_cond_init(pthread_cond_t *c, const void *attr)
{
    (void)attr;
    *c = (pthread_cond_t){{{0}}};
    return 0;
}

/* Whoever would wait here would wait for ever. */
static inline int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    (void)c, (void)m;
    __builtin_trap();
}

#endif
#endif
