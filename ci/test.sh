#!/bin/sh
# Run the tests of a build folder.
#
#     ci/test.sh BUILD             the fast tier, by `bnt test`
#     ci/test.sh --suites BUILD    all suites in one process, by bnt-suites (what the sanitizers watch)
#
# The last line is "N passed, N failed, N skipped"; the exit status is 0 only when nothing failed.
set -eu

run_suites() {
    # ThreadSanitizer cannot map its shadow under the address randomisation of newer kernels.
    fixed=
    case $build in *tsan) fixed="setarch -R" ;; esac
    tap=$build/suites.tap
    status=0
    # shellcheck disable=SC2086 # nothing, or two words
    $fixed "$build/bnt-suites" >"$tap" || status=$?
    awk -v status="$status" '
        /^not ok/ { print; failed++; next }
        /^ok .*# SKIP/ { skipped++; next }
        /^ok / { passed++; next }
        /^#/ && failed { print }
        END {
            if (passed + failed + skipped == 0) { print "no test ran" }
            if (status && !failed) { print "bnt-suites ended with status " status }
            printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
            exit status || failed || passed == 0
        }' "$tap"
}

if [ "${1:-}" = --suites ]; then
    build=$2
    run_suites
else
    build=$1
    "$build/bnt" test --tier fast
fi
