// The kernels. A warp owns 16 units of 8 rows, with all their gates; a thread owns 4 cells: 2 units of 2 rows.
//
// The product of a step has the weights on the left: [16 units, 16 k] times [16 k, 8 rows]. So the sums of all
// gates of a cell end in the thread that owns the cell, and what is pointwise needs no exchange. The weights stay
// in registers for all steps; h, or dz in the backward pass, goes through shared memory, in two buffers: one
// barrier a step.
#include <type_traits>

#include "device.cuh"
#include "persistent.h"

namespace rnn_jax {
namespace {

constexpr int ROWS = 8;
constexpr int CELLS = 4;
constexpr int APART = 8;  // halves between rows in shared memory, so that a warp's reads hit all banks

// Where a thread is, and the cells that it owns: cell j is of unit + 8 (j / 2) and row + j % 2. Offsets have 32 bits,
// and are computed again at every step, for the weights leave few registers: arrays have at most 2^31 entries.
struct Place {
  int tile, column, pair;
  uint32_t unit, row;
  bool unit_is_live[2], row_is_live[2];

  __device__ __forceinline__ explicit Place(const NarrowLayer& layer) {
    const int lane = threadIdx.x & 31;
    tile = threadIdx.x >> 5;
    column = lane >> 2;
    pair = lane & 3;
    unit = tile * 16 + column;
    row = blockIdx.x * ROWS + pair * 2;
    for (int j = 0; j < 2; j++) {
      unit_is_live[j] = unit + 8 * j < layer.units;
      row_is_live[j] = row + j < layer.batch;
    }
  }
  __device__ __forceinline__ bool live(int j) const { return unit_is_live[j / 2] && row_is_live[j % 2]; }
};

// Reads or writes the cells of N arrays [H]: of an array [B, N*H], or at step t of one [B, T, N*H].
template <int N>
struct Offsets {
  uint32_t first, next_row, units;

