// The kernels for processors with AVX2 and FMA: 16 registers of 8 floats.
#include "processors.h"
#if RNN_X86
#pragma GCC target("avx2,fma,bmi2")
#define RNN_LANES 8
#define RNN_ROWS 3
#define RNN_WIDE 2
#define RNN_PAIRS 0
#include "kernels.inc"
#include "linear.inc"
rnn_jax::Kernels rnn_jax::avx2_kernels() { return {forward, backward, recurrence, "AVX2"}; }
#endif
