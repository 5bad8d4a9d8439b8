#!/bin/sh
# Run the tests of a build folder.
#
#     ci/test.sh BUILD             the fast tier, by `bnt test`
#     ci/test.sh --suites BUILD [FILTER]...   the same by bnt-suites (what the sanitizers watch)
#     ci/test.sh --integration BUILD   what the integration tier adds, without the suites of --servers
#     ci/test.sh --servers BUILD   the suites against servers of others, none of which may be skipped
#
# The last line is "N passed, N failed, N skipped"; the exit status is 0 only when nothing failed, and all that was to be
# run was. BUDGET has the seconds of another budget than the tier's, for a slow machine.
set -eu

# Many tests wait, for a disk or a time: two for each processor keep it busy.
at_once=$((2 * $(nproc)))

run_suites() { # how many may be skipped, tier, filters...
    may_skip=$1
    tier=$2
    shift 2
    # ThreadSanitizer cannot map its shadow under the address randomisation of newer kernels. It looks at
    # suites that guard what shares data between threads (testkit/suites/traits.def), which compute more than they wait.
    fixed=
    only=
    case $build in *tsan) fixed="setarch -R" only="threads=shared" at_once=$(nproc) ;; esac
    tap=$build/suites.tap
    rm -rf "$tap" "$build/taps"
    mkdir "$build/taps"
    status=0
    # Suite by suite.
    "$build/bnt-suites" --list --tier "$tier" "$@" >"$build/suites.list"
    [ -z "$only" ] ||
        echo "left out here, since they guard nothing that threads share: $(grep -cvF "$only" "$build/suites.list") tests"
    # shellcheck disable=SC2086,SC2016 # nothing, or two words; the inner shell expands
    grep -F "$only" "$build/suites.list" | cut -f2 | sort -u |
        xargs -P "$at_once" -I '{}' sh -c 'suite=$1; shift; "$@" "/$suite/" >"$0/$suite"' "$build/taps" '{}' \
            $fixed "$build/bnt-suites" --tier "$tier" || status=$?
    cat "$build/taps"/* >"$tap"
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
    shift 2
    run_suites any fast "$@"
    ;;
--servers)
    build=$2
    run_suites 0 full registry/ swift/ nginx/
    ;;
--integration)
    build=$2
    "$build/bnt" test --strict ${BUDGET:+--budget "$BUDGET"} --jobs "$at_once" --tier integration \
        --filter 'tier:integration !suite:registry !suite:swift !suite:nginx'
    ;;
*)
    build=$1
    "$build/bnt" test --strict ${BUDGET:+--budget "$BUDGET"} --jobs "$at_once" --tier fast
    ;;
esac
