#!/bin/bash
# What bnt generates from its option tables works: the man page renders without a warning, and the completion scripts
# complete in bash, zsh and fish.
#
#     ci/generated_test.sh BNT
#
# Without man, mandoc, zsh or fish that part is not checked, and it says so.
set -u

bnt=$(realpath "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
mkdir -p folder
: >folder/model.gguf
: >"folder/with blank.gguf"
failures=0
checks=0

check() { # what, expected, got
    checks=$((checks + 1))
    if [[ $2 != "$3" ]]; then
        failures=$((failures + 1))
        printf '%s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
    fi
}

has() { # what, pattern, text
    checks=$((checks + 1))
    # shellcheck disable=SC2053 # a pattern is meant
    if [[ $3 != $2 ]]; then
        failures=$((failures + 1))
        printf '%s\n  expected something like: %s\n  got: %.400s\n' "$1" "$2" "$3"
    fi
}

# ---- man page ----------------------------------------------------------------------------------------------------------

"$bnt" help --man >bnt.1 || failures=$((failures + 1))
for section in NAME SYNOPSIS DESCRIPTION OPTIONS COMMANDS 'EXIT STATUS' ENVIRONMENT; do
    has "section $section" "*.SH $section"$'\n*' "$(cat bnt.1)"
done
if command -v man >/dev/null; then
    check "man --warnings" "" "$(MANWIDTH=80 man --warnings -l bnt.1 2>&1 >/dev/null)"
else
    echo "generated: man is not there: not checked"
fi
if command -v mandoc >/dev/null; then
    # A date would make the page differ from build to build; long lines are no one's reading here.
    check "mandoc -T lint" "" "$(mandoc -T lint bnt.1 | grep -v -e 'missing date' -e 'longer than 80')"
    # Every command and every long option of its --help is in the page.
    page=$(mandoc -T utf8 -O width=200 bnt.1 | sed 's/.\x08//g')
    for command in $("$bnt" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p'); do
        has "the page on $command" "*bnt $command*" "$page"
        for option in $("$bnt" "$command" --help | sed -n 's/^  \(-., \|    \)\(--[a-z0-9-]*\).*/\2/p'); do
            has "the page on $command $option" "*$option*" "$page"
        done
    done
else
    echo "generated: mandoc is not there: not checked"
fi

# ---- bash --------------------------------------------------------------------------------------------------------------

"$bnt" completion bash >bnt.bash || failures=$((failures + 1))
# shellcheck source=/dev/null
source ./bnt.bash

# Candidates for the last word, one line, sorted.
bash_completes() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _bnt
    printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' '
}

commands=$("$bnt" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | sort | tr '\n' ' ')
has "bnt lists commands" "*completion *help *" "$commands"
check "bash: commands" "$commands" "$(bash_completes bnt '')"
check "bash: a command by its start" "completion " "$(bash_completes bnt compl)"
check "bash: a choice" "always auto never " "$(bash_completes bnt --color '')"
check "bash: a choice after =" "always auto " "$(bash_completes bnt --color = a)"
check "bash: a choice right at =" "always auto never " "$(bash_completes bnt --color =)"
check "bash: literal operands" "bash fish zsh " "$(bash_completes bnt completion '')"
check "bash: commands after a global option" "completion " "$(bash_completes bnt --color never compl)"
check "bash: help knows the commands" "completion " "$(bash_completes bnt help compl)"
check "bash: options of a command" "--man " "$(bash_completes bnt help --m)"
if [[ $commands == *infer* ]]; then
    check "bash: files" "folder/model.gguf folder/with blank.gguf " "$(bash_completes bnt infer -m folder/)"
    check "bash: files for the long name" "folder/model.gguf " "$(bash_completes bnt infer --model = folder/m)"
    check "bash: nothing for a number" " " "$(bash_completes bnt infer --seed '')"
    check "bash: the value is no command" "--model " \
        "$(bash_completes bnt infer -p cache --model)"
fi
if [[ $commands == *cache* ]]; then
    has "bash: sub-commands" "*ls *verify *" "$(bash_completes bnt cache '')"
    has "bash: options of a sub-command" "*--json*" "$(bash_completes bnt cache ls --)"
fi

# ---- zsh ---------------------------------------------------------------------------------------------------------------

# A real zsh on a pseudo-terminal: type, press TAB, look at the line and the list below it.
cat >driver.zsh <<'DRIVER'
zmodload zsh/zpty
zpty shell TERM=vt100 zsh -f -i
zpty -w shell 'PROMPT= RPROMPT=; stty columns 200; fpath=($PWD $fpath)'
zpty -w shell 'autoload -Uz compinit; compinit -D -u; setopt no_auto_menu'
zpty -w shell 'print rea""dy'
zpty -r shell text '*ready*'
zpty -w -n shell "$1"$'\t'
sleep "$2"
zpty -w shell $'\x15''print do""ne'
zpty -r shell text '*done*'
print -r -- "$text"
zpty -d shell
DRIVER
zsh_completes() {
    timeout 20 zsh -f driver.zsh "$1" "$2" | tr -d '\r\0' | sed 's/\x1b\[[0-9;?]*[A-Za-z]//g'
}

# A loaded machine gets a second and a third chance, with more time to draw the list.
zsh_has() { # what, pattern, line
    local shown
    for seconds in 0.5 2 6; do
        shown=$(zsh_completes "$3" $seconds)
        # shellcheck disable=SC2053 # a pattern is meant
        [[ $shown == $2 ]] && break
    done
    has "$1" "$2" "$shown"
}

"$bnt" completion zsh >_bnt || failures=$((failures + 1))
if command -v zsh >/dev/null; then
    check "zsh -n" "" "$(zsh -n _bnt 2>&1)"
    zsh_has "zsh: a command by its start" "*bnt completion*" 'bnt compl'
    zsh_has "zsh: commands with their summaries" "*help *-- *" 'bnt '
    zsh_has "zsh: a choice" "*always*" 'bnt --color=al'
    zsh_has "zsh: an option of a command" "*bnt help --man*" 'bnt help --m'
    if [[ $commands == *infer* ]]; then
        zsh_has "zsh: files" "*folder/model.gguf*" 'bnt infer -m folder/m'
    fi
else
    echo "generated: zsh is not there: not checked"
fi

# ---- fish --------------------------------------------------------------------------------------------------------------

# Candidates for the end of a line, without what is said of them, sorted.
fish_completes() {
    # shellcheck disable=SC2016 # fish expands it
    fish --no-config -c 'source bnt.fish; complete -C "$argv[1]"' "$1" 2>&1 | cut -f1 | sort | tr '\n' ' '
}

"$bnt" completion fish >bnt.fish || failures=$((failures + 1))
if command -v fish >/dev/null; then
    export HOME=$scratch
    check "fish -n" "" "$(fish -n bnt.fish 2>&1)"
    check "fish: commands" "$commands" "$(fish_completes 'bnt ')"
    check "fish: a choice" "always auto never " "$(fish_completes 'bnt --color ')"
    check "fish: a choice after =" "--color=always --color=auto " "$(fish_completes 'bnt --color=a')"
    check "fish: literal operands" "bash fish zsh " "$(fish_completes 'bnt completion ')"
    check "fish: commands after a global option" "completion " "$(fish_completes 'bnt --color never compl')"
    check "fish: help knows the commands" "completion " "$(fish_completes 'bnt help compl')"
    check "fish: options of a command" "--man " "$(fish_completes 'bnt help --m')"
    if [[ $commands == *infer* ]]; then
        check "fish: files" "folder/model.gguf folder/with blank.gguf " "$(fish_completes 'bnt infer -m folder/')"
        check "fish: nothing for a number" "" "$(fish_completes 'bnt infer --seed ')"
        check "fish: the value is no command" "--model " "$(fish_completes 'bnt infer -p cache --model')"
    fi
    if [[ $commands == *cache* ]]; then
        has "fish: sub-commands" "*ls *verify *" "$(fish_completes 'bnt cache ')"
        has "fish: options of a sub-command" "*--json*" "$(fish_completes 'bnt cache ls --')"
    fi
else
    echo "generated: fish is not there: not checked"
fi

if ((failures > 0)); then
    echo "generated: $failures of $checks checks failed"
    exit 1
fi
echo "generated: $checks checks of the man page and completions passed"
