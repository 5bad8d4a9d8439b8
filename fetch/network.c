/* bnt_app's network: what cache/ asks of this folder. */
#include "fetch/commands.h"
#include "fetch/serve.h"

const struct bnt_network fetch_network = {.serve = serve};
