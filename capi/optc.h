/* optc for C and C++. Made by cbindgen from capi/src; UPDATE_HEADER=1 cargo test -p optc-capi writes it anew. */

#ifndef OPTC_H
#define OPTC_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/**
 * The version of this interface. It grows by one when something that was there changes; new functions leave it.
 */
#define OPTC_ABI_VERSION 1

/**
 * How a call ended.
 */
typedef enum {
    /**
     * It did what it was asked to.
     */
    OPTC_STATUS_OK = 0,
    /**
     * An argument is no such thing: a null pointer, a text that is not UTF-8, a model that was freed.
     */
    OPTC_STATUS_ARGUMENT = 1,
    /**
     * Settings, a pipeline or a shape that cannot be read, or do not fit the model.
     */
    OPTC_STATUS_USAGE = 2,
    /**
     * A file that the system refused.
     */
    OPTC_STATUS_IO = 3,
    /**
     * A model that cannot be read, or not be written in this format.
     */
    OPTC_STATUS_FORMAT = 4,
    /**
     * Samples that cannot be taken.
     */
    OPTC_STATUS_DATA = 5,
    /**
     * A pass failed.
     */
    OPTC_STATUS_PASS = 6,
    /**
     * The result was refused, as it computes something else.
     */
    OPTC_STATUS_VERIFICATION = 7,
    /**
     * The progress function asked for the end.
     */
    OPTC_STATUS_CANCELLED = 8,
    /**
     * A mistake in optc.
     */
    OPTC_STATUS_INTERNAL = 9,
} OptcStatus;

/**
 * A model. The pointer is a name and leads to nothing.
 */
typedef struct OptcModel OptcModel;

/**
 * Called when bytes of the caller's are no longer read.
 */
typedef void (*OptcRelease)(void *context);

/**
 * Told that `pass` works on `layer`, with `fraction` (0 to 1) of its work done; returns 0 to go on. The texts are for the call only.
 */
typedef int (*OptcProgress)(const char *pass, const char *layer, double fraction, void *context);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the interface that the library has; a program compares it with the `OPTC_ABI_VERSION` that it was built with.
 */
uint32_t optc_abi_version(void);

/**
 * optc's own version, such as "0.1.0"; not to be freed.
 */
const char *optc_version(void);

/**
 * Reads a model file. `options` is NULL or JSON, {"input": ["1x3x224x224"]}: shapes of inputs, as the command's --input.
 *
 * `error`, here and everywhere, is NULL or gets NULL, and on failure a text that says what is wrong, where, and what to do; it is freed
 * by `optc_string_free`.
 *
 * # Safety
 * Texts end in a zero; `model` and `error` point to what may be written.
 */
OptcStatus optc_read_file(const char *path,
                          const char *options,
                          OptcModel **model,
                          char **error);

/**
 * Reads a model from the bytes of its file; what it is is told by them. With `release` NULL they are copied. Else the model, and all
 * that is made of it, go on to read them where they are, and `release(context)` is called once, perhaps on another thread, when
 * nothing does any more; also where reading fails.
 *
 * # Safety
 * As `optc_read_file`; there are `length` bytes at `bytes`, which with `release` stay unchanged until it is called.
 */
OptcStatus optc_read_bytes(const uint8_t *bytes,
                           size_t length,
                           OptcRelease release,
                           void *context,
                           const char *options,
                           OptcModel **model,
                           char **error);

/**
 * Runs a pipeline, such as "red{hash=none}", and gives what it makes of the model as a new one. `passes` is NULL for the usual ones.
 * `options` is NULL or JSON with "target" or "keep", "data", "samples", "statistics", "eval", "cost" ("macs", "params" or
 * "time"), "seed", "threads", "verify" ("whole", "each" or "none") and "tolerance": what the command's options of these names take.
 *
 * `progress` is NULL or called as the run goes on, on the thread that called this, or with "threads" on another that is waited for;
 * where it returns anything but 0 the run ends before its next layer with OPTC_STATUS_CANCELLED. It must not unwind.
 *
 * `report` is NULL or gets the report as JSON, freed by `optc_string_free`.
 *
 * # Safety
 * As `optc_read_file`; `progress` can be called with `context`.
 */
OptcStatus optc_run(const OptcModel *model,
                    const char *passes,
                    const char *options,
                    OptcProgress progress,
                    void *context,
                    OptcModel **result,
                    char **report,
                    char **error);

/**
 * Writes a model file, and where it has one the file with its weights beside it: whole or not at all. The format is the suffix's.
 *
 * # Safety
 * As `optc_read_file`.
 */
OptcStatus optc_write_file(const OptcModel *model,
                           const char *path,
                           char **error);

/**
 * Writes a model as the bytes of a file, freed by `optc_bytes_free` with the same length. `format` is a suffix, such as "onnx", or NULL
 * for what the model was read from.
 *
 * # Safety
 * As `optc_read_file`; `bytes` and `length` point to what may be written.
 */
OptcStatus optc_write_bytes(const OptcModel *model,
                            const char *format,
                            uint8_t **bytes,
                            size_t *length,
                            char **error);

/**
 * What is in a model, as JSON: inputs and outputs, operators, layers. It is freed by `optc_string_free`.
 *
 * # Safety
 * As `optc_read_file`; `json` points to what may be written.
 */
OptcStatus optc_inspect(const OptcModel *model, char **json, char **error);

/**
 * Frees a model. A call on another thread that uses it goes on to its end. NULL is nothing to free; a model that was freed before is
 * refused.
 */
OptcStatus optc_model_free(OptcModel *model);

/**
 * Frees a text that the library gave. NULL is nothing to free.
 *
 * # Safety
 * The text is one that this library gave, and was not freed before.
 */
void optc_string_free(char *text);

/**
 * Frees bytes that the library gave. NULL is nothing to free.
 *
 * # Safety
 * The bytes are those that this library gave, with their length, and were not freed before.
 */
void optc_bytes_free(uint8_t *bytes, size_t length);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OPTC_H */
