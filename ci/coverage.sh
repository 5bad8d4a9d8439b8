#!/bin/sh
# Line coverage of the suites per folder, from a build with CONFIG=coverage.
#
#     ci/coverage.sh BUILD
set -eu

build=$1
find "$build" -name '*.gcda' -delete
ci/test.sh --suites "$build"

# gcov prints "File 'x.c'" and "Lines executed:85.71% of 35". A header counts with the file that includes it, so only
# the .c files of the tree are summed.
find "$build" -name '*.gcno' ! -path '*/suites/*' ! -path '*/fuzz/*' | sort | while read -r notes; do
    gcov -n "$notes" 2>/dev/null
done | awk '
    /^File / { file = $2; gsub(/\047/, "", file); next }
    /^Lines executed:/ && file ~ /^[a-z].*\.c$/ {
        share = $2; sub(/.*:/, "", share); sub(/%.*/, "", share)
        folder = file; if (!sub(/\/[^\/]*$/, "", folder)) { folder = "." }
        lines[folder] += $NF; hit[folder] += share * $NF / 100
        all += $NF; all_hit += share * $NF / 100
        file = ""
    }
    END {
        if (!all) { print "coverage: no line was counted"; exit 1 }
        for (folder in lines) {
            printf "%-16s %6d lines  %5.1f%%\n", folder, lines[folder], 100 * hit[folder] / lines[folder] | "sort"
        }
        close("sort")
        printf "%-16s %6d lines  %5.1f%%\n", "all", all, 100 * all_hit / all
    }'
