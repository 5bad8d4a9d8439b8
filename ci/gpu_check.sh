#!/bin/sh
# Show on a machine with a GPU what only a GPU can show (docs/backends.md, the last section), and print a table.
#
#     ci/gpu_check.sh [--rehearse] BUILD-DIR
#
# Under ten minutes. The 2B shape is BNT_SYNTH2B=FILE, else a file of random weights that is made here, as that of the
# 3B shape is (2 GB in TMPDIR); compute-sanitizer's rows run where it is in the PATH or in CUDA's bin. A row that could
# not run is SKIPPED with its reason, and is no success: exit 0 only when all rows hold, 3 when some were skipped, 1
# when one failed.
#
# --rehearse goes through all of it without a GPU, on the fake device and with small models: what breaks there would
# have broken on a GPU. Its times mean nothing, so the rows of figures are SKIPPED, and the exit code is 3 at best.
set -u

rehearse=
if [ "${1:-}" = --rehearse ]; then
    rehearse=1
    shift
fi
build=${1:?usage: ci/gpu_check.sh [--rehearse] BUILD-DIR}
bnt=$build/bnt
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
skipped=0
MOCK_USED=24 # the exit code of a success with random weights
lengths=25,512
decode=128
repetitions=5
positions=257
sequences=64
shapes=2b,3b
batches=1,8,64
if [ -n "$rehearse" ]; then
    BNT_CUDA_MODULE=$(realpath "$build/fake_cuda.so")
    export BNT_CUDA_MODULE
    lengths=5,25
    decode=4
    repetitions=1
    positions=17
    sequences=3
    shapes=33x129,40x2560
    batches=1,3,9
fi

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

# check WHAT COMMAND...: a row by the exit code; the end of what a failure said. A test that skips itself is no success.
check() {
    what=$1
    shift
    start=$(date +%s)
    timeout 240 "$@" >"$scratch/out" 2>"$scratch/err"
    code=$?
    if [ "$code" -eq 0 ] && grep -q '^ok .* # SKIP' "$scratch/out"; then
        row SKIPPED "$what" "$(sed -n 's/^ok .* # SKIP //p' "$scratch/out" | head -n 1)"
        return 1
    fi
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
case $rehearse$name in
1FAKE*) ;;
'' | ROCm | FAKE* | 1*)
    row FAILED 'a GPU that the module can use' "$("$bnt" devices | grep -A2 '^GPU' | sed -n 2p)"
    exit 1
    ;;
esac
row ok 'a device that the module can use' "$name"
"$bnt" devices | sed -n '/^GPU/,$p' | sed 's/^/         | /'

# ---- the same bits ----

for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    for test in the_logits_of_a_batch_are_the_cpus the_gpus_256_tokens_are_the_cpus \
        ids_drawn_on_a_gpu_are_the_cpus sequences_on_a_gpu_are_the_cpus; do
        check "$test, overlap $overlap" "$build/bnt-suites" --run "$test"
    done
done
export BNT_CUDA_OVERLAP=0
check 'a_thousand_sessions_on_a_gpu_leave_nothing' "$build/bnt-suites" --run a_thousand_sessions_on_a_gpu_leave_nothing
set -- --filter suite:any_model --filter suite:taps
[ -n "$rehearse" ] || set -- "$@" --filter suite:engine --filter suite:infer --filter suite:perplexity --filter suite:families
check 'suites about models compute on the device' "$bnt" test --device cuda --history none --diagnose 0 "$@"
trace() {
    "$bnt" trace -p 'Once upon a time' -n 2 --device "$1" --fallback never -o "$scratch/$1.trace"
}
if trace cpu >/dev/null 2>&1 && trace cuda >"$scratch/err" 2>&1; then
    check 'every operation has the rows of the CPU' "$bnt" diff "$scratch/cpu.trace" "$scratch/cuda.trace"
else
    row FAILED 'every operation has the rows of the CPU' "$(tail -n 1 "$scratch/err")"
fi

# ---- single operations ----

judge=--gate
[ -z "$rehearse" ] || judge=
# shellcheck disable=SC2086 # $judge is a word or none
check 'ternary products reach 0.9 of float32 products' "$bnt" bench --ops --device cuda $judge --shapes "$shapes" \
    --batches "$batches" --repetitions "$repetitions" && sed 's/^/         | /' "$scratch/out"

# ---- models of size ----

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
    elif [ -n "$rehearse" ]; then
        row SKIPPED "$1" 'no GPU'
    elif awk -v a="$2" -v b="$4" -v how="$3" 'BEGIN { exit !(how == "least" ? a >= b : a <= b) }'; then
        row ok "$1" "$2 $5, at $3 $4 wanted"
    else
        row FAILED "$1" "$2 $5, at $3 $4 wanted"
    fi
}

