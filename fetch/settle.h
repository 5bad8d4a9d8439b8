/* The last step from a source to what is asked for: what is known only right before a transfer. */
#ifndef BNT_FETCH_SETTLE_H
#define BNT_FETCH_SETTLE_H

#include "fetch/hub.h"
#include "fetch/source.h"

/* Sign the URL of an object of S3; ask the hub which commit, digest and size a file has (hub.h says
 * what `expected` and `facts` are, and that the source may become a file of this machine). Other
 * sources stay as they are. Errors: those of s3_settle and hub_settle. */
enum bnt_status settle_source(struct source *s, const struct bnt_fetch_opts *opts,
                              char expected[BNT_SHA256_HEX], struct hub_facts *facts,
                              struct bnt_err *err);

#endif
