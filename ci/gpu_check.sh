#!/bin/sh
# Show on a machine with a GPU what only a GPU can show (docs/backends.md, the last section), and print a table.
#
#     ci/gpu_check.sh [--rehearse] [--seconds N] [--report DIR] BUILD-DIR
#
# Under ten minutes, or N seconds: what is left then is SKIPPED. What matters most comes first, in case the machine goes away: the
# same bits, the figures, then sanitizers and the rest. The 2B shape is BNT_SYNTH2B=FILE, else a file of random weights
# that is made here, as that of the 3B shape is (2 GB in TMPDIR). A row that could not run, or a sanitizer that was not
# done in a minute, is SKIPPED with its reason, and is no success: exit 0 only when all rows hold, 3 when some were skipped, 1 when one failed.
#
# gpu-check.txt in BUILD-DIR, or in DIR, has, from the first row on, what is needed to judge later and elsewhere: the
# state of the GPU, every command with its time, exit code and output, the time of each kernel, the table.
# gpu-check.clocks beside it has clocks, power and what throttles once a second.
#
# Begun in the source tree. BUILD-DIR needs bnt, bnt-suites and bnt_cuda.so, which may have been built elsewhere (then
# beside the library of cmocka, named by LD_LIBRARY_PATH); no compiler, no network.
#
# --rehearse goes through all of it without a GPU, on the fake device and with small models: what breaks there would
# have broken on a GPU. Its times mean nothing, so the rows of figures are SKIPPED, and the exit code is 3 at best.
# shellcheck disable=SC2030,SC2031 # what runs in the background has a folder and a report of its own
set -u

rehearse=
seconds_in_all=570
if [ "${1:-}" = --rehearse ]; then
    rehearse=1
    shift
fi
if [ "${1:-}" = --seconds ]; then
    seconds_in_all=$2
    shift 2
fi
reports=
if [ "${1:-}" = --report ]; then
    reports=$2
    shift 2
fi
build=${1:?usage: ci/gpu_check.sh [--rehearse] [--seconds N] [--report DIR] BUILD-DIR}
bnt=$build/bnt
scratch=$(mktemp -d)
reports=${reports:-$build}
report=$reports/gpu-check.txt
end=$(($(date +%s) + seconds_in_all))
# A driver opens what it likes: that a test reaches only what it may is a row of its own.
export BNT_TEST_CONFINE=0
export BNT_SOURCE_DIR="${BNT_SOURCE_DIR:-$PWD}" BNT_MODELS_DIR="${BNT_MODELS_DIR:-$PWD/engine/models}"
background=
# shellcheck disable=SC2086 # process ids are words
trap '[ -z "$background" ] || kill $background 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM
failed=0
skipped=0
MOCK_USED=24 # the exit code of a success with random weights
lengths=25,512
decode=128
repetitions=5
positions=257
far=3900
early=9
sequences=64
shapes=2b,3b
batches=1,8,64
if [ -n "$rehearse" ]; then
    BNT_CUDA_MODULE=$(realpath "$build/fake_cuda.so")
    export BNT_CUDA_MODULE
    report=$scratch/gpu-check.txt
    lengths=5,25
    decode=4
    repetitions=1
    positions=17
    far=30
    sequences=3
    shapes=33x129,40x2560
    batches=1,3,9
fi
: >"$report"

# ---- rows ----

# row RESULT WHAT FIGURE...
row() {
    result=$1
    what=$2
    shift 2
    case $result in
    FAILED) failed=$((failed + 1)) ;;
    SKIPPED) skipped=$((skipped + 1)) ;;
    esac
    printf '%-8s %-46s %s\n' "$result" "$what" "$*" | tee -a "$scratch/table" "$report"
}

# run COMMAND...: its exit code in $code; command, time and output go to the report as they are. $most: seconds at most.
most=240
run() {
    left=$((end - $(date +%s)))
    start=$(date +%s)
    timeout -k 5 "$((left < most ? left : most))" "$@" >"$scratch/out" 2>"$scratch/err"
    code=$?
    seconds=$(($(date +%s) - start))
    told "$@"
}

# told COMMAND...: of what has run, to the report.
told() {
    {
        printf '\n=== %s\n$ %s\n' "$(date -u +%T)" "$*"
        printf '%s\n' "--- exit $code after $seconds s; stdout"
        head -n 2000 "$scratch/out"
        printf '%s\n' '--- stderr'
        head -n 500 "$scratch/err"
    } >>"$report"
}

