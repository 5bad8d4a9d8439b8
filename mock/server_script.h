/* Routes of the HTTP server from a file, YAML or JSON (which is YAML): docs/mock.md describes it.
 *
 *     routes:
 *       - path: /model.gguf
 *         file: model.gguf
 *         etag: '"v1"'
 *         steps:
 *           - {status: 429, headers: {Retry-After: 7}}
 *           - {fault: reset, at: 1000}
 *           - {}                                         # the last one repeats */
#ifndef BNT_MOCK_SERVER_SCRIPT_H
#define BNT_MOCK_SERVER_SCRIPT_H

#include "mock/bnt_mock.h"

#define SERVER_SCRIPT_MAX_BYTES (16u << 20) /* of the script */
#define SERVER_SCRIPT_MAX_FILE (1u << 30)   /* of a body from a file */

struct server_script;

/* Files of bodies are read now, relative to the script's folder. Errors: those of bnt_file_read;
 * FILE with the line of what is wrong. */
enum bnt_status server_script_open(const char *path, struct server_script **out,
                                   struct bnt_err *err);
const struct bnt_mock_route *server_script_routes(const struct server_script *s);
void server_script_close(struct server_script *s); /* NULL is fine; after the server */

#endif
