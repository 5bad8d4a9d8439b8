/* bnt validate --json and --sarif. */
#include <jansson.h>
#include <string.h>

#include "base/json_load.h"
#include "engine/cmd_inspect_impl.h"
#include "engine/cmd_sarif.h"
#include "engine/cmd_validate_impl.h"

static json_t *text(const char *s)
{
    return s ? inspect_json_str((struct gguf_str){s, strlen(s)}) : json_null();
}

static json_t *findings(const struct validate_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n; i++) {
        const struct validate_finding *f = &r->findings[i];
        const struct validate_class_info info = validate_class_info(f->kind);
        json_t *o = json_object();
        json_object_set_new(o, "class", json_string(info.name));
        json_object_set_new(o, "severity", json_string(validate_severity_name(f->severity)));
        json_object_set_new(o, "key", text(f->key));
        json_object_set_new(o, "tensor", text(f->tensor));
        json_object_set_new(o, "offset", f->has_offset ? inspect_json_u64(f->offset) : json_null());
        json_object_set_new(o, "message", text(f->message));
        json_object_set_new(o, "hint", text(f->hint));
        json_object_set_new(o, "recoverable", json_boolean(f->recoverable));
        json_object_set_new(o, "fixable", json_boolean(info.fixable));
        json_object_set_new(o, "status", json_integer((json_int_t)f->status));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *statistics(const struct validate_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_stats; i++) {
        const struct validate_stats *s = &r->stats[i];
        json_t *o = json_object();
        json_object_set_new(o, "tensor", inspect_json_str(s->tensor->name));
        json_object_set_new(o, "type", json_string(tensor_type_name((uint32_t)s->tensor->type)));
        json_object_set_new(o, "n", inspect_json_u64(s->n));
        json_object_set_new(o, "zero", inspect_json_u64(s->n_zero));
        json_object_set_new(o, "negative", inspect_json_u64(s->n_negative));
        json_object_set_new(o, "positive", inspect_json_u64(s->n_positive));
        json_object_set_new(o, "bad", inspect_json_u64(s->n_bad));
        json_object_set_new(o, "min", inspect_json_double(s->min));
        json_object_set_new(o, "max", inspect_json_double(s->max));
        json_object_set_new(o, "mean", inspect_json_double(s->mean));
        json_object_set_new(o, "rms", inspect_json_double(s->rms));
        json_object_set_new(o, "scale", s->has_scale ? inspect_json_double(s->scale) : json_null());
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *platforms(const struct validate_report *r)
{
    json_t *all = json_object();
    for (int i = 0; i < VALIDATE_N_PLATFORMS; i++) {
        const struct validate_platform *p = &r->platforms[i];
        if (p->name) {
            json_object_set_new(all, p->name,
                                json_pack("{s:b, s:b, s:b, s:b, s:b, s:s}", "fits", (int)p->fits,
                                          "byte_order", (int)p->byte_order, "alignment",
                                          (int)p->alignment, "size", (int)p->size, "memory_map",
                                          (int)p->mapped, "note", p->note));
        }
    }
    return all;
}

static json_t *number(bool there, double v)
{
    return there ? inspect_json_double(v) : json_null();
}

static json_t *run_facts(const struct validate_run *run)
{
    json_t *o = json_object();
    if (!run->loaded) {
        json_decref(o);
        return json_null();
    }
    json_object_set_new(o, "load_ms", inspect_json_double(run->load_ms));
    json_object_set_new(o, "memory_mb", inspect_json_double(run->memory_mb));
    json_object_set_new(o, "i2s_layout", text(run->i2s_layout));
    json_object_set_new(o, "kernel", text(run->kernel));
    json_object_set_new(o, "kernels_that_agree", json_integer((json_int_t)run->n_kernels));
    json_object_set_new(o, "perplexity", number(run->has_perplexity, run->perplexity));
    json_object_set_new(o, "scored_tokens", inspect_json_u64(run->n_scored));
    json_object_set_new(o, "prefill_tokens_per_s", number(run->has_speed, run->prefill_tps));
    json_object_set_new(o, "decode_tokens_per_s", number(run->has_speed, run->decode_tps));
    json_object_set_new(o, "decode_gb_per_s", number(run->has_speed, run->decode_gb_per_s));
    json_object_set_new(o, "memory_gb_per_s", number(run->has_speed, run->memory_gb_per_s));
    return o;
}

enum bnt_status validate_print_json(const struct validate_report *r,
                                    const struct bnt_model_ref *ref, struct bnt_err *err)
{
    const struct validate_options *o = &r->options;
    json_t *root = json_object();
    json_object_set_new(root, "path", text(ref->path));
    json_object_set_new(root, "kind", json_string(r->mock ? "tiny" : ref->kind));
    json_object_set_new(root, "level", json_string(validate_level_name(o->level)));
    json_object_set_new(root, "profile", json_string(validate_profile_name(o->profile)));
    json_object_set_new(root, "sound", json_boolean(r->n_of[VALIDATE_ERROR] == 0));
    json_object_set_new(root, "status", json_integer((json_int_t)validate_status(r)));
    json_object_set_new(root, "errors", inspect_json_u64(r->n_of[VALIDATE_ERROR]));
    json_object_set_new(root, "warnings", inspect_json_u64(r->n_of[VALIDATE_WARNING]));
    json_object_set_new(root, "notes", inspect_json_u64(r->n_of[VALIDATE_NOTE]));
    json_object_set_new(root, "left_out", inspect_json_u64(r->n_left_out));
    json_object_set_new(root, "sha256", r->digest[0] ? json_string(r->digest) : json_null());
    json_object_set_new(root, "findings", findings(r));
    json_object_set_new(root, "platforms", platforms(r));
    json_object_set_new(root, "statistics", statistics(r));
    json_object_set_new(root, "run", run_facts(&r->run));
    return bnt_json_print(root, JSON_COMPACT, err);
}

static json_t *rules(void)
{
    json_t *all = json_array();
    for (int kind = GGUF_FAULT_NONE + 1; kind < VALIDATE_N_CLASSES; kind++) {
        const struct validate_class_info info = validate_class_info(kind);
        const struct sarif_rule rule = {info.name, info.what, info.hint, info.recoverable};
        json_array_append_new(all, sarif_rule(&rule));
    }
    return all;
}

enum bnt_status validate_print_sarif(const struct validate_report *r, const char *path,
                                     struct bnt_err *err)
{
    json_t *results = json_array();
    for (size_t i = 0; i < r->n; i++) {
        const struct validate_finding *f = &r->findings[i];
        const struct sarif_result result = {.rule = validate_class_info(f->kind).name,
                                            .rule_index = f->kind - 1,
                                            .level = validate_severity_name(f->severity),
                                            .message = f->message,
                                            .hint = f->hint,
                                            .has_offset = f->has_offset,
                                            .offset = f->offset};
        json_array_append_new(results, sarif_result(path, &result));
    }
    return sarif_print(rules(), results, NULL, err);
}

void validate_print_failure_sarif(const struct bnt_err *failure)
{
    sarif_print(rules(), json_array(), failure, NULL);
}
