/* What `bnt fetch` says while it works and at its end: a line on a terminal, notes, and under
 * --json one JSON object per line (docs/transfer.md has the events). */
#ifndef BNT_FETCH_CMD_FETCH_TELL_H
#define BNT_FETCH_CMD_FETCH_TELL_H

#include <jansson.h>

#include "base/msg.h"
#include "fetch/bnt_fetch.h"

struct fetch_tell {
    bool json, quiet;
    bool lost;        /* an event could not be made */
    bool came;        /* bytes of the file under way were read or downloaded */
    const char *name; /* of what is under way; borrowed */
    struct bnt_progress progress;
    size_t n_servers; /* that bytes of the file came from */
    uint64_t began_ns, file_began_ns, last_ns;
    uint64_t done_bytes, total_bytes; /* of the file under way, as far as told */
    uint64_t base_bytes;              /* of them from an earlier transfer */
    uint64_t file_bytes, all_bytes;   /* that came over the network: for this file, in all */
    json_t *files;                    /* of the last line */
};

void fetch_tell_init(struct fetch_tell *t, bool json, bool quiet);
void fetch_tell_release(struct fetch_tell *t);

/* A file, or what is needed to know it, is under way; `name` must stay until the end. */
void fetch_tell_begin(struct fetch_tell *t, const char *name);
/* It is there, or another step of the same file follows: wipes the line. */
void fetch_tell_pause(struct fetch_tell *t);
/* What has come for the file so far counts for the next one. */
void fetch_tell_forget(struct fetch_tell *t);

/* The callbacks of bnt_fetch_opts; ctx is the fetch_tell. */
bnt_fetch_progress_fn fetch_tell_progress;
bnt_fetch_event_fn fetch_tell_event;

/* A file is in the cache. `unpacked`: the folder, or NULL. */
void fetch_tell_done(struct fetch_tell *t, const struct bnt_fetch_result *r, const char *unpacked);
/* Something failed: printed, and an event. Returns the status. */
enum bnt_status fetch_tell_error(struct fetch_tell *t, const struct bnt_err *err);
/* Any other event: its members as json_pack made them, taken. */
void fetch_tell_put(struct fetch_tell *t, json_t *event);
/* The last line of --json. Returns st, or MEMORY when a line was lost. */
enum bnt_status fetch_tell_result(struct fetch_tell *t, enum bnt_status st);

#endif
