#!/bin/bash
# Every figure about speed that README.md and docs/bench.md state, measured here, with the goals beside them: a table, and
# all of it as JSON.
#
#     ci/bench.sh [--model FILE] [--neighbour 'PROGRAM [OPTION...][=FILE]'|URL]... [--lossy 'PROGRAM [OPTION...]=FILE']...
#                 [--small 'PROGRAM [OPTION...][=FILE]']... [--i2s-layout L] [--rounds N] [--quick] [--out FOLDER] BUILD
#
# Without --model the bundled model is measured alone. A neighbour is a program with the options and the JSON of llama-bench
# (-m -p -n -t -r -o json), with the model in its own form where it does not read ours; --neighbour has a head of the same
# bytes, --lossy a smaller one, --small the bundled model. All sides run in turn, five times (--rounds), and a row shows medians and
# the ratio to the best neighbour of that row, round by round. The address of a server as a neighbour is `bnt bench
# --compare`, one thread. --quick measures everything, but once: to see that it works, not to be believed. FOLDER
# (BUILD/bench) gets bench.json, and table.txt with what is printed.
#
# Walls are only worth something on a machine that does nothing else, and memory may have modes there: the bandwidth that
# was probed in each round is told.
# Expressions of jq have a $ that is not ours.
# shellcheck disable=SC2016
set -euo pipefail

model='' build='' out='' layout='' server='' rounds=5 reps=5 pairs=12
neighbours=() lossy=() small=()
while [ $# -gt 0 ]; do
    case $1 in
    --model) model=$2 && shift ;;
    --neighbour) case $2 in http://* | https://*) server=$2 ;; *) neighbours+=("$2") ;; esac && shift ;;
    --lossy) lossy+=("$2") && shift ;;
    --small) small+=("$2") && shift ;;
    --i2s-layout) layout=$2 && shift ;;
    --out) out=$2 && shift ;;
    --rounds) rounds=$2 && shift ;;
    --quick) rounds=1 reps=1 ;;
    -*) echo "bench: unknown option $1; see the head of $0" >&2 && exit 2 ;;
    *) build=$1 ;;
    esac
    shift
