/* The model hub: hf://org/repo[@revision]/file, and hf://org/repo[:QUANT] or org/repo[:QUANT],
 * where the file is chosen from the GGUF files of the repository.
 *
 *     HF_ENDPOINT      where the hub is [https://huggingface.co]
 *     HF_TOKEN         the token; else the file HF_TOKEN_PATH; else $HF_HOME/token. It is sent to
 *                      the endpoint alone and never shown
 *     HF_HUB_CACHE     folder in which the hub's own tools keep files [$HF_HOME/hub]; what lies
 *                      there is copied instead of downloaded
 *     HF_HOME          [$XDG_CACHE_HOME/huggingface, ~/.cache/huggingface]
 *     HF_HUB_OFFLINE   1, true, yes or on: the hub is not asked
 *
 * Before a download the hub is asked which commit the revision is and, for large files, which
 * digest and size the file has; so a download is held to its digest although nobody wrote one down.
 */
#ifndef BNT_FETCH_HUB_H
#define BNT_FETCH_HUB_H

#include "fetch/bnt_fetch.h"
#include "fetch/source.h"

#define HUB_COMMIT_MAX 65 /* 40 hex digits today */

/* Whether text without a scheme has the form org/repo or org/repo:QUANT. */
bool hub_is_repository(const char *text);
/* What follows hf://. Errors: USAGE. */
enum bnt_status hub_parse(const char *rest, struct hub_ref *out, struct bnt_err *err);
/* The source as it is written, and the URL of its file ("" file: of the repository). */
enum bnt_status hub_show(const struct hub_ref *ref, char out[BNT_CACHE_SOURCE_MAX],
                         struct bnt_err *err);
enum bnt_status hub_url(const struct hub_ref *ref, char out[SOURCE_URL_MAX], struct bnt_err *err);

/* Every file of the repository, as its revision is now. Errors: as hub_ask. */
typedef void hub_file_fn(void *ctx, const char *path);
enum bnt_status hub_list(const struct hub_ref *ref, const struct bnt_fetch_opts *opts,
                         hub_file_fn *fn, void *ctx, struct bnt_err *err);

/* Whether the hub may be asked. */
bool hub_is_offline(const struct bnt_fetch_opts *opts);

/* Ask the hub. Errors: OFFLINE, AUTH, NOT_FOUND with the files to choose from, USAGE when the
 * choice is not clear, and those of the network. */
enum bnt_status hub_ask(const struct hub_ref *ref, const struct bnt_fetch_opts *opts,
                        struct source_facts *out, struct bnt_err *err);

/* Settle a source of the hub before its transfer: it becomes a file of the hub's own cache when
 * that has the content, else the URL of one file of one commit with the token for it. `expected` is
 * the digest that the content must have; when it is "" and the hub says it, it is filled. Errors:
 * as hub_ask; DIGEST when the hub says that the file is another. */
enum bnt_status hub_settle(struct source *s, const struct bnt_fetch_opts *opts,
                           char expected[BNT_SHA256_HEX], struct source_facts *facts,
                           struct bnt_err *err);

#endif
