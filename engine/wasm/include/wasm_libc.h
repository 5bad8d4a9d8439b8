/* What the engine uses of glibc and wasi-libc has not; every file of the WebAssembly build includes
 * it first. Empty elsewhere. */
#ifndef BNT_WASM_LIBC_H
#define BNT_WASM_LIBC_H

#if defined(__wasm__)

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* One thread: a stream needs no lock. */
static inline void flockfile(FILE *f)
{
    (void)f;
}
static inline void funlockfile(FILE *f)
{
    (void)f;
}

#define GRND_NONBLOCK 1
static inline ssize_t getrandom(void *out, size_t n, unsigned flags)
{
    (void)flags;
    return getentropy(out, n) == 0 ? (ssize_t)n : -1;
}

/* Nothing tells the width of a terminal. */
struct winsize {
    unsigned short ws_row, ws_col;
};
#define TIOCGWINSZ 0x5413

/* No signal comes, so none can be held back. */
static inline int sigfillset(sigset_t *set)
{
    (void)set;
    return 0;
}
static inline int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
    (void)how, (void)set, (void)before;
    return 0;
}
#define SIG_SETMASK 2

#endif
#endif
