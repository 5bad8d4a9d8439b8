/* One way through the kinds of sources. */
#include "fetch/settle.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/fault.h"
#include "fetch/hub.h"
#include "fetch/oci.h"
#include "fetch/s3.h"

bool settle_tells(const char *text)
{
    return strncasecmp(text, "hf://", 5) == 0 || strncasecmp(text, "oci://", 6) == 0;
}

enum bnt_status settle_ask(struct source *s, const struct bnt_fetch_opts *opts,
                           struct source_facts *out, struct bnt_err *err)
{
    *out = (struct source_facts){.size = 0};
    if (s->hub.repo[0]) {
        return hub_ask(&s->hub, opts, out, err);
    }
    return s->oci.repo[0] ? oci_ask(s, opts, out, err) : BNT_OK;
}

/* A source in a registry: which layer, then its blob. */
static enum bnt_status settle_oci(struct source *s, const struct bnt_fetch_opts *opts,
                                  char expected[BNT_SHA256_HEX], struct source_facts *facts,
                                  struct bnt_err *err)
{
    enum bnt_status st = oci_ask(s, opts, facts, err);
    if (st == BNT_OK) {
        st = settle_compare(s, facts, expected, err);
    }
    if (st == BNT_OK) {
        memcpy(expected, facts->sha256, BNT_SHA256_HEX);
        st = oci_blob(s, expected, err);
    }
    return st;
}

enum bnt_status settle_source(struct source *s, const struct bnt_fetch_opts *opts,
                              char expected[BNT_SHA256_HEX], struct source_facts *facts,
                              struct bnt_err *err)
{
    *facts = (struct source_facts){.size = 0};
    if (s->hub.repo[0]) {
        return hub_settle(s, opts, expected, facts, err);
    }
    if (s->oci.repo[0]) {
        return settle_oci(s, opts, expected, facts, err);
    }
    return s->s3 && !opts->offline ? s3_settle(s, err) : BNT_OK;
}

enum bnt_status settle_mirror(struct source *s, const char *digest, struct bnt_err *err)
{
    if (s->oci.repo[0]) {
        return oci_blob(s, digest, err);
    }
    return s->s3 ? s3_settle(s, err) : BNT_OK;
}

enum bnt_status settle_pinned(const struct source *s, const char *revision, const char *file,
                              char out[BNT_CACHE_SOURCE_MAX], struct bnt_err *err)
{
    if (s->oci.repo[0]) {
        struct oci_ref ref = s->oci;
        ref.tag[0] = '\0';
        snprintf(ref.digest, sizeof ref.digest, "%s", revision);
        snprintf(ref.file, sizeof ref.file, "%s", file ? file : s->oci.file);
        return oci_show(&ref, out, err);
    }
    struct hub_ref ref = s->hub;
    snprintf(ref.rev, sizeof ref.rev, "%s", revision);
    snprintf(ref.file, sizeof ref.file, "%s", file ? file : s->hub.file);
    ref.quant[0] = '\0';
    return hub_show(&ref, out, err);
}

enum bnt_status settle_compare(const struct source *s, const struct source_facts *facts,
                               const char *expected, struct bnt_err *err)
{
    if (!facts->sha256[0] || !expected[0] || BNT_FAULT(hub_digest) ||
        strcmp(facts->sha256, expected) == 0) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_err_set(err, BNT_E_DIGEST, "%.300s: sha256 is %s there, expected %s",
                                     s->shown, facts->sha256, expected);
    bnt_err_hint(err, "the file at the source is not the one that was meant; nothing was fetched");
    return st;
}

enum bnt_status settle_offline(const char *shown, struct bnt_err *err)
{
    enum bnt_status st =
        bnt_err_set(err, BNT_E_OFFLINE, "offline, and %.300s is not in the cache", shown);
    bnt_err_hint(err, "run once with the network: bnt fetch %.200s", shown);
    return st;
}
