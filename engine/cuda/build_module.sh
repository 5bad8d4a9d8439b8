#!/bin/sh
# Build the module for CUDA: engine/cuda/build_module.sh NVCC OUTPUT ARCH...
# Or its kernels alone as PTX, for a test: engine/cuda/build_module.sh --ptx NVCC OUTPUT ARCH
# Or say NVCC if it can build it: engine/cuda/build_module.sh --usable NVCC
#
# Of the architectures (75, 80...) those that this nvcc knows are compiled; the newest of them is kept as PTX too, which
# a driver translates for GPUs that came later. Floats are never contracted: results are the CPU's, bit for bit.
set -eu

# What the kernels are launched by came with 11.8.
is_usable() {
    "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' |
        awk '{ found = 1; good = $1 > 11 || ($1 == 11 && $2 >= 8) } END { exit !(found && good) }'
}

if [ "$1" = --usable ]; then
    if is_usable "$2"; then
        printf '%s\n' "$2"
    fi
    exit 0
fi
form="-shared -cudart static -Xcompiler -fPIC,-fvisibility=hidden"
if [ "$1" = --ptx ]; then
    form=-ptx
    shift
fi
nvcc=$1
output=$2
shift 2
if ! is_usable "$nvcc"; then
    echo "build_module: $nvcc is not there, or older than 11.8: put a newer one into PATH, or say make NVCC=FILE" >&2
    exit 1
fi
known=$("$nvcc" --list-gpu-arch)
targets=
newest=
for arch in "$@"; do
    case "$known" in
    *compute_"$arch"*)
        targets="$targets -gencode arch=compute_$arch,code=sm_$arch"
        newest=$arch
        ;;
    esac
done
if [ -z "$newest" ]; then
    echo "build_module: $nvcc knows none of the architectures $*" >&2
    exit 1
fi
if [ "$form" = -ptx ]; then
    targets=
fi
# shellcheck disable=SC2086 # the form and the targets are words
exec "$nvcc" -std=c++17 -O3 -fmad=false -prec-div=true -prec-sqrt=true -ftz=false -I. $form -diag-suppress 177,550 \
    $targets -gencode "arch=compute_$newest,code=compute_$newest" -o "$output" engine/cuda/module.cu
