// A stand-in for libnvrtc: "compiles" a source into an image that names the stand-in driver and holds the text.
//
// The kernels themselves were compiled as C++ before. A line `#error …` is a compile error, so that the way from the
// compiler's log to the user's terminal can be tested.
#include <cstdlib>
#include <cstring>
#include <string>

#define API extern "C" __attribute__((visibility("default"))) int

enum { OK = 0, COMPILATION = 6 };

struct Program {
    std::string source, image, log;
};

static int copy_size(const std::string &text, size_t *size) { *size = text.size() + 1; return OK; }
static int copy_text(const std::string &text, char *to) { std::memcpy(to, text.c_str(), text.size() + 1); return OK; }

static int compilations;
extern "C" __attribute__((visibility("default"))) int emu_compilations() { return compilations; }

API nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return OK; }
API nvrtcGetNumSupportedArchs(int *count) { *count = 3; return OK; }
API nvrtcGetSupportedArchs(int *numbers) { numbers[0] = 75; numbers[1] = 90; numbers[2] = 120; return OK; }
API nvrtcCreateProgram(Program **program, const char *source, const char *, int, const char *const *, const char *const *) {
    *program = new Program{source, "", ""};
    return OK;
}
API nvrtcDestroyProgram(Program **program) { delete *program; *program = nullptr; return OK; }
API nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    ++compilations;
    const size_t error = program->source.find("#error ");
    if (error != std::string::npos) {
        program->log = program->source.substr(error + 1, program->source.find('\n', error) - error - 1);
        return COMPILATION;
    }
    program->image = "emulated\n";
    for (int i = 0; i < count; ++i) program->image += std::string(options[i]) + "\n";
    program->image += program->source;
    return OK;
}
API nvrtcGetCUBINSize(Program *program, size_t *size) { return copy_size(program->image, size); }
API nvrtcGetCUBIN(Program *program, char *to) { return copy_text(program->image, to); }
API nvrtcGetPTXSize(Program *program, size_t *size) { return copy_size(program->image, size); }
API nvrtcGetPTX(Program *program, char *to) { return copy_text(program->image, to); }
API nvrtcGetProgramLogSize(Program *program, size_t *size) { return copy_size(program->log, size); }
API nvrtcGetProgramLog(Program *program, char *to) { return copy_text(program->log, to); }
extern "C" __attribute__((visibility("default"))) const char *nvrtcGetErrorString(int status) {
    return status == COMPILATION ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR";
}
