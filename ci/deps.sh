#!/bin/sh
# Install the packages that a target of the Makefile needs: Debian 12 or later, Ubuntu 22.04 or later.
#
#     ci/deps.sh [--list] [build|test|lint|bench|cuda|speed|fuzz|cross|kernel|servers|wasm]...     (default: build test)
#
# Does nothing, and asks no package server, when all is there. On another system it lists what is missing and lets the
# build go on only when the headers and tools are found.
# Lists of packages are words separated by blanks, and are meant to split.
# shellcheck disable=SC2086
set -eu

# One line per package: the set it belongs to, its name, and what proves it on a system without dpkg
# (a header in <>, a program, or - for what cannot be asked).
packages() {
    cat <<'LIST'
build ca-certificates       -
build gcc                   gcc
build libc6-dev             <stdio.h>
build libarchive-dev        <archive.h>
build libcurl4-openssl-dev  <curl/curl.h>
build libjansson-dev        <jansson.h>
build libmicrohttpd-dev     <microhttpd.h>
build libsqlite3-dev        <sqlite3.h>
build libssl-dev            <openssl/evp.h>
build libutf8proc-dev       <utf8proc.h>
build libyaml-dev           <yaml.h>
build libzstd-dev           <zstd.h>
build make                  make
test  libcmocka-dev         <stdarg.h>,<setjmp.h>,<stdint.h>,<cmocka.h>
test  libxml2-utils         xmllint
test  valgrind              valgrind
lint  clang                 clang
lint  clang-format          clang-format
lint  clang-tidy            clang-tidy
lint  cppcheck              cppcheck
lint  fish                  fish
lint  g++                   g++
lint  git                   git
lint  mandoc                mandoc
lint  shellcheck            shellcheck
lint  zsh                   zsh
bench aria2                 aria2c
bench bash                  bash
bench curl                  curl
bench nginx-light           nginx
bench openssl               openssl
bench strace                strace
cuda  nvidia-cuda-toolkit   nvcc
speed bash                  bash
speed bsdextrautils         column
speed jq                    jq
fuzz  clang                 clang
fuzz  libclang-rt-dev       clang
cross gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
cross libc6-dev-arm64-cross aarch64-linux-gnu-gcc
cross qemu-user-static      qemu-aarch64-static
cross libsimde-dev          <simde/x86/avx512.h>
kernel user-mode-linux      linux.uml
servers apache2-utils       htpasswd
servers docker-registry     docker-registry
servers nginx-light         nginx
servers openssl             openssl
servers swift-account       swift-account-server
servers swift-container     swift-container-server
servers swift-object        swift-object-server
servers swift-proxy         swift-proxy-server
wasm clang                  clang
wasm libclang-rt-dev-wasm32 -
wasm lld                    wasm-ld
wasm nodejs                 node
wasm wasi-libc              -
LIST
}

say() { printf 'deps: %s\n' "$*"; }
fail() { printf 'deps: error: %s\n' "$*" >&2; exit 1; }

# Names of the packages of the chosen sets, one per line.
wanted() {
    packages | while read -r set_name package _; do
        case " $sets " in *" $set_name "*) printf '%s\n' "$package" ;; esac
    done | sort -u
}

# Of the wanted packages, those that dpkg does not have. Ubuntu's clang carries its run-time library itself.
missing_by_dpkg() {
    # shellcheck disable=SC2046 # one word per package is meant
    dpkg-query -W -f='${db:Status-Status} ${Package}\n' $(wanted) 2>/dev/null |
        awk '$1 == "installed" { print $2 }' | sort -u >"$scratch/there"
    wanted | comm -23 - "$scratch/there" |
        if [ "$os_id" = ubuntu ]; then grep -vx libclang-rt-dev || true; else cat; fi
}

# Without dpkg: packages whose program or header is not found, under their Debian names.
missing_by_probe() {
    packages | while read -r set_name package proof; do
        case " $sets " in *" $set_name "*) ;; *) continue ;; esac
        case $proof in
        -) ;;
        '<'*)
            printf '%s' "$proof" | tr ',' '\n' | sed 's/^/#include /' |
                ${CC:-cc} -E -x c - >/dev/null 2>&1 || printf '%s\n' "$package"
            ;;
        *) command -v "$proof" >/dev/null || printf '%s\n' "$package" ;;
        esac
    done
}

other_system() {
    missing=$(missing_by_probe)
    if [ -z "$missing" ]; then
        return 0
    fi
    say "this is not Debian or Ubuntu, so nothing is installed. Not found, by their Debian names:" >&2
    printf '  %s\n' $missing >&2
    fail "install what gives these programs and headers, then run the same command again"
}

# A release too old has a compiler or libraries that the build does not know.
check_release() {
    case $os_id in
    debian) oldest=12 ;;
    ubuntu) oldest=22.04 ;;
    *) return 0 ;;
    esac
    if [ -n "$os_version" ] &&
        [ "$(printf '%s\n%s\n' "$oldest" "$os_version" | sort -V | head -n 1)" != "$oldest" ]; then
        fail "$os_id $os_version is too old: $os_id $oldest or later is needed"
    fi
}

# How to become root: empty, or sudo.
root_prefix() {
    if [ "$(id -u)" -eq 0 ]; then
        return 0
    fi
    if command -v sudo >/dev/null; then
        echo sudo
        return 0
    fi
    fail "to install them, run as root: apt-get update && apt-get install --no-install-recommends" $missing
}

# apt-get as root and without questions. It waits up to five minutes for another apt: for dpkg's lock by itself, for
# the lock of the package lists by trying again.
run_apt() {
    tries=0
    until $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 "$@" >"$scratch/log" 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -ge 60 ] || ! grep -q 'Could not get lock\|Unable to lock' "$scratch/log"; then
            tail -n 20 "$scratch/log" >&2
            fail "apt-get $1 failed"
        fi
        [ "$tries" -gt 1 ] || say "another apt is running: waiting"
        sleep 5
    done
}

install_missing() {
    as_root=$(root_prefix)
    say "installing with apt-get${as_root:+ (by $as_root)}:" $missing
    run_apt update
    run_apt install --no-install-recommends $missing
    missing=$(missing_by_dpkg)
    [ -z "$missing" ] || fail "still missing after the installation:" $missing
    say "done"
}

sets=
list=false
for word in "$@"; do
    case $word in
    --list) list=true ;;
    build | test | lint | bench | cuda | speed | fuzz | cross | kernel | servers | wasm) sets="$sets $word" ;;
    *) fail "unknown word '$word'; usage: ci/deps.sh [--list] [build|test|lint|bench|cuda|speed|fuzz|cross|kernel|servers|wasm]..." ;;
    esac
done
sets=${sets:-build test}
if $list; then
    wanted
    exit 0
fi

os_id="" os_version=""
if [ -r /etc/os-release ]; then
    # shellcheck source=/dev/null
    os_id=$(. /etc/os-release && echo "${ID:-}")
    # shellcheck source=/dev/null
    os_version=$(. /etc/os-release && echo "${VERSION_ID:-}")
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    other_system
    exit 0
fi
missing=$(missing_by_dpkg)
if [ -n "$missing" ]; then
    check_release
    install_missing
fi
