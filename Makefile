# bnt: build, test, install. `make help` lists the targets.
#
# One object tree per configuration: build/<config>/. The sources of a folder are its *.c files; programs differ only in
# which folders they link. Objects depend on $(B)/flags, so a change of compiler or flags rebuilds what it must.

CONFIG  ?= release
CC      ?= cc
PREFIX  ?= /usr/local
DESTDIR ?=
# 1: warnings are errors (lint and CI; never for who builds a release with a newer compiler).
WERROR  ?= 0
# auto: build the CUDA module when nvcc is there; 0: never; 1: fail without it.
CUDA    ?= auto
FUZZ_SECONDS ?= 600
# 1: show the commands of the build.
V       ?= 0

ifeq ($(filter $(CONFIG),release debug asan ubsan tsan coverage fuzz fault),)
$(error CONFIG=$(CONFIG) is not one of release debug asan ubsan tsan coverage fault)
endif
# In PATH, or where NVIDIA's packages put it.
NVCC ?= $(or $(shell command -v nvcc 2>/dev/null),$(firstword $(wildcard /usr/local/cuda/bin/nvcc)),nvcc)
ifneq ($(filter-out 0 1 auto,$(CUDA)),)
$(error CUDA=$(CUDA) is not one of auto 0 1)
endif

BUILD   := build
B       := $(BUILD)/$(CONFIG)
VERSION := 0.1.0
ARCH    := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null)))

# ---- flags ------------------------------------------------------------------------------------------------------------

# -ffp-contract=off: a fused multiply-add would change results from one processor to the next.
CPPFLAGS += -D_GNU_SOURCE -DBNT_VERSION='"$(VERSION)"' -DBNT_CONFIG='"$(CONFIG)"' -I.
CFLAGS   += -std=c11 -g -ffp-contract=off -fno-strict-aliasing -pthread -fvisibility=hidden
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wcast-qual -Wundef \
            -Wwrite-strings -Wformat=2 -Wimplicit-fallthrough
LDFLAGS  += -pthread
SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN_ubsan := -fsanitize=undefined -fno-sanitize-recover=undefined
SAN_tsan := -fsanitize=thread
SAN_coverage := --coverage
SAN_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
OPT_release := -O3
OPT_debug := -O0
OPT_asan := -O1 -g1
OPT_ubsan := -O1 -g1
OPT_tsan := -O1 -g1
OPT_coverage := -O0
OPT_fuzz := -O1
OPT_fault := -O3 -g1
# Under ASan most time is that of kernels. Copies of their helpers in every caller make no faster kernels there, and
# half of the compiler's time.
KERNEL := $(if $(filter asan ubsan,$(CONFIG)),-O2 -Dalways_inline=unused)
# Test code takes the compiler a sixth longer at -O3, the kernels of the fake device twice as long, and runs hardly faster.
SUITES := $(if $(filter -O3,$(OPT_$(CONFIG))),-O2)
# base/fault.h: the planted defects exist in this build alone.
DEF_fault := -DBNT_FAULTS
CPPFLAGS += $(DEF_$(CONFIG))
CFLAGS   += $(OPT_$(CONFIG)) $(SAN_$(CONFIG)) $(WARN) $(if $(filter 1,$(WERROR)),-Werror)
LDFLAGS  += $(SAN_$(CONFIG))

# libcrypto, libcurl, libarchive, libmicrohttpd and libssl are opened at run time (base/dyn_lib.h), so that no command pays
# for loading what it does not use.
# What every command needs is linked statically where the archive is there: five libraries less to map and relocate are a third
# of the time of a `bnt path`.
archive = $(if $(filter /%,$(shell $(CC) -print-file-name=lib$(1).a 2>/dev/null)),-l:lib$(1).a,-l$(1))
LIBS_ENGINE := $(foreach lib,jansson utf8proc zstd,$(call archive,$(lib))) -lm
LIBS_CACHE  := $(call archive,sqlite3)
LIBS_FETCH  := $(call archive,yaml)
LIBS_TEST   := -lcmocka
LIBS_ALL    := $(LIBS_FETCH) $(LIBS_CACHE) $(LIBS_ENGINE)

# ---- sources ----------------------------------------------------------------------------------------------------------

