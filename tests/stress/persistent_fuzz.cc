// Runs the kernels for GPUs at random shapes, each array in memory of its own size: for the sanitizers.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "persistent.h"

using namespace rnn_jax;

static std::mt19937 generator(0);
static int from_to(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

template <class T = float>
static std::unique_ptr<T[]> numbers(int64_t count) {
  std::unique_ptr<T[]> values(new T[count]);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (int64_t i = 0; i < count; i++) values[i] = static_cast<T>(uniform(generator));
  return values;
}

static bool finite(const float* values, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!(values[i] < 1e30f && values[i] > -1e30f)) return false;
  return true;
}

int main(int, char** arguments) {
  const int rounds = std::atoi(arguments[1]);
  for (int round = 0; round < rounds; round++) {
    const Kind kind = Kind(round % 3);
    const int64_t T = from_to(0, 5), B = from_to(1, 11), H = from_to(1, round % 5 ? 40 : 128);
    const int64_t G = gates_of(kind), K = kept_of(kind), S = slopes_of(kind), steps = B * T * H;
    int64_t width = 16;
    for (int64_t one : {96, 64, 48, 32, 16})
      if (H > one) { width = one == 96 ? 128 : one == 64 ? 96 : one == 48 ? 64 : one == 32 ? 48 : 32; break; }
    auto z = numbers(G * steps), extra = numbers(H), first_c = numbers(B * H), first_h = numbers(B * H);
    auto mask = numbers(B * H), c_ct = numbers(B * H), last_h_ct = numbers(B * H), h_ct = numbers(steps);
    auto recurrent = numbers<_Float16>(G * width * width);
    std::unique_ptr<uint8_t[]> valid(new uint8_t[B * T]);
    for (int64_t i = 0; i < B * T; i++) valid[i] = from_to(0, 3) > 0;
    const auto array = [](int64_t count) { return std::unique_ptr<float[]>(new float[count]); };
    auto last_c = array(B * H), last_h = array(B * H), h = array(steps), c = array(steps), kept = array(K * steps);
    const bool masked = from_to(0, 1), ragged = from_to(0, 1);
    NarrowLayer layer{kind, T, B, H, width, from_to(0, 1) == 1, z.get(), recurrent.get(), extra.get(), first_c.get(),
                      first_h.get(), masked ? mask.get() : nullptr, ragged ? valid.get() : nullptr};
    if (narrow_forward(layer, {last_c.get(), last_h.get(), h.get(), c.get(), kept.get()}, nullptr)) return 1;
    auto slopes = array(S * steps), first_c_ct = array(B * H), first_h_ct = array(B * H);
    const NarrowBackward out{h.get(), c.get(), kept.get(), c_ct.get(), last_h_ct.get(),
                             from_to(0, 1) ? h_ct.get() : nullptr, slopes.get(), first_c_ct.get(), first_h_ct.get()};
    if (narrow_backward(layer, out, nullptr)) return 1;
    if (!finite(h.get(), steps) || !finite(slopes.get(), S * steps) || !finite(first_h_ct.get(), B * H)) {
      std::printf("round %d: kind %d, T %d, B %d, H %d\n", round, int(kind), int(T), int(B), int(H));
      return 1;
    }
  }
  return 0;
}
