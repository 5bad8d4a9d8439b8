/* Everything that can be told about a model file, as a list of findings: what is wrong, where, how
 * bad that is for the reader that a profile stands for, and whether it can be put right.
 *
 *     struct validate_options o = {.level = VALIDATE_STANDARD};
 *     struct validate_report r;
 *     if (validate_file(path, &o, &r, &err) == BNT_OK) { ... r.findings[0..r.n-1] ... }
 *     validate_release(&r);
 *
 * A run goes on after a finding wherever what comes next makes sense without it, so that one run
 * tells of all defects. Levels contain the ones before them; docs/validate.md says what each
 * promises. */
#ifndef BNT_VALIDATE_H
#define BNT_VALIDATE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"
#include "engine/gguf.h"

enum validate_level {
    VALIDATE_BASIC,         /* the header: structure, alignment, bounds, types */
    VALIDATE_STANDARD,      /* and the architecture against the tensors, and the tokenizer */
    VALIDATE_COMPREHENSIVE, /* and every byte: codes, scales, numbers, packing, digest */
    VALIDATE_PARANOID,      /* and what it does: loading, kernels, a known text */
    VALIDATE_N_LEVELS
};

/* For whom the file must be good. */
enum validate_profile {
    VALIDATE_RUNTIME,   /* this engine */
    VALIDATE_BITNET,    /* a BitNet b1.58 as bitnet.cpp runs it */
    VALIDATE_LLAMA_CPP, /* upstream llama.cpp */
    VALIDATE_STRICT,    /* this engine, and nothing that one would have to explain */
    VALIDATE_N_PROFILES
};

enum validate_severity { VALIDATE_IGNORED, VALIDATE_NOTE, VALIDATE_WARNING, VALIDATE_ERROR };

/* The classes of gguf.h, and those that a reader of headers cannot tell. */
enum validate_class {
    VALIDATE_HYPER_PARAMETER = GGUF_N_FAULTS,
    VALIDATE_UNKNOWN_TENSOR,
    VALIDATE_FILE_TYPE,
    VALIDATE_PADDING,
    VALIDATE_PRE_TOKENIZER,
    VALIDATE_SPECIAL_TOKEN,
    VALIDATE_VOCABULARY,
    VALIDATE_CHAT_TEMPLATE,
    VALIDATE_CHAT_FORM,
    VALIDATE_VALUES,
    VALIDATE_STATISTICS,
    VALIDATE_PACKING,
    VALIDATE_DIGEST,
    VALIDATE_READER,
    VALIDATE_LOAD,
    VALIDATE_SELF_TEST,
    VALIDATE_ROUND_TRIP,
    VALIDATE_SENSE,
    VALIDATE_N_CLASSES
};

struct validate_class_info {
    const char *name; /* "pre-tokenizer" */
    const char *what; /* one line */
    const char *hint;
    enum bnt_status status; /* that an error of this class ends the command with */
    bool recoverable;       /* the file can be put right without fetching it again */
    bool fixable;           /* by validate's counterpart, `bnt fix` */
    enum validate_severity severity[VALIDATE_N_PROFILES];
};
/* Row of the table; kind is from GGUF_FAULT_HEADER on. */
struct validate_class_info validate_class_info(int kind);
const char *validate_level_name(enum validate_level l);
const char *validate_profile_name(enum validate_profile p);
const char *validate_severity_name(enum validate_severity s); /* "error" */
/* Back from the names; false for another word. */
bool validate_level_parse(const char *text, enum validate_level *out);
bool validate_profile_parse(const char *text, enum validate_profile *out);

#define VALIDATE_MAX_FINDINGS 1000u /* what comes after them is counted */

struct validate_finding {
    int kind; /* enum gguf_fault or enum validate_class */
    enum validate_severity severity;
    enum bnt_status status;
    bool recoverable;
    char *key, *tensor; /* where; NULL: in none */
    bool has_offset;
    uint64_t offset; /* bytes from the start of the file */
    char *message, *hint;
};

/* What the numbers of a tensor are like; of one that was read. */
struct validate_stats {
    const struct gguf_tensor *tensor;                  /* in report->gguf */
    uint64_t n, n_zero, n_negative, n_positive, n_bad; /* n_bad: NaN and infinite; code 3 */
    double min, max, mean, rms;                        /* of the finite ones */
    bool has_scale;
    double scale; /* of a ternary tensor */
};

/* What a file needs of a kind of machine, and whether that is there. */
struct validate_platform {
    const char *name; /* "x86-64" */
    bool byte_order, alignment, size, mapped;
    bool fits;      /* all that must be */
    char note[320]; /* what to know, a sentence or several */
};
#define VALIDATE_N_PLATFORMS 3

struct validate_run {
    bool loaded;
    double load_ms, memory_mb;
    const char *i2s_layout; /* packing in force; NULL without I2_S */
    const char *kernel;     /* static */
    unsigned n_kernels;     /* that run here, all of which agree with the reference */
    bool has_perplexity;
    double perplexity;
    uint64_t n_scored;
    bool has_speed;
    double prefill_tps, decode_tps, decode_gb_per_s, memory_gb_per_s;
};

struct validate_options {
    enum validate_level level;
    enum validate_profile profile;
    bool benchmark;       /* measure speed, whatever the level */
    bool hash;            /* compare the digest, whatever the level */
    const char *expected; /* SHA-256 that the file must have; NULL: none known */
    /* Tile sizes of TL1 and TL2 weights that the file does not record, and whether such weights
     * are looked up in tables when the model runs: as in struct bnt_model_options. */
    const char *const *tl_tiles;
    size_t n_tl_tiles;
    bool tl_look_up;
    const volatile sig_atomic_t *interrupted; /* may be NULL */
    /* Bytes of content read so far, of all; may be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

struct validate_report {
    struct validate_options options;
    struct gguf *gguf; /* NULL when the header could not be read to its end */
    bool mock;         /* the file says that it was made from a seed */
    struct validate_finding *findings;
    size_t n, cap;
    uint64_t n_left_out;
    uint64_t n_of[VALIDATE_ERROR + 1]; /* by severity, those left out too */
    char digest[BNT_SHA256_HEX];       /* "" when the file was not hashed */
    struct validate_stats *stats;      /* n_stats, in the order of the file */
    size_t n_stats;
    struct validate_platform platforms[VALIDATE_N_PLATFORMS];
    struct validate_run run;
};

/* Errors: NOT_FOUND and FAILED when the file cannot be read at all, MEMORY, INTERRUPTED, USAGE
 * (tl_tiles has a text that is none). A file
 * with defects is no error. out is to be released in any case. */
enum bnt_status validate_file(const char *path, const struct validate_options *o,
                              struct validate_report *out, struct bnt_err *err);
void validate_release(struct validate_report *r);
/* Of the first error among the findings: the status that a command ends with; OK without one. */
enum bnt_status validate_status(const struct validate_report *r);

#endif
