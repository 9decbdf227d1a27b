// The kernels of rnn_jax/native against plain loops, at random shapes: values and gradients, all processors' code
// that this machine runs. To be built with sanitizers. Usage: fuzz COUNT
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "processors.h"

using namespace rnn_jax;
using Vector = std::vector<float>;

struct Case {
  Kind kind;
  int64_t T, B, E, H, G, K;
  bool reverse, masked, ragged;
  Vector x, kernel, recurrent, bias, extra, c0, h0, mask;
  std::vector<uint8_t> valid;
  Vector c_ct, h_ct, every_ct;
};

// The loss is the sum of the last carry and of all h, each times its cotangent, in double precision.
static double loss(const Case& s, const Vector& x, const Vector& kernel, const Vector& recurrent, const Vector& bias,
                   const Vector& extra, const Vector& c0, const Vector& h0, Vector* all_h) {
  std::vector<double> c(c0.begin(), c0.end()), h(h0.begin(), h0.end());
  double total = 0;
  for (int64_t n = 0; n < s.T; n++) {
    int64_t t = s.reverse ? s.T - 1 - n : n;
    for (int64_t b = 0; b < s.B; b++) {
      if (!s.ragged || s.valid[b * s.T + t]) {
        std::vector<double> z(s.G * s.H), q(s.G * s.H);
        for (int64_t j = 0; j < s.G * s.H; j++) {
          z[j] = bias[j];
          for (int64_t k = 0; k < s.E; k++) z[j] += double(x[(b * s.T + t) * s.E + k]) * kernel[k * s.G * s.H + j];
          for (int64_t k = 0; k < s.H && !is_gated(s.kind); k++)
            q[j] += h[b * s.H + k] * (s.masked ? s.mask[b * s.H + k] : 1.) * recurrent[k * s.G * s.H + j];
        }
        auto half = [](double y) { return 0.5 * std::tanh(y) + 0.5; };
        for (int64_t u = 0; u < s.H; u++) {
          double& state = h[b * s.H + u];
          auto sum = [&](int g) { return z[g * s.H + u] + q[g * s.H + u]; };
          if (s.kind == Kind::simple) state = std::tanh(sum(0));
          if (s.kind == Kind::lstm) {
            double& memory = c[b * s.H + u];
            memory = half(sum(1)) * memory + half(sum(0)) * std::tanh(sum(2));
            state = half(sum(3)) * std::tanh(memory);
          }
          if (s.kind == Kind::gru) {
            double n = std::tanh(z[2 * s.H + u] + half(sum(0)) * (q[2 * s.H + u] + extra[u]));
            state = n + half(sum(1)) * (state - n);
          }
          auto open = [&](int g) { return 1 / (1 + std::exp(-z[g * s.H + u])); };
          if (s.kind == Kind::min_gru) state += open(0) * (z[s.H + u] - state);
          if (s.kind == Kind::min_lstm)
            state = (open(0) * state + open(1) * z[2 * s.H + u]) / (open(0) + open(1));
          if (s.kind == Kind::rglru) {
            double log_a = 8 * open(0) * extra[u];
            state = std::exp(log_a) * state + std::sqrt(-std::expm1(2 * log_a)) * open(1) * z[2 * s.H + u];
          }
        }
      }
      for (int64_t u = 0; u < s.H; u++) {
        total += h[b * s.H + u] * s.every_ct[(b * s.T + t) * s.H + u];
        if (all_h) (*all_h)[(b * s.T + t) * s.H + u] = h[b * s.H + u];
      }
    }
  }
  for (int64_t i = 0; i < s.B * s.H; i++) {
    total += h[i] * s.h_ct[i];
    if (s.kind == Kind::lstm) total += c[i] * s.c_ct[i];
  }
  return total;
}

static void threads(int64_t count, const std::function<void(int64_t)>& task) {
  std::vector<std::thread> running;
  for (int64_t i = 0; i < count; i++) running.emplace_back([&, i] { task(i); });
  for (auto& thread : running) thread.join();
}

static int check(const char* what, double found, double expected, double scale, double tolerance) {
  if (std::abs(found - expected) <= tolerance * std::max(1., scale)) return 0;
  std::printf("%s: %.9g, expected %.9g\n", what, found, expected);
  return 1;
}

