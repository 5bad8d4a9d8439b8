#!/bin/sh
# The WebAssembly build against the native one: what `make check-wasm` does.
#
#     ci/check_wasm.sh BUILD WASM      (build/release build/wasm)
#
# Every check runs a program natively and as a module and compares what they print. Ends with
# "N passed, N failed". NODE: the Node to run with.
set -eu

build=$1
wasm=$2
NODE=${NODE:-node}
root=$(pwd)
model=engine/models/tinystories-bitnet.gguf
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0

if ! command -v "$NODE" >/dev/null; then
    echo "check-wasm: no $NODE: install nodejs" >&2
    exit 1
fi

verdict() { # name, status
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "check-wasm: $1: ok"
    else
        failed=$((failed + 1))
        echo "check-wasm: $1: FAILED"
    fi
}

run_module() { # FILE, arguments
    file=$1
    shift
    BNT_WASM=$root/$file BNT_MODELS_DIR=$root/engine/models "$NODE" "$wasm/bnt.mjs" "$@"
}

# The same standard output natively and as a module.
same() { # name, native program, module, arguments
    name=$1 native=$2 module=$3
    shift 3
    status=0
    "$native" "$@" >"$scratch/native" 2>"$scratch/native.err" || status=1
    run_module "$module" "$@" >"$scratch/module" 2>"$scratch/module.err" || status=1
    [ -s "$scratch/native" ] || status=1
    diff "$scratch/native" "$scratch/module" >"$scratch/diff" || status=1
    [ "$status" -eq 0 ] || cat "$scratch/diff" "$scratch/native.err" "$scratch/module.err"
    verdict "$name" "$status"
}

# The module ends with this code, and says this on standard error.
refused() { # name, exit code, text, arguments
    name=$1 code=$2 text=$3
    shift 3
    status=0
    run_module "$wasm/bnt.wasm" "$@" >"$scratch/module" 2>"$scratch/module.err" || status=$?
    right=1
    [ "$status" -ne "$code" ] || ! grep -q -e "$text" "$scratch/module.err" || right=0
    [ "$right" -eq 0 ] || { echo "exit $status, not $code:"; cat "$scratch/module.err"; }
    verdict "$name" "$right"
}

same "kernels: the results of every entry" "$wasm/check-native" "$wasm/check-kernels.wasm"
status=0
grep -q '^matmul_ternary  wasm ' "$scratch/module.err" || status=1
verdict "kernels: the table of SIMD ran" "$status"
same "character classes of all code points" "$wasm/unicode-table" "$wasm/check-unicode.wasm" --sum

# A prompt that takes more than one batch, and one in many scripts.
long=$(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do printf 'Lily and Tom %s went to the park, and it rained. ' "$i"; done)
same "ids and logits of greedy answers" "$wasm/check-ids" "$wasm/check-ids.wasm" "$root/$model" 96 \
    "Once upon a time" "The capital of France is" "" "1 + 1 =" "Ben was sad because

his ball   was lost." "Größe, naïve café: 東京 Ελλάδα мир ½ 🙂 نص" "$long"
status=0
grep -q '^kernels: wasm$' "$scratch/module.err" || status=1
verdict "the session took the table of SIMD" "$status"

infer="$wasm/bnt.wasm"
same "bnt infer: greedy text" "$build/bnt" "$infer" infer -p "Tom and his dog went to the park." -n 80
same "bnt infer: sampled text" "$build/bnt" "$infer" infer -p "Once upon a time" --temperature 0.9 --seed 7 -n 60
same "bnt infer: F32 cache, penalties, a stop text" "$build/bnt" "$infer" infer -p "One day" --kv-type f32 \
    --repeat-penalty 1.3 --stop "." -n 60
same "bnt infer: the reference kernels" "$build/bnt" "$infer" infer -p "One day" --kernel ref -n 12
same "bnt infer: drafts by look-up" "$build/bnt" "$infer" infer -p "Once upon a time" --speculate 8 -n 80
printf 'Once upon a time\nOnce upon a day\nHello\n' >"$scratch/prompts"
same "bnt infer: several prompts" "$build/bnt" "$infer" infer --prompts "$scratch/prompts" -n 12
printf 'Once upon a time' >"$scratch/prompt"
same "bnt infer: prompt from a file, model by path" "$build/bnt" "$infer" infer -m "$model" -f "$scratch/prompt" -n 12

truncate -s 100000001 "$scratch/large.gguf"
refused "a model of more than 100 MB" 18 'wasm32 can hold 100.0 MB' infer -m "$scratch/large.gguf" -p x
refused "a model that is not there" 8 'there is no file' infer -m "$scratch/none.gguf" -p x
refused "options that need the JSON library" 9 'JSON library' infer -p x --json
refused "a saved session" 9 'keeps sessions' infer -p x --session-load "$scratch/none"
refused "kernels of another processor" 2 'no kernel avx2' infer -p x --kernel avx2
refused "more memory than can be addressed" 18 'memory' infer -p x --ctx 4194304 -n 1
refused "the same, with a limit that allows it" 18 'memory' infer -p x --ctx 4194304 --memory-limit 1TB -n 1

echo "check-wasm: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