# make_model FILE LAYERS EMBD HEADS KV-HEADS FF VOCAB CTX; rehearsed with a small one.
make_model() {
    if [ -n "$rehearse" ]; then
        set -- "$1" 2 256 4 2 640 2048 4096
    fi
    check "a file of $2 layers of $3 columns" "$bnt" mock make --layers "$2" --embd "$3" --heads "$4" --kv-heads "$5" \
        --ff "$6" --vocab "$7" --ctx "$8" -o "$1"
}

# bench_model FILE MOCK-WORD LENGTHS SEQUENCES: into $scratch/bench
bench_model() {
    # shellcheck disable=SC2086 # $2 is a word or none
    check "bench of $(basename "$1"), $4 at once, overlap $BNT_CUDA_OVERLAP" "$bnt" bench -m "$1" $2 --device cuda \
        --fallback never --prompt-lengths "$3" --decode "$decode" --sequences "$4" --warmup 1 \
        --repetitions "$repetitions" --json || return 1
    cp "$scratch/out" "$scratch/bench"
    rate=$(decode_rate "$scratch/bench")
    bytes=$(sed -n 's/.*"weight_bytes_per_token": \([0-9]*\).*/\1/p' "$scratch/bench")
    [ -n "$rehearse" ] ||
        awk -v r="${rate:-0}" -v b="${bytes:-0}" 'BEGIN { printf "         | %.0f GB/s of weights are read\n", r * b / 1e9 }'
}

model=${BNT_SYNTH2B:-}
mock=
if [ -z "$model" ] || [ -n "$rehearse" ]; then
    model=$scratch/2b.gguf
    mock=--allow-mock
    make_model "$model" 30 2560 20 5 6912 128256 4096
fi
cat docs/*.md >"$scratch/text"
for device in cpu cuda; do
    # shellcheck disable=SC2086 # $mock is a word or none
    check "the positions of a text by the 2B shape on $device" "$bnt" perplexity -m "$model" $mock --file "$scratch/text" \
        --window "$positions" --max-tokens "$positions" --fallback never --device "$device" --record "$scratch/$device.record"
done
check 'their 64 best logits are equal, bit for bit' cmp "$scratch/cpu.record" "$scratch/cuda.record"
# shellcheck disable=SC2086 # $mock is a word or none
check '4096 positions take less than 4 GB' "$bnt" infer -m "$model" $mock -p 'Once upon a time' -n 2 --ctx 4096 \
    --device cuda --fallback never --device-memory 4000000000
for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    if bench_model "$model" "$mock" "$lengths" 1; then
        reached '  decode of the 2B shape' "$rate" least 1400 tokens/s
        reached '  prefill of 512' "$(prompt "$scratch/bench" "${lengths#*,}" tokens_per_s)" least 60000 tokens/s
        reached '  first token of 25' "$(prompt "$scratch/bench" "${lengths%,*}" p50)" most 5 ms
    fi
    if bench_model "$model" "$mock" "${lengths%,*}" "$sequences"; then
        reached '  64 sequences of the 2B shape' "$rate" least 20000 tokens/s
    fi
done
export BNT_CUDA_OVERLAP=0
full=
for head in full screened; do
    # shellcheck disable=SC2086 # $mock is a word or none
    check "text of the 2B shape, $head head" "$bnt" infer -m "$model" $mock -p 'Once upon a time' -n "$decode" --head "$head" \
        --packed off --device cuda --fallback never && cp "$scratch/out" "$scratch/$head.text"
    if bench_model "$model" "$mock --packed off --head $head" "${lengths%,*}" 1 && [ "$head" = full ]; then
        full=$rate
    fi
done
check 'a screened head gives the same tokens' cmp "$scratch/full.text" "$scratch/screened.text"
reached '  decode with a screened head, against the full one' "$rate" least "${full:-0}" tokens/s
[ -n "$mock" ] && rm -f "$model"
make_model "$scratch/3b.gguf" 26 3200 32 32 8640 32002 2048
for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    if bench_model "$scratch/3b.gguf" --allow-mock 25 1; then
        reached '  decode of the 3B shape' "$rate" least 900 tokens/s
    fi
done
rm -f "$scratch/3b.gguf"
export BNT_CUDA_OVERLAP=0

# ---- compute-sanitizer ----

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
for tool in memcheck racecheck initcheck; do
    if [ -n "$rehearse" ]; then
        row SKIPPED "compute-sanitizer $tool" 'no GPU'
    elif [ -n "$sanitizer" ]; then
        check "compute-sanitizer $tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$bnt" infer \
            -p 'Once upon a time, there was a little girl named Lily' -n 8 --device cuda --fallback never
        check "compute-sanitizer $tool, 9 sequences" "$sanitizer" --tool "$tool" --error-exitcode 9 "$bnt" bench \
            --sequences 9 --prompt-lengths 5 --decode 3 --repetitions 1 --warmup 0 --device cuda --fallback never
    else
        row SKIPPED "compute-sanitizer $tool" 'not installed'
    fi
done

printf 'gpu-check: %d failed, %d skipped\n' "$failed" "$skipped"
[ "$failed" -eq 0 ] || exit 1
[ "$skipped" -eq 0 ] || exit 3
