// All steps of a narrow recurrent layer on an NVIDIA GPU, forward and backward, in one kernel each.
//
// h of a row depends on that row alone. So a block owns 8 rows of the batch for all steps, and waits for no other
// block. U stays in its registers. What no step waits for is left to XLA as large products: x W + b before, and
// the gradients of W, U, b and x after.
//
// Names and scales are those of ../recurrence.h. Arrays are dense float32, rows first; a null pointer is an
// array that is absent.
#pragma once
#include "../recurrence.h"

namespace rnn_jax {

// Arrays [H] that a step of the backward pass writes: dz of each gate, and of a GRU also d(h U + b)_n.
constexpr int64_t slopes_of(Kind kind) { return kind == Kind::simple ? 1 : 4; }

struct NarrowLayer {
  Kind kind;
  int64_t steps, batch, units;  // T, B, H; no array has more than 2^31 entries
  int64_t width;                // of the kernel: 16, 32, 48, 64, 96 or 128 units
  bool reverse;                 // from the last step to the first
  const float* z;               // x W + b [B, T, G*H]; of the forward pass
  const void* recurrent;        // fp16 [G, width, width]: of each gate, U^T forward, and U backward; zeros from H on
  const float* extra;           // [H], of a GRU: the bias inside the reset; of the forward pass
  const float* first_c;         // [B, H], of an LSTM
  const float* first_h;         // [B, H]
  const float* hidden_mask;     // [B, H], times h in h U; null: ones
  const uint8_t* valid;         // [B, T]; null: every step
};

struct NarrowBackward {
  const float* h;          // of the forward pass
  const float* c;          // likewise, of an LSTM
  const float* kept;       // likewise, of an LSTM or a GRU
  const float* last_c_ct;  // cotangents [B, H]
  const float* last_h_ct;
  const float* h_ct;       // [B, T, H]; null: zero
  float* slopes;           // [B, T, slopes_of * H]
  float* first_c_ct;       // [B, H]
  float* first_h_ct;
};

// Each queues a kernel on a stream of CUDA (a cudaStream_t), and returns what is wrong, or null.
const char* narrow_forward(const NarrowLayer&, const Forward&, void* stream);
const char* narrow_backward(const NarrowLayer&, const NarrowBackward&, void* stream);

}  // namespace rnn_jax
