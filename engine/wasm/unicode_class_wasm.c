/* Classes of characters beyond ASCII without utf8proc, in place of engine/unicode_class.c: the runs
 * that unicode_table_main.c found with it at build time. */
#include "engine/unicode.h"
#include "engine/wasm/unicode_runs.h"

#if defined(__wasm__)

uint32_t uni_class_beyond(uint32_t cp)
{
    size_t low = 0, high = unicode_n_runs;
    while (high - low > 1) { /* run `low` begins at cp or before it, run `high` after it */
        size_t middle = low + (high - low) / 2;
        if (uni_cp(unicode_runs[middle]) <= cp) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return unicode_runs[low] & ~UNI_CP_MASK;
}

#endif
