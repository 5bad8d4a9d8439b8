#!/bin/sh
# Prove that every suite sees the planted defects it names (base/fault.h, `kills` of testkit/suite.h).
#
#     [TIER=fast] ci/check_faults.sh BUILD [DEFECT]...     BUILD is a build folder of CONFIG=fault
#
# Runs each suite first without a defect, where it must be green, then with each that it names (of those that are named
# here, when some are), where a test of the tier must fail; several at a time for each processor, since many tests wait.
# Writes BUILD/kills.tsv: defect, suite, what became of it, the test that failed. Fails when a suite fails without a defect
# or survives one, when a defect is declared by nobody, or when a suite declares none.
#
# ci/fault_hints.tsv, a kills.tsv of before, says which test to try first: one that does not fail now costs its time, and
# all of the suite decide.
set -eu
hints=$(dirname "$0")/fault_hints.tsv

# One suite, with one defect or none ("-"): prints its line of the matrix.
one() { # build, suite, defect
    log=$(mktemp "$1/kills.log.XXXXXX")
    [ "$3" = - ] || export BNT_FAULT="$3"
    hint=$(awk -F '\t' -v pair="$3 $2 killed" '$1 " " $2 " " $3 == pair { print $4 }' "$hints")
    # The tests of the suite that belong to the tier, up to the first failure. 4: none does.
    for filter in ${hint:+"/$2/$hint"} "/$2/"; do
        status=0
        "$1/bnt-suites" --tier "${TIER:-fast}" --fail-fast "$filter" >"$log" 2>/dev/null || status=$?
        test=$(sed -n 's/^not ok [0-9]* - \([a-z0-9_]*\).*/\1/p' "$log" | head -n 1)
        [ "$status" -ne 1 ] || [ -z "$test" ] || break
    done
    if [ "$status" -eq 1 ] && [ -n "$test" ]; then
        verdict=killed
    elif ! grep -q '^ok .* # time=' "$log"; then
        verdict=skipped # no test of it can run here
    elif [ "$3" = - ] && [ "$status" -ne 0 ]; then
        verdict=killed
    else
        verdict=survived
    fi
    if [ "$3" = - ] && [ "$verdict" = killed ]; then
        { echo "suite $2 fails without a defect:" && grep -A 20 '^not ok' "$log"; } >&2 || true
    fi
    printf '%s\t%s\t%s\t%s\n' "$3" "$2" "$verdict" "${test:--}"
    rm -f "$log"
}

if [ "$1" = --one ]; then
    one "$2" "$3" "$4"
    exit
fi

build=$1
shift
pairs=$build/kills.declared
"$build/bnt-suites" --faults >"$pairs"
awk -F '\t' -v chosen="$*" '
    BEGIN { n = split(chosen, names, " "); for (i = 1; i <= n; i++) wanted[names[i]] }
    n == 0 || $1 in wanted { if (!($2 in seen)) { seen[$2]; print $2, "-" } pairs = pairs $2 " " $1 "\n" }
    END { printf "%s", pairs }
' "$pairs" | xargs -P $((2 * $(nproc))) -n 2 "$0" --one "$build" >"$build/kills.raw"
grep -v '^-' "$build/kills.raw" | sort >"$build/kills.tsv"

awk -F '\t' '
    NR == FNR { what[$1] = $3; next }
    $1 == "-" { red += $3 == "killed"; next }
    $3 == "survived" { print "suite " $2 " does not see " $1 ": " what[$1] }
    { n[$3]++; if ($3 == "killed") { dead[$1] = 1 } all[$1] = 1 }
    END {
        for (d in all) { defects++; killed += d in dead }
        printf "%d of %d defects killed; %d pairs killed, %d survived, %d skipped; %d suites red without one\n", killed,
            defects, n["killed"], n["survived"], n["skipped"], red
        exit red > 0 || n["survived"] > 0 || defects == 0
    }' "$pairs" "$build/kills.raw"
