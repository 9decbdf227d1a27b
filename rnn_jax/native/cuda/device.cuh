// What the kernels need of the GPU: products of a warp, fp16 operands, tanh, a launch.
#pragma once
#include <cstdint>
#ifdef RNN_JAX_EMULATED
#include "cuda_emulation.h"
#else
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace rnn_jax {

// c += a b over 32 threads: a [16, 16] by rows, b [16, 8] by columns, c [16, 8].
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The largest of the 8 threads whose numbers differ from this one's by multiples of 4.
__device__ __forceinline__ float largest_of_column(float x) {
#pragma unroll
  for (int distance = 4; distance < 32; distance *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
  return x;
}

// A number that the compiler must not keep multiples of in registers.
__device__ __forceinline__ uint32_t computed_again(uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}

template <class... Parameters>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream, Parameters... parameters) {
  kernel<<<static_cast<unsigned>(blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(parameters...);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace rnn_jax
#endif

namespace rnn_jax {

// Two exponentials' worth of time, and errors of some 1e-7: far below those of the products.
__device__ __forceinline__ float fast_tanh(float x) {
  const float t = 1.f - __fdividef(2.f, __expf(2.f * fabsf(x)) + 1.f);
  return copysignf(t, x);
}

__device__ __forceinline__ float sigmoid_from_tanh(float t) { return 0.5f * t + 0.5f; }
__device__ __forceinline__ float sigmoid_slope_from_tanh(float t) { return 0.5f * (1.f - t * t); }

// fp16 has the mantissa of TF32, 11 bits, and a narrower range. What is above it becomes its largest number.
__device__ __forceinline__ __half to_half(float x) {
  const float most = 65504.f;
  return __float2half(x > most ? most : x < -most ? -most : x);  // NaN passes
}

__device__ __forceinline__ uint32_t pair_at(const __half* at) { return *reinterpret_cast<const uint32_t*>(at); }

// A power of 2 that brings a number up to 2^14, so that those 2^28 times smaller are normal numbers of fp16 too.
struct Scale {
  float up, down;
};
__device__ __forceinline__ Scale scale_of(float most) {
  if (!(most > 0.f)) return {1.f, 1.f};
  const int exponent = max(static_cast<int>(__float_as_uint(most) >> 23), 15);  // as stored: 127 is 2^0
  const uint32_t up = 127 + 14 - (exponent - 127);
  return {__uint_as_float(up << 23), __uint_as_float((254 - up) << 23)};
}

}  // namespace rnn_jax
