/* Prints the table of unicode_runs.h, for the build that has no utf8proc. With the argument --sum,
 * as the module does too, a checksum of the classes alone. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/unicode.h"

enum { CODE_POINTS = 0x110000 };

static void print_table(void)
{
    uint32_t last = UINT32_MAX;
    printf("#include \"engine/wasm/unicode_runs.h\"\nconst uint32_t unicode_runs[] = {\n");
    for (uint32_t cp = 128; cp < CODE_POINTS; cp++) {
        uint32_t class = uni_class(cp);
        if (class != last) {
            printf("0x%xu,\n", cp | class);
            last = class;
        }
    }
    printf("};\nconst size_t unicode_n_runs = sizeof(unicode_runs) / sizeof(unicode_runs[0]);\n");
}

/* FNV-1a over all code points, ASCII included. */
static void print_sum(void)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint32_t cp = 0; cp < CODE_POINTS; cp++) {
        hash = (hash ^ uni_class(cp)) * 0x100000001b3u;
    }
    printf("unicode classes %016" PRIx64 "\n", hash);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--sum") == 0) {
        print_sum();
    } else {
        print_table();
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