// `rounding` is by how much more than float32's the results may differ: 1, or that of bfloat16 products.
static int run(const Kernels& kernels, double rounding, Case& s, std::mt19937& random) {
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(s.B, 1 + random() % 3));
  Layer layer{s.kind, s.T, s.B, s.E, s.H, s.reverse, s.x.data(), s.kernel.data(), s.recurrent.data(), s.bias.data(),
              s.extra.data(), s.c0.data(), s.h0.data(), s.masked ? s.mask.data() : nullptr,
              s.ragged ? s.valid.data() : nullptr};
  bool memory = s.kind == Kind::lstm, kept = is_gated(s.kind) || (random() % 2 && s.K);
  Vector last_c(memory ? s.B * s.H : 0), last_h(s.B * s.H), h(s.T * s.B * s.H), c(memory ? s.T * s.B * s.H : 0),
      gates(kept ? s.T * s.B * s.K * s.H : 0);
  kernels.forward(layer, Forward{last_c.data(), last_h.data(), h.data(), memory ? c.data() : nullptr,
                                 kept ? gates.data() : nullptr}, parts, threads);
  int wrong = 0;
  Vector expected(h.size());
  loss(s, s.x, s.kernel, s.recurrent, s.bias, s.extra, s.c0, s.h0, &expected);
  for (size_t i = 0; i < h.size(); i++) wrong += check("h", h[i], expected[i], 1, 2e-5 * rounding);
  Vector dk(s.kernel.size()), du(s.recurrent.size()), db(s.bias.size()), de(s.extra.size()), dc(s.c0.size()),
      dh(s.h0.size()), dx(s.x.size());
  bool wants_x = random() % 2;
  kernels.backward(layer, Backward{h.data(), c.data(), kept ? gates.data() : nullptr, s.c_ct.data(), s.h_ct.data(),
                                   s.every_ct.data(), dk.data(), du.data(), db.data(), de.data(), dc.data(),
                                   dh.data(), wants_x ? dx.data() : nullptr}, parts, threads);
  auto differences = [&](const char* what, Vector& of, const Vector& gradient) {
    for (int tries = 0; tries < 3 && !of.empty(); tries++) {
      size_t at = random() % of.size();
      const float old = of[at];
      if (std::isnan(old)) {  // of padding
        wrong += check(what, gradient[at], 0, 0, 0);
        continue;
      }
      const float step = 1e-2f;
      auto value = [&](float x) {
        of[at] = x;
        double found = loss(s, s.x, s.kernel, s.recurrent, s.bias, s.extra, s.c0, s.h0, nullptr);
        of[at] = old;
        return found;
      };
      double up = value(old + step) - value(old - step), twice = value(old + 2 * step) - value(old - 2 * step);
      double width = double(old + step) - double(old - step);
      double slope = (8 * up - twice) / (6 * width);
      wrong += check(what, gradient[at], slope, std::abs(slope) + 10, 3e-3 * std::sqrt(rounding));
    }
  };
  differences("kernel", s.kernel, dk);
  if (!is_gated(s.kind)) differences("recurrent", s.recurrent, du);
  differences("bias", s.bias, db);
  if (has_extra(s.kind)) differences("extra", s.extra, de);
  if (memory) differences("c", s.c0, dc);
  differences("h0", s.h0, dh);
  if (wants_x) differences("x", s.x, dx);
  return wrong;
}

