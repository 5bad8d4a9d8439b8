/* Libraries that are loaded when they are needed and not before: a program that only answers from
 * the cache should not wait for what the network needs. */
#ifndef BNT_DYN_LIB_H
#define BNT_DYN_LIB_H

#include <stddef.h>

struct bnt_dyn_symbol {
    const char *name;
    void *slot; /* of a pointer to the function */
};

/* Load `file` and fill the slots. The library stays loaded until the process ends. Returns NULL, or
 * what is missing. */
const char *bnt_dyn_lib_load(const char *file, const struct bnt_dyn_symbol *symbols, size_t n);

#endif
