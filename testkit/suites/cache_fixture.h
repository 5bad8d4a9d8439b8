/* What the suites of cache and fetch share: files and a cache in the test's scratch folder. A step
 * that fails fails the test. */
#ifndef SUITES_CACHE_FIXTURE_H
#define SUITES_CACHE_FIXTURE_H

#include "cache/bnt_cache.h"

/* Path of `relative` in the scratch folder; returns out. */
const char *fixture_path(char out[BNT_PATH_MAX], const char *relative);
void fixture_write(const char *path, const char *text);
/* The same of a file in the scratch folder. */
void fixture_file(const char *relative, const char *text);
/* The file holds exactly this text. */
void fixture_assert_holds(const char *path, const char *text);
void fixture_digest(const char *text, char hex[BNT_SHA256_HEX]);
/* The cache in <scratch>/c. */
struct bnt_cache *fixture_cache(void);
/* Add `text` under `name` ("": none), as if it came from file:///test/<name>. */
struct bnt_cache_entry fixture_add(struct bnt_cache *c, const char *name, const char *text);
/* One statement on the index of that cache, past our own code. Returns the first column of the
 * first row. */
int fixture_sql(const char *statement);
/* The same as text, valid until the next call. */
const char *fixture_sql_text(const char *statement);
/* That cache has no entry, no blob and no temporary. */
void fixture_assert_empty(struct bnt_cache *c);
/* This process and its children trust the certificates of both files, and no others. */
void fixture_trust(const char *one, const char *two);
/* Run bnt with these words in the scratch folder and expect the exit code. */
struct suite_output;
void fixture_bnt(struct suite_output *o, int exit, const char *const *words);
#define FIXTURE_BNT(o, exit, ...) fixture_bnt((o), (exit), (const char *const[]){__VA_ARGS__, NULL})
/* Root may write anywhere, but not without its capabilities. For a forked child: there is no way
 * back. */
bool fixture_drop_capabilities(void);

#endif
