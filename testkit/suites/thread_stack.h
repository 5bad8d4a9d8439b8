/* Where the stack of a thread ends, and a second stack for its signal handlers, so that a stack
 * overflow can be told from another fault in every thread. Threads that the code under test starts
 * get both by the linker's --wrap=pthread_create. */
#ifndef SUITES_THREAD_STACK_H
#define SUITES_THREAD_STACK_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

enum { THREAD_ALTERNATE_BYTES = 256 * 1024 }; /* room for the unwinder on AVX-512 frames */

/* For the first thread; `memory` outlives it. A second stack that is there stays. */
void thread_stack_prepare(void *memory, size_t bytes);
/* The lowest address of the calling thread's stack; 0: not known. Safe in a signal handler. */
uintptr_t thread_stack_bottom(void);

/* Whether code of this process has started a thread since thread_stack_prepare. */
bool thread_stack_any_started(void);
/* Threads of this process that code started and that did not end. */
unsigned thread_stack_alive(void);
/* From now on no thread can be started, or again. While no other thread starts one. */
void thread_stack_refuse(bool refuse);

#endif
