#!/bin/sh
# Build the module for CUDA: engine/cuda/build_module.sh NVCC OUTPUT ARCH...
#
# Of the architectures (75, 80...) those that this nvcc knows are compiled; the newest of them is kept as PTX too, which
# a driver translates for GPUs that came later. Floats are never contracted: results are the CPU's, bit for bit.
set -eu

nvcc=$1
output=$2
shift 2
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
# shellcheck disable=SC2086 # the targets are words
exec "$nvcc" -std=c++17 -O3 -fmad=false -prec-div=true -prec-sqrt=true -ftz=false -I. -shared -cudart static \
    -Xcompiler -fPIC,-fvisibility=hidden -diag-suppress 177,550 $targets \
    -gencode "arch=compute_$newest,code=compute_$newest" -o "$output" engine/cuda/module.cu
