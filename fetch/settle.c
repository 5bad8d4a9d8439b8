/* One door to what the kinds of sources do before a transfer. */
#include "fetch/settle.h"

#include "fetch/s3.h"

enum bnt_status settle_source(struct source *s, const struct bnt_fetch_opts *opts,
                              char expected[BNT_SHA256_HEX], struct hub_facts *facts,
                              struct bnt_err *err)
{
    *facts = (struct hub_facts){.size = 0};
    if (s->hub.repo[0]) {
        return hub_settle(s, opts, expected, facts, err);
    }
    return s->s3 && !opts->offline ? s3_settle(s, err) : BNT_OK;
}
