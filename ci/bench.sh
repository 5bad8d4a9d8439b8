#!/bin/bash
# Every figure about speed that README.md and docs/bench.md state, measured here: a table, and all of it as JSON.
#
#     ci/bench.sh [--model FILE] [--neighbour PROGRAM|URL] [--quick] [--out FOLDER] BUILD
#
# Without --model the bundled model is measured alone. The neighbour is a program with the options and the JSON of
# llama-bench (-m -p -n -t -r -o json), or the address of a server that runs the same model (`bnt bench --compare`, one
# thread). Both sides run in turn, ROUNDS times; a row shows medians and their ratio. --quick measures everything, but once:
# to see that it works, not to be believed. FOLDER (BUILD/bench) gets bench.json, and table.txt with what is printed.
#
# Walls are only worth something on a machine that does nothing else.
# Expressions of jq have a $ that is not ours.
# shellcheck disable=SC2016
set -euo pipefail

model='' neighbour='' build='' out='' rounds=5 reps=5 pairs=12
while [ $# -gt 0 ]; do
    case $1 in
    --model) model=$2 && shift ;;
    --neighbour) neighbour=$2 && shift ;;
    --out) out=$2 && shift ;;
    --quick) rounds=1 reps=1 ;;
    -*) echo "bench: unknown option $1; see the head of $0" >&2 && exit 2 ;;
    *) build=$1 ;;
    esac
    shift
