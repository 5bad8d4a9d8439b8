# The kernels for AVX-512 on a processor that has AVX2 alone: `bnt` and `bnt-suites` of which only
# these objects differ. Their intrinsics are functions (check/emulated/immintrin.h), so speed says
# nothing here; results do.

EMULATED := $(BUILD)/emulated
SRC_emulated := $(wildcard engine/cpu/*_avx512.c) engine/cpu/fives_vbmi.c engine/cpu/features.c
# SIMDe's vectors come and go in memory; the ABI that warns of it is this program's own.
$(EMULATED)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call show,CC)$(CC) $(CPPFLAGS) -DCPU_EMULATED -isystem engine/cpu/check/emulated $(CFLAGS) \
	    -O2 -mavx2 -mfma -mf16c -Wno-psabi -MMD -MP -c -o $@ $<

-include $(patsubst %.c,$(EMULATED)/%.d,$(SRC_emulated))

emulated = $(foreach src,$(1),$(if $(filter $(src),$(SRC_emulated)),$(EMULATED),$(B))/$(src:.c=.o))
$(EMULATED)/bnt: $(call emulated,bnt.c $(SRC_lib) $(SRC_ci)) $(B)/links
	$(link_bnt)
$(EMULATED)/bnt-suites: $(call emulated,$(SRC_suites) $(SRC_lib)) $(B)/links
	$(link_suites)

# The suites of which a kernel is the subject.
EMULATED_SUITES := kernels self_test columns fives narrow screen tl engine families packed infer

.PHONY: check-avx512
check-avx512: ## the kernels for AVX-512, emulated where the processor has none
	@ci/deps.sh build test cross
	@$(SUBMAKE) $(EMULATED)/bnt $(EMULATED)/bnt-suites
	@ci/test.sh --suites $(EMULATED) $(patsubst %,/%/,$(EMULATED_SUITES))