SRC_base    := $(wildcard base/*.c)
SRC_cache   := $(wildcard cache/*.c)
SRC_fetch   := $(wildcard fetch/*.c)
SRC_engine  := $(wildcard engine/*.c engine/cpu/*.c engine/cuda/*.c)
SRC_mock    := $(wildcard mock/*.c)
SRC_testkit := $(wildcard testkit/*.c)
SRC_suites  := $(wildcard testkit/suites/*.c)
SRC_ci      := $(wildcard ci/*.c)
SRC_fuzz    := $(wildcard engine/fuzz/*.c)
SRC_examples := $(wildcard docs/examples/*.c)

# bnt-suites alone links cmocka; it has its own main in testkit/suites/.
SRC_lib := $(SRC_base) $(SRC_cache) $(SRC_fetch) $(SRC_engine) $(SRC_mock) $(SRC_testkit)
SRC_all := bnt.c $(SRC_lib) $(SRC_ci) $(SRC_suites) $(SRC_fuzz) $(SRC_examples)

# A line per file instead of its command; nothing under `make -s`.
SILENT := $(findstring s,$(firstword -$(MAKEFLAGS)))
show = $(if $(filter 0,$(V)),@$(if $(SILENT),,printf '  %s %s\n' '$(1)' '$@' &&) )
obj = $(patsubst %.c,$(B)/%.o,$(1))

# ---- build ------------------------------------------------------------------------------------------------------------

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all examples help FORCE
all: $(B)/bnt $(B)/bnt-suites $(B)/fake_cuda.so $(B)/no_locks.so $(B)/nth_fails.so $(B)/full_disk.so examples ## build bnt, bnt-suites and the examples into build/<config>/

EXAMPLES := $(patsubst docs/examples/%.c,$(B)/examples/%,$(SRC_examples))
examples: $(EXAMPLES) ## build docs/examples/*.c into build/<config>/examples/

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9 %-]+:.*## /{printf "  make %-44s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  CONFIG=release|debug|asan|ubsan|tsan|coverage|fault  CUDA=auto|0|1  CC=gcc|clang  WERROR=0|1  V=0|1  PREFIX=$(PREFIX)"

link_bnt = $(call show,LD)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_ALL)
# Threads get a second stack for signal handlers (testkit/suites/thread_stack.c).
link_suites = $(call show,LD)$(CC) $(LDFLAGS) -Wl,--wrap=pthread_create -o $@ $(filter %.o,$^) $(LIBS_TEST) $(LIBS_ALL)

$(B)/bnt: $(call obj,bnt.c $(SRC_lib) $(SRC_ci)) $(B)/links
	$(link_bnt)

$(B)/bnt-suites: $(call obj,$(SRC_suites) $(SRC_lib)) $(B)/links
	$(link_suites)

# An example takes from the archive only what it calls; the archive is thin: a list of the objects.
$(B)/libbnt.a: $(call obj,$(SRC_lib)) $(B)/links
	$(call show,AR)rm -f $@ && $(AR) rcsT $@ $(filter %.o,$^)

$(EXAMPLES): $(B)/examples/%: $(B)/docs/examples/%.o $(B)/libbnt.a
	@mkdir -p $(@D)
	$(call show,LD)$(CC) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS_ALL)

# Preloaded by a test: without the flags of sanitizers, which are for programs.
$(B)/no_locks.so $(B)/nth_fails.so $(B)/full_disk.so: $(B)/%.so: testkit/preload/%.c $(B)/flags
	$(call show,CC)$(CC) $(CPPFLAGS) -std=c11 -O1 $(WARN) -shared -fPIC -o $@ $<

# The fake device as a module, for tests of the programs (testkit/suites/fake_cuda.h); it knows no planted defects.
$(B)/fake_cuda.so: testkit/suites/fake_cuda.c testkit/suites/fake_threads.c $(wildcard testkit/suites/ptx*.[ch]) $(wildcard engine/cuda/*.h) engine/screen.h engine/cpu/kernels.h $(B)/flags
	$(call show,CC)$(CC) $(CPPFLAGS) -UBNT_FAULTS -std=c11 -O2 -ffp-contract=off -fvisibility=hidden $(WARN) -DFAKE_CUDA_MODULE \
	    -shared -fPIC -o $@ $(filter %.c,$^) -lm

# The module for CUDA: code for every GPU that nvcc knows among these, and PTX of the newest for later ones. Without
# nvcc there is none, which bnt devices tells; sanitizers do not know it.
GPU_ARCHS := 75 80 86 89 90 100
ifeq ($(CUDA)$(CONFIG),autorelease)
NVCC_PATH := $(shell engine/cuda/build_module.sh --usable '$(NVCC)')
else ifeq ($(CUDA),1)
NVCC_PATH := $(NVCC)
endif
ifneq ($(NVCC_PATH),)
all: $(B)/bnt_cuda.so
endif
$(B)/bnt_cuda.so: engine/cuda/module.cu $(wildcard engine/cuda/*.h) engine/cpu/fmath.h engine/screen.h engine/cpu/kernels.h engine/cuda/build_module.sh
	$(call show,NVCC)engine/cuda/build_module.sh '$(NVCC)' $@ $(GPU_ARCHS)

# A file for an instruction set gets its own flags; the rest stays at the baseline of the architecture.
ifeq ($(ARCH),x86_64)
$(B)/engine/cpu/%_avx2.o: ISA := -mavx2 -mf16c
$(B)/engine/cpu/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mf16c
$(B)/engine/cpu/%_vbmi.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi
endif
ifeq ($(ARCH),aarch64)
$(B)/engine/cpu/%_neon.o: ISA := -march=armv8.2-a+dotprod+fp16
$(B)/engine/cpu/%_i8mm.o: ISA := -march=armv8.2-a+dotprod+fp16+i8mm
endif

$(B)/engine/cpu/%.o: CFLAGS += $(KERNEL)
$(B)/testkit/suites/%.o: CFLAGS += $(SUITES)
$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call show,CC)$(CC) $(CPPFLAGS) $(CFLAGS) $(ISA) -MMD -MP -c -o $@ $<

# What the objects and the programs were built from, rewritten only when it changes.
$(B)/flags: export NOW = $(CC) $(shell $(CC) -dumpfullversion -dumpversion 2>/dev/null) $(CPPFLAGS) $(CFLAGS)
$(B)/links: export NOW = $(LDFLAGS) $(LIBS_TEST) $(LIBS_ALL) $(SRC_all)
$(B)/flags $(B)/links: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$NOW" | cmp -s - $@ || printf '%s\n' "$$NOW" >$@

-include $(patsubst %.o,%.d,$(call obj,$(SRC_all)))

# ---- the two commands of the README -----------------------------------------------------------------------------------

# Both start on a machine without compiler or libraries, so the build is a second make, with a job per processor unless
# the caller chose a number.
SUBMAKE = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: demo test deps
demo: ## install what is missing, build, and walk fetch, cache, infer and test on the bundled model
	@ci/deps.sh build test
	@$(SUBMAKE) all
	@ci/demo.sh $(B)

test: ## install what is missing, build, and run the fast tier of tests (BUDGET=SECONDS: more time on a slow machine)
	@ci/deps.sh build test
	@$(SUBMAKE) all
	@ci/test.sh $(B)

.PHONY: test-servers
test-servers: ## the suites against nginx, docker-registry and Swift, which it installs
	@ci/deps.sh build test servers
	@$(SUBMAKE) all
	@ci/test.sh --servers $(B)

deps: ## install the packages for build and tests (ci/deps.sh --list shows them)
	@ci/deps.sh build test

# ---- checks -----------------------------------------------------------------------------------------------------------

.PHONY: ci-local
ci-local: ## run the steps of the workflows here, offline, with GitHub's files faked
	@ci/deps.sh build test
	@$(SUBMAKE) all
	@ci/local.sh $(B)

.PHONY: check check-asan check-ubsan check-tsan check-faults lint format format-check coverage
# ASan is built with UBSan; check-ubsan alone adds what needs the memory that ASan takes.
check: check-asan check-tsan ## run all suites under the sanitizers

check-asan check-ubsan check-tsan: check-%: ## run all suites under one sanitizer
	@$(SUBMAKE) CONFIG=$* B=$(BUILD)/$* all
	@ci/test.sh --suites $(BUILD)/$*

check-faults: ## prove that every suite sees the planted defects that it names
	@$(SUBMAKE) CONFIG=fault B=$(BUILD)/fault all
	@ci/check_faults.sh $(BUILD)/fault

lint: ## every rule of docs/style.md that a program can check
	@ci/deps.sh build test lint
	@CC='$(CC)' WARN='$(WARN)' CPPFLAGS="$(subst ",\",$(CPPFLAGS))" ci/lint.sh
	@ci/lint_test.sh
	@$(SUBMAKE) all
	@ci/generated_test.sh $(B)/bnt

format: ## clang-format the files that differ from the last commit
	@ci/format.sh

format-check: ## show what `make format` would change, and fail if it would
	@ci/format.sh --check

coverage: ## line coverage of the suites, per folder
	@$(SUBMAKE) CONFIG=coverage B=$(BUILD)/coverage all
	@ci/coverage.sh $(BUILD)/coverage

# Walls are only worth something on a machine that does nothing else. BENCH: options, see ci/bench.sh and ci/bench_fetch.sh.
.PHONY: bench bench-fetch
bench: ## measure what the documents state about speed (MODEL=FILE, NEIGHBOUR='PROGRAM=FILE' or URL, LOSSY, SMALL, BENCH=--quick)
	@ci/deps.sh build speed
	@$(SUBMAKE) all
	@ci/bench.sh $(if $(MODEL),--model '$(MODEL)') $(if $(NEIGHBOUR),--neighbour '$(NEIGHBOUR)') \
		$(if $(LOSSY),--lossy '$(LOSSY)') $(if $(SMALL),--small '$(SMALL)') $(BENCH) $(B)

bench-fetch: ## measure fetch and cache against their goals, beside nginx, curl and aria2c (BENCH=--strict fails on a miss)
	@ci/deps.sh build bench
	@$(SUBMAKE) all
	@ci/bench_fetch.sh $(BENCH) $(B)

.PHONY: gpu-check gpu-pack check-ptx
check-ptx: ## run the kernels for CUDA as nvcc compiles them, on the processor
	@$(SUBMAKE) all
	@ci/ptx.sh $(B) '$(NVCC)'

gpu-check: ## on a machine with a GPU: show what only a GPU can (docs/backends.md), in under ten minutes or GPU_SECONDS
	@$(SUBMAKE) CUDA=1 all
	@ci/gpu_check.sh $(if $(GPU_SECONDS),--seconds $(GPU_SECONDS)) $(B)

gpu-pack: ## build for a machine with a GPU that cannot build: there, in this tree, LD_LIBRARY_PATH=build/gpu ci/gpu_check.sh build/gpu
	@$(SUBMAKE) CUDA=1 all
	rm -rf $(BUILD)/gpu && mkdir -p $(BUILD)/gpu
	strip -o $(BUILD)/gpu/bnt $(B)/bnt
	strip -o $(BUILD)/gpu/bnt-suites $(B)/bnt-suites
	cp $(B)/bnt_cuda.so "$$(ldd $(B)/bnt-suites | awk '/libcmocka/ { print $$3 }')" $(BUILD)/gpu/

# Fuzzers need clang. The kept corpus is testkit/data/fuzz/<name>/; new inputs and findings stay below build/.
.PHONY: fuzz-gguf fuzz-tokenizer fuzz-chat
fuzz-gguf fuzz-tokenizer fuzz-chat: fuzz-%: ## fuzz for FUZZ_SECONDS (600)
	@ci/deps.sh build fuzz
	@$(SUBMAKE) CC=clang CONFIG=fuzz B=$(BUILD)/fuzz $(BUILD)/fuzz/fuzz_$*
	@mkdir -p $(BUILD)/fuzz/corpus/$* $(BUILD)/fuzz/found/$*
	$(BUILD)/fuzz/fuzz_$* -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix=$(BUILD)/fuzz/found/$*/ $(BUILD)/fuzz/corpus/$* testkit/data/fuzz/$*

$(B)/fuzz_%: $(B)/engine/fuzz/fuzz_%.o $(B)/libbnt.a
	$(call show,LD)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS_ALL)