is_time() {
    [ "$(date +%s)" -lt "$((end - 2))" ]
}
in_time() {
    is_time && return 0
    row SKIPPED "$1" 'the time is over'
    return 1
}

# failure WHAT: a row, and the end of what was said.
failure() {
    row FAILED "$1" "exit $code"
    tail -n 12 "$scratch/out" "$scratch/err" | sed 's/^/         | /'
}

# judge WHAT: a row of what has run. A test that skips itself is no success; one that was cut short is $late.
late=FAILED
judge() {
    if [ "$code" -eq 0 ] && grep -q '^ok .* # SKIP' "$scratch/out"; then
        row SKIPPED "$1" "$(sed -n 's/^ok .* # SKIP //p' "$scratch/out" | head -n 1)"
        return 1
    fi
    if [ "$code" -eq 124 ] && { [ $late = SKIPPED ] || ! is_time; }; then
        row SKIPPED "$1" "not done in $seconds s"
        return 1
    fi
    if [ "$code" -ne 0 ] && [ "$code" -ne "$MOCK_USED" ]; then
        failure "$1"
        return 1
    fi
    row ok "$1" "$seconds s"
}

# check WHAT COMMAND...: the row of a command that has the machine alone.
check() {
    checked=$1
    shift
    in_time "$checked" || return 1
    run "$@"
    judge "$checked"
}

# begin WHAT COMMAND...: beside others that are not timed. ended: waits for all of them, a row for each.
begun=0
begin() {
    begun=$((begun + 1))
    mkdir "$scratch/begun.$begun"
    (
        report=$scratch/begun.$begun/report
        checked=$1
        shift
        printf '%s\n' "$checked" >"$scratch/begun.$begun/what"
        scratch=$scratch/begun.$begun
        code=124
        seconds=0
        if is_time; then
            run "$@"
        fi
        printf '%s %s\n' "$code" "$seconds" >"$scratch/code"
    ) &
    eval "begun_$begun=$!"
}
ended() {
    one=0
    while [ "$one" -lt "$begun" ]; do
        one=$((one + 1))
        eval "wait \"\$begun_$one\""
        for file in out err; do
            mv "$scratch/begun.$one/$file" "$scratch/$file" 2>/dev/null || : >"$scratch/$file"
        done
        cat "$scratch/begun.$one/report" >>"$report" 2>/dev/null
        read -r code seconds <"$scratch/begun.$one/code"
        judge "$(cat "$scratch/begun.$one/what")"
        rm -r "$scratch/begun.$one"
    done
    begun=0
}

# reached WHAT FIGURE least|most LIMIT UNIT: a figure that is missing has failed.
reached() {
    if [ -n "$rehearse" ] && [ -n "$2" ]; then
        row SKIPPED "$1" 'no GPU'
    elif [ -z "$2" ] || [ -z "$4" ]; then
        row FAILED "$1" 'no figure'
    elif awk -v a="$2" -v b="$4" -v how="$3" 'BEGIN { exit !(how == "least" ? a >= b : a <= b) }'; then
        row ok "$1" "$2 $5, at $3 $4 wanted"
    else
        row FAILED "$1" "$2 $5, at $3 $4 wanted"
    fi
}

# ---- the GPU ----

timeout -k 5 60 "$bnt" devices --json >"$scratch/devices" 2>&1
name=$(sed -n '/"name": "CUDA"/,/"name": "ROCm"/p' "$scratch/devices" | sed -n 's/.*"name": "\(.*\)",/\1/p' | sed -n 2p)
case $rehearse$name in
1FAKE*) ;;
'' | ROCm | FAKE* | 1*)
    row FAILED 'a GPU that the module can use' "$(timeout -k 5 60 "$bnt" devices | grep -A2 '^GPU' | sed -n 2p)"
    exit 1
    ;;
esac
row ok 'a device that the module can use' "$name"
"$bnt" devices | sed -n '/^GPU/,$p' | sed 's/^/         | /' | tee -a "$report"
if [ -z "$rehearse" ] && command -v nvidia-smi >/dev/null; then
    run nvidia-smi -q
    nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,memory.used,clocks_throttle_reasons.active \
        --format=csv,nounits -l 1 >"$reports/gpu-check.clocks" 2>&1 &
    background="$background $!"
fi

