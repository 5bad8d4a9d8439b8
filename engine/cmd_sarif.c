#include "engine/cmd_sarif.h"

#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/json_load.h"
#include "engine/cmd_inspect_impl.h"

enum { URI_MAX_BYTES = 3 * 4096 + 1, TEXT_MAX_BYTES = 1024 };

static json_t *text_message(const char *text)
{
    return json_pack("{s:o}", "text", inspect_json_str((struct gguf_str){text, strlen(text)}));
}

json_t *sarif_rule(const struct sarif_rule *rule)
{
    return json_pack("{s:s, s:o, s:o, s:{s:b}}", "id", rule->id, "shortDescription",
                     text_message(rule->what), "help", text_message(rule->help), "properties",
                     "recoverable", (int)rule->recoverable);
}

/* A path as a URI reference: what is not plain is written by its number. */
static void path_to_uri(const char *path, char uri[URI_MAX_BYTES])
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    size_t n = 0;
    for (const char *c = path; *c && n + 4 < URI_MAX_BYTES; c++) {
        if (strchr(plain, *c)) {
            uri[n++] = *c;
        } else {
            snprintf(uri + n, 4, "%%%02X", (unsigned char)*c);
            n += 3;
        }
    }
    uri[n] = '\0';
}

json_t *sarif_result(const char *path, const struct sarif_result *result)
{
    char uri[URI_MAX_BYTES], text[TEXT_MAX_BYTES];
    path_to_uri(path, uri);
    snprintf(text, sizeof text, "%s\n%s", result->message, result->hint);
    json_t *place = json_pack("{s:{s:s}}", "artifactLocation", "uri", uri);
    if (result->has_offset && result->offset <= INT64_MAX && !BNT_FAULT(sarif_place)) {
        json_object_set_new(place, "region",
                            json_pack("{s:I}", "byteOffset", (json_int_t)result->offset));
    }
    return json_pack("{s:s, s:i, s:s, s:o, s:[{s:o}]}", "ruleId", result->rule, "ruleIndex",
                     result->rule_index, "level", result->level, "message", text_message(text),
                     "locations", "physicalLocation", place);
}

enum bnt_status sarif_print(json_t *rules, json_t *results, const struct bnt_err *failure,
                            struct bnt_err *err)
{
    json_t *invocation = json_pack("{s:b}", "executionSuccessful", failure == NULL);
    if (failure) {
        json_object_set_new(
            invocation, "toolExecutionNotifications",
            json_pack("[{s:s, s:o}]", "level", "error", "message", text_message(failure->msg)));
    }
    json_t *run =
        json_pack("{s:{s:{s:s, s:s, s:o}}, s:[o], s:o}", "tool", "driver", "name", "bnt", "version",
                  BNT_VERSION, "rules", rules, "invocations", invocation, "results", results);
    json_t *root =
        json_pack("{s:s, s:s, s:[o]}", "$schema", "https://json.schemastore.org/sarif-2.1.0.json",
                  "version", "2.1.0", "runs", run);
    return bnt_json_print(root, JSON_COMPACT, err);
}