  __device__ __forceinline__ Offsets(const NarrowLayer& layer, const Place& at, uint32_t steps, uint32_t t) {
    units = computed_again(layer.units);
    next_row = steps * N * units;
    first = (at.row * steps + t) * (N * units) + at.unit;
  }
  __device__ __forceinline__ uint32_t operator()(int n, int j) const {
    return first + j % 2 * next_row + n * units + j / 2 * 8;
  }
};

__device__ __forceinline__ void read_state(const NarrowLayer& layer, const Place& at, const float* state,
                                           float otherwise, float (&to)[CELLS]) {
  const Offsets<1> offset(layer, at, 1, 0);
#pragma unroll
  for (int j = 0; j < CELLS; j++) to[j] = state && at.live(j) ? state[offset(0, j)] : otherwise;
}

// The mask of a thread's own cells, in shared memory, for want of registers.
template <int THREADS>
__device__ __forceinline__ void keep_mask(const NarrowLayer& layer, const Place& at, float (&mask)[CELLS][THREADS]) {
  float read[CELLS];
  read_state(layer, at, layer.hidden_mask, 1.f, read);
#pragma unroll
  for (int j = 0; j < CELLS; j++) mask[j][threadIdx.x] = read[j];
}

__device__ __forceinline__ void write_state(const NarrowLayer& layer, const Place& at, const float (&from)[CELLS],
                                            float* state) {
  const Offsets<1> offset(layer, at, 1, 0);
#pragma unroll
  for (int j = 0; j < CELLS; j++)
    if (at.live(j)) state[offset(0, j)] = from[j];
}

// A row of the left factor is a unit of this warp, its columns are pairs of k.
template <int G, int TILES>
__device__ __forceinline__ void read_weights(const NarrowLayer& layer, const Place& at, uint32_t (&to)[G][TILES][4]) {
  const uint32_t* pairs = static_cast<const uint32_t*>(layer.recurrent);
#pragma unroll
  for (int gate = 0; gate < G; gate++)
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const int unit = at.unit + part % 2 * 8, pair = tile * 8 + at.pair + part / 2 * 4;
        to[gate][tile][part] = pairs[(gate * TILES * 16 + unit) * (TILES * 8) + pair];
      }
}

template <int N>
__device__ __forceinline__ void read_step(const NarrowLayer& layer, const Place& at, const float* steps, uint32_t t,
                                          float (&to)[N][CELLS]) {
  const Offsets<N> offset(layer, at, layer.steps, t);
#pragma unroll
  for (int n = 0; n < N; n++)
#pragma unroll
    for (int j = 0; j < CELLS; j++) to[n][j] = at.live(j) ? __ldcs(steps + offset(n, j)) : 0.f;
}

template <int N>
__device__ __forceinline__ void write_step(const NarrowLayer& layer, const Place& at, const float (&from)[N][CELLS],
                                           uint32_t t, float* steps) {
  const Offsets<N> offset(layer, at, layer.steps, t);
#pragma unroll
  for (int n = 0; n < N; n++)
#pragma unroll
    for (int j = 0; j < CELLS; j++)
      if (at.live(j)) steps[offset(n, j)] = from[n][j];
}

__device__ __forceinline__ void read_valid(const NarrowLayer& layer, const Place& at, uint32_t t, bool (&to)[2]) {
#pragma unroll
  for (int j = 0; j < 2; j++)
    to[j] = at.row_is_live[j] && (!layer.valid || layer.valid[(at.row + j) * static_cast<uint32_t>(layer.steps) + t]);
}

__device__ __forceinline__ uint32_t time_of(const NarrowLayer& layer, int step) {
  return layer.reverse ? static_cast<int>(layer.steps) - 1 - step : step;
}

// The steps, in the order of the loop, before and after which every row of the block is padding.
struct Span {
  int first, end;
};
__device__ Span span_of(const NarrowLayer& layer) {
  __shared__ int first, end;
  const int steps = static_cast<int>(layer.steps);
  if (!layer.valid) return {0, steps};
  if (threadIdx.x == 0) first = steps, end = 0;
  __syncthreads();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * ROWS;
  const int rows = static_cast<int>(min(static_cast<int64_t>(ROWS), layer.batch - row));
  int low = steps, high = 0;
  for (int step = threadIdx.x; step < steps; step += blockDim.x) {
    const uint8_t* valid = layer.valid + row * layer.steps + time_of(layer, step);
    bool any = false;
    for (int i = 0; i < rows; i++) any |= valid[i * layer.steps] != 0;
    if (any) low = min(low, step), high = step + 1;
  }
  atomicMin(&first, low);
  atomicMax(&end, high);
  __syncthreads();
  return {min(first, end), end};
}

template <Kind K, int TILES>
__global__ void __launch_bounds__(TILES * 32, 1) forward_kernel(NarrowLayer layer, Forward out) {
  constexpr int G = gates_of(K), KEPT = kept_of(K);
  __shared__ float mask[CELLS][TILES * 32];
  __shared__ __align__(4) __half shared_h[2][ROWS][TILES * 16 + APART];
  const Place at(layer);
  uint32_t weights[G][TILES][4];
  read_weights(layer, at, weights);
  const Span span = span_of(layer);
  float c[1][CELLS], h[1][CELLS], extra[CELLS];
  read_state(layer, at, layer.first_c, 0.f, c[0]);
  read_state(layer, at, layer.first_h, 0.f, h[0]);
  keep_mask(layer, at, mask);
#pragma unroll
  for (int j = 0; j < CELLS; j++) extra[j] = K == Kind::gru && at.live(j) ? layer.extra[at.unit + j / 2 * 8] : 0.f;

  auto give_h = [&](int buffer) {
#pragma unroll
    for (int j = 0; j < CELLS; j++) shared_h[buffer][at.pair * 2 + j % 2][at.unit + j / 2 * 8] = to_half(h[0][j] * mask[j][threadIdx.x]);
  };
  auto pass_on = [&](int from, int end) {  // steps that are padding in every row
    const float none[KEPT ? KEPT : 1][CELLS] = {};
#pragma unroll 1
    for (int step = from; step < end; step++) {
      const uint32_t t = time_of(layer, step);
      write_step(layer, at, h, t, out.h);
      if (K == Kind::lstm && out.c) write_step(layer, at, c, t, out.c);
      if (KEPT && out.kept) write_step(layer, at, none, t, out.kept);
    }
  };

  float z[G][CELLS];  // read as soon as those of the step before are used: long before the products are there
  bool valid[2];
  pass_on(0, span.first);
  auto read = [&](int step) {
    read_step(layer, at, layer.z, time_of(layer, step), z);
    read_valid(layer, at, time_of(layer, step), valid);
  };
  if (span.first < span.end) read(span.first);
  give_h(0);
  __syncthreads();
  int buffer = 0;
#pragma unroll 1
  for (int step = span.first; step < span.end; step++, buffer ^= 1) {
    const uint32_t t = time_of(layer, step);
    float q[G][CELLS] = {};
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
      const __half* k = &shared_h[buffer][at.column][tile * 16 + at.pair * 2];
      const uint32_t low = pair_at(k), high = pair_at(k + 8);
#pragma unroll
      for (int gate = 0; gate < G; gate++) mma(q[gate], weights[gate][tile], low, high);
    }
    if (K != Kind::gru) {
#pragma unroll
      for (int gate = 0; gate < G; gate++)
#pragma unroll
        for (int j = 0; j < CELLS; j++) q[gate][j] += z[gate][j];
    }
    float kept[KEPT ? KEPT : 1][CELLS];
#pragma unroll
    for (int j = 0; j < CELLS; j++) {
      float new_c = 0.f, new_h;
      if constexpr (K == Kind::lstm) {
#pragma unroll
        for (int gate = 0; gate < G; gate++) kept[gate][j] = fast_tanh(q[gate][j]);
        new_c = sigmoid_from_tanh(kept[1][j]) * c[0][j] + sigmoid_from_tanh(kept[0][j]) * kept[2][j];
        new_h = sigmoid_from_tanh(kept[3][j]) * fast_tanh(new_c);
      } else if constexpr (K == Kind::gru) {
        kept[0][j] = fast_tanh(z[0][j] + q[0][j]);
        kept[1][j] = fast_tanh(z[1][j] + q[1][j]);
        kept[3][j] = q[2][j] + extra[j];
        kept[2][j] = fast_tanh(z[2][j] + sigmoid_from_tanh(kept[0][j]) * kept[3][j]);
        new_h = kept[2][j] + sigmoid_from_tanh(kept[1][j]) * (h[0][j] - kept[2][j]);
      } else {
        new_h = fast_tanh(q[0][j]);
      }
      c[0][j] = valid[j % 2] ? new_c : c[0][j];
      h[0][j] = valid[j % 2] ? new_h : h[0][j];
    }
    give_h(buffer ^ 1);
    if (step + 1 < span.end) read(step + 1);
    write_step(layer, at, h, t, out.h);
    if (K == Kind::lstm && out.c) write_step(layer, at, c, t, out.c);
    if (KEPT && out.kept) write_step(layer, at, kept, t, out.kept);
    __syncthreads();
  }
  pass_on(span.end, static_cast<int>(layer.steps));
  if (K == Kind::lstm) write_state(layer, at, c[0], out.last_c);
  write_state(layer, at, h[0], out.last_h);
}

