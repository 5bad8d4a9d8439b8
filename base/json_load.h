/* JSON: texts, read and written where memory may run out, and values that several places write.
 * jansson then calls a good text malformed, or even leaves out characters or a key of it and says
 * nothing; this one notices. */
#ifndef BNT_JSON_LOAD_H
#define BNT_JSON_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/status.h"

/* As json_loadb; `at` may be NULL. NULL also when memory ran out, with an `at->text` that says so.
 */
json_t *bnt_json_load(const char *text, size_t n, size_t flags, json_error_t *at);

/* As json_dumps, to be freed; NULL also when memory ran out within it, or root is NULL. */
char *bnt_json_dumps(const json_t *root, size_t flags);

/* Print a value and the end of its line on standard output, with the flags of json_dumps, and free
 * it; NULL is one that there was no memory for. Errors: MEMORY (err may be NULL), nothing is
 * printed then. What standard output does not take is told by bnt_msg_flush, as of all that is
 * printed. */
enum bnt_status bnt_json_print(json_t *root, size_t flags, struct bnt_err *err);

/* Bytes as a text: what is no UTF-8, which JSON's are, becomes U+FFFD. NULL: memory ran out. */
json_t *bnt_json_bytes(const char *bytes, size_t n);
/* The same of a string: a path, or what else the user may call as he likes. */
json_t *bnt_json_text(const char *text);

/* A list of token ids; NULL: memory ran out. */
json_t *bnt_json_ids(const int32_t *ids, size_t n);

/* Whether memory ran out in the last bnt_json_load or bnt_json_dumps of this thread. */
bool bnt_json_ran_out(void);

#endif
