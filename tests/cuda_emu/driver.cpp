// A stand-in for libcuda: the part of the driver's interface that this crate uses, on top of cuda_emu.h.
//
// Every allocation ends at a page that may not be touched, begins with bytes that are no sensible number, and has its
// last bytes checked when it is freed, so that kernels that leave their buffers are caught.
#include "cuda_emu.h"

#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>

#define API extern "C" __attribute__((visibility("default"))) int

typedef unsigned long long DevicePointer;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500 };

static const char MAGIC[] = "emulated\n";
constexpr size_t PAGE = 4096, TOTAL = size_t{256} << 20;
constexpr unsigned char POISON = 0xCB, CANARY = 0xA5;

// ---- version and devices

API cuInit(unsigned) { return OK; }
API cuDriverGetVersion(int *version) { *version = 13000; return OK; }
API cuDeviceGetCount(int *count) { *count = 1; return OK; }
API cuDeviceGet(int *device, int index) { *device = index; return index == 0 ? OK : INVALID_DEVICE; }
API cuDeviceGetName(char *name, int length, int) { std::snprintf(name, length, "CPU under the stand-in driver"); return OK; }
API cuDeviceTotalMem_v2(size_t *bytes, int) { *bytes = TOTAL; return OK; }
API cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
        case 16: *value = 4; break;   // multiprocessors
        case 75: *value = 9; break;   // compute capability, major
        case 76: *value = 0; break;   // and minor
        case 115: *value = 1; break;  // memory pools
        default: *value = 0;
    }
    return OK;
}

// ---- what a test counts: calls that wait for the GPU, and launches

static std::atomic<int> synchronizations, launches, unpooled;
extern "C" __attribute__((visibility("default"))) int emu_synchronizations() { return synchronizations; }
extern "C" __attribute__((visibility("default"))) int emu_launches() { return launches; }
// Allocations beside the pool, which wait for the GPU; all of them where the pool does not keep what is freed.
static unsigned long long release_threshold;
extern "C" __attribute__((visibility("default"))) int emu_unpooled() { return unpooled; }

// ---- contexts and streams: there is one of each, and nothing is asynchronous

static thread_local void *current_context;
API cuDevicePrimaryCtxRetain(void **context, int) { *context = reinterpret_cast<void *>(1); return OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void *context) { current_context = context; return OK; }
API cuCtxGetCurrent(void **context) { *context = current_context; return OK; }
API cuCtxSynchronize() { ++synchronizations; return OK; }
API cuStreamCreate(void **stream, unsigned) { *stream = reinterpret_cast<void *>(2); return OK; }
API cuStreamDestroy_v2(void *) { return OK; }
API cuStreamSynchronize(void *) { ++synchronizations; return OK; }

// ---- memory

struct Allocation {
    unsigned char *base;
    size_t mapped, bytes;
};
static std::mutex memory_lock;
static std::map<DevicePointer, Allocation> allocations;
static size_t used, most;

// Most bytes in use at a time since the last call.
extern "C" __attribute__((visibility("default"))) unsigned long long emu_most_memory() {
    std::lock_guard<std::mutex> guard(memory_lock);
    const size_t until_now = most;
    most = used;
    return until_now;
}

API cuMemGetInfo_v2(size_t *free, size_t *total) {
    std::lock_guard<std::mutex> guard(memory_lock);
    *free = TOTAL - used;
    *total = TOTAL;
    return OK;
}

