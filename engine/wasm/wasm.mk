# `bnt infer` as a WebAssembly module: build/wasm/bnt.wasm and its runner bnt.mjs. Threads, the cache,
# the network and the JSON library are not there; what needs utf8proc comes from a table that a
# native program makes of it.

WASM    := $(BUILD)/wasm
WASM_CC ?= clang
NODE    ?= node

WASM_FLAGS := --target=wasm32-wasi -msimd128 -nostdlibinc -isystem engine/wasm/include \
              -isystem /usr/include/wasm32-wasi -include wasm_libc.h -D_WASI_EMULATED_MMAN \
              -D_WASI_EMULATED_SIGNAL -D_GNU_SOURCE -DBNT_VERSION='"$(VERSION)"' \
              -DBNT_CONFIG='"wasm"' -I. -std=c11 -O3 -ffp-contract=off -fno-strict-aliasing \
              $(WARN) $(if $(filter 1,$(WERROR)),-Werror)
# The stack lies below the data, so that an overflow traps instead of writing over it.
WASM_LINK  := --target=wasm32-wasi -Wl,--stack-first,-z,stack-size=1048576
WASM_LIBS  := -lwasi-emulated-mman -lwasi-emulated-signal -lm

# What `bnt infer` needs, and no more: a file that is missing here is an undefined symbol at the link.
SRC_wasm_kernels := base/status.c $(addprefix engine/,dequant.c gguf_fault.c tensor_type.c \
    ternary.c ternary_tl.c) $(addprefix engine/cpu/,choose.c features.c fmath.c kernels_ref.c \
    kernels_wasm.c self_test.c tl_ref.c)
SRC_wasm_engine := $(SRC_wasm_kernels) \
    $(addprefix base/,arena.c buf.c cache_dir.c clock.c env.c file.c msg.c opt.c rng.c stats.c \
        thread.c) \
    $(addprefix engine/,arch.c bandwidth.c best.c bpe.c bpe_merges.c chat.c chat_detect.c \
        chat_prove.c jinja.c jinja_expr.c detok.c device_choice.c draft.c engine_arg.c generate.c gguf.c gguf_place.c gguf_read.c \
        gguf_value.c i2s_detect.c merge.c model.c model_arg.c packed_weights.c pretok.c \
        pretok_runs.c pretok_words.c quality.c rope.c sampler.c columns.c fives.c narrow.c screen.c session.c special.c \
        spm.c stop.c tap.c tl_tiles.c tokenizer.c tokenizer_load.c unicode.c vocab.c weights.c) \
    $(addprefix engine/cpu/,backend_cpu.c decode.c forward.c pool.c screen_code.c screen_cpu.c \
        columns_cpu.c tap_cpu.c) \
    $(addprefix engine/wasm/,device_wasm.c packed_wasm.c unicode_class_wasm.c wasm_system.c)
SRC_wasm := $(SRC_wasm_engine) engine/wasm/wasm_main.c $(addprefix engine/cmd_infer,.c _chat.c \
    _report.c _session.c _setup.c)
SRC_wasm_unicode := engine/unicode.c engine/wasm/unicode_class_wasm.c \
                    engine/wasm/unicode_table_main.c

.PHONY: wasm check-wasm
wasm: ## build the engine as a WebAssembly module with its runner for Node
	@ci/deps.sh build wasm
	@$(SUBMAKE) $(WASM)/bnt.wasm $(WASM)/bnt.mjs
	@echo 'wasm: try: node $(WASM)/bnt.mjs infer -p "Once upon a time"'

# Sums of the kernels' results natively and in the module; of the classes of all characters; then
# the same commands by both programs.
check-wasm: ## the WebAssembly build against the native one: kernels, character classes, greedy ids
	@ci/deps.sh build wasm
	@$(SUBMAKE) $(B)/bnt $(WASM)/bnt.wasm $(WASM)/bnt.mjs $(WASM)/check-native \
	    $(WASM)/check-kernels.wasm $(WASM)/unicode-table $(WASM)/check-unicode.wasm \
	    $(WASM)/check-ids $(WASM)/check-ids.wasm
	@NODE='$(NODE)' ci/check_wasm.sh $(B) $(WASM)

$(WASM)/o/%.o: %.c $(WASM)/flags
	@mkdir -p $(@D)
	$(call show,CC)$(WASM_CC) $(WASM_FLAGS) -MMD -MP -c -o $@ $<

$(WASM)/unicode-table: $(call obj,$(addprefix engine/,unicode.c unicode_class.c \
                                  wasm/unicode_table_main.c)) $(WASM)/flags
	$(call show,LD)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -lutf8proc

$(WASM)/o/unicode_runs.o: $(WASM)/unicode-table
	@mkdir -p $(@D)
	$(call show,CC)$< >$(WASM)/unicode_runs.c && \
	    $(WASM_CC) $(WASM_FLAGS) -c -o $@ $(WASM)/unicode_runs.c

$(WASM)/bnt.wasm: $(patsubst %.c,$(WASM)/o/%.o,$(SRC_wasm)) $(WASM)/o/unicode_runs.o
	$(call show,LD)$(WASM_CC) $(WASM_LINK) -o $@ $^ $(WASM_LIBS)

$(WASM)/check-kernels.wasm: $(patsubst %.c,$(WASM)/o/%.o,engine/cpu/check/check_main.c \
                              $(SRC_wasm_kernels))
	$(call show,LD)$(WASM_CC) $(WASM_LINK) -o $@ $^ $(WASM_LIBS)

$(WASM)/check-unicode.wasm: $(patsubst %.c,$(WASM)/o/%.o,$(SRC_wasm_unicode)) \
                            $(WASM)/o/unicode_runs.o
	$(call show,LD)$(WASM_CC) $(WASM_LINK) -o $@ $^

$(WASM)/check-ids.wasm: $(patsubst %.c,$(WASM)/o/%.o,$(SRC_wasm_engine) \
                          engine/wasm/check/check_ids_main.c) $(WASM)/o/unicode_runs.o
	$(call show,LD)$(WASM_CC) $(WASM_LINK) -o $@ $^ $(WASM_LIBS)

$(WASM)/check-ids: $(call obj,engine/wasm/check/check_ids_main.c $(SRC_base) $(SRC_engine))
	@mkdir -p $(@D)
	$(call show,LD)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_FETCH) $(LIBS_ENGINE)

$(WASM)/check-native: $(call obj,$(SRC_neon))
	@mkdir -p $(@D)
	$(call show,LD)$(CC) $(LDFLAGS) -o $@ $^ -lm

$(WASM)/bnt.mjs: engine/wasm/bnt.mjs
	@mkdir -p $(@D)
	$(call show,CP)cp $< $@

$(WASM)/flags: export NOW = $(WASM_CC) $(WASM_FLAGS) $(WASM_LINK) $(SRC_wasm)
$(WASM)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$NOW" | cmp -s - $@ || printf '%s\n' "$$NOW" >$@

-include $(patsubst %.c,$(WASM)/o/%.d,$(SRC_wasm) engine/cpu/check/check_main.c \
           engine/wasm/unicode_table_main.c engine/wasm/check/check_ids_main.c)
