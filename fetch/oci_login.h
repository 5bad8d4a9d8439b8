/* What a registry wants to see before it answers: the account of a user, or a token that another
 * server gives for it (the token flow of the distribution specification).
 *
 * Accounts are looked up for the registry in the first of these that is there; its form is that of
 * Docker's config.json: {"auths": {"HOST[:PORT]": {"auth": base64 of "USER:PASSWORD"}}}, or
 * "username" and "password" in place of "auth", or "registrytoken" with a token.
 *
 *     DOCKER_AUTH_CONFIG     the text itself
 *     REGISTRY_AUTH_FILE     a file
 *     DOCKER_CONFIG          the folder of config.json [~/.docker]
 *
 * Helpers ("credsStore", "credHelpers") and identity tokens are not used; an error says so where
 * they would have been. An account goes to the registry it is for and to the token server that this
 * registry names, never over http to another machine, and is never shown. */
#ifndef BNT_FETCH_OCI_LOGIN_H
#define BNT_FETCH_OCI_LOGIN_H

#include "fetch/bnt_fetch.h"
#include "fetch/source.h"

/* Set token and basic of the source to what answers the challenge (the value of WWW-Authenticate).
 * Errors: AUTH; FILE accounts that cannot be read; those of the network. */
enum bnt_status oci_login(struct source *s, const char *challenge,
                          const struct bnt_fetch_opts *opts, struct bnt_err *err);

/* Whether the host, without a port, is this machine. */
bool oci_is_loopback(const char *registry);

/* What could have helped, after the registry refused: the hint of an error. */
void oci_login_hint(const struct source *s, struct bnt_err *err);

#endif
