/* dlopen and dlsym. */
#include "base/dyn_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

const char *bnt_dyn_lib_load(const char *file, const struct bnt_dyn_symbol *symbols, size_t n)
{
    errno = 0;
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        return errno == ENOMEM ? "out of memory" : dlerror(); /* which then may not say so */
    }
    for (size_t i = 0; i < n; i++) {
        /* dlsym gives an object pointer; copying its bytes is how POSIX makes it a function. */
        void *address = dlsym(handle, symbols[i].name);
        if (!address) {
            return symbols[i].name;
        }
        memcpy(symbols[i].slot, &address, sizeof address);
    }
    return NULL;
}
