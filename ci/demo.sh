#!/bin/sh
# The whole way on the bundled model, a real trained BitNet: fetch, cache, infer, test. Needs no network.
#
#     ci/demo.sh BUILD
#
# The cache is a folder below BUILD, unless BNT_CACHE_DIR names one, so that nothing outside the tree is touched.
set -eu

build=$1
export BNT_CACHE_DIR="${BNT_CACHE_DIR:-$(pwd)/$build/demo-cache}"
name=tinystories-bitnet
PATH=$(pwd)/$build:$PATH
export PATH

step() { # number, title, explanation
    printf '\n== %s. %s\n   %s\n\n' "$1" "$2" "$3"
}

# Show a command as it would be typed, then run it.
run() {
    printf '$'
    for word in "$@"; do
        case $word in
        *' '*) printf ' "%s"' "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$@"
    printf '\n'
}

step 1 "Fetch" "A model is brought into the cache once, under its sha256; bundled: is the one that comes with bnt."
run bnt fetch bundled:

step 2 "Cache" "From now on its name is enough; verify reads every byte again and compares it with the digest."
run bnt path $name
run bnt cache verify

step 3 "Infer" "The engine runs it on this CPU: ternary weights, int8 activations, the same text on every machine."
run bnt infer -m $name -p "Once upon a time" --echo --max-tokens -1 --temperature 0.6 --seed 6

step 4 "Test" "What must hold for every model, tested on this one: a process per test, five minutes at most. All suites: make test."
run bnt test --tier fast -m $name --filter suite:any_model

cat <<END
That was the whole way. To go on:
  export PATH=$(pwd)/$build:\$PATH BNT_CACHE_DIR=$BNT_CACHE_DIR
  bnt infer -p "The little dog" --temperature 0.8 --seed 7
  bnt --help
END
