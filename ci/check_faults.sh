#!/bin/sh
# Prove that every suite sees the planted defects it names (base/fault.h, `kills` of testkit/suite.h).
#
#     [TIER=fast] ci/check_faults.sh BUILD [DEFECT]...     BUILD is a build folder of CONFIG=fault
#
# Runs each suite first without a defect, where it must be green, then with each that it names, where a test of the tier
# must fail. Writes BUILD/kills.tsv: defect, suite, killed, survived or skipped (no test of the suite
# can run here), the test that failed. Fails when a suite
# survives a defect, when a defect is declared by nobody, or when a suite declares none.
set -eu

build=$1
shift
suites=$build/bnt-suites
matrix=$build/kills.tsv
pairs=$build/kills.declared
log=$build/kills.log

wanted() { # defect
    [ -z "$chosen" ] && return 0
    case " $chosen " in *" $1 "*) return 0 ;; esac
    return 1
}

# The tests of a suite that belong to the tier, up to the first failure; the log is "$log".
run_suite() { # suite
    status=0
    "$suites" --tier "${TIER:-fast}" --fail-fast "$1/" >"$log" 2>/dev/null || status=$?
    [ "$status" -eq 4 ] || return "$status" # none of its tests belongs to the tier
}

chosen=$*
"$suites" --faults >"$pairs"
: >"$matrix"
: >"$build/kills.skipped"

cut -f2 "$pairs" | sort -u | while read -r suite; do
    : >"$log"
    run_suite "$suite" || { # no defect is active here
        echo "suite $suite fails without a defect:"
        grep -A 20 '^not ok' "$log"
        exit 1
    }
    grep -q '^ok .* # time=' "$log" || echo "$suite" >>"$build/kills.skipped" # its needs are not met here
done

while IFS='	' read -r defect suite what; do
    wanted "$defect" || continue
    if grep -qx "$suite" "$build/kills.skipped"; then
        printf '%s\t%s\tskipped\t-\n' "$defect" "$suite" >>"$matrix"
        continue
    fi
    status=0
    (export BNT_FAULT="$defect" && run_suite "$suite") || status=$?
    test=$(sed -n 's/^not ok [0-9]* - \([a-z0-9_]*\).*/\1/p' "$log" | head -n 1)
    if [ "$status" -eq 1 ] && [ -n "$test" ]; then
        printf '%s\t%s\tkilled\t%s\n' "$defect" "$suite" "$test" >>"$matrix"
    else
        printf '%s\t%s\tsurvived\t-\n' "$defect" "$suite" >>"$matrix"
        echo "suite $suite does not see $defect: $what"
    fi
done <"$pairs"

awk -F '\t' '
    { n[$3]++; if ($3 == "killed") { dead[$1] = 1 } all[$1] = 1 }
    END {
        for (d in all) { defects++; killed += d in dead }
        printf "%d of %d defects killed; %d pairs killed, %d survived, %d skipped\n", killed, defects,
            n["killed"], n["survived"], n["skipped"]
        exit n["survived"] > 0 || defects == 0
    }' "$matrix"
