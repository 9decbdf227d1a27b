// What rnn_jax/native/cuda/device.cuh takes from CUDA, on a CPU: a block's threads run one after another, each from
// one barrier to the next, always in the same order. With RNN_JAX_THREADS each is a thread of the host instead,
// so that a sanitizer sees what no barrier keeps apart.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>
#ifdef RNN_JAX_THREADS
#include <barrier>
#include <thread>
#else
#include <ucontext.h>
#endif

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

namespace rnn_jax {

using std::max;
using std::min;
using __half = _Float16;

struct Index {
  unsigned x;
};
inline __half __float2half(float x) { return static_cast<__half>(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __ldcs(const float* at) { return *at; }
inline uint32_t computed_again(uint32_t x) { return x; }
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

inline Index blockIdx, blockDim;
#ifdef RNN_JAX_THREADS
inline thread_local Index threadIdx;

struct Barrier {
  std::barrier<> all;
  explicit Barrier(int members) : all(members) {}
  void wait() { all.arrive_and_wait(); }
};

template <class Body>
void run_threads(int count, const Body& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; i++) threads.emplace_back([&, i] { threadIdx.x = i, body(); });
  for (auto& thread : threads) thread.join();
}
inline std::mutex shared_mutex;
inline void atomicMin(int* at, int value) { std::lock_guard<std::mutex> lock(shared_mutex); *at = min(*at, value); }
inline void atomicMax(int* at, int value) { std::lock_guard<std::mutex> lock(shared_mutex); *at = max(*at, value); }
#else
inline Index threadIdx;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  bool ended = false;
};
inline std::vector<std::unique_ptr<Fiber>> fibers;
inline ucontext_t scheduler;
inline void (*entry)(void*);
inline void* entry_data;

inline void give_way() { swapcontext(&fibers[threadIdx.x]->context, &scheduler); }
inline void start_fiber() {
  entry(entry_data);
  fibers[threadIdx.x]->ended = true;
  give_way();
}

struct Barrier {
  int members, arrived = 0, passed = 0;
  explicit Barrier(int members) : members(members) {}
  void wait() {
    const int mine = passed;
    if (++arrived == members)
      arrived = 0, passed++;
    else
      while (passed == mine) give_way();
  }
};

template <class Body>
void run_threads(int count, const Body& body) {
  entry = [](void* data) { (*static_cast<const Body*>(data))(); };
  entry_data = const_cast<Body*>(&body);
  while (static_cast<int>(fibers.size()) < count) fibers.emplace_back(new Fiber);
  for (int i = 0; i < count; i++) {
    Fiber& fiber = *fibers[i];
    fiber.ended = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start_fiber, 0);
  }
  for (bool running = true; running;) {
    running = false;
    for (int i = 0; i < count; i++) {
      if (fibers[i]->ended) continue;
      threadIdx.x = i;
      swapcontext(&scheduler, &fibers[i]->context);
      running = true;
    }
  }
}
inline void atomicMin(int* at, int value) { *at = min(*at, value); }
inline void atomicMax(int* at, int value) { *at = max(*at, value); }
#endif

// What the 32 threads of a warp give to each other, in turn in two buffers: one barrier an exchange.
struct WarpExchange {
  Barrier barrier{32};
  float left[2][16][16], right[2][16][8], number[2][32];
  int turn[32] = {};
};
inline std::vector<std::unique_ptr<WarpExchange>> warps;
inline std::unique_ptr<Barrier> block_barrier;

inline void __syncthreads() { block_barrier->wait(); }

inline float half_of(uint32_t pair, int which) {
  const uint16_t bits = static_cast<uint16_t>(pair >> (16 * which));
  __half x;
  memcpy(&x, &bits, 2);
  return static_cast<float>(x);
}

// mma.sync.m16n8k16 with the fragments of PTX's documentation.
inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  WarpExchange& warp = *warps[threadIdx.x >> 5];
  const int lane = threadIdx.x & 31, group = lane >> 2, in_group = lane & 3, turn = warp.turn[lane] ^= 1;
  for (int i = 0; i < 8; i++)
    warp.left[turn][group + (i / 2 % 2) * 8][in_group * 2 + i % 2 + (i / 4) * 8] = half_of(a[i / 2], i % 2);
  for (int i = 0; i < 4; i++)
    warp.right[turn][in_group * 2 + i % 2 + (i / 2) * 8][group] = half_of(i < 2 ? b0 : b1, i % 2);
  warp.barrier.wait();
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 16; k++)
      c[i] += warp.left[turn][group + (i / 2) * 8][k] * warp.right[turn][k][in_group * 2 + i % 2];
}

inline float largest_of_column(float x) {
  WarpExchange& warp = *warps[threadIdx.x >> 5];
  const int lane = threadIdx.x & 31, turn = warp.turn[lane] ^= 1;
  warp.number[turn][lane] = x;
  warp.barrier.wait();
  for (int other = lane & 3; other < 32; other += 4) x = std::fmax(x, warp.number[turn][other]);
  return x;
}

template <class... Parameters>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, int threads, void*, Parameters... parameters) {
  static std::mutex one_at_a_time;  // the shared memory of a block is static here
  std::lock_guard<std::mutex> lock(one_at_a_time);
  blockDim.x = threads;
  for (int64_t block = 0; block < blocks; block++) {
    blockIdx.x = static_cast<unsigned>(block);
    warps.clear();
    for (int i = 0; i < threads / 32; i++) warps.emplace_back(new WarpExchange);
    block_barrier = std::make_unique<Barrier>(threads);
    run_threads(threads, [&] { kernel(parameters...); });
  }
  return nullptr;
}

}  // namespace rnn_jax