done
[ -n "$build" ] || { echo "bench: which build? usage: $0 [--model FILE] [--neighbour PROGRAM|URL] BUILD" >&2; exit 2; }
bundled=engine/models/tinystories-bitnet.gguf
if [ -z "$model" ]; then
    small+=("${neighbours[@]}") neighbours=()
    [ ${#lossy[@]} -eq 0 ] || { echo "bench: --lossy is beside --model" >&2; exit 2; }
fi
bnt=$(realpath "$build")/bnt out=${out:-$build/bench} cores=$(nproc)
threads=1
[ "$cores" -eq 1 ] || threads="1 $cores"
mkdir -p "$out/parts"
rm -f "$out"/parts/*.json
exec > >(tee "$out/table.txt")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# NAME ARGUMENT...: the JSON of one `bnt bench` into parts/NAME.json. An exit code of 17 or 3 is a verdict, and data; 9 is
# what cannot be told of this model, and why is said above.
measure() {
    local name=$1 code=0
    shift
    echo "bench: $name" >&2
    "$bnt" bench --json "$@" >"$out/parts/$name.json" 2>"$out/bnt.log" || code=$?
    case $code in
    0 | 3 | 17 | 24) return ;;
    esac
    cat "$out/bnt.log" >&2
    case $code in
    9) rm "$out/parts/$name.json" && echo "bench: $name is left out" >&2 ;;
    *) exit "$code" ;;
    esac
}

of_model() { # NAME ARGUMENT...
    local name=$1
    shift
    measure "$name" -m "$model" ${layout:+--i2s-layout "$layout"} "$@"
}

# ---- neighbours -------------------------------------------------------------------------------------------------------

# NAME SPEC FILE ARGUMENT...: one run of a neighbour. SPEC is its program, options, and after = its file, else FILE.
neighbour() {
    local name=$1 spec=$2 file=$3 program
    shift 3
    case $spec in *=*) file=${spec##*=} spec=${spec%=*} ;; esac
    read -ra program <<<"$spec"
    echo "bench: $name" >&2
    if "${program[@]}" -m "$file" "$@" -r 1 -o json >"$scratch/json" 2>"$out/neighbour.log"; then
        mv "$scratch/json" "$out/parts/$name.json"
        return
    fi
    tail -n 3 "$out/neighbour.log" >&2
    echo "bench: $spec failed on $file with $*" >&2
    [ "${name%%-*}" = small ] || exit 1
    touch "$scratch/failed-${name##*-}"
}

# A prompt of 512 is what takes longest. A neighbour that was slower than nine tenths of the best one in the first round is
# not the best of that row, and is not asked again.
hopeless() { # THREADS INDEX
    jq -n -e --arg me "neighbour-t$1-1-$2.json" '[inputs | {at: (input_filename | split("/") | last),
            speed: ([.[] | select(.n_prompt == 512) | .avg_ts] | first)}] |
        (map(.speed) | max) as $best | any(.[]; .at == $me and .speed < 0.9 * $best)' \
        "$out"/parts/neighbour-t"$1"-1-*.json >/dev/null
}

model_round() { # ROUND THREADS
    local i prompts packed
    of_model "full-t$2-$1" -t "$2" -r 1 -w 0 --head full --prompt-lengths 64,512,64 -n 64
    for i in "${!neighbours[@]}"; do
        prompts=64,512
        if [ "$1" -gt 1 ] && hopeless "$2" "$i"; then prompts=64; fi
        neighbour "neighbour-t$2-$1-$i" "${neighbours[$i]}" "$model" -p "$prompts" -n 64 -t "$2"
    done
    of_model "screened-t$2-$1" -t "$2" -r 1 -w 0 --head screened --prompt-lengths 64 -n 64
    for i in "${!lossy[@]}"; do
        neighbour "lossy-t$2-$1-$i" "${lossy[$i]}" "$model" -p 0 -n 64 -t "$2"
    done
    for i in $positions; do # the head as the file has it, and packed
        for packed in off auto; do
            infer "position$i-$packed-t$2-$1" --threads "$2" --head full --packed "$packed" --ctx "$ctx" \
                --session-load "$scratch/at$i" -f "$scratch/text$i-longer" -n 32
        done
    done
}

small_round() { # ROUND THREADS
    local i
    measure "small-bnt-t$2-$1" -t "$2" -r 3 --prompt-lengths 64,512 -n 128
    for i in "${!small[@]}"; do
        [ ! -e "$scratch/failed-$i" ] || continue
        neighbour "small-neighbour-t$2-$1-$i" "${small[$i]}" "$bundled" -p 64,512 -n 128 -t "$2"
    done
}

# ---- starts, and what a position costs ----------------------------------------------------------------------------------

# NAME ARGUMENT...: the JSON of one `bnt infer` on the model into parts/NAME.json.
infer() {
    local name=$1 code=0
    shift
    echo "bench: $name" >&2
    "$bnt" infer -m "$model" ${layout:+--i2s-layout "$layout"} --json --ignore-eos "$@" \
        >"$out/parts/$name.json" 2>"$out/bnt.log" || code=$?
    [ "$code" -eq 0 ] || [ "$code" -eq 24 ] || { cat "$out/bnt.log" >&2 && exit "$code"; }
}

start_round() { # ROUND
    rm -rf "$scratch/cache"
    BNT_CACHE_DIR=$scratch/cache infer "start-first-$1" -p Hello -n 1
    BNT_CACHE_DIR=$scratch/cache infer "start-second-$1" -p Hello -n 1
    BNT_CACHE_DIR=$scratch/cache infer "start-unpacked-$1" -p Hello -n 1 --packed off
}

# Sessions that hold so many positions, to go on from again and again: a prompt of words that are one token each, after the
# token that begins a text.
positions='128 4096' ctx=4160
hold_positions() {
    local n
    for n in $positions; do
        { echo -n Once && seq $((n - 2)) | sed 's/.*/ the/' | tr -d '\n'; } >"$scratch/text$n"
        { cat "$scratch/text$n" && echo -n ' and'; } >"$scratch/text$n-longer"
        infer "hold-$n" --threads "$cores" --head full --ctx "$ctx" -f "$scratch/text$n" -n 1 --session-save "$scratch/at$n"
        rm "$out/parts/hold-$n.json"
    done
}

# ---- all of it --------------------------------------------------------------------------------------------------------

for t in $threads; do
    measure "bundled-t$t" -t "$t" -r "$reps"
    measure "ops-t$t" --ops -t "$t" -r "$reps"
done
measure explain --explain -r "$reps"
for shape in 2b 3b; do
    measure "machine-$shape" --explain --machine cores=16,bandwidth=100 --shape "$shape" --prompt-lengths 10,50,512
done
if [ -n "$model" ]; then
    of_model model-explain --explain -r "$reps" --prompt-lengths 10,64 -n 16
    of_model machine-model --explain --machine cores=16,bandwidth=100 -r "$reps" --prompt-lengths 10,64 -n 16
    hold_positions
fi
for round in $(seq "$rounds"); do
    [ -z "$model" ] || start_round "$round"
    for t in $threads; do
        [ -z "$model" ] || model_round "$round" "$t"
        small_round "$round" "$t"
    done
done
if [ -n "$server" ]; then
    measure server --compare "$server" --pairs "$pairs" -r "$reps" --prompt-lengths 64,512 ${model:+-m "$model"}
fi

jq -n '[inputs | {key: (input_filename | split("/") | last | rtrimstr(".json")), value: .}] | from_entries' \
    "$out"/parts/*.json >"$out/bench.json"
names=$(jq -n --arg n "$(printf '%s\n' "${neighbours[@]}")" --arg l "$(printf '%s\n' "${lossy[@]}")" \
    --arg s "$(printf '%s\n' "${small[@]}")" \
    '{neighbour: $n, lossy: $l, "small-neighbour": $s} | map_values(split("\n") | map(split("=") | first))')

table() { # SECTION TITLE
    local rows
    rows=$(jq -r --argjson cores "$cores" --argjson names "$names" --arg section "$1" -f ci/bench_table.jq "$out/bench.json")
    [ -z "$rows" ] || { echo && echo "$2" && column -t -s $'\t' <<<"$rows"; }
}
table goals "goals: tokens/s, medians of $rounds rounds in turn; the ratio is the median of the rounds' own"
table bandwidth "memory has modes on some machines: what was probed in each round, and tokens/s in it"
table figures "the bundled model, tokens/s"
table operations "single operations: the worst"
table times "model of time: predicted by measured, at most 15 % off; and 16 cores at 100 GB/s"
table server "beside the server: our time to its"
echo
echo "all of it: $out/bench.json"
