/* bnt mock faults: the defects that a file can be made with. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/json_load.h"
#include "base/msg.h"
#include "mock/bnt_mock.h"
#include "mock/cmd_mock_impl.h"

struct faults_opts {
    bool json;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON list: name, breaks, found, class, status, needs",
     .offset = offsetof(struct faults_opts, json)},
    BNT_OPT_END,
};

static const char *class_of(const struct bnt_mock_file_fault *f)
{
    return f->fault == GGUF_FAULT_NONE ? NULL : gguf_fault_info((int)f->fault)->name;
}

static enum bnt_status print_json(void)
{
    json_t *list = json_array();
    const struct bnt_mock_file_fault *f;
    for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?, s:i, s:s?}", "name", f->name,
                                              "breaks", f->breaks, "found",
                                              bnt_mock_found_name(f->found), "class", class_of(f),
                                              "status", (int)f->status, "needs", f->needs));
    }
    struct bnt_err err = {0};
    return bnt_json_print(list, JSON_COMPACT, &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static void print_table(void)
{
    const struct bnt_mock_file_fault *f;
    printf("%-22s %-6s %-17s %-5s %s\n", "NAME", "FOUND", "CLASS", "EXIT", "WHAT IS BROKEN");
    for (size_t i = 0; (f = bnt_mock_file_fault(i)) != NULL; i++) {
        const char *class = class_of(f);
        printf("%-22s %-6s %-17s ", f->name, bnt_mock_found_name(f->found), class ? class : "-");
        if (f->status == BNT_OK) {
            printf("%-5s ", "-");
        } else {
            printf("%-5d ", (int)f->status);
        }
        printf("%s%s%s%s\n", f->breaks, f->needs ? " (" : "", f->needs ? f->needs : "",
               f->needs ? ")" : "");
    }
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    const struct faults_opts *o = opts;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "plant one with: bnt mock make --fault NAME -o FILE",
                            "unexpected operand %s", argv[0]);
    }
    if (o->json) {
        return print_json();
    }
    print_table();
    return BNT_OK;
}

const struct bnt_cmd mock_cmd_faults = {
    .name = "faults",
    .synopsis = "[OPTIONS]",
    .summary = "the defects that bnt mock make can plant",
    .description =
        "FOUND says who must find a defect: open, whoever reads the header (bnt inspect); load, "
        "whoever makes a model of the file (bnt infer, with --allow-mock); deep, nobody who does "
        "not run the model or compare it: such a file loads. CLASS is the class of the error in "
        "--json of bnt inspect, EXIT its exit code.",
    .examples = "  bnt mock faults                                # the table\n"
                "  bnt mock make --fault scale-nan -o broken.gguf # one of them",
    .opts = options,
    .opts_size = sizeof(struct faults_opts),
    .run = run,
};
