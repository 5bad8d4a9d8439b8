/* Where the project of the working folder has some content: its manifest and lock file name sources
 * and mirrors, whole, while the index of the cache keeps no queries. */
#ifndef BNT_FETCH_PLACES_H
#define BNT_FETCH_PLACES_H

#include "fetch/source.h"
#include "fetch/transfer.h"

struct places {
    struct source at[TRANSFER_SOURCES_MAX];
    size_t n;
};

/* Add a place unless it is there, cannot be parsed, or there is no more room. *why: NULL, or takes
 * what is wrong with it. */
void places_add(struct places *p, const char *text, struct bnt_err *why);
/* Add the source and the mirrors of every file of that digest. A project that cannot be read adds
 * nothing: a command that is about the project says what is wrong with it. */
void places_add_project(struct places *p, const char *digest);

#endif
