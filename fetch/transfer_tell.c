/* What a transfer tells while it runs. */
#include "fetch/transfer_impl.h"

void transfer_tell(const struct transfer *t, enum bnt_fetch_event_kind kind, const struct mirror *m,
                   const struct bnt_err *why, uint64_t wait_ns)
{
    const struct bnt_fetch_opts *o = t->spec->opts;
    if (!o->event) {
        return;
    }
    const struct bnt_fetch_event e = {
        .kind = kind,
        .server = m->origin,
        .why = why ? why->msg : "",
        .status = why ? why->status : BNT_OK,
        .wait_ms = wait_ns / 1000000,
        .done_bytes = part_done_bytes(t->part),
        .total_bytes = t->part->record.total,
    };
    o->event(o->ctx, &e);
}
