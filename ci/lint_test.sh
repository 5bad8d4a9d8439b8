#!/bin/sh
# Every rule of lint.sh finds its fault: a small clean tree passes, and each planted violation is found by its rule.
#
#     ci/lint_test.sh
#
# Inside single quotes, $ and ` are meant for the planted files:
# shellcheck disable=SC2016
set -eu

here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree
failures=0
planted=0

clean_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/base" "$tree/cache" "$tree/engine" "$tree/ci" "$tree/docs" "$tree/.github/workflows"
    printf '#define T(X) \\\n    X(0, BNT_OK, "ok") \\\n    X(21, BNT_E_CIRCUIT, "circuit open") \\\n    X(130, BNT_E_I, "i")\n' \
        >"$tree/base/exit.h"
    cp "$here/../.clang-tidy" "$tree/"
    printf '#ifndef A_H\n#define A_H\n\nint base_one(int n);\n\n#endif\n' >"$tree/base/one.h"
    printf '#include "base/one.h"\n\nint base_one(int n)\n{\n    return n + 1; /* strcpy(a, b) in a comment */\n}\n' \
        >"$tree/base/one.c"
    printf '#ifndef C_H\n#define C_H\n\n#include "base/one.h"\n\n#endif\n' >"$tree/cache/commands.h"
    printf '#include "base/one.h"\n#include "cache/commands.h"\n\nint main(void)\n{\n    return base_one(-1);\n}\n' \
        >"$tree/bnt.c"
    printf '#include <stdlib.h>\n\n#include "base/one.h"\n\nint base_one(int n)\n{\n    return getenv("HOME") ? n : 0;\n}\n' \
        >"$tree/engine/two.c"
    printf 'static const struct env_row rows[] = {\n    {"HOME", NULL, "home"},\n};\n' >"$tree/ci/cmd_env.txt"
    printf '#include <stddef.h>\n\nstruct env_row {\n    const char *a, *b, *c;\n};\nextern const struct env_row rows[];\n' \
        >"$tree/ci/cmd_env.c"
    printf 'const struct env_row rows[] = {\n    {"HOME", NULL, "home"},\n};\n' >>"$tree/ci/cmd_env.c"
    rm "$tree/ci/cmd_env.txt"
    printf '#!/bin/sh\necho "$1"\n' >"$tree/ci/good.sh"
    chmod +x "$tree/ci/good.sh"
    sed -n 's/^ *X(\([0-9]*\), \([A-Z_]*\), "\(.*\)").*/| \1 | `\2` | \3 |/p' "$tree/base/exit.h" >"$tree/docs/exit-codes.md"
    printf 'on: push\npermissions:\n  contents: read\njobs:\n  one:\n    timeout-minutes: 5\n    steps:\n      - run: make\n' \
        >"$tree/.github/workflows/ci.yml"
}

# plant RULE WHAT TEXT: lint of the tree must fail with RULE and say TEXT; then the tree is clean again.
plant() {
    planted=$((planted + 1))
    if out=$("$here/lint.sh" --root "$tree" "$1" 2>&1); then
        failures=$((failures + 1))
        echo "lint_test: $1 let pass: $2"
    elif ! printf '%s\n' "$out" | grep -q "^lint: $1: .*$3"; then
        failures=$((failures + 1))
        printf 'lint_test: %s, planted: %s, expected "%s", said:\n%s\n' "$1" "$2" "$3" "$out"
    fi
    clean_tree
}

body() { # a function of N lines
    echo 'int base_long(void);'
    echo 'int base_long(void)'
    echo '{'
    awk -v n="$1" 'BEGIN { for (i = 3; i < n; i++) { print "    ;" } }'
    echo '}'
}

clean_tree
if ! out=$("$here/lint.sh" --root "$tree" 2>&1); then
    failures=$((failures + 1))
    printf 'lint_test: a clean tree has findings:\n%s\n' "$out"
fi

