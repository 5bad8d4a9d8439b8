/* What the suites of the transfer share: a large file, a server for it, a fetch. */
#ifndef SUITES_TRANSFER_FIXTURE_H
#define SUITES_TRANSFER_FIXTURE_H

#include "fetch/bnt_fetch.h"
#include "mock/bnt_mock.h"

#define TRANSFER_START_S 1000000 /* where the fake clock begins */

/* Bytes that no shift of themselves resembles; the same for the same seed. Valid until the process
 * ends. */
const char *transfer_bytes(size_t n, unsigned seed);
void transfer_digest(const char *bytes, size_t n, char hex[BNT_SHA256_HEX]);
/* A plain server; proxies and certificates of the environment are gone. */
struct bnt_mock_server *transfer_server(const struct bnt_mock_route *routes);
/* The same with TLS that this process trusts. */
struct bnt_mock_server *transfer_tls_server(const struct bnt_mock_route *routes);
/* Fetch server + path with the fake clock. *waited_s: what the clock advanced, NULL: not asked. */
enum bnt_status transfer_fetch(const struct bnt_mock_server *s, const char *path,
                               const struct bnt_fetch_opts *opts, struct bnt_fetch_result *r,
                               double *waited_s, struct bnt_err *err);
/* The blob holds exactly these bytes. */
void transfer_assert_blob(const struct bnt_fetch_result *r, const char *bytes, size_t n);
/* Whether request k had this line; "Name: value" without the line's end. */
bool transfer_request_has(struct bnt_mock_server *s, size_t k, const char *line);

#endif
