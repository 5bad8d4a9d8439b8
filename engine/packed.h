/* Forms of a model's weights that are made once and found again by the next start: ternary weights
 * in another packing than the file's, a small copy of the head for screening, and the like.
 *
 *     struct packed_want want = {.layout = "head-q4", .version = 1, .size = n,
 *                                .fill = fill_head, .ctx = m};
 *     struct packed head;
 *     enum bnt_status st = packed_open(&m->packs, &want, &head, err);
 *     ... others ...
 *     packed_finish(&m->packs);
 *     ... head.data[0] to head.data[n - 1], read-only, until packed_release(&head) ...
 *
 * A form is a function of the model's bytes and of nothing else: its layout and version name that
 * function. Whoever changes what fill writes raises the version, or old files would be taken for
 * new ones.
 *
 * With a folder (bnt_model_options.packed_dir) each form is a file of its own, named by the
 * model's digest, layout and version (base/packed_dir.h). It appears whole or not at all, and is
 * only used when its header is sound, says what was wanted, and its content was proven since the
 * file last changed. Any other file is made anew with a word to the caller's warn. Without a
 * folder, for forms that are too small to be worth a file, or when a file cannot be written, the
 * form is made in memory: packed_open fails only when that fails.
 *
 * To make a form takes no digest. So a large model whose digest nobody knows is hashed in a thread
 * of its own while forms are made, and a form that is made is hashed and written in a thread while
 * the next one is made. packed_finish waits for them and gives the files their names.
 *
 * One thread at a time for each store, which starts others and joins them; any number of processes
 * for each folder: the first makes the forms, the others wait for it. */
#ifndef BNT_PACKED_H
#define BNT_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/status.h"
#include "engine/bnt_infer.h"
#include "engine/file_facts.h"
#include "engine/tokenizer.h"

#define PACKED_MIN_BYTES ((uint64_t)8 << 20) /* smaller forms are not worth a file */
#define PACKED_LAYOUT_MAX 32                 /* bytes of a layout's name with its terminator */

/* A model so large is hashed while forms are made: that takes longer than its times take to settle,
 * so that the digest is remembered (file_facts.h) and the next start finds the forms by it. */
#define PACKED_LATE_BYTES ((uint64_t)128 << 20)
#define PACKED_WRITTEN_MAX 6 /* files of one model that a process remembers */

/* Where the forms of one model are kept. */
struct packed_store {
    char *dir, *model_path;         /* dir NULL: nothing is kept */
    bool gave_up;                   /* no form more is kept, and that was told */
    uint64_t min_bytes, late_bytes; /* PACKED_MIN_BYTES or what was asked for; PACKED_LATE_BYTES */
    struct bnt_file_id id;          /* of the model's file before it was opened */
    char digest[BNT_SHA256_HEX];    /* of the model; "" until a form is wanted */
    bnt_warn_fn *warn;              /* NULL: nobody listens */
    bnt_packing_fn *packing;        /* the same */
    void *warn_ctx;                 /* of both */
    const volatile sig_atomic_t *interrupted; /* NULL, or non-zero: nothing more is made or kept */
    uint64_t mapped_bytes, made_bytes;        /* forms that were found, that were made */
    uint64_t hash_ns;             /* time to find the digest, while forms are made or before */
    struct packed_making *making; /* NULL: nothing was made that is not in its place */
    struct packed_written { /* a file that this process wrote, and what stands in its header */
        char *path, form[BNT_SHA256_HEX];
        struct bnt_file_id id;
    } written[PACKED_WRITTEN_MAX];
    size_t n_written;
};

/* For the model file at `path`, which is opened next. Release is needed also after an error. */
enum bnt_status packed_store_init(struct packed_store *s, const char *path,
                                  const struct bnt_model_options *opts, struct bnt_err *err);
/* Whether forms of so many bytes are kept. */
bool packed_store_keeps(const struct packed_store *s, uint64_t bytes);
void packed_store_release(struct packed_store *s); /* finishes; forms that are open stay valid */

struct packed_want {
    const char *layout;  /* [a-z0-9-], shorter than PACKED_LAYOUT_MAX */
    uint32_t version;    /* of the layout */
    uint64_t size;       /* bytes, at least 1 */
    uint64_t cost_bytes; /* a small form is worth a file when fill reads so much; 0: size */
    /* Write all of dst[size], which is zero before. Its failure is packed_open's. It may end early
     * once bnt_err_interrupted. */
    enum bnt_status (*fill)(void *ctx, uint8_t *dst, struct bnt_err *err);
    void *ctx;
};

struct packed {
    const uint8_t *data; /* size bytes, 4096-byte aligned; NULL: none */
    uint64_t size;
    bool mapped;              /* a file, whose pages come when they are touched; else memory */
    struct bnt_mapping map;   /* of the file or of the memory, with what stands before data */
    struct packed_kept *kept; /* has them instead, when the form was made and is to be kept */
};

/* Errors: MEMORY, INTERRUPTED, those of fill. */
enum bnt_status packed_open(struct packed_store *s, const struct packed_want *want,
                            struct packed *out, struct bnt_err *err);
/* Bring what was made into its place, waiting for what is still at work: the threads of the store
 * and its locks end here. After the last packed_open of an opening; what cannot be kept is told by
 * warn, and its form stays. */
void packed_finish(struct packed_store *s);
void packed_release(struct packed *p);

#endif
