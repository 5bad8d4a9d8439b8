/* bnt mock: what stands in for a trained model or a server in tests. */
#include "mock/cmd_mock_impl.h"
#include "mock/commands.h"

#include <stddef.h>

static const struct bnt_cmd *const subs[] = {&mock_cmd_make, &mock_cmd_faults, &mock_cmd_server,
                                             &mock_cmd_contract, NULL};

const struct bnt_cmd bnt_cmd_mock = {
    .name = "mock",
    .synopsis = "COMMAND ...",
    .summary = "stand-ins for tests: tiny models, servers that misbehave, contracts",
    .description =
        "Tests of what surrounds a model need not wait for one. A tiny model is a true GGUF that "
        "goes through the same loader, tokenizer and kernels as a trained one; what it says means "
        "nothing, and no command takes it for a real one: they refuse it, or with --allow-mock end "
        "with exit code 24. docs/mock.md tells more.",
    .subs = subs,
};
