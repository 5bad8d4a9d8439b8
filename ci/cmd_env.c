/* bnt env: every environment variable that is honoured.
 *
 * The table below is the list. `make lint` holds it against the getenv() calls of the tree: a
 * variable that the code reads is here, and a row that names no library is read somewhere. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json_load.h"
#include "base/msg.h"
#include "ci/commands.h"

struct env_row {
    const char *name;
    const char *library; /* who reads it; NULL: bnt itself */
    const char *meaning;
};

static const struct env_row rows[] = {
    {"BNT_CACHE_DIR", NULL, "folder of the cache"},
    {"XDG_CACHE_HOME", NULL, "the cache is in bnt/ below it, without BNT_CACHE_DIR"},
    {"HOME", NULL, "the cache is in .cache/bnt below it, without both"},
    {"BNT_FAULT", NULL, "the planted defect that is active, in a build CONFIG=fault alone"},
    {"BNT_HISTORY", NULL, "file with the history of tests; none: no history"},
    {"XDG_STATE_HOME", NULL, "the history is in bnt/ below it, without BNT_HISTORY"},
    {"BNT_MODELS_DIR", NULL, "folder of the bundled model"},
    {"BNT_MIRROR", NULL,
     "URL of a `bnt cache serve` that is asked first for what has a known digest"},
    {"BNT_COLD", NULL, "URL of the cold tier: http://, https:// or s3://"},
    {"BNT_OFFLINE", NULL,
     "1, true, yes or on: fetch, lock and update are --offline, no model comes from the cold tier"},
    {"BNT_CACHE_TOKEN", NULL,
     "token of `bnt cache serve`, for the server and for its clients, shown as ***"},
    {"BNT_API_KEY", NULL, "key for a server under test (http://...), shown as ***"},
    {"NO_COLOR", NULL, "no colour when not empty, unless --color says otherwise"},
    {"TERM", NULL, "no colour and no progress line on a \"dumb\" terminal"},
    {"BNT_SUITE_FILES", NULL, "suites in YAML that bnt-suites runs; `bnt test FILE` sets it"},
    {"BNT_TEST_SUBJECT", NULL, "what those suites ask; `bnt test --subject` sets it"},
    {"BNT_TEST_MODEL", NULL, "model of suites that take any; `bnt test -m` sets it"},
    {"BNT_TEST_DEVICE", NULL, "what computes in tests of models; `bnt test --device` sets it"},
    {"BNT_TEST_BACKTRACE", NULL,
     "stacks of a test that hangs: by gdb (the default where it is), self or off"},
    {"BNT_TEST_CONFINE", NULL, "0: tests are not held to their own files, processes and network"},
    {"BNT_TEST_NETWORK", NULL, "1: suites may use the network"},
    {"BNT_TEST_SEED", NULL, "seed of random tests; `bnt test` sets it"},
    {"BNT_TEST_NO_LIMIT", NULL, "1: a test has no time limit; `bnt test --gdb` sets it"},
    {"BNT_TEST_PTX", NULL,
     "a file: the fake device runs the kernels of CUDA as nvcc compiled them into it"},
    {"BNT_SHARD", NULL, "INDEX/TOTAL for `bnt test --shard auto`"},
    {"BNT_SHARD_TOTAL", NULL, "the same with JOB_COMPLETION_INDEX: how many there are"},
    {"CI_NODE_INDEX", NULL, "GitLab: shard of this job, with CI_NODE_TOTAL"},
    {"CI_NODE_TOTAL", NULL, "GitLab: how many shards"},
    {"BUILDKITE_PARALLEL_JOB", NULL, "Buildkite: the same"},
    {"BUILDKITE_PARALLEL_JOB_COUNT", NULL, "Buildkite: the same"},
    {"CIRCLE_NODE_INDEX", NULL, "CircleCI: the same"},
    {"CIRCLE_NODE_TOTAL", NULL, "CircleCI: the same"},
    {"JOB_COMPLETION_INDEX", NULL, "Kubernetes: shard of an indexed Job"},
    {"SLURM_ARRAY_TASK_ID", NULL, "Slurm: shard of an array, with _COUNT, _MIN and _STEP"},
    {"SLURM_ARRAY_TASK_COUNT", NULL, "Slurm: how many shards"},
    {"SLURM_ARRAY_TASK_MIN", NULL, "Slurm: number of the first"},
    {"SLURM_ARRAY_TASK_STEP", NULL, "Slurm: distance of two"},
    {"BNT_SYNTH2B", NULL, "synthetic GGUF of full size, for suites that need it"},
    {"BNT_OFFICIAL_2B", NULL, "the official 2B4T GGUF (that of the cache), for suites about it"},
    {"BNT_OFFICIAL_FACTS", NULL, "folder with facts and contract of a stand-in for it"},
    {"BNT_LLAMA3_VOCAB", NULL, "GGUF of the LLaMA 3 vocabulary, for suites that need it"},
    {"BNT_BITNET_SERVER", NULL, "llama-server of bitnet.cpp, for suites that compare with it"},
    {"BNT_CUDA_MODULE", NULL, "the module for CUDA to open, instead of the one beside bnt"},
    {"BNT_CUDA_OVERLAP", NULL, "1: on a GPU of 9.0 or later launches may overlap"},
    {"BNT_CUDA_TIMES", NULL,
     "file that gets the time of each kernel of a GPU, which slows it down"},
    {"BNT_CUDA_SPLIT", NULL, "position from which on a GPU's attention takes two launches (512)"},
    {"BNT_FAKE_CUDA", NULL, "how the fake device of the tests fails: alloc=N,launch=N,lost=N..."},
    {"BNT_UPDATE_GOLDEN", NULL, "when set, tests of commands rewrite what they expect"},
    {"GITHUB_OUTPUT", NULL, "file of a step's outputs, for `bnt ci ... --output NAME`"},
    {"PATH", NULL, "where suites look for the programs they need"},
    {"TMPDIR", NULL, "where bnt bisect and tests put what they need for a while (/tmp)"},
    {"BNT_SOURCE_DIR", NULL, "source tree, where suites find their data"},
    {"BNT_SHARED", NULL, "folder of reference material for suites that need it"},
    {"BNT_FETCH_TIMEOUT", NULL, "time for a whole `bnt fetch`, as --timeout has it (900)"},
    {"HF_ENDPOINT", NULL, "the model hub of hf:// sources (https://huggingface.co)"},
    {"HF_TOKEN", NULL, "token for the hub, shown as ***"},
    {"HF_TOKEN_PATH", NULL, "file with the token, without HF_TOKEN"},
    {"HF_HOME", NULL, "the token is in token, the hub's cache in hub/ below it"},
    {"HF_HUB_CACHE", NULL, "cache of the hub's own tools, which is looked at before a download"},
    {"HF_HUB_OFFLINE", NULL, "1: the hub is not asked"},
    {"AWS_ACCESS_KEY_ID", NULL, "key for s3:// sources; without it a bucket is public"},
    {"AWS_SECRET_ACCESS_KEY", NULL, "its secret, shown as ***"},
    {"AWS_SESSION_TOKEN", NULL, "its session, shown as ***"},
    {"AWS_REGION", NULL, "region of s3:// sources (us-east-1)"},
    {"AWS_DEFAULT_REGION", NULL, "the same, without AWS_REGION"},
    {"AWS_ENDPOINT_URL_S3", NULL, "another server for s3:// sources"},
    {"AWS_ENDPOINT_URL", NULL, "the same, without AWS_ENDPOINT_URL_S3"},
    {"BNT_OCI_HTTP", NULL, "registries of oci:// spoken to over http, by comma (this machine's)"},
    {"DOCKER_AUTH_CONFIG", NULL, "accounts of registries, as in config.json, shown as ***"},
    {"REGISTRY_AUTH_FILE", NULL, "file with them, without DOCKER_AUTH_CONFIG"},
    {"DOCKER_CONFIG", NULL, "folder of config.json, without both (~/.docker)"},
    {"http_proxy", "libcurl", "proxy for http://"},
    {"HTTPS_PROXY", "libcurl", "proxy for https:// (also in lower case)"},
    {"ALL_PROXY", "libcurl", "proxy for both (also in lower case)"},
    {"NO_PROXY", "libcurl", "hosts that are reached without a proxy (also in lower case)"},
    {"CURL_CA_BUNDLE", NULL, "certificates of authorities for https, one file"},
    {"SSL_CERT_FILE", NULL, "the same, without CURL_CA_BUNDLE"},
    {"SSL_CERT_DIR", NULL, "certificates of authorities for https, a folder"},
};

