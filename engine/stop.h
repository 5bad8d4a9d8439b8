/* Stop strings over a stream of text: what is passed on never contains a stop string, nor the
 * beginning of one that the following text completes. Results do not depend on how the text is cut
 * into pushes: the stop that is completed first wins, and of several that end at the same byte the
 * longest.
 *
 *     bnt_stop_new(strings, n, &stop, &err);
 *     bnt_stop_push(stop, piece, len, &out, &hit, &err);   ...until hit >= 0
 *     bnt_stop_flush(stop, &out, &err);                    the end came without one: what was
 *                                                          held back is text
 */
#ifndef BNT_STOP_H
#define BNT_STOP_H

#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

#define BNT_STOP_MAX_BYTES 1024 /* of one stop string */

struct bnt_stop;

/* Strings are copied. Errors: USAGE for an empty or overlong one. n may be 0. */
enum bnt_status bnt_stop_new(const char *const *strings, size_t n, struct bnt_stop **out,
                             struct bnt_err *err);
void bnt_stop_free(struct bnt_stop *s); /* NULL is fine */

/* Append to out what of bytes[0..n-1] is certainly no part of a stop string. *hit becomes the index
 * of the stop string that was completed, else -1; after a hit the rest of bytes is dropped and only
 * bnt_stop_reset may follow. */
enum bnt_status bnt_stop_push(struct bnt_stop *s, const char *bytes, size_t n, struct bnt_buf *out,
                              int *hit, struct bnt_err *err);
/* Append what is held back. */
enum bnt_status bnt_stop_flush(struct bnt_stop *s, struct bnt_buf *out, struct bnt_err *err);
/* Forget what is held back. */
void bnt_stop_reset(struct bnt_stop *s);

#endif
