/* What the interface says of arguments that are wrong, of ends asked for, and of a model that two threads share. */
#include "optc.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

/* Requires a status, and a text that has these words in it. */
static void expect(int line, OptcStatus status, OptcStatus wanted, char *error, const char *words) {
    int said = words ? error && strstr(error, words) : !error;
    if (status != wanted || !said) {
        fprintf(stderr, "line %d: status %d, wanted %d with `%s`: %s\n", line, status, wanted, words ? words : "nothing",
                error ? error : "(no text)");
        failures++;
    }
    optc_string_free(error);
}
#define EXPECT(call, wanted, words)                              \
    do {                                                         \
        char *error = NULL;                                      \
        OptcStatus status = (call);                              \
        expect(__LINE__, status, OPTC_STATUS_##wanted, error, words); \
    } while (0)

static const char NET[] = "graph net(%x: f32[2,8]) {\n"
                          "  @w = parameter normal(1) : f32[16,8]\n"
                          "  @v = parameter normal(2) : f32[4,16]\n"
                          "  %h = linear(%x, @w)\n"
                          "  %y = linear(%h, @v)\n"
                          "  return %y\n"
                          "}\n";

static OptcModel *net(void) {
    OptcModel *model = NULL;
    EXPECT(optc_read_bytes((const uint8_t *)NET, strlen(NET), NULL, NULL, NULL, &model, &error), OK, NULL);
    return model;
}

static int stop(const char *pass, const char *layer, double fraction, void *context) {
    (void)pass, (void)layer, (void)fraction;
    ++*(int *)context;
    return 1;
}

static void count(void *context) { ++*(int *)context; }

static void null_pointers(OptcModel *model) {
    OptcModel *made = (OptcModel *)1;
    uint8_t *bytes = NULL;
    size_t length = 0;
    EXPECT(optc_read_file(NULL, NULL, &made, &error), ARGUMENT, "`path` is NULL");
    if (made) failures++, fprintf(stderr, "a result is left where there is none\n");
    EXPECT(optc_read_file("x.onnx", NULL, NULL, &error), ARGUMENT, "`model` is NULL");
    EXPECT(optc_read_bytes(NULL, 4, NULL, NULL, NULL, &made, &error), ARGUMENT, "`bytes` is NULL");
    EXPECT(optc_run(NULL, "red", NULL, NULL, NULL, &made, NULL, &error), ARGUMENT, "`model` is NULL");
    EXPECT(optc_run(model, "red", NULL, NULL, NULL, NULL, NULL, &error), ARGUMENT, "`result` is NULL");
    EXPECT(optc_write_file(model, NULL, &error), ARGUMENT, "`path` is NULL");
    EXPECT(optc_write_bytes(model, NULL, NULL, &length, &error), ARGUMENT, "`bytes` is NULL");
    EXPECT(optc_write_bytes(model, NULL, &bytes, NULL, &error), ARGUMENT, "`length` is NULL");
    EXPECT(optc_inspect(NULL, NULL, &error), ARGUMENT, "`json` is NULL");
    EXPECT(optc_read_file("\xff", NULL, &made, &error), ARGUMENT, "not UTF-8");
    /* Without a place for the text there is a status all the same. */
    if (optc_read_file(NULL, NULL, &made, NULL) != OPTC_STATUS_ARGUMENT) failures++;
    if (optc_model_free(NULL) != OPTC_STATUS_OK) failures++;
    optc_string_free(NULL);
    optc_bytes_free(NULL, 0);
}

static void wrong_models(void) {
    OptcModel *made = NULL;
    EXPECT(optc_read_file("nowhere.onnx", NULL, &made, &error), IO, "nowhere.onnx");
    EXPECT(optc_read_bytes((const uint8_t *)"", 0, NULL, NULL, NULL, &made, &error), FORMAT, "empty");
    int released = 0;
    const uint8_t junk[] = "PK\x03\x04 and nothing behind";
    EXPECT(optc_read_bytes(junk, sizeof junk, count, &released, NULL, &made, &error), FORMAT, "damaged");
    EXPECT(optc_read_bytes(junk, sizeof junk, count, &released, "{", &made, &error), USAGE, "EOF");
    EXPECT(optc_read_bytes(junk, sizeof junk, count, &released, NULL, NULL, &error), ARGUMENT, "`model`");
    if (released != 3) failures++, fprintf(stderr, "released %d times\n", released);
    if (made) failures++;
}

static void wrong_settings(OptcModel *model) {
    OptcModel *made = NULL;
    EXPECT(optc_run(model, "rde", NULL, NULL, NULL, &made, NULL, &error), USAGE, "red");
    EXPECT(optc_run(model, NULL, "{\"sede\": 1}", NULL, NULL, &made, NULL, &error), USAGE, "unknown field `sede`");
    EXPECT(optc_run(model, NULL, "[", NULL, NULL, &made, NULL, &error), USAGE, "EOF");
    EXPECT(optc_run(model, NULL, "{\"target\": \"macs=0.5\", \"keep\": \"cosine=0.9\"}", NULL, NULL, &made, NULL, &error), USAGE,
           "one of both");
    EXPECT(optc_run(model, NULL, "{\"data\": \"npz:nowhere.npz\"}", NULL, NULL, &made, NULL, &error), IO, "nowhere.npz");
    EXPECT(optc_write_bytes(model, "tflite", &(uint8_t *){NULL}, &(size_t){0}, &error), USAGE, "no model format");
    if (made) failures++;
}

static void ends(OptcModel *model) {
    OptcModel *made = NULL;
    char *report = NULL;
    int calls = 0;
    EXPECT(optc_run(model, "red", NULL, stop, &calls, &made, &report, &error), CANCELLED, "interrupted");
    EXPECT(optc_run(model, "red", "{\"threads\": 2}", stop, &calls, &made, &report, &error), CANCELLED, "interrupted");
    if (calls != 2 || made || report) failures++, fprintf(stderr, "asked %d times\n", calls);
}

static void freed(void) {
    OptcModel *model = net(), *made = NULL;
    if (optc_model_free(model) != OPTC_STATUS_OK) failures++;
    EXPECT(optc_run(model, "red", NULL, NULL, NULL, &made, NULL, &error), ARGUMENT, "was freed");
    if (optc_model_free(model) != OPTC_STATUS_ARGUMENT) failures++;
    EXPECT(optc_inspect((OptcModel *)&made, &(char *){NULL}, &error), ARGUMENT, "none of this library's");
}

static void *optimise(void *model) {
    OptcModel *made = NULL;
    uint8_t *bytes = NULL;
    size_t length = 0;
    EXPECT(optc_run(model, "red{hash=none}", NULL, NULL, NULL, &made, NULL, &error), OK, NULL);
    EXPECT(optc_write_bytes(made, "onnx", &bytes, &length, &error), OK, NULL);
    optc_model_free(made);
    optc_bytes_free(bytes, length);
    return (void *)length;
}

static void two_threads(OptcModel *model) {
    pthread_t threads[2];
    void *lengths[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, optimise, model)) abort();
    for (int i = 0; i < 2; i++) pthread_join(threads[i], &lengths[i]);
    if (!lengths[0] || lengths[0] != lengths[1]) failures++, fprintf(stderr, "two threads made two results\n");
}

int main(void) {
    OptcModel *model = net();
    null_pointers(model);
    wrong_models();
    wrong_settings(model);
    ends(model);
    freed();
    two_threads(model);
    char *json = NULL;
    EXPECT(optc_inspect(model, &json, &error), OK, NULL);
    if (!json || !strstr(json, "\"linear\": 2")) failures++, fprintf(stderr, "%s\n", json);
    optc_string_free(json);
    optc_model_free(model);
    if (failures) fprintf(stderr, "%d failures\n", failures);
    return failures != 0;
}
