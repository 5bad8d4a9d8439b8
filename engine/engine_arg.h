/* The option rows by which commands set up the engine, each for a struct with a member
 * `struct bnt_engine_arg engine`, and what they come to; the meaning of each is in bnt_infer.h. A
 * command lists those that it takes, in its order. */
#ifndef BNT_ENGINE_ARG_H
#define BNT_ENGINE_ARG_H

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/opt.h"
#include "engine/bnt_infer.h"

/* As typed. A row that a command does not list leaves NULL or 0: the engine's default. */
struct bnt_engine_arg {
    const char *kernel, *kv_type, *i2s_layout, *packed, *tl, *head, *pre, *device, *fallback;
    struct bnt_strs tiles;
    int64_t threads, ctx;
    uint64_t memory_limit, device_memory; /* bytes */
};

/* What they say of a session and of a model; texts stay a's, warnings go to bnt_msg_warn_fn. */
struct bnt_session_options bnt_engine_session(const struct bnt_engine_arg *a);
struct bnt_model_options bnt_engine_model(const struct bnt_engine_arg *a);

#define BNT_ENGINE_THREADS_ROW(type)                                                               \
    {                                                                                              \
        .kind = BNT_OPT_INT, .short_name = 't', .long_name = "threads", .arg = "N",                \
        .help = "threads; 0: all this process may use", .offset = offsetof(type, engine.threads),  \
        .def = "0", .min = 0, .max = BNT_MAX_THREADS                                               \
    }
#define BNT_ENGINE_KERNEL_ROW(type)                                                                \
    {                                                                                              \
        .kind = BNT_OPT_STR, .short_name = 0, .long_name = "kernel", .arg = "NAME",                \
        .help = "kernels: auto, ref, avx2, avx512, neon, i8mm, wasm",                              \
        .offset = offsetof(type, engine.kernel), .def = "auto"                                     \
    }
#define BNT_ENGINE_CTX_ROW(type)                                                                   \
    {                                                                                              \
        .kind = BNT_OPT_INT, .short_name = 'c', .long_name = "ctx", .arg = "N",                    \
        .help = "positions of context; 0: as trained, at most 4096",                               \
        .offset = offsetof(type, engine.ctx), .def = "0", .min = 0, .max = INT32_MAX               \
    }
#define BNT_ENGINE_KV_TYPE_ROW(type)                                                               \
    {                                                                                              \
        .kind = BNT_OPT_STR, .short_name = 0, .long_name = "kv-type", .arg = "TYPE",               \
        .help = "type of the KV cache", .offset = offsetof(type, engine.kv_type), .def = "f16",    \
        .choices = "f16|f32"                                                                       \
    }
#define BNT_ENGINE_MEMORY_ROW(type)                                                                \
    {                                                                                              \
        .kind = BNT_OPT_SIZE, .short_name = 0, .long_name = "memory-limit", .arg = "SIZE",         \
        .help = "stay below this much memory; default: what the machine or cgroup allows",         \
        .offset = offsetof(type, engine.memory_limit)                                              \
    }
#define BNT_ENGINE_LAYOUT_ROW(type)                                                                \
    {                                                                                              \
        .kind = BNT_OPT_STR, .short_name = 0, .long_name = "i2s-layout", .arg = "LAYOUT",          \
        .help = "packing of I2_S weights", .offset = offsetof(type, engine.i2s_layout),            \
        .def = "auto", .choices = "auto|128/32|64/16|4-rows"                                       \
    }
#define BNT_ENGINE_PACKED_ROW(type)                                                                \
    {                                                                                              \
        .kind = BNT_OPT_STR, .short_name = 0, .long_name = "packed", .arg = "WHEN",                \
        .help =                                                                                    \
            "keep copies of the weights that are read faster in the cache for the next start: "    \
            "auto from 8 MB on, always, or off (no copies but those that must be)",                \
        .offset = offsetof(type, engine.packed), .def = "auto", .choices = "auto|always|off"       \
    }
#define BNT_ENGINE_TL_ROW(type)                                                                    \
    {                                                                                              \
        .kind = BNT_OPT_STR, .short_name = 0, .long_name = "tl", .arg = "FORM",                    \
        .help = "TL1 and TL2 weights: as codes of 2 bits, or as they are, looked up in tables",    \
        .offset = offsetof(type, engine.tl), .def = "codes", .choices = "codes|tables"             \
    }
#define BNT_ENGINE_TILES_ROW(type)                                                                 \
    {                                                                                              \
        .kind = BNT_OPT_LIST, .short_name = 0, .long_name = "tiles", .arg = "SHAPE=TILES",         \
        .help = "tile sizes of TL1 and TL2 weights, ROWSxCOLS=BM,BK,BM_INNER; may be repeated",    \
        .offset = offsetof(type, engine.tiles)                                                     \
    }
#define BNT_ENGINE_HEAD_ROW(type)                                                                  \
    {                                                                                              \
        .kind = BNT_OPT_STR, .short_name = 0, .long_name = "head", .arg = "HOW",                   \
        .help =                                                                                    \
            "output matrix: read it in full (in F16, BF16 or F32 from 12 bits per weight, with "   \
            "the same logits, where its values are those of BF16 and --packed keeps such a "       \
            "copy), or screened: a copy in 5 "                                                     \
            "bits per weight tells which rows can be the likeliest, and only those are read; "     \
            "the same tokens. For greedy and --top-k up to 64, without what looks at all "         \
            "logits (--top-p alone, --logprobs...). auto: screened where that "                    \
            "applies, the copy (7/16 of F16) fits into memory and --packed keeps it",              \
        .offset = offsetof(type, engine.head), .def = "auto", .choices = "auto|full|screened"      \
    }
#define BNT_ENGINE_PRE_ROW(type)                                                                   \
    {                                                                                              \
        .kind = BNT_OPT_STR, .short_name = 0, .long_name = "pre", .arg = "NAME",                   \
        .help = "pre-tokenizer, instead of the file's", .offset = offsetof(type, engine.pre)       \
    }

#define BNT_ENGINE_DEVICE_ROWS(type)                                                               \
    {.kind = BNT_OPT_STR,                                                                          \
     .short_name = 0,                                                                              \
     .long_name = "device",                                                                        \
     .arg = "DEVICE",                                                                              \
     .help = "cpu, cuda, cuda:N, or auto: the faster, measured once per file; cuda fails without " \
             "a GPU",                                                                              \
     .offset = offsetof(type, engine.device),                                                      \
     .def = "cpu"},                                                                                \
        {.kind = BNT_OPT_STR,                                                                      \
         .short_name = 0,                                                                          \
         .long_name = "fallback",                                                                  \
         .arg = "WHEN",                                                                            \
         .help = "when the CPU takes over from a GPU, with the same ids: error (it fails or has "  \
                 "no room), below:RATE (also under RATE tokens/s), never",                         \
         .offset = offsetof(type, engine.fallback),                                                \
         .def = "error"},                                                                          \
    {                                                                                              \
        .kind = BNT_OPT_SIZE, .short_name = 0, .long_name = "device-memory", .arg = "SIZE",        \
        .help = "take no more than this on a GPU; default: what is free there",                    \
        .offset = offsetof(type, engine.device_memory)                                             \
    }

/* Where and when packed weights are kept, into the options of an open: from a word of --packed
 * (NULL: auto) and the digest of the model, "" where it is not known. dir stays in use during the
 * open. A cache folder that cannot be told is a reason to keep nothing. */
void bnt_engine_packed(const char *when, const char *digest, char dir[BNT_PATH_MAX],
                       struct bnt_model_options *mo);

#endif
