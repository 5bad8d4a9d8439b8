#!/bin/sh
# Run the kernels for CUDA as nvcc compiles them, on the processor (testkit/suites/ptx.h): ci/ptx.sh BUILD-DIR NVCC
#
# For a compute capability of each kind: without tensor cores for bytes and copies behind the back of a thread (7.5), with
# them (8.0), with launches that overlap (9.0). Without an nvcc there is nothing to run: one skip.
set -eu

build=$1
nvcc=$2
if [ -z "$(engine/cuda/build_module.sh --usable "$nvcc")" ]; then
    echo "check-ptx: 0 passed, 1 skipped: needs nvcc 11.8 or later"
    exit 0
fi
known=$("$nvcc" --list-gpu-arch)
rm -rf "$build/ptx"
mkdir -p "$build/ptx"
for arch in 75 80 90; do
    case "$known" in
    *compute_"$arch"*) engine/cuda/build_module.sh --ptx "$nvcc" "$build/ptx/$arch.ptx" "$arch" ;;
    *) echo "check-ptx: skipped: needs an nvcc that knows compute capability $arch" ;;
    esac
done

# Each instruction of a warp takes thousands of a processor's: no limits of single tests.
run() { # capability, filter of bnt-suites...
    ptx=$build/ptx/$1.ptx
    [ -e "$ptx" ] || return 0
    echo "check-ptx: compute capability $1"
    shift
    BNT_TEST_PTX=$(realpath "$ptx") BNT_TEST_NO_LIMIT=1 "$build/bnt-suites" "$@"
}

# Two at a time; what the second says comes when the first has ended.
second() {
    run 75 /the_logits_are_the_cpus /cuda_head_heads_and_inputs
    run 80 /the_logits_are_the_cpus /cuda_product/
    run 90 /cuda_head/ /cuda_draw_brings
}
second >"$build/ptx/second.tap" 2>&1 &
failed=0
run 90 /the_logits_are_the_cpus /models_of_other_types /cuda_product/ \
    /cuda_attention_of_every || failed=1
wait $! || failed=1
cat "$build/ptx/second.tap"
exit "$failed"
