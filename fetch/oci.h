/* Model artifacts of a registry: oci://REGISTRY[:PORT]/REPO[:TAG][@sha256:DIGEST][#FILE].
 *
 * Without TAG and DIGEST the tag is latest. FILE is the title of a layer, or its digest; without it
 * the only GGUF file is taken, as the layers say by title (ORAS, ModelPack) or media type (Docker
 * Model Runner, Ollama, ModelPack). docker.io stands for Docker's own registry.
 *
 *     BNT_OCI_HTTP         registries that are spoken to over http, by comma [those of this
 *                          machine: localhost, 127.*, [::1]]; "" is none. Over http from another
 *                          machine a digest is needed, @sha256: or that of the file
 *     DOCKER_AUTH_CONFIG, REGISTRY_AUTH_FILE, DOCKER_CONFIG   see fetch/oci_login.h
 *
 * A manifest names its layers by digest and size, so a download is held to its digest although
 * nobody wrote one down, and locking downloads nothing. */
#ifndef BNT_FETCH_OCI_H
#define BNT_FETCH_OCI_H

#include "fetch/bnt_fetch.h"
#include "fetch/source.h"

#define OCI_MANIFEST_MAX_BYTES (4u << 20) /* what registries accept */

/* What follows oci://: fills oci, kind, url (of the repository) and shown. Errors: USAGE. */
enum bnt_status oci_parse(const char *rest, struct source *out, struct bnt_err *err);
/* The source as it is written. */
enum bnt_status oci_show(const struct oci_ref *ref, char out[BNT_CACHE_SOURCE_MAX],
                         struct bnt_err *err);
/* Whether nobody on the way can change what a transfer over http brings. */
bool oci_is_trusted_http(const struct source *s);

/* Make the source's URL that of a blob of its repository. Errors: USAGE too long. */
enum bnt_status oci_blob(struct source *s, const char sha256[BNT_SHA256_HEX], struct bnt_err *err);

/* Ask the registry which layer is meant; the login that it took is kept in the source. The revision
 * is the digest of the manifest that holds the layer. Errors: AUTH; NOT_FOUND and USAGE with what
 * is there; UNSUPPORTED a kind of manifest; DIGEST a manifest that is not the one of its digest;
 * those of the network. */
enum bnt_status oci_ask(struct source *s, const struct bnt_fetch_opts *opts,
                        struct source_facts *out, struct bnt_err *err);

/* A new login for the source's URL, when the old one is no longer accepted. Errors: as oci_ask. */
enum bnt_status oci_renew(struct source *s, const struct bnt_fetch_opts *opts, struct bnt_err *err);

#endif
