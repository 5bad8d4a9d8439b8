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
mkdir -p "$build/ptx"

# Each instruction of a warp takes thousands of a processor's: no limits of single tests.
run() { # capability, filter of bnt-suites...
    arch=$1
    shift
    case "$known" in
    *compute_"$arch"*) ;;
    *)
        echo "check-ptx: skipped: needs an nvcc that knows compute capability $arch"
        return
        ;;
    esac
    engine/cuda/build_module.sh --ptx "$nvcc" "$build/ptx/$arch.ptx" "$arch"
    BNT_TEST_PTX=$(realpath "$build/ptx/$arch.ptx") BNT_TEST_NO_LIMIT=1 "$build/bnt-suites" "$@"
}

older() {
    run 75 /the_logits_are_the_cpus /cuda_head_heads_and_inputs
    run 80 /the_logits_are_the_cpus /cuda_product/
}

older >"$build/ptx/older.tap" 2>&1 &
failed=0
echo "check-ptx: compute capability 9.0"
run 90 /the_logits_are_the_cpus /models_of_other_types /sampling_on_the_device /cuda_product/ /cuda_head/ \
    /cuda_attention_of_every /cuda_draw_brings || failed=1
wait $! || failed=1
echo "check-ptx: compute capabilities 7.5 and 8.0"
cat "$build/ptx/older.tap"
exit "$failed"
