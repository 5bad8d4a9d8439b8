/* Whether content fits, asked as soon as its size is known: before the first byte where a lock, a
 * manifest or a hub says it, else at the head of the first answer. */
#ifndef BNT_FETCH_FETCH_ROOM_H
#define BNT_FETCH_FETCH_ROOM_H

#include "fetch/bnt_fetch.h"

/* Errors: MEMORY more than opts->max_bytes; NO_SPACE more than the disk of `fd` has left, on which
 * the file of fd may lie in part already. size 0: not known, which is fine. */
enum bnt_status fetch_room(const struct bnt_fetch_opts *opts, int fd, const char *shown,
                           uint64_t size, struct bnt_err *err);
/* The first alone. */
enum bnt_status fetch_room_memory(const struct bnt_fetch_opts *opts, const char *shown,
                                  uint64_t size, struct bnt_err *err);

#endif