// A linear recurrence against plain loops of complex numbers in double precision, whose imaginary parts are zero
// where it is not paired.
static int run_recurrence(const Kernels& kernels, std::mt19937& random) {
  using Complex = std::complex<double>;
  std::normal_distribution<float> normal;
  const int64_t T = random() % 9, B = random() % 5, planes = 1 + random() % 2, N = 1 + random() % 70, W = planes * N;
  auto numbers = [&](int64_t count) {
    Vector drawn(count);
    for (float& number : drawn) number = normal(random);
    return drawn;
  };
  const Vector a = numbers(B * T * W), b = numbers(B * T * W), first = numbers(B * W);
  Vector h(B * T * W), last(B * W);
  const Recurrence r{T, B, W, bool(random() % 2), bool(random() % 2), planes == 2, planes == 2 && random() % 2,
                     a.data(), b.data(), first.data(), h.data(), last.data()};
  kernels.recurrence(r, 1 + random() % 4, threads);
  auto at = [&](const Vector& of, int64_t row, int64_t unit) {
    return Complex(of[row * W + unit], planes == 2 ? of[row * W + N + unit] : 0.f);
  };
  int wrong = 0;
  auto compare = [&](const char* what, const Vector& of, int64_t row, int64_t unit, Complex expected) {
    Complex found = at(of, row, unit);
    wrong += check(what, found.real(), expected.real(), std::abs(expected), 1e-5);
    wrong += check(what, found.imag(), expected.imag(), std::abs(expected), 1e-5);
  };
  for (int64_t row = 0; row < B; row++)
    for (int64_t unit = 0; unit < N; unit++) {
      Complex state = at(first, row, unit);
      for (int64_t n = 0; n < T; n++) {
        const int64_t step = row * T + (r.reverse ? T - 1 - n : n);
        const Complex factor = r.conjugate ? std::conj(at(a, step, unit)) : at(a, step, unit);
        state = (r.late ? state : factor * state) + at(b, step, unit);
        compare("state", h, step, unit, state);
        if (r.late) state *= factor;
      }
      compare("last state", last, row, unit, state);
    }
  return wrong;
}

int main(int, char** arguments) {
  std::vector<std::pair<Kernels, double>> every{{portable_kernels(), 1}};
#if RNN_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) every.push_back({avx2_kernels(), 1});
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq"))
    every.push_back({avx512_kernels(), 1});
  if (every.size() == 3 && __builtin_cpu_supports("avx512bf16")) every.push_back({avx512_bf16_kernels(), 1500});
#endif
  int wrong = 0;
  for (int number = 0; number < std::atoi(arguments[1]); number++) {
    std::mt19937 random(number);
    std::normal_distribution<float> normal;
    Case s;
    s.kind = Kind(number % 6);
    s.G = gates_of(s.kind);
    s.K = kept_of(s.kind);
    s.T = is_gated(s.kind) && random() % 4 == 0 ? 300 + random() % 100 : random() % 9;  // more than a tile
    s.B = random() % 10;
    s.E = random() % 12;
    s.H = 1 + random() % 40;
    s.reverse = random() % 2;
    s.masked = random() % 2 && !is_gated(s.kind);
    s.ragged = random() % 2;
    auto fill = [&](Vector& of, int64_t size, float scale) {
      of.resize(size);
      for (float& value : of) value = normal(random) * scale;
    };
    fill(s.x, s.T * s.B * s.E, 1);
    fill(s.kernel, s.E * s.G * s.H, .3f);
    fill(s.recurrent, is_gated(s.kind) ? 0 : s.H * s.G * s.H, .2f);
    fill(s.bias, s.G * s.H, .3f);
    fill(s.extra, has_extra(s.kind) ? s.H : 0, .3f);
    for (float& value : s.extra)
      if (s.kind == Kind::rglru) value = -.1f - std::abs(value);  // a logarithm of what is below 1
    fill(s.c0, s.kind == Kind::lstm ? s.B * s.H : 0, .5f);
    fill(s.h0, s.B * s.H, .5f);
    fill(s.mask, s.B * s.H, 1);
    fill(s.c_ct, s.c0.size(), 1);
    fill(s.h_ct, s.h0.size(), 1);
    fill(s.every_ct, s.T * s.B * s.H, 1);
    s.valid.resize(s.T * s.B);
    for (auto& value : s.valid) value = random() % 3 != 0;
    for (size_t i = 0; s.ragged && i < s.valid.size(); i++)
      if (!s.valid[i])
        for (int64_t k = 0; k < s.E; k++) s.x[i * s.E + k] = NAN;  // never read
    for (const auto& [kernels, rounding] : every) {
      int found = run(kernels, rounding, s, random) + run_recurrence(kernels, random);
      if (found) std::printf("case %d of %s: %d wrong\n", number, kernels.name, found);
      wrong += found;
    }
  }
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
