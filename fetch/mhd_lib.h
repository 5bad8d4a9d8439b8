/* libmicrohttpd, loaded by `bnt cache serve` alone. */
#ifndef BNT_FETCH_MHD_LIB_H
#define BNT_FETCH_MHD_LIB_H

#include <microhttpd.h>

#include "base/status.h"

struct mhd_lib {
    struct MHD_Daemon *(*start_daemon)(unsigned flags, uint16_t port,
                                       MHD_AcceptPolicyCallback accept, void *accept_ctx,
                                       MHD_AccessHandlerCallback handle, void *handle_ctx, ...);
    MHD_socket (*quiesce_daemon)(struct MHD_Daemon *daemon);
    void (*stop_daemon)(struct MHD_Daemon *daemon);
    const char *(*lookup_value)(struct MHD_Connection *c, enum MHD_ValueKind kind, const char *key);
    const union MHD_ConnectionInfo *(*connection_info)(struct MHD_Connection *c,
                                                       enum MHD_ConnectionInfoType type, ...);
    struct MHD_Response *(*response_of_fd)(uint64_t size, int fd, uint64_t offset);
    struct MHD_Response *(*response_of_buffer)(size_t size, void *buffer,
                                               enum MHD_ResponseMemoryMode mode);
    struct MHD_Response *(*response_of_callback)(uint64_t size, size_t block_size,
                                                 MHD_ContentReaderCallback read, void *ctx,
                                                 MHD_ContentReaderFreeCallback release);
    enum MHD_Result (*add_header)(struct MHD_Response *r, const char *name, const char *value);
    enum MHD_Result (*queue_response)(struct MHD_Connection *c, unsigned code,
                                      struct MHD_Response *r);
    void (*destroy_response)(struct MHD_Response *r);
};

/* The table. Not thread-safe: call first from the main thread. Errors: UNSUPPORTED with the package
 * to install. */
enum bnt_status mhd_lib_load(const struct mhd_lib **out, struct bnt_err *err);

#endif
