# The tables of ci/bench.sh from its bench.json: $section names one, its rows are lines of cells with tabs between them.
# $cores is how many threads the widest runs have, $names the programs of each kind of neighbour.

def median: sort | if length == 0 then null else (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2 end;
def fixed($n): if . == null then "-" else pow(10; $n) as $p | . * $p | round / $p | tostring end;
def threads: [1, $cores] | unique;

# Parts by the name KIND-tTHREADS-ROUND[-WHO].
def runs($kind; $t): [to_entries[] | select(.key | startswith("\($kind)-t\($t)-")) |
    (.key | capture("-t[0-9]+-(?<round>[0-9]+)(-(?<who>[0-9]+))?$")) + {v: .value}];
def speeds($kind; $t; f): [runs($kind; $t)[] | .s = ([.v | f] | first) | select(.s != null)];

# Of the neighbours of a kind the one that is fastest at a test: its runs. $p: tokens of a prompt; 0: single tokens.
def best($kind; $t; $p):
    [speeds($kind; $t; .[] | select(.n_prompt == $p) | .avg_ts) | group_by(.who)[]] | max_by(map(.s) | median) // [];

def verdict($value; $goal; $least): if $value == null then ["-", "-", "-"] else
    [($value | fixed(2)), (if $least then "at least " else "at most " end) + "\($goal)",
     (if $least == ($value >= $goal) or $value == $goal then "met" else "missed" end)] end;

# A row: ours beside the best neighbour, by the median of the rounds' ratios.
def beside($what; $t; $ours; $kind; $p; $goal):
    best($kind; $t; $p) as $theirs |
    [$ours[] as $o | $theirs[] | select(.round == $o.round) | $o.s / .s] as $ratios |
    [$what, $t, ($ours | map(.s) | median | fixed(1)),
     (if $theirs == [] then "-" else "\($theirs | map(.s) | median | fixed(1)) \($names[$kind][$theirs[0].who | tonumber])" end)]
    + verdict($ratios | median; $goal; true) +
    (if $ratios == [] then [] else ["\($ratios | min | fixed(2)) to \($ratios | max | fixed(2))"] end);
def alone($what; $t; $value; $goal; $least; $unit):
    ($value | if . == null then "-" else fixed(2) + $unit end) as $shown |
    [$what, $t, $shown, "-"] + verdict($value; $goal; $least) | .[4] = "-";

def prompt($n): .prompts | map(select(.tokens == $n)) | last | .tokens_per_s;

# What a token at position 4096 takes longer than one at 128.
def longer($packed; $t):
    speeds("position128-\($packed)"; $t; .metrics.token_p50_ms) as $near |
    [speeds("position4096-\($packed)"; $t; .metrics.token_p50_ms)[] as $f |
        $near[] | select(.round == $f.round) | $f.s / .s] | median;

# ---- sections ----

def model_goals:
    . as $all | threads[] as $t | $all |
    if runs("full"; $t) == [] then empty else
    beside("prompt 512"; $t; speeds("full"; $t; prompt(512)); "neighbour"; 512; 1.35),
    beside("prompt 64"; $t; speeds("full"; $t; prompt(64)); "neighbour"; 64; 1.3),
    beside("token, full head"; $t; speeds("full"; $t; .decode.tokens_per_s); "neighbour"; 0;
        if $t == 1 then 1.4 else 1.6 end),
    alone("its share of the probed bandwidth"; $t; speeds("full"; $t; .memory.share) | map(.s) | median;
        if $t == 1 then 0.85 else 0.8 end; true; ""),
    beside("token, screened head, beside a lossy one"; $t; speeds("screened"; $t; .decode.tokens_per_s); "lossy"; 0;
        if $t == 1 then 1.35 else 1.5 end),
    alone("token at 4096 by one at 128, F16 head"; $t; longer("off"; $t); 1.35; false; " times"),
    ["the same, packed head", $t, (longer("auto"; $t) | fixed(2)) + " times"] end;

def ready($which): [to_entries[] | select(.key | startswith("start-\($which)-")) | .value.metrics |
    .load_ms + .pack_ms + .session_ms] | median;
def start_goals:
    if ready("second") == null then empty else
    alone("second start: ready"; ""; ready("second"); 150; false; " ms"),
    alone("first start: longer than without packing"; ""; ready("first") - ready("unpacked"); 2000; false; " ms"),
    alone("start without packing: ready"; ""; ready("unpacked"); 150; false; " ms") end;

def small_goals:
    . as $all | threads[] as $t | $all |
    def row($what; $p; f; $goal): (speeds("small-bnt"; $t; f) | map(.s) | median) as $s |
        beside($what; $t; speeds("small-bnt"; $t; f); "small-neighbour"; $p; 1) |
        if $t == $cores then .[5] = "at least \($goal) /s" | .[6] = (if $s >= $goal then "met" else "missed" end)
        else .[5] = "-" | .[6] = "-" end;
    row("bundled, prompt 512"; 512; prompt(512); 40000),
    row("bundled, prompt 64"; 64; prompt(64); 40000),
    row("bundled, token"; 0; .decode.tokens_per_s; 8000);

def bandwidth:
    . as $all | threads[] as $t | $all |
    if runs("full"; $t) == [] then empty else
    ["probed GB/s", $t] + (speeds("full"; $t; .memory.bandwidth_gb_per_s) | map(.s | fixed(1))),
    ["token, full head", $t] + (speeds("full"; $t; .decode.tokens_per_s) | map(.s | fixed(1))),
    ["token, screened head", $t] + (speeds("screened"; $t; .decode.tokens_per_s) | map(.s | fixed(1))),
    (("neighbour", "lossy") as $kind | $names[$kind] | to_entries[] | (.key | tostring) as $who | .value as $name | $all |
        ["token, \($name)", $t] + [speeds($kind; $t; .[] | select(.n_prompt == 0) | .avg_ts)[] |
            select(.who == $who) | .s | fixed(1)]) end;

def figures:
    to_entries[] | select(.key | startswith("bundled-t")) | .key as $k | .value |
    (.prompts[] | [$k, "prompt \(.tokens)", (.tokens_per_s | round), "first token \(.first_token_ms.p50 | fixed(2)) ms"]),
    (.decode | [$k, "token", (.tokens_per_s | fixed(1)), "p99 \(.token_ms.p99 | fixed(2)) ms"]),
    (.memory | [$k, "peak memory", "\(.peak_bytes / 1e6 | fixed(1)) MB", "bandwidth share \(.share * 100 | round) %"]);

def operations:
    to_entries[] | select(.key | startswith("ops-t")) | .key as $k | .value |
    [$k, "ratio to float32 \(.worst_ratio.value | fixed(2)) (\(.worst_ratio.shape), \(.worst_ratio.tokens))",
     (if .worst_ratio.value >= .worst_ratio.least then "met" else "missed" end),
     (.worst_bandwidth_share | if . then "bandwidth \(.value * 100 | round) % (\(.shape))" else "-" end),
     (.worst_bandwidth_share | if . == null then "-" elif .value >= .least then "met" else "missed" end)];

def times:
    to_entries[] | select(.key | test("explain$|^machine")) | .key as $k | .value | .figures[] |
    [$k, .name, .threads, "\(.predicted_tokens_per_s | round) tokens/s predicted"] +
    (.error | if . == null then ["-"] else
        ["error \(. * 100 | fixed(1)) %", (if fabs <= 0.15 then "met" else "missed" end)] end);

def beside_server: .server // empty | .figures[] | [.name, "\(1 + .change | fixed(3))", .verdict];

if $section == "goals" then
    ["", "threads", "bnt", "best neighbour", "ratio", "goal", "", "rounds"], model_goals, start_goals, small_goals
elif $section == "bandwidth" then bandwidth
elif $section == "figures" then figures
elif $section == "operations" then operations
elif $section == "times" then times
else beside_server end | @tsv
