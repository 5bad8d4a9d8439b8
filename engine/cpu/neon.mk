# The kernels on processors that this machine has not: a small static program with the kernels
# alone; the checksums that it prints must be the same natively and under qemu-user.

CROSS ?= aarch64-linux-gnu-
QEMU  ?= $(or $(shell command -v qemu-aarch64 || command -v qemu-aarch64-static),qemu-aarch64)

SRC_neon := engine/cpu/check/check_main.c base/status.c \
            $(addprefix engine/cpu/,choose.c features.c fmath.c self_test.c kernels_ref.c \
                                    kernels_avx2.c columns_avx2.c kernels_avx512.c fives_vbmi.c \
                                    kernels_neon.c \
                                    panel_avx512.c attend_avx512.c attend_one_avx512.c \
                                    attend_one_avx2.c panel_avx2.c lut_avx2.c \
                                    kernels_i8mm.c tl_ref.c tl_avx2.c tl_avx512.c tl_neon.c) \
            $(addprefix engine/,dequant.c ternary.c ternary_tl.c tensor_type.c gguf_fault.c)

NEON := $(B)/neon
$(NEON)/engine/cpu/%_neon.o: ISA_neon := -march=armv8.2-a+dotprod+fp16
$(NEON)/engine/cpu/%_i8mm.o: ISA_neon := -march=armv8.2-a+dotprod+fp16+i8mm
$(NEON)/%.o: %.c
	@mkdir -p $(@D)
	@command -v $(CROSS)gcc >/dev/null || { echo 'check-neon needs $(CROSS)gcc: install' \
	    'gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user' >&2; exit 1; }
	$(CROSS)gcc $(CPPFLAGS) $(filter-out $(SAN_$(CONFIG)),$(CFLAGS)) $(ISA_neon) -MMD -MP -c \
	    -o $@ $<

-include $(patsubst %.c,$(NEON)/%.d,$(SRC_neon))

$(NEON)/check-aarch64: $(patsubst %.c,$(NEON)/%.o,$(SRC_neon))
	$(CROSS)gcc -static -o $@ $^ -lm

$(NEON)/check-native: $(call obj,$(SRC_neon))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ -lm

.PHONY: check-neon check-baseline
check-neon: $(NEON)/check-native $(NEON)/check-aarch64 ## x86-64 and aarch64 kernels (qemu-user)
	$(NEON)/check-native >$(NEON)/native.txt
	$(QEMU) -cpu max $(NEON)/check-aarch64 >$(NEON)/aarch64.txt 2>$(NEON)/aarch64.log \
	    || { cat $(NEON)/aarch64.log; exit 1; }
	grep '^matmul_ternary  *\(i8mm\|neon\) ' $(NEON)/aarch64.log | wc -l | grep -qx 2
	diff $(NEON)/native.txt $(NEON)/aarch64.txt
	@echo 'check-neon: all checksums are equal'

# Nehalem has no AVX2 (the reference runs), Haswell no AVX-512.
check-baseline: $(NEON)/check-native ## kernels on older x86-64 processors (qemu-user)
	$(NEON)/check-native >$(NEON)/native.txt
	for cpu in Nehalem Haswell; do \
	    qemu-x86_64 -cpu $$cpu $(NEON)/check-native >$(NEON)/$$cpu.txt 2>$(NEON)/$$cpu.log \
	        && diff $(NEON)/native.txt $(NEON)/$$cpu.txt \
	        && grep 'not run' $(NEON)/$$cpu.log | sort -u || exit 1; \
	done
	@echo 'check-baseline: all checksums are equal'
