#!/bin/sh
# Run the steps of the workflows here, offline, with GitHub's files faked in a scratch folder.
#
#     ci/local.sh BUILD
#
# Every step is looked up in its workflow first: a line that is no longer there fails. Only few tests run in them, so
# that this ends in a minute; what is run in full is `make test`. Steps that install packages, check out or talk to GitHub
# are left out and counted; `gh` is a stand-in that writes down what it was asked.
#
# Inside single quotes, $ is meant for the shell that runs the line:
# shellcheck disable=SC2016
set -eu

build=$1
root=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export BUILD="$build" BNT_CI_FILTER="suite:base" BNT_CI_RESULTS="$scratch/results"
export GITHUB_OUTPUT="$scratch/output" GITHUB_STEP_SUMMARY="$scratch/summary" GITHUB_ENV="$scratch/env" GITHUB_PATH="$scratch/path"
export BNT_CACHE_DIR="$scratch/cache" BNT_HISTORY="$scratch/history.db" RUNNER_TEMP="$scratch"
unset http_proxy https_proxy HTTPS_PROXY ALL_PROXY
: >"$GITHUB_OUTPUT"
ran=0

fail() {
    echo "ci-local: $*" >&2
    exit 1
}

# Run a line of a workflow, which must be there; the exit code must be the expected one.
step() { # workflow, expected exit code, line
    grep -qF -e "run: $3" "$root/.github/workflows/$1.yml" || fail "$1.yml has no step: $3"
    status=0
    timeout 120 sh -euc "$3" >"$scratch/log" 2>&1 || status=$?
    ran=$((ran + 1))
    if [ "$status" -ne "$2" ]; then
        cat "$scratch/log"
        fail "$1.yml: $3: exit $status, not $2"
    fi
    echo "ci-local: $1.yml: $3: exit $status"
}

says() { # file, text
    grep -q -e "$2" "$1" || { cat "$1"; fail "expected: $2"; }
}

# A gh that writes down its arguments, and knows the issues of a file.
mkdir -p "$scratch/bin"
printf '#!/bin/sh\necho "$*" >>"%s/gh"\n[ "$2" != list ] || cat "%s/issue"\n' "$scratch" "$scratch" >"$scratch/bin/gh"
chmod +x "$scratch/bin/gh"
PATH=$scratch/bin:$PATH
export PATH

export TIER=fast
step ci 0 'ci/job.sh test fast --strict'
says "$GITHUB_STEP_SUMMARY" '## bnt test, fast tier: ok'

# A summary without room hides neither how the run ended nor the annotations.
head -c 1048576 /dev/zero >"$scratch/full"
status=0
GITHUB_STEP_SUMMARY="$scratch/full" ci/job.sh test fast --budget 0.01 --strict >"$scratch/log" 2>&1 || status=$?
[ "$status" -eq 27 ] || { cat "$scratch/log"; fail "a run without room for its summary ended with $status, not 27"; }
says "$scratch/log" '^::warning title=not run::'

step warm 0 'ci/job.sh key'
says "$GITHUB_OUTPUT" '^key=bnt-models-1-[0-9a-f]*$'
step warm 0 'ci/job.sh models'
step integration 0 'ci/job.sh plan "$TIER"'
says "$GITHUB_OUTPUT" '^matrix={"include":\[{"shard":"1/'
for SHARD in 1/2 2/2; do
    export SHARD
    step integration 0 'ci/job.sh shard "$TIER" "$SHARD"'
done
step integration 0 'ci/job.sh merge'

# A download that is not possible: infrastructure, with its own exit code, and no test was red for it.
models=$scratch/tree/ci/models
mkdir -p "$models" "$scratch/tree/ci"
cp ci/job.sh "$scratch/tree/ci/"
printf 'models:\n  far:\n    source: https://127.0.0.1:9/far.gguf\n    sha256: %064d\n' 1 >"$models/bnt.yml"
status=0
(BUILD=$(realpath "$build") && export BUILD && cd "$scratch/tree" && ci/job.sh models) >"$scratch/log" 2>&1 || status=$?
case $status in
10 | 12 | 14 | 15 | 19 | 21) says "$scratch/log" '^::error title=infrastructure::the models: ' ;;
*) cat "$scratch/log"; fail "a fetch from nowhere ended with $status" ;;
esac

# The history of the nights before comes, and a run beside it judges its figures.
step nightly 0 'ci/job.sh past nightly.yml'
says "$scratch/log" '^no history of a night before$'
step nightly 0 'ci/job.sh test full --slower'
rm -f "$scratch/gh"

# The verdict of the night, on a base that may use the fast kernels where this program may not; then one issue, opened
# or updated.
base=build/base/build/release/bnt
rm -rf build/base
mkdir -p "${base%/*}"
trap 'rm -rf "$scratch" build/base' EXIT
printf '#!/bin/sh\nexec "%s/bnt" "$@" --kernel auto\n' "$(realpath "$build")" >"$base"
chmod +x "$base"
export BNT_CI_BENCH="--kernel ref --prompt-lengths 16 -n 8 --pairs 12 --margin 30"
step nightly 17 'ci/job.sh compare build/base/build/release/bnt --pairs 100'
says "$GITHUB_OUTPUT" '^exit=17$'
says "$scratch/log" '^::error title=slower::the speed'
export HISTORY='' VERDICT=1
step nightly 0 'ci/job.sh slower "$HISTORY" "$VERDICT"'
[ ! -e "$scratch/gh" ] || fail "an issue for a run that was not slower"
VERDICT=17
: >"$scratch/issue"
step nightly 0 'ci/job.sh slower "$HISTORY" "$VERDICT"'
says "$scratch/gh" '^label create performance$'
says "$scratch/gh" '^issue create '
echo 41 >"$scratch/issue"
step nightly 0 'ci/job.sh slower "$HISTORY" "$VERDICT"'
says "$scratch/gh" '^issue comment 41 '

all=$(cat .github/workflows/*.yml | grep -c 'run: ')
echo "ci-local: $ran steps run; $all lines in the workflows, of which those that install, check out, build or publish are left out"
