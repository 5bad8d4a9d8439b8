/* What is wrong with a model file as SARIF 2.1.0 (OASIS), which code scanning shows: a rule per
 * fault class of gguf.h, a result for the one that refused the file, none for a sound file. What is
 * no defect of the file (it is not there, memory ran out) is a notification: the run did not
 * succeed, and nothing is said about the file. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cmd_inspect_impl.h"

enum { URI_MAX_BYTES = 3 * 4096 + 1 };

static json_t *text_message(const char *text)
{
    json_t *value = json_string(text);
    return json_pack("{s:o}", "text", value ? value : json_string("(no UTF-8)"));
}

static json_t *rules(void)
{
    json_t *all = json_array();
    for (int fault = GGUF_FAULT_NONE + 1; fault < GGUF_N_FAULTS; fault++) {
        const struct gguf_fault_info *info = gguf_fault_info(fault);
        json_array_append_new(all, json_pack("{s:s, s:o, s:o, s:{s:b}}", "id", info->name,
                                             "shortDescription", text_message(info->name), "help",
                                             text_message(info->hint), "properties", "recoverable",
                                             (int)info->recoverable));
    }
    return all;
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

/* The reader says "at byte N" wherever it knows the place. */
static json_t *region_of(const char *message)
{
    static const char words[] = "at byte ";
    const char *at = strstr(message, words);
    if (!at || at[sizeof words - 1] < '0' || at[sizeof words - 1] > '9') {
        return NULL;
    }
    unsigned long long offset = strtoull(at + sizeof words - 1, NULL, 10);
    return offset <= INT64_MAX && !BNT_FAULT(sarif_place)
               ? json_pack("{s:I}", "byteOffset", (json_int_t)offset)
               : NULL;
}

static json_t *result_of(const char *path, const struct bnt_err *error)
{
    char uri[URI_MAX_BYTES];
    char text[sizeof error->msg + sizeof error->hint + 2];
    path_to_uri(path, uri);
    snprintf(text, sizeof text, "%s\n%s", error->msg, error->hint);
    json_t *place = json_pack("{s:{s:s}}", "artifactLocation", "uri", uri);
    json_t *region = region_of(error->msg);
    if (region) {
        json_object_set_new(place, "region", region);
    }
    return json_pack("{s:s, s:i, s:s, s:o, s:[{s:o}]}", "ruleId",
                     gguf_fault_info(error->foreign)->name, "ruleIndex", error->foreign - 1,
                     "level", "error", "message", text_message(text), "locations",
                     "physicalLocation", place);
}

enum bnt_status inspect_print_sarif(const char *path, const struct bnt_err *error,
                                    struct bnt_err *err)
{
    bool defect = error->domain && strcmp(error->domain, "gguf") == 0 && error->foreign > 0;
    json_t *results = json_array();
    json_t *invocation =
        json_pack("{s:b}", "executionSuccessful", error->status == BNT_OK || defect);
    if (defect) {
        json_array_append_new(results, result_of(path, error));
    } else if (error->status != BNT_OK) {
        json_object_set_new(
            invocation, "toolExecutionNotifications",
            json_pack("[{s:s, s:o}]", "level", "error", "message", text_message(error->msg)));
    }
    json_t *run =
        json_pack("{s:{s:{s:s, s:s, s:o}}, s:[o], s:o}", "tool", "driver", "name", "bnt", "version",
                  BNT_VERSION, "rules", rules(), "invocations", invocation, "results", results);
    json_t *root =
        json_pack("{s:s, s:s, s:[o]}", "$schema", "https://json.schemastore.org/sarif-2.1.0.json",
                  "version", "2.1.0", "runs", run);
    bool written = root && json_dumpf(root, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(root);
    return written ? BNT_OK : bnt_err_set(err, BNT_E_FAILED, "cannot write the SARIF log");
}
