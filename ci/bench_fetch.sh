#!/bin/bash
# The figures of fetch and cache, as ratios within one run: nginx, curl and aria2c on this machine's loopback.
#
#     ci/bench_fetch.sh [--strict] [--json FILE] [--runs N] BUILD
#
# --strict makes the exit status 1 when a goal is missed; --json writes the rows to a file, too. N (5) is how often what is
# compared runs, in turn; a row shows the median and the range. BNT_SYNTH2B names a GGUF of full size; without it 1.2 GB of
# random bytes stand in, and the size of the compressed copy is not measured.
#
# How it is measured:
#   * Both sides are durable: curl and aria2c are followed by sync FILE within the time, bnt syncs by itself.
#   * Virtual machines give free memory back to their host, and whoever touches it first pays up to five processor-seconds
#     per gigabyte for it. So before each run a file of the model's size is written and removed: what is free then was in use
#     a moment ago, most of it. It does not always help; a run whose system time stands out says more about the host.
#   * Processor time is user and system of the process and its threads; nginx is not in it.
#   * Connections with a cap: the ranges that bnt asked for are asked for again by curl, one after the other on one
#     connection, so both get what nginx lets through at the beginning of each answer.
# Expressions of awk have a $ that is not ours.
# shellcheck disable=SC2016
set -euo pipefail

strict=false json='' runs=5 build=''
while [ $# -gt 0 ]; do
    case $1 in
    --strict) strict=true ;;
    --json) json=$2 && shift ;;
    --runs) runs=$2 && shift ;;
    -*) echo "bench: unknown option $1; see the head of $0" >&2 && exit 2 ;;
    *) build=$1 ;;
    esac
    shift
done
[ -n "$build" ] || { echo "bench: which build? usage: $0 [--strict] [--json FILE] [--runs N] BUILD" >&2; exit 2; }
bnt=$(realpath "$build")/bnt
PATH=$PATH:/usr/sbin

work=$(mktemp -d "${TMPDIR:-/tmp}/bnt-bench.XXXXXX")
# shellcheck disable=SC2317 # called by the trap
clean_up() {
    [ ! -s "$work/nginx.pid" ] || kill "$(cat "$work/nginx.pid")" 2>/dev/null || true
    [ -z "${replay:-}" ] || kill "$replay" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
export BNT_CACHE_DIR=$work/cache SSL_CERT_FILE=$work/cert.pem
unset CURL_CA_BUNDLE SSL_CERT_DIR http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY

# ---- the server -------------------------------------------------------------------------------------------------------

port=$((20000 + $$ % 20000))
fast=http://127.0.0.1:$port tls=https://127.0.0.1:$((port + 1)) capped=http://127.0.0.1:$((port + 2))
mirror() { echo "http://127.0.0.1:$((port + 3 + $1))"; } # 0 to 2 are equal, 3 is ten times slower
cap_mb=2                                                 # per second and connection of `capped`
mirror_mb=4                                              # of a mirror

start_server() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
        -addext subjectAltName=IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
    mkdir -p "$work/www" "$work/body"
    {
        [ "$(id -u)" -ne 0 ] || echo "user root;" # as who made the folder
        echo "worker_processes 1; pid $work/nginx.pid; error_log $work/nginx.err;"
        echo "events { worker_connections 512; }"
        echo "http {"
        echo "  log_format bench '\$server_port \$uri \$status \$body_bytes_sent \$http_range';"
        echo "  access_log $work/access.log bench; sendfile on; tcp_nopush on; root $work/www;"
        for kind in client_body proxy fastcgi uwsgi scgi; do echo "  ${kind}_temp_path $work/body;"; done
        echo "  server { listen 127.0.0.1:$port; }"
        echo "  server { listen 127.0.0.1:$((port + 1)) ssl;"
        echo "    ssl_certificate $work/cert.pem; ssl_certificate_key $work/key.pem; }"
        echo "  server { listen 127.0.0.1:$((port + 2)); limit_rate ${cap_mb}m; }"
        for i in 0 1 2; do echo "  server { listen 127.0.0.1:$((port + 3 + i)); limit_rate ${mirror_mb}m; }"; done
        echo "  server { listen 127.0.0.1:$((port + 6)); limit_rate $((mirror_mb * 1024 / 10))k; }"
        echo "}"
    } >"$work/nginx.conf"
    nginx -p "$work" -c "$work/nginx.conf" || { cat "$work/nginx.err" >&2; exit 1; }
}

# ---- measuring --------------------------------------------------------------------------------------------------------

