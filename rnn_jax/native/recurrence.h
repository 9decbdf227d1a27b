// All steps of a recurrent layer on a CPU, forward and backward, as two functions of raw float32 arrays.
//
// A layer is run by parts: a part owns rows of the batch for all steps, and waits for no other part. The rows
// and the order of additions depend on the number of parts alone, so that results have the same bits whichever
// thread runs a part, and when.
//
// Names are those of rnn_jax/layers/fused.py: x W + b + h U, with columns scaled so that one tanh serves every
// gate. Arrays are dense, rows first. A null pointer is an array that is absent.
#pragma once
#include <cstdint>
#include <functional>

namespace rnn_jax {

enum class Kind : int64_t { simple = 0, lstm = 1, gru = 2, min_gru = 3, min_lstm = 4, rglru = 5 };

// Cells whose gates read x alone: columns are not scaled, U is not read, and the backward pass needs `kept`.
constexpr bool is_gated(Kind kind) { return kind >= Kind::min_gru; }
constexpr bool has_extra(Kind kind) { return kind == Kind::gru || kind == Kind::rglru; }
constexpr int64_t gates_of(Kind kind) {
  constexpr int64_t of[] = {1, 4, 3, 2, 3, 3};
  return of[int64_t(kind)];
}
// Arrays [H] that a step keeps for the backward pass: the gates, and (h U + b)_n of a GRU; z and n of a minGRU, of a
// minLSTM f / (f+i), g, 1-f and 1-i, and of an RG-LRU r, i and g.
constexpr int64_t kept_of(Kind kind) {
  constexpr int64_t of[] = {0, 4, 4, 2, 4, 3};
  return of[int64_t(kind)];
}

struct Layer {
  Kind kind;
  int64_t steps, batch, inputs, units;  // T, B, E, H
  bool reverse;                         // from the last step to the first
  const float* x;                       // [B, T, E]
  const float* kernel;                  // W [E, G*H]
  const float* recurrent;               // U [H, G*H]
  const float* bias;                    // b [G*H]
  const float* extra;                   // [H], of a GRU: the bias inside the reset; of an RG-LRU: log sigmoid(logit)
  const float* first_c;                 // [B, H], of an LSTM
  const float* first_h;                 // [B, H]
  const float* hidden_mask;             // [B, H], times h in h U; null: ones
  const uint8_t* valid;                 // [B, T]; null: every step
};

struct Forward {
  float* last_c;  // [B, H], of an LSTM
  float* last_h;  // [B, H]
  float* h;       // [B, T, H]; a step that is padding passes on what it gets
  float* c;       // [B, T, H], of an LSTM; null: not kept
  float* kept;    // [B, T, kept_of * H]; null: not kept
};

struct Backward {
  const float* h;          // of the forward pass
  const float* c;          // likewise, of an LSTM
  const float* kept;       // likewise; null: computed again
  const float* last_c_ct;  // cotangents [B, H]
  const float* last_h_ct;
  const float* h_ct;       // [B, T, H]; null: zero
  float* kernel_ct;        // [E, G*H]
  float* recurrent_ct;     // [H, G*H]
  float* bias_ct;          // [G*H]; null: no gradient of the weights is wanted
  float* extra_ct;         // [H]
  float* first_c_ct;       // [B, H]
  float* first_h_ct;
  float* x_ct;             // [B, T, E]; null: not wanted
};

// A linear recurrence over the steps of each row: h = a*h + b, and where it is late b + h, after which h is
// multiplied by a. Of paired numbers a row is N / 2 real parts and then the imaginary parts.
struct Recurrence {
  int64_t steps, batch, units;  // T, B, N
  bool reverse, late, paired, conjugate;
  const float* a;      // [B, T, N]
  const float* b;      // [B, T, N]
  const float* first;  // [B, N]
  float* h;            // [B, T, N]
  float* last;         // [B, N]
};

// Runs task(0), ..., task(count - 1), in any order and on any threads, and returns when all are done.
using Parallel = std::function<void(int64_t count, const std::function<void(int64_t)>& task)>;

struct Kernels {
  void (*forward)(const Layer&, const Forward&, int64_t parts, const Parallel&);
  void (*backward)(const Layer&, const Backward&, int64_t parts, const Parallel&);
  void (*recurrence)(const Recurrence&, int64_t parts, const Parallel&);
  const char* name;
};

Kernels avx512_kernels();
Kernels avx512_bf16_kernels();  // products of operands rounded to bfloat16, with sums in float32
Kernels avx2_kernels();
Kernels portable_kernels();

}  // namespace rnn_jax