done
[ -n "$build" ] || { echo "bench: which build? usage: $0 [--model FILE] [--neighbour PROGRAM|URL] BUILD" >&2; exit 2; }
bnt=$(realpath "$build")/bnt out=${out:-$build/bench} cores=$(nproc)
mkdir -p "$out/parts"
rm -f "$out"/parts/*.json
exec > >(tee "$out/table.txt")

# NAME ARGUMENT...: the JSON of one `bnt bench` into parts/NAME.json. An exit code of 17 or 3 is a verdict, and data; 9 is
# what cannot be told of this model, and why is said above.
measure() {
    local name=$1 code=0
    shift
    echo "bench: $name" >&2
    "$bnt" bench --json "$@" >"$out/parts/$name.json" || code=$?
    case $code in
    0 | 3 | 17 | 24) ;;
    9) rm "$out/parts/$name.json" && echo "bench: $name is left out" >&2 ;;
    *) exit "$code" ;;
    esac
}

# ---- what the documents state -----------------------------------------------------------------------------------------

threads=1
[ "$cores" -eq 1 ] || threads="1 $cores"
for t in $threads; do
    measure "bundled-t$t" -t "$t" -r "$reps"
    measure "ops-t$t" --ops -t "$t" -r "$reps"
done
measure explain --explain -r "$reps"
for shape in 2b 3b; do
    measure "machine-$shape" --explain --machine cores=16,bandwidth=100 --shape "$shape" --prompt-lengths 10,50,512
done
if [ -n "$model" ]; then
    for t in $threads; do
        measure "model-t$t" -m "$model" -t "$t" -r "$reps" --prompt-lengths 10,64,512
    done
    measure model-explain --explain -m "$model" -r "$reps" --prompt-lengths 10,64
fi

# ---- the neighbour ----------------------------------------------------------------------------------------------------

# ROUND THREADS: one round of llama-bench and of ours, prompt of 512 and 128 tokens, on the model.
neighbour_round() {
    local what=${model:-engine/models/tinystories-bitnet.gguf}
    if ! "$neighbour" -m "$what" -p 512 -n 128 -t "$2" -r 1 -o json \
        >"$out/parts/neighbour-t$2-$1.json" 2>"$out/neighbour.log"; then
        tail -n 3 "$out/neighbour.log" >&2
        echo "bench: $neighbour failed on $what" >&2
        exit 1
    fi
    measure "beside-t$2-$1" -m "$what" -t "$2" -r 1 --prompt-lengths 512 --no-bandwidth
}

case $neighbour in
'') ;;
http://* | https://*)
    measure server --compare "$neighbour" --pairs "$pairs" -r "$reps" --prompt-lengths 64,512 ${model:+-m "$model"}
    ;;
*)
    for round in $(seq "$rounds"); do
        for t in $threads; do neighbour_round "$round" "$t"; done
    done
    ;;
esac

# ---- one JSON, one table ----------------------------------------------------------------------------------------------

# Every part under its name.
jq -n '[inputs | {key: (input_filename | split("/") | last | rtrimstr(".json")), value: .}] | from_entries' \
    "$out"/parts/*.json >"$out/bench.json"

echo
echo "prompt processing and single tokens, tokens/s"
jq -r 'to_entries[] | select(.key | test("^(bundled|model)-t")) | .key as $k | .value |
    (.prompts[] | [$k, "prompt \(.tokens)", (.tokens_per_s | round), "first token \(.first_token_ms.p50 * 100 | round / 100) ms"]),
    (.decode | [$k, "token", (.tokens_per_s * 10 | round / 10), "p99 \(.token_ms.p99 * 100 | round / 100) ms"]),
    (.memory | [$k, "peak memory", "\(.peak_bytes / 1e6 * 10 | round / 10) MB",
        "bandwidth share \(.share * 100 | round) %"]) | @tsv' "$out/bench.json" | column -t -s $'\t'
echo
echo "single operations: the worst"
jq -r 'to_entries[] | select(.key | startswith("ops-t")) | .key as $k | .value |
    [$k, "ratio to float32 \(.worst_ratio.value * 100 | round / 100) (\(.worst_ratio.shape), \(.worst_ratio.tokens))",
     (.worst_bandwidth_share | if . then "bandwidth \(.value * 100 | round) % (\(.shape))" else "-" end)] | @tsv' \
    "$out/bench.json" | column -t -s $'\t'
echo
echo "model of time: predicted by measured, and 16 cores at 100 GB/s"
jq -r 'to_entries[] | select(.key | test("explain$|^machine")) | .key as $k | .value | .figures[] |
    [$k, .name, .threads, "\(.predicted_tokens_per_s | round) tokens/s predicted",
     (.error | if . then "error \(. * 1000 | round / 10) %" else "-" end)] | @tsv' "$out/bench.json" | column -t -s $'\t'

if jq -e 'has("server")' "$out/bench.json" >/dev/null; then
    echo
    echo "beside the server: our time to its"
    jq -r '.server.figures[] | [.name, "\((1 + .change) * 1000 | round / 1000)", .verdict] | @tsv' "$out/bench.json" |
        column -t -s $'\t'
fi
if jq -e 'keys | any(startswith("neighbour"))' "$out/bench.json" >/dev/null; then
    echo
    echo "beside the neighbour, tokens/s: medians of $rounds rounds in turn, and our speed by its"
    jq -r 'def median: sort | .[length / 2 | floor];
        def theirs($t; $n): [to_entries[] | select(.key | startswith("neighbour-t\($t)-")) | .value[] |
            select((.n_gen > 0) == $n) | .avg_ts] | median;
        def ours($t; f): [to_entries[] | select(.key | startswith("beside-t\($t)-")) | .value | f] | median;
        . as $all | [keys[] | capture("^beside-t(?<t>[0-9]+)-").t] | unique[] as $t | $all |
        ["prompt 512", $t, theirs($t; false), ours($t; .prompts[0].tokens_per_s)],
        ["token", $t, theirs($t; true), ours($t; .decode.tokens_per_s)] |
        [.[0], "\(.[1]) threads", "neighbour \(.[2] * 10 | round / 10)", "bnt \(.[3] * 10 | round / 10)",
         "\(.[3] / .[2] * 100 | round / 100)"] | @tsv' "$out/bench.json" | column -t -s $'\t'
fi
echo
echo "all of it: $out/bench.json"
