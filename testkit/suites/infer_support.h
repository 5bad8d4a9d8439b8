/* What the suites of `bnt infer` share: the command, run in this process. A failure fails the test.
 */
#ifndef SUITES_INFER_SUPPORT_H
#define SUITES_INFER_SUPPORT_H

#include <jansson.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/commands.h"

struct infer_result {
    enum bnt_status status;
    char *out, *err; /* what it wrote */
    json_t *json;    /* of out, NULL when it is none */
};

extern volatile sig_atomic_t infer_interrupted; /* what the command sees as a signal */
extern const char *infer_model_kind;            /* what models it sees */

/* Run with `input` on stdin; args end with NULL. Without -m the bundled model answers. */
struct infer_result infer_run(const char *input, const char *const *args);
/* The same for another command that takes a model. */
struct infer_result infer_run_command(const struct bnt_cmd *command, const char *input,
                                      const char *const *args);
#define INFER(...) infer_run("", (const char *const[]){__VA_ARGS__, NULL})
void infer_drop(struct infer_result *r);

/* The run ended so. */
void infer_expect(const struct infer_result *r, enum bnt_status status);
/* The run failed so and said `word`; drops r. */
void infer_fails(struct infer_result r, enum bnt_status status, const char *word);

/* Members that must be there; elements of lists of ids. */
json_t *js_get(const json_t *object, const char *key);
const char *js_text(const json_t *object, const char *key);
size_t js_count(const json_t *object, const char *key);
int32_t js_id(const json_t *ids, size_t i);

#endif