// What a step of the backward pass reads.
template <Kind K>
struct Read {
  float kept[kept_of(K) ? kept_of(K) : 1][CELLS];  // of a SimpleRNN: h after the step
  float before[1][CELLS];                          // c of an LSTM, h of a GRU, before the step
  float h_ct[1][CELLS];
  bool valid[2];
};

template <Kind K>
__device__ __forceinline__ void read_all(const NarrowLayer& layer, const Place& at, const NarrowBackward& given,
                                         int step, Read<K>& to) {
  const uint32_t t = time_of(layer, step);
  read_step(layer, at, K == Kind::simple ? given.h : given.kept, t, to.kept);
  if constexpr (K != Kind::simple) {
    const float* first = K == Kind::lstm ? layer.first_c : layer.first_h;
    if (step)
      read_step(layer, at, K == Kind::lstm ? given.c : given.h, time_of(layer, step - 1), to.before);
    else
      read_state(layer, at, first, 0.f, to.before[0]);
  }
  if (given.h_ct) read_step(layer, at, given.h_ct, t, to.h_ct);
  read_valid(layer, at, t, to.valid);
}

template <Kind K, int TILES>
__global__ void __launch_bounds__(TILES * 32, 1) backward_kernel(NarrowLayer layer, NarrowBackward out) {
  constexpr int G = gates_of(K), SLOPES = slopes_of(K), UNITS = TILES * 16;
  __shared__ float mask[CELLS][TILES * 32];
  __shared__ __align__(4) __half shared_dq[2][ROWS][G * UNITS + APART];
  __shared__ float shared_scale[2][TILES][ROWS];
  const Place at(layer);
  uint32_t weights[G][TILES][4];
  read_weights(layer, at, weights);
  const Span span = span_of(layer);
  float dc[CELLS], dh[CELLS], c[CELLS];
  read_state(layer, at, out.last_c_ct, 0.f, dc);
  read_state(layer, at, out.last_h_ct, 0.f, dh);
  keep_mask(layer, at, mask);

  auto pass_on = [&](int from, int end) {
    const float none[SLOPES][CELLS] = {};
#pragma unroll 1
    for (int step = end - 1; step >= from; step--) {
      const uint32_t t = time_of(layer, step);
      float h_ct[1][CELLS] = {};
      if (out.h_ct) read_step(layer, at, out.h_ct, t, h_ct);
#pragma unroll
      for (int j = 0; j < CELLS; j++) dh[j] += h_ct[0][j];
      write_step(layer, at, none, t, out.slopes);
    }
  };

  Read<K> now = {}, next = {};
  pass_on(span.end, static_cast<int>(layer.steps));
  if (span.first < span.end) {
    read_all(layer, at, out, span.end - 1, now);
    float last_c[1][CELLS] = {};
    if (K == Kind::lstm) read_step(layer, at, out.c, time_of(layer, span.end - 1), last_c);
#pragma unroll
    for (int j = 0; j < CELLS; j++) c[j] = last_c[0][j];
  }
  int buffer = 0;
#pragma unroll 1
  for (int step = span.end - 1; step >= span.first; step--, buffer ^= 1) {
    if (step > span.first) read_all(layer, at, out, step - 1, next);
    float slopes[SLOPES][CELLS];  // the last ones, as q has them, are those that go through U
    float straight[CELLS];        // the part of the change of h before the step that does not
#pragma unroll
    for (int j = 0; j < CELLS; j++) {
      dh[j] += now.h_ct[0][j];
      float(&kept)[kept_of(K) ? kept_of(K) : 1][CELLS] = now.kept;
      const bool valid = now.valid[j % 2];
      straight[j] = valid ? 0.f : dh[j];
      if constexpr (K == Kind::lstm) {
        const float read = fast_tanh(c[j]), i = sigmoid_from_tanh(kept[0][j]), o = sigmoid_from_tanh(kept[3][j]);
        const float through = dc[j] + dh[j] * o * (1.f - read * read);
        slopes[0][j] = through * sigmoid_slope_from_tanh(kept[0][j]) * kept[2][j];
        slopes[1][j] = through * sigmoid_slope_from_tanh(kept[1][j]) * now.before[0][j];
        slopes[2][j] = through * i * (1.f - kept[2][j] * kept[2][j]);
        slopes[3][j] = dh[j] * sigmoid_slope_from_tanh(kept[3][j]) * read;
        dc[j] = valid ? through * sigmoid_from_tanh(kept[1][j]) : dc[j];
        c[j] = now.before[0][j];
      } else if constexpr (K == Kind::gru) {
        const float update = sigmoid_from_tanh(kept[1][j]), n = kept[2][j];
        slopes[2][j] = dh[j] * (1.f - update) * (1.f - n * n);
        slopes[3][j] = slopes[2][j] * sigmoid_from_tanh(kept[0][j]);
        slopes[0][j] = slopes[2][j] * sigmoid_slope_from_tanh(kept[0][j]) * kept[3][j];
        slopes[1][j] = dh[j] * sigmoid_slope_from_tanh(kept[1][j]) * (now.before[0][j] - n);
        straight[j] = valid ? dh[j] * update : dh[j];
      } else {
        slopes[0][j] = dh[j] * (1.f - kept[0][j] * kept[0][j]);
      }
#pragma unroll
      for (int n = 0; n < SLOPES; n++) slopes[n][j] = valid ? slopes[n][j] : 0.f;
    }
    write_step(layer, at, slopes, time_of(layer, step), out.slopes);
    // A scale for each row and warp, as fp16 has few exponents: exact, and no warp waits for another's.
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float most = 0.f;
#pragma unroll
      for (int gate = 0; gate < G; gate++) {
        const int n = K == Kind::gru && gate == 2 ? 3 : gate;
        most = fmaxf(most, fmaxf(fabsf(slopes[n][i]), fabsf(slopes[n][i + 2])));
      }
      const Scale scale = scale_of(largest_of_column(most));
      const int row = at.pair * 2 + i;
      if (at.column == 0) shared_scale[buffer][at.tile][row] = scale.down;
#pragma unroll
      for (int gate = 0; gate < G; gate++) {
        const int n = K == Kind::gru && gate == 2 ? 3 : gate;
        shared_dq[buffer][row][gate * UNITS + at.unit] = to_half(slopes[n][i] * scale.up);
        shared_dq[buffer][row][gate * UNITS + at.unit + 8] = to_half(slopes[n][i + 2] * scale.up);
      }
    }
    __syncthreads();
    float sum[CELLS] = {};
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
      float part[CELLS] = {};
#pragma unroll
      for (int gate = 0; gate < G; gate++) {
        const __half* k = &shared_dq[buffer][at.column][gate * UNITS + tile * 16 + at.pair * 2];
        mma(part, weights[gate][tile], pair_at(k), pair_at(k + 8));
      }
#pragma unroll
      for (int j = 0; j < CELLS; j++) sum[j] += part[j] * shared_scale[buffer][tile][at.pair * 2 + j % 2];
    }
