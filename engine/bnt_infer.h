/* The inference engine's public face.
 *
 *     struct bnt_model *model;      one file, read-only, shared by any number of sessions
 *     struct bnt_session *session;  everything mutable: KV caches, scratch, threads; for one user
 *
 *     bnt_model_open(path, NULL, &model, &err);
 *     bnt_session_new(model, NULL, &session, &err);
 *     bnt_tokenizer_encode(bnt_model_tokenizer(model), text, len, BNT_ENCODE_ADD_SPECIAL, &ids,
 *                          &err);
 *     bnt_session_eval(session, ids.at, ids.n, &err);
 *     bnt_sampler_next(sampler, bnt_session_logits(session), &id, &err);
 *     bnt_session_eval(session, &id, 1, &err);   ...and so on
 *
 * Results do not depend on the number of threads, on the kernel, on how the ids are cut into eval
 * calls, or on the other sequences of a session: logits are equal bit for bit. No function prints;
 * nothing is allocated per token. */
#ifndef BNT_INFER_H
#define BNT_INFER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"

struct bnt_model;
struct bnt_session;

struct bnt_session_options;

/* How the output matrix (the head) is read; logits are the same, bit for bit. The last two are of
 * callers that ask for the best logits only (bnt_session_eval_best). */
enum bnt_head_form {
    BNT_HEAD_FULL, /* as it lies in the file */
    /* All rows, but for single tokens from a copy in 12 bits per weight (engine/narrow.h), three
     * quarters of the bytes of an F16 head: where the values allow it, the copy is kept for the
     * next open (packed_dir, packed_min_bytes), has room in memory and a CPU computes; else full.
     */
    BNT_HEAD_NARROW,
    /* A copy in 5 bits per weight tells which rows can be among them, and only those are read: a
     * third of the bytes of an F16 head. For heads in F32, F16 and BF16; the copy wants memory, and
     * a moment to be made. A warning tells when the head stays full. */
    BNT_HEAD_SCREENED,
    /* Screened where the copy is kept for the next open (packed_dir, packed_min_bytes), has room
     * in memory and a CPU computes; else full. */
    BNT_HEAD_AUTO
};
typedef void bnt_packing_fn(void *ctx, uint64_t bytes);

struct bnt_model_options {
    /* The session that is planned: its memory counts, and what interrupts it ends the making of
     * forms, too. NULL: one with the defaults. */
    const struct bnt_session_options *session;
    const char *i2s_layout; /* "auto" (NULL), "128/32", "64/16", "4-rows" */
    const char *pre;        /* tokenizer.ggml.pre override; NULL: the file's */
    uint64_t memory_limit;  /* bytes; 0: what the machine or the cgroup allows */
    bool stream_weights;    /* read every layer when it is used, whatever the limit */
    bool no_tokenizer;      /* do not build one (raw ids only) */
    /* Ternary weights as F32, so that activations are not quantised either: what the model would
     * say without that rounding, at sixteen times the memory. */
    bool dequantize;
    /* The folder in which forms of the weights that are made once are kept for the next open
     * (engine/packed.h); NULL: they are made at every open. */
    const char *packed_dir;
    uint64_t packed_min_bytes; /* smaller forms are not kept; 0: PACKED_MIN_BYTES */
    const char *digest;        /* sha256 of the file in hex; NULL or "": found when it is needed */
    /* TL1 and TL2 weights stay as the file has them and are multiplied by table look-up; else they
     * become codes of 2 bits when the model is opened. The same results, bit for bit. */
    bool tl_look_up;
    /* Tile sizes of TL1 and TL2 weights that the file does not record and no preset knows:
     * "ROWSxCOLS=BM,BK,BM_INNER", n_tl_tiles of them. */
    const char *const *tl_tiles;
    size_t n_tl_tiles;
    enum bnt_head_form head;
    bnt_warn_fn *warn;       /* called during bnt_model_open alone, as is the next */
    bnt_packing_fn *packing; /* a form of so many bytes will be made and kept, which takes time */
    void *warn_ctx;          /* of both */
};

