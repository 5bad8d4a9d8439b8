#!/bin/sh
# Show on a machine with a GPU what only a GPU can show (docs/backends.md, the last section), and print a table.
#
#     ci/gpu_check.sh BUILD-DIR
#
# Under ten minutes. The 2B shape is BNT_SYNTH2B=FILE, else a file of random weights that is made here (1.2 GB in
# TMPDIR); compute-sanitizer's rows run where it is in the PATH or in CUDA's bin. A row that could not run is SKIPPED with its reason, and is no success: exit 0 only when
# all rows hold, 3 when some were skipped, 1 when one failed.
set -u

build=${1:?usage: ci/gpu_check.sh BUILD-DIR}
bnt=$build/bnt
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
skipped=0
MOCK_USED=24 # the exit code of a success with random weights

# row RESULT WHAT FIGURE...
row() {
    result=$1
    what=$2
    shift 2
    case $result in
    FAILED) failed=$((failed + 1)) ;;
    SKIPPED) skipped=$((skipped + 1)) ;;
    esac
    printf '%-8s %-46s %s\n' "$result" "$what" "$*"
}

# check WHAT COMMAND...: a row by the exit code; the end of what a failure said.
check() {
    what=$1
    shift
    start=$(date +%s)
    timeout 240 "$@" >"$scratch/out" 2>"$scratch/err"
    code=$?
    if [ "$code" -eq 0 ] || [ "$code" -eq "$MOCK_USED" ]; then
        row ok "$what" "$(($(date +%s) - start)) s"
    else
        row FAILED "$what" "exit $code"
        tail -n 12 "$scratch/out" "$scratch/err" | sed 's/^/         | /'
        return 1
    fi
}

# ---- the GPU ----

"$bnt" devices --json >"$scratch/devices" 2>&1
name=$(sed -n '/"name": "CUDA"/,/"name": "ROCm"/p' "$scratch/devices" | sed -n 's/.*"name": "\(.*\)",/\1/p' | sed -n 2p)
case $name in
'' | ROCm | FAKE*)
    row FAILED 'a GPU that the module can use' "$("$bnt" devices | grep -A2 '^GPU' | sed -n 2p)"
    exit 1
    ;;
esac
row ok 'a GPU that the module can use' "$name"
"$bnt" devices | sed -n '/^GPU/,$p' | sed 's/^/         | /'

# ---- the same bits ----

for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    for test in the_logits_of_a_batch_are_the_cpus the_gpus_256_tokens_are_the_cpus; do
        check "$test, overlap $overlap" "$build/bnt-suites" --run "$test"
    done
done
export BNT_CUDA_OVERLAP=0
check 'a_thousand_sessions_on_a_gpu_leave_nothing' "$build/bnt-suites" --run a_thousand_sessions_on_a_gpu_leave_nothing
trace() {
    "$bnt" trace -p 'Once upon a time' -n 2 --device "$1" --fallback never -o "$scratch/$1.trace"
}
if trace cpu >/dev/null 2>&1 && trace cuda >"$scratch/err" 2>&1; then
    check 'every operation has the rows of the CPU' "$bnt" diff "$scratch/cpu.trace" "$scratch/cuda.trace"
else
    row FAILED 'every operation has the rows of the CPU' "$(tail -n 1 "$scratch/err")"
fi

# ---- the 2B shape ----

# decode_rate JSON, prompt JSON TOKENS KEY: figures of bnt bench.
decode_rate() {
    sed -n '/"decode": {/,$p' "$1" | sed -n 's/.*"tokens_per_s": \([0-9.]*\).*/\1/p' | head -n 1
}
prompt() {
    sed -n "/\"tokens\": $2,/,\$p" "$1" | sed -n "s/.*\"$3\": \([0-9.]*\).*/\1/p" | head -n 1
}

# reached WHAT FIGURE least|most LIMIT UNIT
reached() {
    if [ -z "$2" ]; then
        row FAILED "$1" 'no figure'
    elif awk -v a="$2" -v b="$4" -v how="$3" 'BEGIN { exit !(how == "least" ? a >= b : a <= b) }'; then
        row ok "$1" "$2 $5, at $3 $4 wanted"
    else
        row FAILED "$1" "$2 $5, at $3 $4 wanted"
    fi
}

model=${BNT_SYNTH2B:-}
mock=
if [ -z "$model" ]; then
    model=$scratch/2b.gguf
    mock=--allow-mock
    check 'a file of the 2B shape' "$bnt" mock make --layers 30 --embd 2560 --heads 20 --kv-heads 5 --ff 6912 \
        --vocab 128256 --ctx 4096 -o "$model"
fi
cat docs/*.md >"$scratch/text"
# shellcheck disable=SC2086 # $mock is a word or none
set -- "$bnt" perplexity -m "$model" $mock --file "$scratch/text" --window 257 --max-tokens 257 --fallback never
check 'the CPU scores 256 positions of the 2B shape' "$@" --device cpu --record "$scratch/record" &&
    check 'the GPU thinks the same at 256 positions' "$@" --device cuda --against "$scratch/record" --min-match 1 \
        --max-kl 0.000001 && sed 's/^/         | /' "$scratch/out"
for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    # shellcheck disable=SC2086
    check "bench of the 2B shape, overlap $overlap" "$bnt" bench -m "$model" $mock --device cuda --fallback never \
        --prompt-lengths 25,512 --decode 128 --warmup 1 --repetitions 5 --json || continue
    cp "$scratch/out" "$scratch/bench"
    rate=$(decode_rate "$scratch/bench")
    bytes=$(sed -n 's/.*"weight_bytes_per_token": \([0-9]*\).*/\1/p' "$scratch/bench")
    reached '  decode' "$rate" least 1400 tokens/s
    awk -v r="${rate:-0}" -v b="${bytes:-0}" 'BEGIN { printf "         | %.0f GB/s of weights are read\n", r * b / 1e9 }'
    reached '  prefill of 512' "$(prompt "$scratch/bench" 512 tokens_per_s)" least 60000 tokens/s
    reached '  first token of 25' "$(prompt "$scratch/bench" 25 p50)" most 5 ms
done
export BNT_CUDA_OVERLAP=0

# ---- compute-sanitizer ----

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
for tool in memcheck racecheck initcheck; do
    if [ -n "$sanitizer" ]; then
        check "compute-sanitizer $tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$bnt" infer \
            -p 'Once upon a time, there was a little girl named Lily' -n 8 --device cuda --fallback never
    else
        row SKIPPED "compute-sanitizer $tool" 'not installed'
    fi
done

printf 'gpu-check: %d failed, %d skipped\n' "$failed" "$skipped"
[ "$failed" -eq 0 ] || exit 1
[ "$skipped" -eq 0 ] || exit 3
