/* The sub-commands of `bnt mock`, for its table in cmd_mock.c. */
#ifndef BNT_CMD_MOCK_IMPL_H
#define BNT_CMD_MOCK_IMPL_H

#include "base/buf.h"
#include "base/opt.h"

extern const struct bnt_cmd mock_cmd_contract;
extern const struct bnt_cmd mock_cmd_faults;
extern const struct bnt_cmd mock_cmd_make;
extern const struct bnt_cmd mock_cmd_script;
extern const struct bnt_cmd mock_cmd_server;

/* The text to a file, whole or not at all, or to standard output for NULL and "-"; and whether that
 * file could be written, asked before the text is made. */
enum bnt_status mock_write_out(const char *path, const struct bnt_buf *text, struct bnt_err *err);
enum bnt_status mock_may_write_out(const char *path, struct bnt_err *err);

#endif