sed -i '1i #include "engine/two.h"' "$tree/base/one.c" && : >"$tree/engine/two.h"
plant includes "base includes engine" 'base/ may not include engine/'
sed -i '1i #include "cache/commands.h"' "$tree/engine/two.c"
plant includes "engine includes cache" 'engine/ may not include cache/'
sed -i '1i #include "one.h"' "$tree/base/one.c"
plant includes "a path not from the top" 'not a path from the top'
sed -i '1i #include "cache/index.h"' "$tree/bnt.c" && : >"$tree/cache/index.h"
plant includes "bnt.c includes a private header" 'bnt.c includes only'
sed -i '1i #include <curl/curl.h>' "$tree/engine/two.c"
plant includes "network in the engine" 'only fetch/'
sed -i '1i #include <sqlite3.h>' "$tree/engine/two.c"
plant includes "SQLite in the engine" 'SQLite'
sed -i '1i #include <cmocka.h>' "$tree/base/one.c"
plant includes "cmocka in base" 'cmocka'

for function in strcpy strcat sprintf vsprintf gets strtok atoi atof alloca system popen tmpnam rand longjmp; do
    printf 'void two(void)\n{\n    %s(0);\n}\n' "$function" >>"$tree/engine/two.c"
    plant banned "$function" 'engine/two.c:'
done
printf 'void two(void)\n{\n    sleep(1);\n}\n' >>"$tree/engine/two.c"
plant banned "sleep" 'bnt_clock_sleep_ns'
printf 'float two(void)\n{\n    return expf(1);\n}\n' >>"$tree/engine/two.c"
plant banned "expf in the engine" 'fmath'
printf 'void two(void)\n{\n    (void)json_dumps(0, 0);\n}\n' >>"$tree/engine/two.c"
plant banned "a JSON text made by jansson alone" 'bnt_json_dumps'
printf 'void two(void)\n{\n    printf("x");\n}\n' >>"$tree/engine/two.c"
plant banned "a library prints" 'never print'
printf 'void two(void)\n{\n    fputs("x", stderr);\n}\n' >>"$tree/engine/two.c"
plant banned "a library prints to stderr" 'never print'
printf 'void two(void)\n{\n    exit(1);\n}\n' >>"$tree/engine/two.c"
plant banned "a library exits" 'never print'

cp "$tree/base/one.h" "$tree/engine/one.h"
plant names "two files of one name" 'same file name as'

awk 'BEGIN { for (i = 0; i < 801; i++) { print "" } }' >>"$tree/base/one.c"
plant layout "801 lines" 'more than 800 lines'
printf '\tint tab;\n' >>"$tree/base/one.c"
plant layout "a tab" 'a tab'
printf 'int blank; \n' >>"$tree/base/one.c"
plant layout "a trailing blank" 'blanks at the end'
printf '/* %0100d */\n' 0 >>"$tree/base/one.c"
plant layout "a long line" 'more than 100 columns'
printf 'int two(void) {\n}\n' >>"$tree/base/one.c"
plant layout "a brace that does not stand alone" 'stands alone'
printf 'int one; // one\n    // two\n' >>"$tree/base/one.c"
plant layout "a // comment" 'write comments as'

body 101 >>"$tree/base/one.c"
plant functions "a function of 101 lines" 'base_long has 101 lines'
body 101 >>"$tree/base/one.c"
echo 'functions base/one.c base_long  # a table' >"$tree/ci/lint_allow.txt"
if ! "$here/lint.sh" --root "$tree" functions >/dev/null; then
    failures=$((failures + 1))
    echo "lint_test: an exception of lint_allow.txt is not honoured"
fi
clean_tree
echo 'functions base/one.c base_gone  # no longer there' >"$tree/ci/lint_allow.txt"
plant functions "an exception that nothing needs" 'nothing needs'

printf '/* TO%s: later */\n' DO >>"$tree/base/one.c"
plant text "a note to oneself" 'note to oneself'
printf 'see /ro%s/bnt\n' ot >>"$tree/docs/exit-codes.md"
plant text "a path of one machine" 'path of one machine'
: >"$tree/base/one_v2.c"
plant text "a file name with a version" 'says when, not what'

