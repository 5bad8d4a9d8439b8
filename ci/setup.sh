#!/bin/sh
# What the action setup-bnt does on a machine of GitHub: build and install bnt below $RUNNER_TEMP, put it on the PATH of
# the steps that follow, name the folder of the cache, and set the outputs "cache" and, with a bnt.lock here, "key".
set -eu

source=$(cd "$(dirname "$0")/.." && pwd)
prefix=$RUNNER_TEMP/bnt
cache=${BNT_CACHE_DIR:-$RUNNER_TEMP/bnt-models}

"$source/ci/deps.sh" build test >&2
make -s -C "$source" -j"$(nproc)" all install PREFIX="$prefix" >&2
echo "$prefix/bin" >>"$GITHUB_PATH"
echo "BNT_CACHE_DIR=$cache" >>"$GITHUB_ENV"
echo "cache=$cache" >>"$GITHUB_OUTPUT"
[ ! -f bnt.lock ] || "$prefix/bin/bnt" ci key --output key
