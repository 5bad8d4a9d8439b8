/* The table of libmicrohttpd's functions. */
#include "fetch/mhd_lib.h"

#include <stdbool.h>
#include <stddef.h>

#include "base/dyn_lib.h"

#define LIBRARY "libmicrohttpd.so.12"

static struct mhd_lib lib;
static bool loaded;

enum bnt_status mhd_lib_load(const struct mhd_lib **out, struct bnt_err *err)
{
    const struct bnt_dyn_symbol symbols[] = {
        {"MHD_start_daemon", &lib.start_daemon},
        {"MHD_quiesce_daemon", &lib.quiesce_daemon},
        {"MHD_stop_daemon", &lib.stop_daemon},
        {"MHD_lookup_connection_value", &lib.lookup_value},
        {"MHD_get_connection_info", &lib.connection_info},
        {"MHD_create_response_from_fd_at_offset64", &lib.response_of_fd},
        {"MHD_create_response_from_buffer", &lib.response_of_buffer},
        {"MHD_create_response_from_callback", &lib.response_of_callback},
        {"MHD_add_response_header", &lib.add_header},
        {"MHD_queue_response", &lib.queue_response},
        {"MHD_destroy_response", &lib.destroy_response},
    };
    const char *missing =
        loaded ? NULL : bnt_dyn_lib_load(LIBRARY, symbols, sizeof symbols / sizeof symbols[0]);
    if (missing) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_UNSUPPORTED, "serving needs libmicrohttpd: %s", missing);
        bnt_err_hint(err, "install it: apt-get install libmicrohttpd12");
        return st;
    }
    loaded = true;
    *out = &lib;
    return BNT_OK;
}