sed -i 's/"HOME"/"BNT_SECRET"/' "$tree/engine/two.c"
plant env "a variable that is not in the table" 'BNT_SECRET is not in the table'
sed -i 's/getenv("HOME")/getenv(n ? "HOME" : "OTHER_NAME")/' "$tree/engine/two.c"
plant env "a name that getenv gets by a variable" 'OTHER_NAME is not in the table'
sed -i 's/getenv("HOME")/n/' "$tree/engine/two.c"
plant env "a row that nothing reads" 'nothing reads it'

sed -i 's/circuit open/circuit closed/' "$tree/docs/exit-codes.md"
plant exit_codes "a meaning that differs" 'circuit'
sed -i '/130/d' "$tree/docs/exit-codes.md"
plant exit_codes "a code that is missing" '130'

printf 'if true; then\n' >>"$tree/ci/good.sh"
plant shell "a syntax error" 'ci/good.sh'
printf 'rm -rf $1/x\n' >>"$tree/ci/good.sh"
plant shell "an unquoted variable" 'SC2086'
chmod -x "$tree/ci/good.sh"
plant shell "a script that is not executable" 'not executable'

echo '      - uses: actions/checkout@v4' >>"$tree/.github/workflows/ci.yml"
plant workflows "an action pinned by a tag" 'pinned by its commit'
sed -i '/timeout/d' "$tree/.github/workflows/ci.yml"
plant workflows "a job without a limit" 'without timeout-minutes'
sed -i '/permissions/,+1d' "$tree/.github/workflows/ci.yml"
plant workflows "no permissions" 'no permissions'
echo '      - run: gcc -o x x.c' >>"$tree/.github/workflows/ci.yml"
plant workflows "a command of its own" 'make and bnt only'
echo '        continue-on-error: true' >>"$tree/.github/workflows/ci.yml"
plant workflows "a failure that is passed over" 'no continue-on-error'
echo '          restore-keys: bnt-' >>"$tree/.github/workflows/ci.yml"
plant workflows "the cache of something else" 'no restore-keys'
echo '      - run: ci/good.sh ${{ github.head_ref }}' >>"$tree/.github/workflows/ci.yml"
plant workflows "a value put into a command" 'give a step its values by env'
echo 'permissions: write-all' >>"$tree/.github/workflows/ci.yml"
plant workflows "all permissions" 'name the permissions'
mkdir -p "$tree/.github/actions/one" && echo '    - uses: actions/cache@v4' >"$tree/.github/actions/one/action.yml"
plant workflows "an action within an action" 'pinned by its commit'

printf '#ifndef A_H\n#define A_H\nsize_t base_one(size_t n);\n#endif\n' >"$tree/base/one.h"
plant headers "a header that needs another" 'does not compile alone as c11'
printf '#ifndef A_H\n#define A_H\nint base_one(int class);\n#endif\n' >"$tree/base/one.h"
plant headers "a word of C++" 'does not compile alone as c++17'

printf 'int base_two(int n)\n{\n    return n;\n}\n' >>"$tree/base/one.c"
WARN=-Wmissing-prototypes plant tidy "no prototype, to clang" 'clang-diagnostic-missing-prototypes'
printf '#ifndef A_H\n#define A_H\nint base_one(int n);\nstatic inline int two(void)\n{\n    int a, b = a;\n    return b;\n}\n#endif\n' \
    >"$tree/base/one.h"
WARN=-Wall plant tidy "no value, in a header" 'base/one.h.*clang-diagnostic-uninitialized'
printf 'int base_two(int n)\n{\n    return n;\n}\n' >>"$tree/base/one.c"
WARN=-Wmissing-prototypes plant warnings "no prototype" 'missing-prototypes\|no previous prototype'
printf 'int base_two(void)\n{\n    int a[2] = {0};\n    return a[2];\n}\n' >>"$tree/base/one.c"
plant cppcheck "an index out of bounds" 'arrayIndexOutOfBounds'
printf 'int base_two(int n)\n{\n    if (n)\n        return 1;\n    return 0;\n}\n' >>"$tree/base/one.c"
plant tidy "no braces" 'readability-braces'

if [ "$failures" -gt 0 ]; then
    echo "lint_test: $failures of $planted planted violations were handled wrongly"
    exit 1
fi
echo "lint_test: $planted planted violations found"
