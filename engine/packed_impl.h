/* Between packed.c, which knows where forms are kept and which file is right, and packed_make.c,
 * which makes a form in a file that has no name yet. */
#ifndef BNT_PACKED_IMPL_H
#define BNT_PACKED_IMPL_H

#include <pthread.h>

#include "engine/packed.h"

enum { PACKED_HEADER_BYTES = 4096 };

/* A form that was made and is not yet in its place. Its thread, until it is joined, reads the form
 * and writes `digest`, `st` and `why`; all else belongs to who opens the model. */
struct packed_kept {
    struct packed_kept *next;
    char layout[PACKED_LAYOUT_MAX];
    uint32_t version;
    uint64_t size;
    struct bnt_mapping map; /* room for the header, then the form */
    struct bnt_durable file;
    bool in_file; /* map is the file's content; else memory, which the thread writes there */
    bool looked;  /* there was no right file with the folder's lock held, which still is */
    int users;    /* the store until the form is in its place; the form until its release */
    const volatile sig_atomic_t *interrupted; /* NULL, or non-zero: it is not kept */
    pthread_t thread;
    bool started;
    char digest[BNT_SHA256_HEX]; /* of the form */
    enum bnt_status st;
    struct bnt_err why;
};

/* For a form that is not kept. */
enum bnt_status packed_make_in_memory(const struct packed_want *want, struct packed *out,
                                      struct bnt_err *err);

/* A temporary file in `dir` for a form, all zeros. Where the file system promises no room for it
 * the form is in memory at first. Errors: those of files, of a full disk above all; MEMORY. */
enum bnt_status packed_kept_new(const char *dir, const struct packed_want *want,
                                struct packed_kept **out, struct bnt_err *err);
/* The form is made and changes no more: hash it and bring it to the disk, in a thread. */
void packed_kept_start(struct packed_kept *k);
void packed_kept_join(struct packed_kept *k);
/* Have another mapping of the same bytes at the form's address, taking it; by NULL: memory, if
 * there is enough. Nothing of the temporary is used any more. */
void packed_kept_replace(struct packed_kept *k, struct bnt_mapping *by);
/* The last one of its users takes it away, and the temporary if that has no name. */
void packed_kept_drop(struct packed_kept *k);

#endif