static int allocate(DevicePointer *pointer, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    std::lock_guard<std::mutex> guard(memory_lock);
    if (bytes > TOTAL - used) return OUT_OF_MEMORY;
    const size_t aligned = (bytes + 15) & ~size_t{15};  // kernels load up to 16 bytes at once
    const size_t pages = (aligned + PAGE - 1) / PAGE * PAGE;
    void *base = mmap(nullptr, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return OUT_OF_MEMORY;
    unsigned char *start = static_cast<unsigned char *>(base);
    mprotect(start + pages, PAGE, PROT_NONE);
    unsigned char *first = start + pages - aligned;
    std::memset(start, CANARY, pages);
    std::memset(first, POISON, bytes);
    *pointer = reinterpret_cast<DevicePointer>(first);
    allocations[*pointer] = {start, pages + PAGE, bytes};
    used += bytes;
    if (used > most) most = used;
    return OK;
}

API cuMemFree_v2(DevicePointer pointer) {
    std::lock_guard<std::mutex> guard(memory_lock);
    const auto found = allocations.find(pointer);
    if (found == allocations.end()) return INVALID_VALUE;
    const Allocation a = found->second;
    const unsigned char *first = reinterpret_cast<unsigned char *>(pointer), *end = a.base + a.mapped - PAGE;
    for (const unsigned char *p = a.base; p < end; ++p) {
        if ((p < first || p >= first + a.bytes) && *p != CANARY) emu::die("a kernel wrote outside its buffer");
    }
    munmap(a.base, a.mapped);
    used -= a.bytes;
    allocations.erase(found);
    return OK;
}

API cuMemAlloc_v2(DevicePointer *pointer, size_t bytes) {
    ++unpooled;
    return allocate(pointer, bytes);
}

// The pool: what is freed is gone at once, so that its guard page catches whoever still uses it.
API cuDeviceGetDefaultMemPool(void **pool, int) { *pool = reinterpret_cast<void *>(3); return OK; }
API cuMemPoolSetAttribute(void *, int attribute, void *value) {
    if (attribute != 4) return INVALID_VALUE;
    std::memcpy(&release_threshold, value, sizeof release_threshold);
    return OK;
}
API cuMemPoolGetAttribute(void *, int, void *value) {
    std::lock_guard<std::mutex> guard(memory_lock);
    const unsigned long long bytes = used;  // reserved as much as used
    std::memcpy(value, &bytes, sizeof bytes);
    return OK;
}
API cuMemAllocAsync(DevicePointer *pointer, size_t bytes, void *) {
    unpooled += release_threshold == 0;
    return allocate(pointer, bytes);
}
API cuMemFreeAsync(DevicePointer pointer, void *) { return cuMemFree_v2(pointer); }
API cuMemcpyHtoDAsync_v2(DevicePointer to, const void *from, size_t bytes, void *) {
    std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return OK;
}
API cuMemcpyDtoHAsync_v2(void *to, DevicePointer from, size_t bytes, void *) {
    std::memcpy(to, reinterpret_cast<void *>(from), bytes);
    return OK;
}
API cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, size_t bytes, void *) {
    std::memcpy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
    return OK;
}
API cuMemsetD8Async(DevicePointer to, unsigned char value, size_t bytes, void *) {
    std::memset(reinterpret_cast<void *>(to), value, bytes);
    return OK;
}

// ---- modules: an image is the text that nvrtc.cpp makes of a source

API cuModuleLoadData(void **module, const void *image) {
    const char *text = static_cast<const char *>(image);
    if (std::strncmp(text, MAGIC, sizeof MAGIC - 1) != 0) return INVALID_IMAGE;
    *module = strdup(text);
    return OK;
}
API cuModuleUnload(void *module) { std::free(module); return OK; }
API cuModuleGetFunction(void **function, void *module, const char *name) {
    // Of a family, the source has the name without the kind of number.
    const std::string whole = name, family = whole.substr(0, whole.rfind('_'));
    if (!emu::known(name) || !std::strstr(static_cast<char *>(module), family.c_str())) return NOT_FOUND;
    *function = strdup(name);  // lives as long as the process, like a function
    return OK;
}
API cuFuncSetAttribute(void *, int, int) { return OK; }
API cuFuncGetAttribute(int *value, int, void *) { *value = 0; return OK; }
API cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared_bytes, void *, void **arguments, void **) {
    ++launches;
    return emu::launch(static_cast<char *>(function), dim3(gx, gy, gz), dim3(bx, by, bz), shared_bytes, arguments);
}

// ---- errors

API cuGetErrorName(int error, const char **text) {
    switch (error) {
        case INVALID_VALUE: *text = "CUDA_ERROR_INVALID_VALUE"; break;
        case OUT_OF_MEMORY: *text = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case INVALID_IMAGE: *text = "CUDA_ERROR_INVALID_IMAGE"; break;
        case NOT_FOUND: *text = "CUDA_ERROR_NOT_FOUND"; break;
        default: *text = "CUDA_ERROR_UNKNOWN";
    }
    return OK;
}
API cuGetErrorString(int, const char **text) { *text = "refused by the stand-in driver"; return OK; }
