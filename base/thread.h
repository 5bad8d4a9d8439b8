/* Threads of a library. */
#ifndef BNT_THREAD_H
#define BNT_THREAD_H

#include <pthread.h>

/* pthread_create for a thread that takes no signal: those are for who waits in a system call that
 * they should end. Returns its code. */
int bnt_thread_start(pthread_t *thread, void *(*body)(void *arg), void *arg);

#endif