/* Facts of a model, from its metadata. Dimensions are counts of elements. */
struct bnt_model_info {
    const char *arch;    /* "bitnet-b1.58" */
    const char *name;    /* general.name, "" if absent */
    const char *weights; /* type of most linear weights: "I2_S" */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx_train;
    uint64_t n_params, file_bytes;
    double rope_theta, rms_eps;
    bool tied_head;
    bool by_columns;        /* the `down` matrices have a copy by columns (engine/columns.h) */
    bool by_fives;          /* ternary matrices have a copy of 1.6 bits a weight (engine/fives.h) */
    bool screened;          /* the head has a copy in few bits per weight */
    bool narrow_head;       /* or one in 12 bits, without loss */
    bool streamed;          /* weights are read per layer to stay below the memory limit */
    const char *i2s_layout; /* packing in force, NULL without I2_S tensors */
    bool i2s_undecided;     /* a fixed text made no sense under any packing */
    uint64_t pack_ns;       /* time to find the packing and to make or map packed copies */
    /* Packed copies that an earlier open had kept, and those that this one made. */
    uint64_t packed_bytes, packed_made_bytes;
    uint64_t
        hash_ns; /* time to hash the file, which keeping copies takes; others were made meanwhile */
};

/* Errors: NOT_FOUND, FILE and UNSUPPORTED (gguf fault classes), MEMORY with need and have. opts may
 * be NULL. */
enum bnt_status bnt_model_open(const char *path, const struct bnt_model_options *opts,
                               struct bnt_model **out, struct bnt_err *err);
void bnt_model_close(struct bnt_model *m); /* after its sessions */
const struct bnt_model_info *bnt_model_info(const struct bnt_model *m);
const struct gguf *bnt_model_gguf(const struct bnt_model *m);
/* NULL with no_tokenizer. */
const struct bnt_tokenizer *bnt_model_tokenizer(const struct bnt_model *m);

enum bnt_kv_type { BNT_KV_F16, BNT_KV_F32 };
enum { BNT_MAX_THREADS = 256 };    /* of a session; more are not started */
enum { BNT_MAX_SEQUENCES = 1024 }; /* of a session */

struct bnt_session_options {
    uint32_t n_ctx;   /* positions; 0: the trained context, at most 4096 */
    uint32_t n_batch; /* ids per prefill step; 0: 128. Does not change results */
    /* Sequences that are decoded together (bnt_session_step), each with a KV cache of n_ctx; 0: 1.
     */
    uint32_t n_sequences;
    int n_threads; /* 0: what this process may use */
    enum bnt_kv_type kv_type;
    const char *kernel; /* "auto" (NULL), "ref", "avx2", "avx512", "neon", "i8mm", "wasm" */
    /* Checked between layers; non-zero stops eval with BNT_E_INTERRUPTED and the position of the
     * last whole batch. */
    const volatile sig_atomic_t *interrupted;
    /* What computes: "cpu" (NULL), "cuda" (the first GPU), "cuda:N", "auto": the faster of the two
     * by a measurement that is remembered for the file. cuda without a GPU is DEVICE, auto is then
     * the CPU. */
    const char *device;
    /* When a GPU fails or has not room: "error" (NULL): the CPU goes on, with the same ids and a
     * warning; "never": the error is returned; "below:RATE": as error, and also when fewer than
     * RATE tokens a second are decoded. */
    const char *fallback;
    uint64_t device_memory; /* bytes that may be taken on a GPU; 0: what is free */
    bnt_warn_fn *warn;      /* NULL: nobody is told */
    void *warn_ctx;
};

/* Errors: USAGE (unknown kernel or device, n_ctx or n_sequences past its ceiling), SELF_TEST
 * (forced kernel disagrees with the reference), MEMORY. A kernel chosen by auto that fails its
 * self-test is demoted; bnt_session_kernel_note says so. */
enum bnt_status bnt_session_new(struct bnt_model *m, const struct bnt_session_options *opts,
                                struct bnt_session **out, struct bnt_err *err);
void bnt_session_free(struct bnt_session *s);

/* Evaluate n ids after what the session holds. Afterwards bnt_session_logits is the last id's row.
 * Errors: USAGE (n == 0, an id outside the vocabulary; nothing changed), INFERENCE ("context full":
 * position and n_ctx are named; nothing changed), INTERRUPTED. */
enum bnt_status bnt_session_eval(struct bnt_session *s, const int32_t *ids, size_t n,
                                 struct bnt_err *err);

/* Logits of every position: called once for each id in order, logits[n_vocab] valid during the
 * call; those of the last id stay, for bnt_session_logits. A status other than BNT_OK stops and is
 * returned. */
typedef enum bnt_status bnt_logits_fn(void *ctx, size_t index, const float *logits,
                                      struct bnt_err *err);
enum bnt_status bnt_session_eval_each(struct bnt_session *s, const int32_t *ids, size_t n,
                                      bnt_logits_fn *fn, void *ctx, struct bnt_err *err);