# Give everybody the same: nothing to write back, and memory that the host has backed. Not synced: the pages of a file that
# goes before it is written are free at once.
level() {
    sync -f "$work"
    head -c "$bytes" /dev/zero >"$work/zero"
    rm -f "$work/zero"
}

# Append wall, user and system seconds of a command to a list.
timed() { # list, command...
    local list=$1 TIMEFORMAT='%3R %3U %3S'
    shift
    { time "$@" >"$work/out" 2>"$work/err"; } 2>>"$work/$list" || {
        echo "bench: failed: $*" >&2
        cat "$work/err" >&2
        exit 1
    }
}

# The numbers of a list as "median least most", each by an expression over wall $1, user $2 and system $3.
spread() { # list, expression
    awk "{ print $2 }" "$work/$1" | sort -g |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[1], v[NR] }'
}

# Line by line, the first list over the second.
ratio() { # list, list, result
    paste -d' ' "$work/$1" "$work/$2" | awk '{ print $1 / $4, 0, 0 }' >"$work/$3"
}

missed=0 rows=''
row() { # figure, "most" or "least", goal, unit, "median least most"
    local median least most verdict
    read -r median least most <<<"$5"
    verdict=$(awk -v m="$median" -v g="$3" -v how="$2" \
        'BEGIN { print (how == "most" ? m <= g : m >= g) ? "met" : "MISSED" }')
    [ "$verdict" = met ] || missed=$((missed + 1))
    printf '%-58s at %-5s %6s %-6s %9.3f  (%.3f .. %.3f)  %s\n' "$1" "$2" "$3" "$4" "$median" "$least" "$most" "$verdict"
    rows+="${rows:+,}"$'\n'"  {\"figure\": \"$1\", \"at\": \"$2\", \"goal\": $3, \"unit\": \"$4\", \"measured\": $median"
    rows+=", \"least\": $least, \"most\": $most, \"met\": $([ "$verdict" = met ] && echo true || echo false)}"
}

curl_durable() { curl -fsS -o "$work/copy" "$1" && sync "$work/copy"; }
aria_durable() {
    aria2c -q --checksum=sha-256="$digest" -d "$work" -o copy "$fast/model" && sync "$work/copy"
}
bnt_known() { "$bnt" fetch -q "$fast/model" --name model --sha256 "$digest"; }
bnt_first() { "$bnt" fetch -q "$tls/model" --name model; }
forget() { rm -rf "$BNT_CACHE_DIR" "$work/copy"; }

# ---- the figures ------------------------------------------------------------------------------------------------------

whole_file() {
    for ((i = 0; i < runs; i++)); do
        forget && level && timed curl curl_durable "$fast/model"
        forget && level && timed known bnt_known
        forget && level && timed first bnt_first
        forget && level && timed aria aria_durable
    done
    ratio known curl known_curl
    ratio aria known aria_known
    row "verified fetch, wall over curl and sync" most 1.1 x "$(spread known_curl '$1')"
    row "verified fetch, times faster than aria2c --checksum" least 2 x "$(spread aria_known '$1')"
    # What no fetch can go below on this host: the same bytes into the same fresh memory.
    printf '(curl and sync alone, unverified, processor time in s/GB: median, least and most %s)\n' \
        "$(spread curl "(\$2 + \$3) / ($bytes / 1e9)")"
    row "digest known: processor time" most 2.0 s/GB "$(spread known "(\$2 + \$3) / ($bytes / 1e9)")"
    row "first contact (https), chunk tree: processor time" most 2.8 s/GB \
        "$(spread first "(\$2 + \$3) / ($bytes / 1e9)")"
}

warm_cache() {
    forget && bnt_known >/dev/null
    for ((i = 0; i < runs; i++)); do timed again bnt_known; done
    paste -d' ' "$work/again" "$work/known" | awk '{ print 100 - 100 * $1 / $4, 0, 0 }' >"$work/saved"
    row "warm cache: fetch time saved" least 90 % "$(spread saved '$1')"
    local begin
    for ((i = 0; i < 300; i++)); do
        begin=${EPOCHREALTIME/./}
        "$bnt" path model >/dev/null
        echo "$((${EPOCHREALTIME/./} - begin))" >>"$work/path"
    done
    sort -n "$work/path" | awk '{ v[NR] = $1 / 1000 } END { print v[150], v[1], v[NR] > "'"$work/p50"'"
                                                           print v[297], v[1], v[NR] > "'"$work/p99"'" }'
    row "cache hit, bnt path, p50" most 3 ms "$(cat "$work/p50")"
    row "cache hit, bnt path, p99" most 10 ms "$(cat "$work/p99")"
    # A name on this machine (AF_UNIX) guards the databases where locks of files lie.
    strace -f -qq -e trace=socket -o "$work/calls" "$bnt" path model >/dev/null
    row "cache hit, sockets that could send a packet" most 0 calls "$(grep -vc AF_UNIX "$work/calls" || true) 0 0"
}

