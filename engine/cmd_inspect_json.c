/* bnt inspect --json. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json_load.h"
#include "engine/cmd_inspect_impl.h"
#include "engine/unicode.h"

/* Elements of an array that are shown when it is not asked for in full. */
#define SHOWN_ELEMENTS 16

json_t *inspect_json_str(struct gguf_str s)
{
    return bnt_json_bytes(s.data, s.len);
}

json_t *inspect_json_double(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

/* A number that the file may not give: -1 is null. */
static json_t *json_of_count(int64_t v)
{
    return v < 0 ? json_null() : json_integer((json_int_t)v);
}

json_t *inspect_json_u64(uint64_t v)
{
    if (v <= INT64_MAX) {
        return json_integer((json_int_t)v);
    }
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    return json_string(text);
}

static json_t *scalar(const struct gguf *g, const char *key, const struct gguf_kv *kv)
{
    uint64_t u;
    int64_t i;
    double f;
    bool b;
    struct gguf_str s;
    if (gguf_get_str(g, key, &s)) {
        return inspect_json_str(s);
    }
    if (gguf_get_i64(g, key, &i)) {
        return json_integer((json_int_t)i);
    }
    if (gguf_get_u64(g, key, &u)) {
        return inspect_json_u64(u);
    }
    if (gguf_get_f64(g, key, &f)) {
        return inspect_json_double(kv->type == GGUF_F32 ? inspect_shortest((float)f) : f);
    }
    return gguf_get_bool(g, key, &b) ? json_boolean(b) : json_null();
}

/* The first `limit` elements; NULL for an array of arrays, which is named but not shown. */
static json_t *elements(const struct gguf *g, const char *key, const struct gguf_kv *kv,
                        uint64_t limit)
{
    struct gguf_iter it;
    if (kv->elem_type == GGUF_ARR || !gguf_iter_begin(g, key, kv->elem_type, &it)) {
        return NULL;
    }
    json_t *list = json_array();
    for (uint64_t i = 0; i < limit && i < kv->n; i++) {
        struct gguf_str s;
        int64_t v;
        double f = 0;
        if (gguf_iter_str(&it, &s)) {
            json_array_append_new(list, inspect_json_str(s));
        } else if (gguf_iter_i64(&it, &v)) {
            json_array_append_new(list,
                                  kv->elem_type == GGUF_BOOL ? json_boolean(v) : json_integer(v));
        } else if (gguf_iter_f64(&it, &f)) {
            json_array_append_new(
                list,
                inspect_json_double(kv->elem_type == GGUF_F32 ? inspect_shortest((float)f) : f));
        }
    }
    return list;
}

static json_t *metadata_value(const struct gguf *g, const char *key, const struct gguf_kv *kv,
                              bool full)
{
    json_t *row = json_object();
    json_object_set_new(row, "type", json_string(gguf_value_type_name(kv->type)));
    if (kv->type != GGUF_ARR) {
        json_object_set_new(row, "value", scalar(g, key, kv));
        return row;
    }
    json_t *list = elements(g, key, kv, full ? UINT64_MAX : SHOWN_ELEMENTS);
    json_object_set_new(row, "of", json_string(gguf_value_type_name(kv->elem_type)));
    json_object_set_new(row, "n", inspect_json_u64(kv->n));
    json_object_set_new(row, "complete", json_boolean(list && json_array_size(list) == kv->n));
    json_object_set_new(row, "value", list ? list : json_null());
    return row;
}

static json_t *metadata(const struct gguf *g, bool full)
{
    json_t *all = json_object();
    struct bnt_buf key = BNT_BUF(GGUF_MAX_KEY_BYTES);
    for (uint64_t i = 0; i < g->n_kv; i++) {
        const struct gguf_kv *kv = &g->kv[i];
        bnt_buf_reset(&key);
        if (bnt_buf_append(&key, kv->key.data, kv->key.len, NULL) != BNT_OK) {
            break;
        }
        json_t *name = inspect_json_str(kv->key);
        json_object_set_new(all, json_string_value(name),
                            metadata_value(g, bnt_buf_view(&key), kv, full));
        json_decref(name);
    }
    bnt_buf_release(&key);
    return all;
}

static json_t *tensors(const struct gguf *g)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        json_t *row = json_object(), *shape = json_array();
        for (int d = 0; d < t->n_dims; d++) {
            json_array_append_new(shape, inspect_json_u64(t->ne[d]));
        }
        json_object_set_new(row, "name", inspect_json_str(t->name));
        json_object_set_new(row, "type", json_string(tensor_type_name((uint32_t)t->type)));
        json_object_set_new(row, "shape", shape);
        json_object_set_new(row, "offset", inspect_json_u64(t->offset));
        json_object_set_new(row, "bytes", inspect_json_u64(t->size));
        float scale;
        if (inspect_scale(g, t, &scale)) {
            json_object_set_new(row, "scale", inspect_json_double(inspect_shortest(scale)));
        }
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *file_facts(const struct inspect *in)
{
    const struct gguf *g = in->g;
    json_t *o = json_object();
    json_object_set_new(o, "path", inspect_json_str((struct gguf_str){g->path, strlen(g->path)}));
    json_object_set_new(o, "digest",
                        in->ref->digest[0] ? json_string(in->ref->digest) : json_null());
    json_object_set_new(o, "kind", json_string(in->ref->kind));
    json_object_set_new(o, "bytes", inspect_json_u64(g->file_size));
    json_object_set_new(o, "gguf_version", json_integer((json_int_t)g->version));
    json_object_set_new(o, "byte_order", json_string(g->big_endian ? "big" : "little"));
    json_object_set_new(o, "alignment", inspect_json_u64(g->alignment));
    json_object_set_new(o, "data_offset", inspect_json_u64(g->data_offset));
    return o;
}

static json_t *types(const struct inspect *in)
{
    json_t *list = json_array();
    for (size_t i = 0; i < in->n_types; i++) {
        const struct inspect_type *t = &in->types[i];
        json_t *row = json_object();
        json_object_set_new(row, "type", json_string(t->name));
        json_object_set_new(row, "tensors", inspect_json_u64(t->tensors));
        json_object_set_new(row, "weights", inspect_json_u64(t->weights));
        json_object_set_new(row, "bytes", inspect_json_u64(t->bytes));
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *model_facts(const struct inspect *in)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", inspect_json_str(in->name));
    json_object_set_new(o, "architecture", inspect_json_str(in->arch));
    json_object_set_new(o, "supported", json_boolean(in->family != NULL));
    json_object_set_new(o, "file_type", json_of_count(in->file_type));
    json_object_set_new(o, "file_type_name",
                        in->file_type_name ? json_string(in->file_type_name) : json_null());
    json_object_set_new(o, "n_layer", json_of_count(in->n_layer));
    json_object_set_new(o, "n_embd", json_of_count(in->n_embd));
    json_object_set_new(o, "n_ff", json_of_count(in->n_ff));
    json_object_set_new(o, "n_head", json_of_count(in->n_head));
    json_object_set_new(o, "n_head_kv", json_of_count(in->n_head_kv));
    json_object_set_new(o, "n_ctx", json_of_count(in->n_ctx));
    json_object_set_new(o, "n_vocab", json_of_count(in->n_vocab));
    json_object_set_new(o, "n_params", inspect_json_u64(in->n_weights));
    json_object_set_new(o, "tensor_bytes", inspect_json_u64(in->tensor_bytes));
    json_object_set_new(o, "types", types(in));
    return o;
}

static json_t *tokenizer_facts(const struct inspect *in)
{
    json_t *o = json_object();
    json_object_set_new(o, "model",
                        in->tokenizer.len ? inspect_json_str(in->tokenizer) : json_null());
    json_object_set_new(o, "pre", in->pre.len ? inspect_json_str(in->pre) : json_null());
    json_object_set_new(o, "n_tokens", inspect_json_u64(in->n_tokens));
    json_object_set_new(o, "n_merges", inspect_json_u64(in->n_merges));
    json_object_set_new(o, "add_bos", in->add_bos_said ? json_boolean(in->add_bos) : json_null());
    json_object_set_new(o, "add_eos", in->add_eos_said ? json_boolean(in->add_eos) : json_null());
    for (int k = 0; k < INSPECT_N_SPECIAL; k++) {
        const struct inspect_special *s = &in->special[k];
        json_t *row = json_null();
        if (s->id >= 0) {
            row = json_object();
            json_object_set_new(row, "id", json_integer((json_int_t)s->id));
            json_object_set_new(row, "text",
                                s->text.data ? inspect_json_str(s->text) : json_null());
        }
        json_object_set_new(o, s->role, row);
    }
    json_object_set_new(o, "chat_template",
                        in->chat_template.len ? inspect_json_str(in->chat_template) : json_null());
    return o;
}

enum bnt_status inspect_print_json(const struct inspect *in, bool full_arrays, struct bnt_err *err)
{
    json_t *root = json_object();
    json_object_set_new(root, "file", file_facts(in));
    json_object_set_new(root, "model", model_facts(in));
    json_object_set_new(root, "tokenizer", tokenizer_facts(in));
    json_object_set_new(root, "metadata", metadata(in->g, full_arrays));
    json_object_set_new(root, "tensors", tensors(in->g));
    return bnt_json_print(root, JSON_COMPACT, err);
}

void inspect_print_error_json(const struct bnt_err *error)
{
    bool fault = error->domain && strcmp(error->domain, "gguf") == 0;
    const struct gguf_fault_info *info = gguf_fault_info(fault ? error->foreign : GGUF_FAULT_NONE);
    json_t *e = json_object();
    json_object_set_new(e, "class",
                        json_string(fault ? info->name : bnt_status_meaning((int)error->status)));
    json_object_set_new(e, "status", json_integer((json_int_t)error->status));
    json_object_set_new(e, "recoverable", json_boolean(info->recoverable));
    json_object_set_new(e, "message",
                        inspect_json_str((struct gguf_str){error->msg, strlen(error->msg)}));
    json_object_set_new(e, "hint",
                        inspect_json_str((struct gguf_str){error->hint, strlen(error->hint)}));
    (void)bnt_json_print(json_pack("{s:o}", "error", e), JSON_COMPACT, NULL);
}