/* An id with its logit, or with its natural log-probability where that is said. */
struct bnt_candidate {
    int32_t id;
    float value;
};

/* As bnt_session_eval, but of the last id's logits only the best k come: finite ones, best first,
 * ties to the lower id; *n_out of them, the same, bit for bit, as in the whole row. Where a GPU
 * computes, the row itself never leaves it; with a screened head only those rows of the output
 * matrix are read that may be among the k. bnt_session_logits is NULL afterwards. 1 <= k <=
 * BNT_BEST_MAX (else USAGE). */
#define BNT_BEST_MAX 64u
enum bnt_status bnt_session_eval_best(struct bnt_session *s, const int32_t *ids, size_t n,
                                      uint32_t k, struct bnt_candidate *out, uint32_t *n_out,
                                      struct bnt_err *err);
/* True when that spares something and nobody taps whole rows. */
bool bnt_session_has_best(const struct bnt_session *s);

/* How a sampler chooses among the best logits (engine/sampler.h), for a device that chooses where
 * they are. */
struct bnt_draw {
    double temperature; /* > 0 */
    double top_p;       /* 1: off */
    double min_p_log;   /* natural logarithm of min_p; -INFINITY: off */
    double unit;        /* the random number, in [0, 1) */
};

/* What a sampler that changes some logits looks at: those, and the best of all others. */
struct bnt_near {
    uint32_t k;          /* how many of the others; 1 to BNT_BEST_MAX */
    const int32_t *also; /* ids whose logits come whatever they are, each once */
    size_t n_also;
    float *also_logits; /* filled: n_also */
    /* NULL, or what to do with the k best where that can be done without them. */
    const struct bnt_draw *draw;
    int32_t drawn; /* filled: the id that was chosen so, when there is no other answer; or -1 */
    struct bnt_candidate best[BNT_BEST_MAX]; /* filled: as bnt_session_eval_best has them */
    uint32_t n_best;
};
/* As bnt_session_eval_best. Errors: also USAGE for an id outside the vocabulary. */
enum bnt_status bnt_session_eval_near(struct bnt_session *s, const int32_t *ids, size_t n,
                                      struct bnt_near *near, struct bnt_err *err);
/* For several positions: evaluate n ids, at most bnt_session_n_batch, and then ask what is wanted
 * of the index-th of them, as often as wanted, best in ascending order. Errors: USAGE (too many; an
 * index that was not evaluated last). */
enum bnt_status bnt_session_push(struct bnt_session *s, const int32_t *ids, size_t n,
                                 struct bnt_err *err);
enum bnt_status bnt_session_near_at(struct bnt_session *s, uint32_t index, struct bnt_near *near,
                                    struct bnt_err *err);
/* True when that spares something with ids that come in any case, too. */
bool bnt_session_has_near(const struct bnt_session *s);

/* ---- several sequences ----
 *
 * A session of n sequences reads the weights once for a token of each. What is above and below is
 * about one of them, the selected one, at first 0: a prompt is evaluated with bnt_session_eval
 * after selecting its sequence, and one that has ended is rewound to 0, when its place may be taken
 * by another. Logits are those of a session of its own, bit for bit. */

/* Errors: USAGE (there are fewer). bnt_session_logits is NULL afterwards. */
enum bnt_status bnt_session_select(struct bnt_session *s, uint32_t sequence, struct bnt_err *err);

struct bnt_step {
    uint32_t sequence;
    int32_t id;
};
/* One id each of n different sequences, in any order, each after what its sequence holds; the
 * others stay as they are. fn, which may be NULL, is called with the logits of each in the order of
 * steps. The selected sequence stays selected. Errors: as bnt_session_eval; also USAGE for a
 * sequence that is not there or stands twice. After any but one of fn, and DEVICE or MEMORY,
 * nothing has changed.
 */
enum bnt_status bnt_session_step(struct bnt_session *s, const struct bnt_step *steps, uint32_t n,
                                 bnt_logits_fn *fn, void *ctx, struct bnt_err *err);
/* The same; of step i only the best k logits come, as of bnt_session_eval_best: found[i] of them at
 * out[i * k]. */
enum bnt_status bnt_session_step_best(struct bnt_session *s, const struct bnt_step *steps,
                                      uint32_t n, uint32_t k, struct bnt_candidate *out,
                                      uint32_t *found, struct bnt_err *err);

/* n_vocab floats of the last evaluated id; the caller may write to them (the sampler does). NULL
 * before any eval. */
