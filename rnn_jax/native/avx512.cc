// The kernels for processors with AVX-512: 32 registers of 16 floats.
#include "processors.h"
#if RNN_X86
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,bmi2")
#define RNN_LANES 16
#define RNN_ROWS 6
#define RNN_WIDE 4
#define RNN_PAIRS 0
#include "kernels.inc"
#include "linear.inc"
rnn_jax::Kernels rnn_jax::avx512_kernels() { return {forward, backward, recurrence, "AVX-512"}; }
#endif