# make_model FILE LAYERS EMBD HEADS KV-HEADS FF VOCAB CTX: begun beside the next rows; $! makes it. Rehearsed with a
# small one.
make_model() {
    if [ -n "$rehearse" ]; then
        set -- "$1" 2 256 4 2 640 2048 4096
    fi
    "$bnt" mock make --layers "$2" --embd "$3" --heads "$4" --kv-heads "$5" --ff "$6" --vocab "$7" --ctx "$8" -o "$1" \
        >"$1.said" 2>&1 &
    background="$background $!"
}

# made WHAT FILE PROCESS: it is there.
made() {
    wait "$3"
    code=$?
    if [ "$code" -eq 0 ] || [ "$code" -eq "$MOCK_USED" ]; then
        row ok "$1" "$(du -m "$2" | cut -f 1) MB"
    else
        row FAILED "$1" "exit $code: $(tail -n 1 "$2.said")"
    fi
}

model=${BNT_SYNTH2B:-}
mock=
if [ -z "$model" ] || [ -n "$rehearse" ]; then
    model=$scratch/2b.gguf
    mock=--allow-mock
    make_model "$model" 30 2560 20 5 6912 128256 4096
    makes_2b=$!
fi
make_model "$scratch/3b.gguf" 26 3200 32 32 8640 32002 2048
makes_3b=$!

# ---- the same bits ----

for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    for test in the_logits_of_a_batch_are_the_cpus the_gpus_256_tokens_are_the_cpus \
        ids_drawn_on_a_gpu_are_the_cpus sequences_on_a_gpu_are_the_cpus; do
        begin "$test, overlap $overlap" "$build/bnt-suites" --run "$test"
    done
    # Attention of a step in two launches, which it takes far into a context, from an early position on.
    export BNT_CUDA_SPLIT="$early"
    for test in the_gpus_256_tokens_are_the_cpus sequences_on_a_gpu_are_the_cpus; do
        begin "$test, overlap $overlap, split $early" "$build/bnt-suites" --run "$test"
    done
    unset BNT_CUDA_SPLIT
done
export BNT_CUDA_OVERLAP=0
for device in cpu cuda; do
    begin "the rows of every operation on $device" "$bnt" trace -p 'Once upon a time' -n 2 --device "$device" \
        --fallback never -o "$scratch/$device.trace"
done
ended
check 'every operation has the rows of the CPU' "$bnt" diff "$scratch/cpu.trace" "$scratch/cuda.trace"
[ -z "$mock" ] || made 'a file of the 2B shape' "$model" "$makes_2b"
made 'a file of the 3B shape' "$scratch/3b.gguf" "$makes_3b"

# ---- the figures of the 2B shape ----

# decode_rate JSON, prompt JSON TOKENS KEY: figures of bnt bench.
decode_rate() {
    sed -n '/"decode": {/,$p' "$1" | sed -n 's/.*"tokens_per_s": \([0-9.]*\).*/\1/p' | head -n 1
}
prompt() {
    sed -n "/\"tokens\": $2,/,\$p" "$1" | sed -n "s/.*\"$3\": \([0-9.]*\).*/\1/p" | head -n 1
}

# bench_model FILE OPTIONS LENGTHS SEQUENCES: into $scratch/bench, its rate of decoding into $rate; both empty without.
bench_model() {
    : >"$scratch/bench"
    # shellcheck disable=SC2086 # $2 is words or none
    check "bench of $(basename "$1"), $4 at once, overlap $BNT_CUDA_OVERLAP" "$bnt" bench -m "$1" $2 --device cuda \
        --fallback never --prompt-lengths "$3" --decode "$decode" --sequences "$4" --warmup 1 --no-bandwidth \
        --repetitions "$repetitions" --json && cp "$scratch/out" "$scratch/bench"
    rate=$(decode_rate "$scratch/bench")
    bytes=$(sed -n 's/.*"weight_bytes_per_token": \([0-9]*\).*/\1/p' "$scratch/bench")
    [ -n "$rehearse" ] || awk -v r="${rate:-0}" -v b="${bytes:-0}" \
        'BEGIN { printf "         | %.0f GB/s of weights, were each read for each token\n", r * b / 1e9 }' | tee -a "$report"
}

