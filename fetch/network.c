/* bnt_app's network: what cache/ asks of this folder. */
#include "fetch/commands.h"
#include "fetch/depot.h"
#include "fetch/part.h"
#include "fetch/serve.h"

const struct bnt_network fetch_network = {
    .serve = serve,
    .place = depot_place,
    .put = depot_put,
    .prove = depot_prove,
    .recall = depot_recall,
    .downloads = part_sweep,
};