float *bnt_session_logits(struct bnt_session *s);
uint32_t bnt_session_n_vocab(const struct bnt_session *s); /* entries of a row of logits */
/* The model's; NULL without one. */
const struct bnt_tokenizer *bnt_session_tokenizer(const struct bnt_session *s);
uint32_t bnt_session_n_past(const struct bnt_session *s);
uint32_t bnt_session_n_ctx(const struct bnt_session *s);
uint32_t bnt_session_n_batch(const struct bnt_session *s);
/* Forget all positions from n_past on; n_past must not exceed the present one (USAGE). */
enum bnt_status bnt_session_rewind(struct bnt_session *s, uint32_t n_past, struct bnt_err *err);

/* The ids that the session holds, bnt_session_n_past of them; valid until the next eval, rewind or
 * restore. */
const int32_t *bnt_session_ids(const struct bnt_session *s);
/* Go back to where ids[n] and what the session holds part, at least one id short of n: what is left
 * to evaluate are ids[*reused] to ids[n - 1], and the logits are those of an evaluation of all of
 * ids in an empty session, bit for bit. Errors: USAGE (n == 0). */
enum bnt_status bnt_session_reuse(struct bnt_session *s, const int32_t *ids, size_t n,
                                  uint32_t *reused, struct bnt_err *err);

/* What a session holds, into a file and out of it. The file appears whole or not at all; it is
 * about as large as the part of the KV cache that is in use. model_digest: sha256 of the model's
 * file in hex, which must be the same again. A file that is not taken leaves the session as it was;
 * after a restore there are no logits before the next eval.
 * Errors: USAGE (nothing to save; a file of another model or type of KV cache, or of more positions
 * than this session has), FILE (damaged), UNSUPPORTED (another version), NOT_FOUND, NO_SPACE. */
/* Whether sessions on this device are kept in files at all, as both below ask first. Errors:
 * UNSUPPORTED, naming path. */
enum bnt_status bnt_session_check_kept(const struct bnt_session *s, const char *path,
                                       struct bnt_err *err);
enum bnt_status bnt_session_save(struct bnt_session *s, const char *path, const char *model_digest,
                                 struct bnt_err *err);
enum bnt_status bnt_session_restore(struct bnt_session *s, const char *path,
                                    const char *model_digest, struct bnt_err *err);

/* What has computed so far, and by which kernels: "cpu" by "avx512"; "cuda:0, then cpu" by "cuda,
 * then avx512" where the CPU took over. The session's own until it is freed or evaluates. */
const char *bnt_session_device(const struct bnt_session *s);
const char *bnt_session_kernel(const struct bnt_session *s);
/* "", or why the kernels in use are not faster ones. */
const char *bnt_session_kernel_note(const struct bnt_session *s);
int bnt_session_n_threads(const struct bnt_session *s);

struct bnt_session_stats {
    uint64_t memory_bytes; /* arena: KV cache and scratch */
    uint64_t kv_bytes;
    /* Bytes of weights that one decoded token reads; of those that are left out because they meet
     * zeros, the mean of the tokens so far. */
    uint64_t weight_bytes_per_token, left_out_bytes_per_token;
    uint64_t head_bytes_per_token; /* of them, of the head in its form */
    bool screened;                 /* the best logits come from a screened head */
    bool narrow_head; /* all logits come from a copy of the head in 12 bits per weight */
    /* Ids that a device has chosen by bnt_near.draw; how often it could not, and gave the best
     * logits. */
    uint64_t n_drawn, n_not_drawn;
    uint64_t self_test_ns; /* of opening: to check the kernels */
};
void bnt_session_stats(const struct bnt_session *s, struct bnt_session_stats *out);

/* Bytes that a model of this header and a session of these options need at most, resident: weights
 * that stay, packed copies, KV cache, scratch. */
uint64_t bnt_model_memory_need(const struct bnt_model *m, const struct bnt_session_options *opts);

/* Mean negative log-likelihood, nats per predicted id, of ids cut into chunks: every chunk is BOS
 * followed by its next n_chunk - 1 ids and predicts all but BOS. Order of the sum is fixed.
 * progress may be NULL. What each token costs, and windows that overlap: engine/perplexity.h. */
struct bnt_perplexity {
    uint64_t n_tokens;
    double nll, ppl;
};
enum bnt_status bnt_perplexity(struct bnt_session *s, const int32_t *ids, size_t n,
                               uint32_t n_chunk, void (*progress)(void *ctx, uint64_t done),
                               void *ctx, struct bnt_perplexity *out, struct bnt_err *err);

#endif