compressed() {
    local warm
    "$bnt" cache demote model >"$work/out" 2>&1
    warm=$(find "$BNT_CACHE_DIR/warm" -name '*.zst')
    if [ -z "$warm" ]; then
        echo "(warm copy: not measured, random bytes do not compress; set BNT_SYNTH2B to a GGUF of full size)"
        return
    fi
    row "compressed copy, smaller by" least 25 % "$(awk -v w="$(stat -c %s "$warm")" -v b="$bytes" \
        'BEGIN { s = 100 - 100 * w / b; print s, s, s }')"
    ln "$warm" "$work/warm.zst"
    for ((i = 0; i < runs; i++)); do
        rm -f "$BNT_CACHE_DIR"/blobs/sha256/*/*
        ln -f "$work/warm.zst" "$warm"
        level && timed promote "$bnt" path model
    done
    row "warm to hot, digest included" least 1 GB/s "$(spread promote "$bytes / 1e9 / \$1")"
}

cold_crowd() {
    local pids=()
    forget && : >"$work/access.log"
    for ((i = 0; i < 32; i++)); do
        bnt_known >/dev/null &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    row "32 cold processes, bytes served over those of the file" most 1.01 x \
        "$(awk -v b="$bytes" '{ n += $4 } END { print n / b, n / b, n / b }' "$work/access.log")"
}

# The ranges of the access log once more, one after the other, by one curl.
replay_ranges() {
    awk -v url="$capped/part" '$2 == "/part" { sub(/bytes=/, "", $5); print (n++ ? "next\n" : "") \
        "url = " url "\noutput = /dev/null\nfail\nsilent" ($5 == "-" ? "" : "\nrange = " $5) }' "$work/access.log" >"$work/replay"
    timed one curl -K "$work/replay"
}

fetch_from() { "$bnt" fetch -q --connections 4 --name "$@"; }

connections() {
    local part_digest slow_mirror
    head -c $((160 << 20)) "$work/www/model" >"$work/www/part"
    part_digest=$(sha256sum "$work/www/part" | cut -c 1-64)
    forget && : >"$work/access.log"
    timed four fetch_from part "$capped/part" --sha256 "$part_digest"
    replay_ranges &
    replay=$!
    # Meanwhile three mirrors, which need next to nothing of the processor, either.
    head -c $((256 << 20)) "$work/www/model" >"$work/www/large"
    large_digest=$(sha256sum "$work/www/large" | cut -c 1-64)
    for ((i = 0; i < 2; i++)); do
        for last in 2 3; do
            slow_mirror=$(mirror $last)
            forget
            timed "mirrors$last" fetch_from large "$(mirror 0)/large" --sha256 "$large_digest" \
                --mirror "$(mirror 1)/large" --mirror "$slow_mirror/large"
        done
    done
    wait "$replay"
    replay=
    ratio one four speed_up
    row "4 connections under a cap each, times faster than one" least 3.8 x "$(spread speed_up '$1')"
    ratio mirrors3 mirrors2 slow_cost
    row "one of three mirrors 10 times slower, wall over three equal" most 1.1 x "$(spread slow_cost '$1')"
}

start_server
if [ -n "${BNT_SYNTH2B:-}" ]; then
    ln -s "$(realpath "$BNT_SYNTH2B")" "$work/www/model"
else
    head -c 1200000000 /dev/urandom >"$work/www/model"
fi
bytes=$(stat -L -c %s "$work/www/model")
digest=$(sha256sum "$work/www/model" | cut -c 1-64)
printf 'bench: %s bytes, %s processors, load %s, %s rounds\n' "$bytes" "$(nproc)" "$(cut -d' ' -f 1 /proc/loadavg)" "$runs"
whole_file
warm_cache
compressed
cold_crowd
connections
printf 'bench: %s of the goals missed; load %s, %s s\n' "$missed" "$(cut -d' ' -f 1 /proc/loadavg)" "$SECONDS"
if [ -n "$json" ]; then
    printf '{"bytes": %s, "processors": %s, "rows": [%s\n]}\n' "$bytes" "$(nproc)" "$rows" >"$json"
fi
if $strict && [ "$missed" -gt 0 ]; then
    exit 1
fi
