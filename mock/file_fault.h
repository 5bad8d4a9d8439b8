/* Defects of files, planted on purpose: each breaks one thing of a sound file, and promises where
 * and as what it is found. The table is behind bnt_mock_file_fault (bnt_mock.h). */
#ifndef BNT_MOCK_FILE_FAULT_H
#define BNT_MOCK_FILE_FAULT_H

#include "mock/bnt_mock.h"
#include "engine/gguf_plan.h"

/* A file on its way, and what the defect makes of it. */
struct fault_target {
    struct gguf_plan *plan;
    const char *arch;
    struct bnt_buf *header; /* while it is written */
    uint64_t cut_bytes;     /* the file ends here; UINT64_MAX: whole */
    /* Bytes of the data, counted from their start, that are set or turned over. */
    struct {
        uint64_t at;
        uint8_t bytes[8];
        size_t n; /* 0: none */
        bool flip;
    } patch;
};

struct file_fault;

/* NULL for no name. Errors: USAGE with the nearest names. */
enum bnt_status file_fault_find(const char *name, const struct file_fault **out,
                                struct bnt_err *err);

/* The three moments: keys and tensors are there; tensors have their places; the header is bytes.
 * fault may be NULL. Errors: USAGE when the file has not what would be broken. */
enum bnt_status file_fault_plan(const struct file_fault *fault, struct fault_target *t,
                                struct bnt_err *err);
enum bnt_status file_fault_place(const struct file_fault *fault, struct fault_target *t,
                                 struct bnt_err *err);
enum bnt_status file_fault_header(const struct file_fault *fault, struct fault_target *t,
                                  struct bnt_err *err);

#endif
