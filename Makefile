# bnt: build, test, install. `make help` lists the targets.
#
# One object tree per configuration: build/<config>/. The sources of a folder are its *.c files; programs differ only in
# which folders they link.

CONFIG  ?= release
CC      ?= cc
PREFIX  ?= /usr/local
DESTDIR ?=
# auto: build the CUDA module when nvcc is there; 0: never; 1: fail without it.
CUDA    ?= auto

B       := build/$(CONFIG)
VERSION := 0.1.0
ARCH    := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))

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
OPT_release := -O3
OPT_debug := -O0
OPT_asan := -O1
OPT_ubsan := -O1
OPT_tsan := -O1
OPT_coverage := -O0
CFLAGS   += $(OPT_$(CONFIG)) $(SAN_$(CONFIG)) $(WARN)
LDFLAGS  += $(SAN_$(CONFIG))

LIBS_BASE   := -lcrypto
LIBS_ENGINE := -ljansson -lutf8proc -lm
LIBS_CACHE  := -lsqlite3 -lzstd
LIBS_FETCH  := -lcurl
LIBS_TEST   := -lcmocka

SRC_base    := $(wildcard base/*.c)
SRC_cache   := $(wildcard cache/*.c)
SRC_fetch   := $(wildcard fetch/*.c)
SRC_engine  := $(wildcard engine/*.c engine/cpu/*.c)
SRC_mock    := $(wildcard mock/*.c)
SRC_testkit := $(wildcard testkit/*.c)
SRC_suites  := $(wildcard testkit/suites/*.c)
SRC_ci      := $(wildcard ci/*.c)

# bnt-suites alone links cmocka; it has its own main in testkit/suites/.
SRC_bnt     := bnt.c $(SRC_base) $(SRC_cache) $(SRC_fetch) $(SRC_engine) $(SRC_mock) $(SRC_testkit) $(SRC_ci)
SRC_bnt_suites := $(SRC_suites) $(SRC_base) $(SRC_cache) $(SRC_fetch) $(SRC_engine) $(SRC_mock) $(SRC_testkit)

obj = $(patsubst %.c,$(B)/%.o,$(1))
LIBS_ALL := $(LIBS_FETCH) $(LIBS_CACHE) $(LIBS_ENGINE) $(LIBS_BASE)

.DEFAULT_GOAL := all
.PHONY: all help
all: $(B)/bnt $(B)/bnt-suites ## build bnt and bnt-suites

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  CONFIG=release|debug|asan|ubsan|tsan|coverage   CUDA=auto|0|1   CC=gcc|clang   PREFIX=$(PREFIX)"

$(B)/bnt: $(call obj,$(SRC_bnt))
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_ALL)

$(B)/bnt-suites: $(call obj,$(SRC_bnt_suites))
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_TEST) $(LIBS_ALL)

# A file for an instruction set gets its own flags; the rest stays at the baseline of the architecture.
ifeq ($(ARCH),x86_64)
$(B)/engine/cpu/%_avx2.o: ISA := -mavx2 -mf16c
$(B)/engine/cpu/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mf16c
endif
ifeq ($(ARCH),aarch64)
$(B)/engine/cpu/%_neon.o: ISA := -march=armv8.2-a+dotprod+fp16
endif

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(ISA) -MMD -MP -c -o $@ $<

-include $(shell find $(B) -name '*.d' 2>/dev/null)