for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    bench_model "$model" "$mock" "$lengths" 1
    reached '  decode of the 2B shape' "$rate" least 1400 tokens/s
    reached '  prefill of 512' "$(prompt "$scratch/bench" "${lengths#*,}" tokens_per_s)" least 60000 tokens/s
    reached '  first token of 25' "$(prompt "$scratch/bench" "${lengths%,*}" p50)" most 5 ms
    bench_model "$model" "$mock" "${lengths%,*}" "$sequences"
    reached '  64 sequences of the 2B shape' "$rate" least 20000 tokens/s
done
export BNT_CUDA_OVERLAP=0
[ -z "$rehearse" ] || export BNT_CUDA_SPLIT="$early"
bench_model "$model" "$mock" "$far" 1
reached "  decode of the 2B shape after $far positions" "$rate" least 700 tokens/s
unset BNT_CUDA_SPLIT
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

# ---- the figures of the 3B shape, and of single products ----

for overlap in 0 1; do
    export BNT_CUDA_OVERLAP=$overlap
    bench_model "$scratch/3b.gguf" --allow-mock 25 1
    reached '  decode of the 3B shape' "$rate" least 900 tokens/s
done
rm -f "$scratch/3b.gguf"
export BNT_CUDA_OVERLAP=0
judge=--gate
[ -z "$rehearse" ] || judge=
# shellcheck disable=SC2086 # $judge is a word or none
check 'ternary products reach 0.9 of float32 products' "$bnt" bench --ops --device cuda $judge --shapes "$shapes" \
    --batches "$batches" --repetitions "$repetitions" && sed 's/^/         | /' "$scratch/out"

# ---- where the time goes ----

# By the profiler, each kernel of a prompt, a step and a draw; where it does not work on a machine that is a reason.
profiler=$(command -v ncu || ls /usr/local/cuda/bin/ncu 2>/dev/null || true)
head -c 2000 "$scratch/text" >"$scratch/prompt"
for what in 'a prompt and steps' '64 sequences' '64 sequences, a screened head' "$far positions"; do
    export BNT_CUDA_TIMES="$scratch/times"
    : >"$scratch/times"
    [ -z "$rehearse" ] || export BNT_CUDA_SPLIT="$early"
    if [ "$what" = "$far positions" ]; then
        # shellcheck disable=SC2086 # $mock is a word or none
        check "the time of each kernel, $what" "$bnt" bench -m "$model" $mock --device cuda --fallback never \
            --prompt-lengths "$far" --decode 4 --warmup 0 --repetitions 1 --json
    elif [ "$what" != 'a prompt and steps' ]; then
        head=auto
        [ "$what" = '64 sequences' ] || head=screened
        # shellcheck disable=SC2086 # $mock is a word or none
        check "the time of each kernel, $what" "$bnt" bench -m "$model" $mock --device cuda --fallback never --head "$head" \
            --packed off --prompt-lengths "${lengths%,*}" --decode 4 --sequences "$sequences" --warmup 0 --repetitions 1 --json
    else
        # shellcheck disable=SC2086 # $mock is a word or none
        check "the time of each kernel, $what" "$bnt" infer -m "$model" $mock --file "$scratch/prompt" --max-tokens 8 \
            --temperature 0.8 --top-k 40 --ctx 4096 --device cuda --fallback never
    fi
    unset BNT_CUDA_TIMES BNT_CUDA_SPLIT
    sed 's/^/         | /' "$scratch/times" | tee -a "$report"
done
if [ -n "$rehearse" ]; then
    row SKIPPED 'each kernel by ncu' 'no GPU'
elif [ -z "$profiler" ]; then
    row SKIPPED 'each kernel by ncu' 'ncu is not installed'
elif in_time 'each kernel by ncu'; then
    # shellcheck disable=SC2086 # $mock is a word or none
    run "$profiler" --clock-control none --csv --page raw --launch-count 700 --metrics \
        gpu__time_duration.sum,dram__bytes.sum,lts__t_bytes.sum,sm__warps_active.avg.pct_of_peak_sustained_active,launch__registers_per_thread,l1tex__data_bank_conflicts_pipe_lsu.sum \
        "$bnt" infer -m "$model" $mock --file "$scratch/prompt" --max-tokens 2 --temperature 0.8 --top-k 40 --ctx 4096 --device cuda --fallback never
    if [ "$code" -eq 0 ] || [ "$code" -eq "$MOCK_USED" ]; then
        row ok 'each kernel by ncu' 'in the report'
    else
        row SKIPPED 'each kernel by ncu' "ncu does not work here: $(tail -n 1 "$scratch/out")"
    fi
fi

# ---- compute-sanitizer ----

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
reason=
if [ -n "$rehearse" ]; then
    reason='no GPU'
elif [ -z "$sanitizer" ]; then
    reason='not installed'
else
    run "$sanitizer" "$bnt" devices
    reason=$(grep -h -i -m 1 'not supported' "$scratch/out" "$scratch/err")
fi
sanitized() {
    what=$1
    shift
    if [ -n "$reason" ]; then
        row SKIPPED "compute-sanitizer $tool$what" "$reason"
    else
        begin "compute-sanitizer $tool$what" "$sanitizer" --tool "$tool" --error-exitcode 9 --print-limit 20 "$bnt" "$@" \
            --device cuda --fallback never
    fi
}
most=60 # all at once
late=SKIPPED
check 'a file of weights of one bit' "$bnt" mock make --arch qwen3 --type q1_0 -o "$scratch/q1.gguf"
for tool in memcheck racecheck initcheck synccheck; do
    sanitized '' infer -p 'Once upon a time, there was a little girl named Lily' -n 8
    sanitized ', a draw' infer -p 'Once upon a time' -n 4 --temperature 0.9 --top-k 20 --head screened --packed off
    export BNT_CUDA_SPLIT=5
    sanitized ', attention in two launches' infer -p 'Once upon a time, there was' -n 4
    unset BNT_CUDA_SPLIT
    sanitized ', weights of one bit' infer -m "$scratch/q1.gguf" --allow-mock -p 'Once upon a time' -n 4
    sanitized ', products of 96 tokens' bench --ops --shapes 8000x640 --batches 96 --repetitions 1
    for head in full screened; do
        sanitized ", 9 sequences, $head head" bench --sequences 9 --prompt-lengths 5 --decode 3 --repetitions 1 --warmup 0 \
            --head "$head" --packed off
    done
done
ended

# ---- which way is the faster ----

most=240
late=FAILED
# Where the border between attention in one launch and in two should be: on either side of 512.
for context in 256 1024; do
    [ -z "$rehearse" ] || context=${lengths#*,}
    for split in 2000 1; do
        export BNT_CUDA_SPLIT="$split"
        bench_model "$model" "$mock" "$context" 1
        [ -z "$rehearse" ] || rate=
        printf '         | %s tokens/s after %s positions, split %s\n' "${rate:--}" "$context" "$split" | tee -a "$report"
        unset BNT_CUDA_SPLIT
    done
done
full=
full_of_many=
for head in full screened; do
    # shellcheck disable=SC2086 # $mock is a word or none
    check "text of the 2B shape, $head head" "$bnt" infer -m "$model" $mock -p 'Once upon a time' -n "$decode" --head "$head" \
        --packed off --device cuda --fallback never && cp "$scratch/out" "$scratch/$head.text"
    bench_model "$model" "$mock --packed off --head $head" "${lengths%,*}" "$sequences"
    of_many=$rate
    bench_model "$model" "$mock --packed off --head $head" "${lengths%,*}" 1
    [ "$head" = screened ] || {
        full=$rate
        full_of_many=$of_many
    }
done
check 'a screened head gives the same tokens' cmp "$scratch/full.text" "$scratch/screened.text"
reached '  decode with a screened head, against the full one' "$rate" least "$full" tokens/s
reached '  64 sequences with a screened head, against the full one' "$of_many" least "$full_of_many" tokens/s
[ -z "$mock" ] || rm -f "$model"

# ---- the rest of what must be equal ----

export BNT_TEST_CONFINE=1
check 'a test that is confined reaches the GPU' "$build/bnt-suites" --run the_logits_of_a_batch_are_the_cpus
export BNT_TEST_CONFINE=0
set -- --filter suite:any_model --filter suite:taps
[ -n "$rehearse" ] || set -- "$@" --filter suite:engine --filter suite:infer --filter suite:perplexity --filter suite:families
check 'suites about models compute on the device' "$bnt" test --device cuda --history none --diagnose 0 "$@"
check 'a_thousand_sessions_on_a_gpu_leave_nothing' "$build/bnt-suites" --run a_thousand_sessions_on_a_gpu_leave_nothing

{
    printf '\n=== the table\n'
    cat "$scratch/table"
} >>"$report"
printf 'gpu-check: %d failed, %d skipped; %s\n' "$failed" "$skipped" "$report" | tee -a "$report"
[ "$failed" -eq 0 ] || exit 1
[ "$skipped" -eq 0 ] || exit 3
