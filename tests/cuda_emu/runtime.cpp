// Runs blocks of CUDA threads on the CPU: see cuda_emu.h.
#include "cuda_emu.h"

#include <map>
#include <numeric>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace emu {

__thread Thread *thread;
__thread Block *block;

void die(const char *what) {
    std::fprintf(stderr, "cuda_emu: %s", what);
    if (block && thread) {
        std::fprintf(stderr, " (block %u,%u,%u, thread %u,%u,%u)", block->index.x, block->index.y, block->index.z,
                     thread->index.x, thread->index.y, thread->index.z);
    }
    std::fprintf(stderr, "\n");
    std::abort();
}

// ---- kernels by name

struct Kernel {
    void *function;
    Caller caller;
};

static std::map<std::string, Kernel> &kernels() {
    static std::map<std::string, Kernel> table;
    return table;
}

Registration::Registration(const char *name, void *function, Caller caller) { kernels()[name] = {function, caller}; }

bool known(const char *name) { return kernels().count(name) != 0; }

// ---- switching stacks: saves what the calling convention says a callee saves

extern "C" void emu_switch(void **save, void *to);
constexpr size_t STACK_BYTES = 64 << 10;

#if defined(__x86_64__)
asm(R"(.text
.globl emu_switch
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static void *first_frame(uint64_t *top, void (*entry)()) {
    *--top = 0;
    *--top = reinterpret_cast<uint64_t>(entry);
    for (int i = 0; i < 6; ++i) *--top = 0;
    return top;
}
#elif defined(__aarch64__)
asm(R"(.text
.globl emu_switch
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");

static void *first_frame(uint64_t *top, void (*entry)()) {
    top -= 20;
    std::memset(top, 0, 160);
    top[11] = reinterpret_cast<uint64_t>(entry);
    return top;
}
#else
#error "cuda_emu knows x86-64 and aarch64"
#endif

// ---- one block at a time, on one thread of the operating system

struct Worker {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<void *> free_stacks;
    std::vector<uint64_t> dynamic_shared;
    Block current;
    void *own_stack;
    const Kernel *kernel;
    void **arguments;
    int alive, at_barrier;

    ~Worker() {
        for (void *stack : free_stacks) munmap(stack, STACK_BYTES);
    }

    void *take_stack() {
        if (free_stacks.empty()) {
            void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (stack == MAP_FAILED) die("no memory for a stack");
            return stack;
        }
        void *stack = free_stacks.back();
        free_stacks.pop_back();
        return stack;
    }
};

static __thread Worker *worker;

static void suspend() { emu_switch(&thread->stack_pointer, worker->own_stack); }

static void entry() {
    worker->kernel->caller(worker->kernel->function, worker->arguments);
    thread->state = State::done;
    suspend();
    __builtin_unreachable();
}

static void start(Thread &t) {
    t.stack = worker->take_stack();
    // Tops are staggered, or all stacks would fall into the same cache sets.
    const uintptr_t base = reinterpret_cast<uintptr_t>(t.stack), stagger = base / STACK_BYTES * 448 & 0x3fc0;
    const uintptr_t top = (base + STACK_BYTES - stagger) & ~uintptr_t{15};
    t.stack_pointer = first_frame(reinterpret_cast<uint64_t *>(top), entry);
    t.state = State::ready;
}

static void open_barrier() {
    Block &b = worker->current;
    b.count = 0;
    b.all = true;
    b.any = false;
    for (Thread &t : worker->threads) {
        if (t.state != State::at_barrier) continue;
        b.count += t.predicate;
        b.all = b.all && t.predicate;
        b.any = b.any || t.predicate;
        t.state = State::ready;
    }
    worker->at_barrier = 0;
}

void barrier(bool predicate) {
    thread->state = State::at_barrier;
    thread->predicate = predicate;
    if (++worker->at_barrier == worker->alive) {
        open_barrier();
    } else {
        suspend();
    }
}

const uint64_t *collective(unsigned mask, uint64_t deposit) {
    Warp &warp = *thread->warp;
    const size_t first = static_cast<size_t>(&warp - worker->warps.data()) * 32, left = worker->threads.size() - first;
    if (left < 32) mask &= (1u << left) - 1u;  // the last warp of a block may be partial
    const int self = thread->lane;
    if (!(mask >> self & 1)) die("a lane outside the mask calls a warp collective");
    warp.deposit[self] = deposit;
    warp.mask[self] = mask;
    warp.waiting |= 1u << self;
    thread->state = State::at_collective;
    if ((warp.waiting & mask) != mask) {
        suspend();
        return warp.snapshot;
    }
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        if (warp.mask[lane] != mask) die("a warp collective is called with different masks");
        warp.snapshot[lane] = warp.deposit[lane];
        worker->threads[first + lane].state = State::ready;
    }
    warp.waiting &= ~mask;
    return warp.snapshot;
}

static std::atomic<unsigned> order{0};

static void run_block(uint64_t number) {
    Worker &w = *worker;
    Block &b = w.current;
    block = &b;
    b.index = {static_cast<unsigned>(number % b.grid.x), static_cast<unsigned>(number / b.grid.x % b.grid.y),
               static_cast<unsigned>(number / b.grid.x / b.grid.y)};
    const unsigned count = b.shape.x * b.shape.y * b.shape.z;
    w.threads.assign(count, Thread{});
    w.warps.assign((count + 31) / 32, Warp{});
    w.alive = static_cast<int>(count);
    w.at_barrier = 0;
    for (unsigned i = 0; i < count; ++i) {
        Thread &t = w.threads[i];
        t.index = {i % b.shape.x, i / b.shape.x % b.shape.y, i / b.shape.x / b.shape.y};
        t.lane = static_cast<int>(i % 32);
        t.warp = &w.warps[i / 32];
    }
    // Another order of the threads, by a stride without common divisor, shows what depends on it.
    const unsigned seed = order.load();
    unsigned stride = (seed | 1u) % count;
    while (stride == 0 || std::gcd(stride, count) != 1) ++stride;

    while (w.alive > 0) {
        bool progress = false;
        for (unsigned n = 0, i = seed % count; n < count; ++n, i = (i + stride) % count) {
            Thread &t = w.threads[i];
            if (t.state != State::fresh && t.state != State::ready) continue;
            progress = true;
            thread = &t;
            if (t.state == State::fresh) start(t);
            emu_switch(&w.own_stack, t.stack_pointer);
            if (t.state == State::done) {
                w.free_stacks.push_back(t.stack);
                --w.alive;
                if (w.alive > 0 && w.at_barrier == w.alive) open_barrier();
            }
        }
        if (progress) continue;
        for (Thread &t : w.threads) {
            thread = &t;
            if (t.state == State::at_barrier) die("deadlock: a barrier that other threads never reach");
            if (t.state == State::at_collective) die("deadlock: a warp collective that other lanes never reach");
        }
    }
}

int launch(const char *name, dim3 grid, dim3 shape, size_t dynamic_shared, void **arguments) {
    constexpr int INVALID_VALUE = 1, NOT_FOUND = 500;
    const auto found = kernels().find(name);
    if (found == kernels().end()) return NOT_FOUND;
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    const uint64_t threads = static_cast<uint64_t>(shape.x) * shape.y * shape.z;
    const bool fits = grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535 && dynamic_shared <= 227 << 10;
    if (blocks == 0 || threads == 0 || threads > 1024 || !fits) return INVALID_VALUE;

    std::atomic<uint64_t> next{0};
    auto work = [&] {
        Worker own;
        own.kernel = &found->second;
        own.arguments = arguments;
        own.current.grid = grid;
        own.current.shape = shape;
        own.dynamic_shared.resize(dynamic_shared / 8 + 1);
        own.current.dynamic_shared = own.dynamic_shared.data();
        worker = &own;
        for (uint64_t number; (number = next.fetch_add(1)) < blocks;) run_block(number);
        block = nullptr;
        thread = nullptr;
    };
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::thread> helpers;
    for (unsigned i = 1; i < std::min<uint64_t>(cores, blocks); ++i) helpers.emplace_back(work);
    work();
    for (std::thread &helper : helpers) helper.join();
    return 0;
}

}  // namespace emu

// Chooses the order in which the threads of a block run.
extern "C" void emu_set_order(unsigned seed) { emu::order = seed; }
