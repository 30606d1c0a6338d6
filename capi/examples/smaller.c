/* Makes a model file smaller: smaller IN OUT */
#include "optc.h"
#include <stdio.h>

int main(int argc, char **argv) {
    OptcModel *model = NULL, *smaller = NULL;
    char *error = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: smaller IN OUT\n");
        return 2;
    }
    if (optc_read_file(argv[1], NULL, &model, &error) == OPTC_STATUS_OK
        && optc_run(model, "red{hash=none}", NULL, NULL, NULL, &smaller, NULL, &error) == OPTC_STATUS_OK)
        optc_write_file(smaller, argv[2], &error);
    if (error) fprintf(stderr, "%s\n", error);
    int failed = error != NULL;
    optc_string_free(error);
    optc_model_free(smaller);
    optc_model_free(model);
    return failed;
}
