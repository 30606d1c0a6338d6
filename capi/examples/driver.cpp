// An optimisation stage of a compiler driver: the bytes of an ONNX model in, those of a smaller one out, with what was done as a
// remark for each pass. The front end's buffer is read where it is, and given back when nobody reads it any more.
//
//     driver IN.onnx OUT.onnx

#include "optc.h"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Bytes = std::vector<std::uint8_t>;

struct FreeModel {
    void operator()(OptcModel *model) const { optc_model_free(model); }
};
using Model = std::unique_ptr<OptcModel, FreeModel>;

struct FreeText {
    void operator()(char *text) const { optc_string_free(text); }
};
using Text = std::unique_ptr<char, FreeText>;

/// What optc says is wrong, as this driver's own kind of error.
void check(OptcStatus status, char *error) {
    Text text(error);
    if (status != OPTC_STATUS_OK) throw std::runtime_error(text ? text.get() : "optc failed");
}

/// Says how the run goes on; anything but 0 would end it.
int say(const char *pass, const char *layer, double fraction, void *context) {
    if (*layer) ++*static_cast<int *>(context);
    std::fprintf(stderr, "%s %s %.0f %%\n", pass, layer, 100 * fraction);
    return 0;
}

/// The stage.
Bytes optimise(Bytes front_end) {
    char *error = nullptr;
    OptcModel *raw = nullptr;
    auto *kept = new Bytes(std::move(front_end));
    auto release = [](void *context) { delete static_cast<Bytes *>(context); };
    check(optc_read_bytes(kept->data(), kept->size(), release, kept, "{\"input\": [\"1x3x32x32\"]}", &raw, &error), error);
    Model model(raw);

    int steps = 0;
    char *report = nullptr;
    check(optc_run(model.get(), "red{hash=none}", "{\"seed\": 7, \"verify\": \"each\"}", say, &steps, &raw, &report, &error), error);
    Model smaller(raw);
    Text told(report);
    std::printf("%zu bytes of report, %d steps\n", std::string(told.get()).size(), steps);

    std::uint8_t *bytes = nullptr;
    std::size_t length = 0;
    check(optc_write_bytes(smaller.get(), nullptr, &bytes, &length, &error), error);
    Bytes back_end(bytes, bytes + length);
    optc_bytes_free(bytes, length);
    return back_end;
}

} // namespace

int main(int argc, char **argv) try {
    if (argc != 3) throw std::runtime_error("usage: driver IN.onnx OUT.onnx");
    if (optc_abi_version() != OPTC_ABI_VERSION) throw std::runtime_error("optc.h is not of this library");
    std::ifstream in(argv[1], std::ios::binary);
    if (!in) throw std::runtime_error(std::string("cannot read ") + argv[1]);
    Bytes bytes{std::istreambuf_iterator<char>(in), {}};
    Bytes smaller = optimise(bytes);
    std::printf("%zu bytes became %zu\n", bytes.size(), smaller.size());
    std::ofstream out(argv[2], std::ios::binary);
    out.write(reinterpret_cast<const char *>(smaller.data()), static_cast<std::streamsize>(smaller.size()));
    return out.good() ? 0 : 1;
} catch (const std::exception &failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
}