#pragma unroll
    for (int j = 0; j < CELLS; j++) dh[j] = straight[j] + sum[j] * mask[j][threadIdx.x];
    now = next;
  }
  pass_on(0, span.first);
  if (K == Kind::lstm) write_state(layer, at, dc, out.first_c_ct);
  write_state(layer, at, dh, out.first_h_ct);
}

// Calls run with the number of tiles of a layer's width, which is one of widths.
template <int... TILES, class Run>
const char* with_tiles(const NarrowLayer& layer, const Run& run) {
  const char* wrong = "no kernel has this width";
  (void)((layer.width == TILES * 16 && (wrong = run(std::integral_constant<int, TILES>()), true)) || ...);
  return wrong;
}

template <template <Kind, int> class Kernel, Kind K, class Out>
const char* run(const NarrowLayer& layer, const Out& out, void* stream) {
  return with_tiles<1, 2, 3, 4, 6, 8>(layer, [&](auto tiles) {
    constexpr int TILES = decltype(tiles)::value;
    return launch(Kernel<K, TILES>::function, (layer.batch + ROWS - 1) / ROWS, TILES * 32, stream, layer, out);
  });
}

template <template <Kind, int> class Kernel, class Out>
const char* run(const NarrowLayer& layer, const Out& out, void* stream) {
  if (!layer.batch) return nullptr;
  if (layer.kind == Kind::lstm) return run<Kernel, Kind::lstm>(layer, out, stream);
  if (layer.kind == Kind::gru) return run<Kernel, Kind::gru>(layer, out, stream);
  return run<Kernel, Kind::simple>(layer, out, stream);
}

template <Kind K, int TILES>
struct ForwardKernel {
  static constexpr auto function = forward_kernel<K, TILES>;
};
template <Kind K, int TILES>
struct BackwardKernel {
  static constexpr auto function = backward_kernel<K, TILES>;
};

}  // namespace

const char* narrow_forward(const NarrowLayer& layer, const Forward& out, void* stream) {
  return run<ForwardKernel>(layer, out, stream);
}

const char* narrow_backward(const NarrowLayer& layer, const NarrowBackward& out, void* stream) {
  return run<BackwardKernel>(layer, out, stream);
}

}  // namespace rnn_jax
