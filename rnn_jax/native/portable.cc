// The kernels for any processor; with NEON, which every 64-bit ARM has: 32 registers of 4 floats.
#include "processors.h"
#define RNN_LANES 4
#define RNN_ROWS 6
#define RNN_WIDE 4
#define RNN_PAIRS 0
#include "kernels.inc"
#include "linear.inc"
#if defined(__ARM_NEON)
rnn_jax::Kernels rnn_jax::portable_kernels() { return {forward, backward, recurrence, "NEON"}; }
#else
rnn_jax::Kernels rnn_jax::portable_kernels() { return {forward, backward, recurrence, "portable"}; }
#endif