enum { N_ROWS = sizeof rows / sizeof rows[0], VALUE_MAX_BYTES = 512 };

struct env_opts {
    bool json;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "print a JSON array",
     .offset = offsetof(struct env_opts, json)},
    BNT_OPT_END,
};

static const char *reader(const struct env_row *row)
{
    return row->library ? row->library : "bnt";
}

/* Names of tokens and keys. */
static bool is_secret(const char *name)
{
    static const char *const ends[] = {"_TOKEN", "_SECRET_ACCESS_KEY", "_AUTH_CONFIG", "_API_KEY"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t n = strlen(name), k = strlen(ends[i]);
        if (n > k && strcmp(name + n - k, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The value, with a token, and the user and password of a proxy's address hidden, since this is
 * pasted into bug reports. NULL: unset. */
static char *shown_value(const struct env_row *row, char out[VALUE_MAX_BYTES])
{
    const char *value = getenv(row->name);
    if (!value) {
        return NULL;
    }
    if (is_secret(row->name)) {
        snprintf(out, VALUE_MAX_BYTES, "***");
        return out;
    }
    const char *scheme = strstr(value, "://");
    const char *host = scheme ? scheme + 3 : value;
    const char *at = strrchr(value, '@');
    if (at && at >= host) {
        snprintf(out, VALUE_MAX_BYTES, "%.*s***%s", (int)(host - value), value, at);
    } else {
        snprintf(out, VALUE_MAX_BYTES, "%s", value);
    }
    return out;
}

/* JSON has no bytes outside UTF-8: where there are any, all above ASCII become '?'. */
static json_t *json_value(char *value)
{
    if (!value) {
        return json_null();
    }
    json_t *text = json_string(value);
    for (char *p = value; !text && *p; p++) {
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    }
    return text ? text : json_string(value);
}

static enum bnt_status print_json(void)
{
    char value[VALUE_MAX_BYTES];
    json_t *array = json_array();
    for (size_t i = 0; i < N_ROWS; i++) {
        json_t *row = json_pack("{s:s, s:o, s:s, s:s}", "name", rows[i].name, "value",
                                json_value(shown_value(&rows[i], value)), "meaning",
                                rows[i].meaning, "read_by", reader(&rows[i]));
        json_array_append_new(array, row);
    }
    if (json_array_size(array) != N_ROWS) {
        json_decref(array);
        array = NULL;
    }
    struct bnt_err err = {0};
    return bnt_json_print(array, JSON_INDENT(2), &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static void print_table(void)
{
    char value[VALUE_MAX_BYTES];
    for (size_t i = 0; i < N_ROWS; i++) {
        const char *shown = shown_value(&rows[i], value);
        printf("%-17s %s%s\n    %s; read by %s\n", rows[i].name, shown ? "= " : "(unset)",
               shown ? shown : "", rows[i].meaning, reader(&rows[i]));
    }
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "see: bnt env --help", "env: unexpected '%s'", argv[0]);
    }
    if (((const struct env_opts *)opts)->json) {
        return print_json();
    }
    print_table();
    return BNT_OK;
}

const struct bnt_cmd bnt_cmd_env = {
    .name = "env",
    .synopsis = "[--json]",
    .summary = "environment variables that are honoured, and their values",
    .examples = "  bnt env                                     # what is set, and what it does\n"
                "  BNT_CACHE_DIR=/mnt/models bnt env --json    # for scripts",
    .opts = options,
    .opts_size = sizeof(struct env_opts),
    .run = run,
};
