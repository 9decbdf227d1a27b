// The kernels for processors with AVX-512 that multiply pairs of bfloat16 numbers.
#include "processors.h"
#if RNN_X86
#include <immintrin.h>
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,bmi2")
#define RNN_LANES 16
#define RNN_ROWS 6
#define RNN_WIDE 4
#define RNN_PAIRS 1
#include "kernels.inc"
#include "linear.inc"
rnn_jax::Kernels rnn_jax::avx512_bf16_kernels() { return {forward, backward, recurrence, "AVX-512, bfloat16"}; }
#endif
