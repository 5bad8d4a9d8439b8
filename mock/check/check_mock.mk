# Tiny models on a processor that this machine has not: their bytes are those of the recorded digests. The rule that
# compiles for it, and which compiler and qemu, are in engine/cpu/neon.mk.

SRC_check_mock := mock/check/check_mock_main.c \
    $(addprefix mock/,draw.c shape.c tiny_vocab.c tiny_weights.c tiny_model.c file_fault.c) \
    $(addprefix engine/,gguf.c gguf_plan.c gguf_read.c gguf_value.c gguf_fault.c arch.c tensor_type.c ternary.c ternary_tl.c \
                        dequant.c quantize.c vocab.c) \
    $(addprefix base/,buf.c status.c file.c opt.c msg.c clock.c fault.c)

$(NEON)/check-mock: $(patsubst %.c,$(NEON)/%.o,$(SRC_check_mock))
	$(CROSS)gcc -static -pthread -o $@ $^ -lm

.PHONY: check-mock
check-mock: $(NEON)/check-mock ## tiny models made on aarch64 (qemu-user) have their recorded bytes
	@mkdir -p $(NEON)/mock
	$(QEMU) $(NEON)/check-mock $(NEON)/mock >$(NEON)/mock/SHA256SUMS
	sha256sum --quiet -c $(NEON)/mock/SHA256SUMS
	@echo "check-mock: $$(wc -l <$(NEON)/mock/SHA256SUMS) models made on aarch64 have their recorded bytes"
