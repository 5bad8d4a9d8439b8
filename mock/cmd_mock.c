/* bnt mock: what stands in for a trained model or a server in tests. */
#include "mock/cmd_mock_impl.h"
#include "mock/commands.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

static bool is_stdout(const char *path)
{
    return !path || strcmp(path, "-") == 0;
}

enum bnt_status mock_may_write_out(const char *path, struct bnt_err *err)
{
    return is_stdout(path) ? BNT_OK : bnt_file_may_write(path, err);
}

enum bnt_status mock_write_out(const char *path, const struct bnt_buf *text, struct bnt_err *err)
{
    if (is_stdout(path)) {
        fwrite(bnt_buf_view(text), 1, text->len, stdout);
        return BNT_OK;
    }
    return bnt_file_write(path, bnt_buf_view(text), text->len, err);
}

static const struct bnt_cmd *const subs[] = {&mock_cmd_make,   &mock_cmd_faults,   &mock_cmd_script,
                                             &mock_cmd_server, &mock_cmd_contract, NULL};

const struct bnt_cmd bnt_cmd_mock = {
    .name = "mock",
    .also = "stub fake",
    .synopsis = "COMMAND ...",
    .summary = "stand-ins for tests: tiny models, servers that misbehave, contracts",
    .description =
        "Tests of what surrounds a model need not wait for one. A tiny model is a true GGUF that "
        "goes through the same loader, tokenizer and kernels as a trained one; what it says means "
        "nothing, and no command takes it for a real one: they refuse it, or with --allow-mock end "
        "with exit code 24. docs/mock.md tells more.",
    .subs = subs,
};