# check-neon: the kernels built by a cross compiler and run under qemu-user.
-include engine/cpu/neon.mk
# check-avx512: its kernels on a processor without it.
-include engine/cpu/emulated.mk
# wasm, check-wasm: the engine as a WebAssembly module, run under Node.
-include engine/wasm/wasm.mk
-include mock/check/check_mock.mk

# ---- install ----------------------------------------------------------------------------------------------------------

# In quotes: a blank in it would make two paths, of which uninstall would remove the first.
DEST     = "$(DESTDIR)$(PREFIX)"
BASHCOMP = $(DEST)/share/bash-completion/completions
ZSHCOMP  = $(DEST)/share/zsh/site-functions
FISHCOMP = $(DEST)/share/fish/vendor_completions.d

.PHONY: install uninstall clean
install: all ## install below $(DESTDIR)$(PREFIX)
	install -d $(DEST)/bin $(DEST)/libexec/bnt $(DEST)/share/bnt/models $(DEST)/share/man/man1 \
	    $(DEST)/share/doc/bnt $(BASHCOMP) $(ZSHCOMP) $(FISHCOMP)
	install -m 755 $(B)/bnt $(DEST)/bin/bnt
	install -m 755 $(B)/bnt-suites $(DEST)/libexec/bnt/bnt-suites
	install -m 644 engine/models/tinystories-bitnet.gguf $(DEST)/share/bnt/models/
	if [ -f $(B)/bnt_cuda.so ]; then install -D -m 644 $(B)/bnt_cuda.so $(DEST)/lib/bnt/bnt_cuda.so; fi
	install -m 644 LICENSE README.md $(DEST)/share/doc/bnt/
	$(B)/bnt help --man >$(DEST)/share/man/man1/bnt.1
	$(B)/bnt completion bash >$(BASHCOMP)/bnt
	$(B)/bnt completion zsh >$(ZSHCOMP)/_bnt
	$(B)/bnt completion fish >$(FISHCOMP)/bnt.fish

uninstall: ## remove what install put there
	rm -f $(DEST)/bin/bnt $(DEST)/share/man/man1/bnt.1 $(BASHCOMP)/bnt $(ZSHCOMP)/_bnt \
	    $(FISHCOMP)/bnt.fish
	rm -rf $(DEST)/libexec/bnt $(DEST)/lib/bnt $(DEST)/share/bnt $(DEST)/share/doc/bnt

clean: ## remove build/
	rm -rf $(BUILD)
