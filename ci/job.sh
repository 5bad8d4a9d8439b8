#!/bin/sh
# The steps of the workflows that are more than one command; `make ci-local` runs them without GitHub.
#
#     ci/job.sh key                 output "key" of the step: the key of the models' cache
#     ci/job.sh models              fetch the models; trouble with a download is annotated as "infrastructure"
#     ci/job.sh plan TIER           output "matrix" of the step: the shards of the tier
#     ci/job.sh test TIER [OPTION]...   run a tier, then summary, annotations and page
#     ci/job.sh past WORKFLOW       take over the history that the workflow's last run kept
#     ci/job.sh shard TIER I/N      run one shard, its result to build/results/
#     ci/job.sh merge               make one run of the results in build/results/, and report it
#     ci/job.sh base                build the newest release, else the commit before, into build/base/
#     ci/job.sh compare BNT [OPTION]...   is this build slower than that one? output "exit" of the step
#     ci/job.sh slower EXIT...      open or update one issue when an EXIT is 17, a performance regression
#     ci/job.sh package             the installed tree as build/bnt-ARCH.tar.gz with its digest
#     ci/job.sh publish TAG         a release of what package made
#
# BUILD is the build folder (build/release), BNT_CI_FILTER restricts the tests, BNT_CI_BENCH has options of
# `bnt bench` that overrule the others. The exit code is that of bnt.
set -eu

build=${BUILD:-build/release}
results=${BNT_CI_RESULTS:-build/results}
bnt=$build/bnt
models=ci/models

# Where there is no GitHub, the summary goes to a file all the same.
summary=${GITHUB_STEP_SUMMARY:-build/summary.md}

# The summary and annotations of a run; what fails here becomes $status only when nothing else did.
report() { # result file
    "$bnt" ci summary "$1" --out "$summary" || untold=$?
    "$bnt" ci annotate "$1" || untold=$?
    [ "$status" -ne 0 ] || status=${untold:-0}
}

run_tests() { # result file, options...
    result=$1
    shift
    mkdir -p "$(dirname "$result")"
    rm -f "$result" # of an earlier run
    status=0
    "$bnt" test ${BNT_CI_FILTER:+--filter "$BNT_CI_FILTER"} --result "$result" --html "${result%.json}.html" "$@" ||
        status=$?
    [ -z "${GITHUB_OUTPUT:-}" ] || echo "exit=$status" >>"$GITHUB_OUTPUT"
    if [ -f "$result" ]; then
        report "$result"
    else
        "$bnt" ci outcome "$status" --annotate "the tests"
    fi
    return "$status"
}

# What this build is compared with: a change that is lost in the noise of one night still adds up since a release.
base() {
    origin=${BNT_CI_ORIGIN:-"https://x-access-token:${TOKEN:-}@${GITHUB_SERVER_URL#https://}/$GITHUB_REPOSITORY"}
    # Only where the history is not there already: asking for less of it would cut what a user has.
    less=
    [ "$(git rev-parse --is-shallow-repository)" = false ] || less=--depth
    tag=$(git ls-remote --tags --refs --sort=-version:refname "$origin" 'v*' | sed -n '1s|.*refs/tags/||p')
    if [ -n "$tag" ]; then
        # shellcheck disable=SC2086 # nothing, or two words
        git fetch -q ${less:+$less 1} "$origin" "refs/tags/$tag"
        commit=FETCH_HEAD
    else
        # shellcheck disable=SC2086
        git fetch -q ${less:+$less 2} "$origin" "$(git rev-parse HEAD)"
        commit=HEAD^
    fi
    rm -rf build/base
    mkdir -p build/base
    git archive "$commit" | tar -xf - -C build/base
    echo "base: ${tag:-$(git rev-parse "$commit")}"
    make -s -C build/base -j"$(nproc)" all
}

compare() { # path of the other bnt, options of `bnt bench`
    status=0
    # shellcheck disable=SC2086 # options, separated by blanks
    "$bnt" bench --compare "$@" ${BNT_CI_BENCH:-} || status=$?
    [ -z "${GITHUB_OUTPUT:-}" ] || echo "exit=$status" >>"$GITHUB_OUTPUT"
    "$bnt" ci outcome "$status" --annotate "the speed"
    return "$status"
}

# The history of the nights before, kept as an artifact of the workflow; the first night has none.
past() { # workflow
    rm -rf build/past
    for run in $(gh run list --workflow "$1" --branch "${GITHUB_REF_NAME:-main}" --status completed --limit 10 \
        --json databaseId --jq '.[].databaseId'); do
        if gh run download "$run" --name history --dir build/past; then
            "$bnt" test history merge build/past/*.db
            return
        fi
    done
    echo "no history of a night before"
}

# One issue for all regressions: found by its label, commented on while it is open.
slower() { # exit codes of the jobs that judge the speed; empty: it did not come so far
    found=
    for code in "$@"; do
        case $code in
        17) found=yes ;;
        '') echo "no verdict" ;;
        *) echo "no regression: exit $code is $("$bnt" ci outcome "$code")" ;;
        esac
    done
    [ -n "$found" ] || return 0
    text="bnt was found slower in run ${GITHUB_RUN_ID:-unknown} of ${GITHUB_SHA:-unknown}."
    number=$(gh issue list --label performance --state open --limit 1 --json number --jq '.[0].number // empty')
    if [ -n "$number" ]; then
        gh issue comment "$number" --body "$text"
    else
        # An issue with a label that is not there is not made; one that is there already is an error to ignore.
        gh label create performance || true
        gh issue create --title "Performance regression" --label performance --body "$text"
    fi
}

package() {
    rm -rf build/package
    make -s install DESTDIR="$(pwd)/build/package" PREFIX=/usr
    tar -C build/package -czf "build/bnt-$(uname -m).tar.gz" .
    (cd build && sha256sum "bnt-$(uname -m).tar.gz" >"bnt-$(uname -m).tar.gz.sha256")
}

step=${1:-}
[ $# -eq 0 ] || shift
case $step in
key) "$bnt" ci key --lock $models/bnt.lock ${GITHUB_OUTPUT:+--output key} ;;
models)
    status=0
    bnt_path=$(realpath "$bnt")
    (cd $models && "$bnt_path" fetch) || status=$?
    "$bnt" ci outcome "$status" --annotate "the models"
    exit "$status"
    ;;
plan) "$bnt" ci plan --tier "$1" ${BNT_CI_FILTER:+--filter "$BNT_CI_FILTER"} ${GITHUB_OUTPUT:+--output matrix} ;;
test)
    tier=$1
    shift
    run_tests "$results/$tier.json" --tier "$tier" "$@"
    ;;
shard) run_tests "$results/$(echo "$2" | tr / -).json" --tier "$1" --shard "$2" ;;
merge)
    status=0
    "$bnt" test merge "$results"/*-*.json --strict --result build/merged.json --html build/merged.html || status=$?
    [ ! -f build/merged.json ] || report build/merged.json
    exit "$status"
    ;;
base) base ;;
compare) compare "$@" ;;
past) past "$1" ;;
slower) slower "$@" ;;
package) package ;;
publish) gh release create "$1" --generate-notes build/bnt-*.tar.gz build/bnt-*.sha256 ;;
*)
    sed -n 's/^# \{0,1\}//; 2,18p' "$0" >&2
    exit 2
    ;;
esac
