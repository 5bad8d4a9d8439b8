#!/bin/sh
# clang-format, by .clang-format, of the C files that differ from the last commit.
#
#     ci/format.sh [--all] [--check]     --all: every C file; --check: change nothing, fail if something would change
set -eu

cd "$(dirname "$0")/.."
all=false
check=false
for word in "$@"; do
    case $word in
    --all) all=true ;;
    --check) check=true ;;
    *) echo "usage: ci/format.sh [--all] [--check]" >&2; exit 2 ;;
    esac
done

candidates() {
    if $all; then
        git ls-files --cached --others --exclude-standard
    else
        git diff --name-only --diff-filter=d HEAD
        git ls-files --others --exclude-standard
    fi | grep -E '\.(c|h|inc)$' | sort -u || true
}

# .inc files are C that several files include; clang-format must be told.
formatted() {
    clang-format --assume-filename="${1%.*}.c" <"$1"
}

scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT
changed=0
for file in $(candidates); do
    formatted "$file" >"$scratch"
    if ! cmp -s "$file" "$scratch"; then
        changed=$((changed + 1))
        echo "$file"
        if $check; then
            diff -u "$file" "$scratch" || true
        else
            cat "$scratch" >"$file"
        fi
    fi
done
if $check && [ "$changed" -gt 0 ]; then
    echo "format: $changed files differ; run: make format" >&2
    exit 1
fi
