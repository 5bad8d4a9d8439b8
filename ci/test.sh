#!/bin/sh
# Run the tests of a build folder.
#
#     ci/test.sh BUILD             the fast tier, by `bnt test`
#     ci/test.sh --suites BUILD    the same by bnt-suites (what the sanitizers watch)
#     ci/test.sh --integration BUILD   what the integration tier adds, without the suites of --servers
#     ci/test.sh --servers BUILD   the suites against servers of others, none of which may be skipped
#
# The last line is "N passed, N failed, N skipped"; the exit status is 0 only when nothing failed.
set -eu

run_suites() { # how many may be skipped, filters...
    may_skip=$1
    shift
    # ThreadSanitizer cannot map its shadow under the address randomisation of newer kernels.
    fixed=
    case $build in *tsan) fixed="setarch -R" ;; esac
    tap=$build/suites.tap
    status=0
    # shellcheck disable=SC2086 # nothing, or two words
    $fixed "$build/bnt-suites" "$@" >"$tap" || status=$?
    awk -v status="$status" -v may_skip="$may_skip" '
        /^not ok/ { print; failed++; next }
        /^ok .*# SKIP/ { skipped++; if (may_skip == 0) { print } next }
        /^ok / { passed++; next }
        /^#/ && failed { print }
        END {
            if (passed + failed + skipped == 0) { print "no test ran" }
            if (status && !failed) { print "bnt-suites ended with status " status }
            printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
            exit status || failed || passed == 0 || (may_skip == 0 && skipped)
        }' "$tap"
}

case ${1:-} in
--suites)
    build=$2
    run_suites any --tier fast
    ;;
--servers)
    build=$2
    run_suites 0 registry/ swift/ nginx/
    ;;
--integration)
    build=$2
    "$build/bnt" test --tier integration --filter 'tier:integration !suite:registry !suite:swift !suite:nginx'
    ;;
*)
    build=$1
    "$build/bnt" test --tier fast
    ;;
esac
