// The two functions as XLA's custom calls: sizes are checked, rows are shared among XLA's own threads.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "checks.h"
#include "processors.h"

namespace {

using namespace rnn_jax;

std::string wanted_processor() {
  const char* named = std::getenv("RNN_JAX_NATIVE");
  return named ? named : "";
}

bool has_avx512() {
#if RNN_X86
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

// Whether this processor multiplies bfloat16 numbers.
bool has_bfloat16() {
#if RNN_X86
  static const bool found = wanted_processor() != "avx2" && wanted_processor() != "portable" && has_avx512() &&
                            __builtin_cpu_supports("avx512bf16");
  return found;
#else
  return false;
#endif
}

const Kernels& kernels() {
  static const Kernels found = [] {
    const std::string wanted = wanted_processor();
    if (wanted == "portable") return portable_kernels();
#if RNN_X86
    if (wanted != "avx2" && has_avx512()) return avx512_kernels();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_kernels();
#endif
    return portable_kernels();
  }();
  return found;
}

// The kernels whose products are in float32, or in bfloat16 where the processor has that.
const Kernels& kernels(bool bfloat16) {
#if RNN_X86
  static const Kernels pairs = avx512_bf16_kernels();
  if (bfloat16) return pairs;
#endif
  return kernels();
}

// Tasks are claimed one by one: the calling thread works through them, and threads of the pool that are free
// help. So a call ends although every thread of the pool waits in a call of its own.
struct Work {
  const std::function<void(int64_t)>& task;
  const int64_t count;
  std::atomic<int64_t> next{0};
  int64_t done = 0;
  std::mutex mutex;
  std::condition_variable finished;
  Work(const std::function<void(int64_t)>& task, int64_t count) : task(task), count(count) {}

  void help() {
    int64_t ended = 0;
    for (int64_t i; (i = next.fetch_add(1)) < count; ended++) task(i);
    if (!ended) return;
    std::lock_guard<std::mutex> lock(mutex);
    if ((done += ended) == count) finished.notify_all();
  }
};

void share(ffi::ThreadPool& pool, int64_t threads, int64_t count, const std::function<void(int64_t)>& task) {
  auto work = std::make_shared<Work>(task, count);
  for (int64_t i = 1; i < std::min(threads, count); i++) pool.Schedule([work] { work->help(); });
  work->help();
  std::unique_lock<std::mutex> lock(work->mutex);
  work->finished.wait(lock, [&] { return work->done == count; });
}

ffi::ErrorOr<Layer> layer_of(Checks& checks, int64_t kind, bool reverse, bool bfloat16, Floats x, Floats kernel,
                             Floats recurrent,
                             Floats bias, Floats extra, Floats first_c, Floats first_h, Floats mask, Bools valid) {
  if (kind < 0 || kind > int64_t(Kind::rglru)) return ffi::Unexpected(ffi::Error::InvalidArgument("unknown kind of cell"));
  if (bfloat16 && !has_bfloat16())
    return ffi::Unexpected(ffi::Error::InvalidArgument("this processor does not multiply bfloat16 numbers"));
  if (x.dimensions().size() != 3 || first_h.dimensions().size() != 2)
    return ffi::Unexpected(ffi::Error::InvalidArgument("x must be [B, T, E] and h [B, H]"));
  const int64_t B = x.dimensions()[0], T = x.dimensions()[1], E = x.dimensions()[2], H = first_h.dimensions()[1];
  const int64_t G = gates_of(Kind(kind));
  checks.shape("kernel", kernel.dimensions(), {E, G * H});
  if (!is_gated(Kind(kind))) checks.shape("recurrent", recurrent.dimensions(), {H, G * H});
  checks.shape("bias", bias.dimensions(), {G * H});
  checks.shape("h", first_h.dimensions(), {B, H});
  if (Kind(kind) == Kind::lstm) checks.shape("c", first_c.dimensions(), {B, H});
  if (has_extra(Kind(kind))) checks.shape("extra", extra.dimensions(), {H});
  checks.optional("hidden_mask", mask.dimensions(), {B, H});
  checks.optional("valid", valid.dimensions(), {B, T});
  if (H < 1) return ffi::Unexpected(ffi::Error::InvalidArgument("H must be at least 1"));
  return Layer{Kind(kind), T, B, E, H, reverse, x.typed_data(), kernel.typed_data(), recurrent.typed_data(),
               bias.typed_data(), data_or_null(extra), data_or_null(first_c), first_h.typed_data(),
               data_or_null(mask), reinterpret_cast<const uint8_t*>(data_or_null(valid))};
}

// Asks for huge pages where an array is large: a new one has to be mapped, page by page, by who writes it first.
void in_huge_pages(float* array, int64_t size) {
#ifdef __linux__
  constexpr uintptr_t PAGE = 4096, LARGE = 4 << 20;
  const uintptr_t from = (reinterpret_cast<uintptr_t>(array) + PAGE - 1) / PAGE * PAGE;
  const uintptr_t end = reinterpret_cast<uintptr_t>(array + size) / PAGE * PAGE;
  if (array && end > from + LARGE) madvise(reinterpret_cast<void*>(from), end - from, MADV_HUGEPAGE);
#endif
}

int64_t parts_of(const Layer& layer, int64_t threads) {
  return std::max<int64_t>(1, std::min(threads, layer.batch));
}

ffi::Error Forward_(ffi::ThreadPool pool, int64_t kind, bool reverse, int64_t threads, bool bfloat16, Floats x,
                    Floats kernel, Floats recurrent, Floats bias, Floats extra, Floats first_c, Floats first_h,
                    Floats mask, Bools valid, NewFloats last_c, NewFloats last_h, NewFloats h, NewFloats c, NewFloats kept) {
  Checks checks;
  auto found =
      layer_of(checks, kind, reverse, bfloat16, x, kernel, recurrent, bias, extra, first_c, first_h, mask, valid);
  if (!found.has_value()) return found.error();
  const Layer layer = *found;
  const Forward out = forward_of(checks, layer.kind, layer.steps, layer.batch, layer.units, last_c, last_h, h, c, kept);
  if (!checks.wrong.empty()) return ffi::Error::InvalidArgument(checks.wrong);
  in_huge_pages(out.kept, kept->element_count());
  in_huge_pages(out.h, h->element_count());
  const int64_t parts = parts_of(layer, threads);
  kernels(bfloat16).forward(layer, out, parts, [&](int64_t count, const std::function<void(int64_t)>& task) {
    share(pool, threads, count, task);
  });
  return ffi::Error::Success();
}

ffi::Error Backward_(ffi::ThreadPool pool, int64_t kind, bool reverse, int64_t threads, bool bfloat16, Floats x, Floats kernel,
                     Floats recurrent, Floats bias, Floats extra, Floats first_c, Floats first_h, Floats mask,
                     Bools valid, Floats h, Floats c, Floats kept, Floats last_c_ct, Floats last_h_ct, Floats h_ct,
                     NewFloats kernel_ct, NewFloats recurrent_ct, NewFloats bias_ct, NewFloats extra_ct,
                     NewFloats x_ct, NewFloats first_c_ct, NewFloats first_h_ct) {
  Checks checks;
  auto found =
      layer_of(checks, kind, reverse, bfloat16, x, kernel, recurrent, bias, extra, first_c, first_h, mask, valid);
  if (!found.has_value()) return found.error();
  const Layer layer = *found;
  const int64_t T = layer.steps, B = layer.batch, E = layer.inputs, H = layer.units, G = gates_of(layer.kind);
  if (layer.kind == Kind::lstm) {
    checks.shape("c of every step", c.dimensions(), {B, T, H});
    checks.shape("cotangent of c", last_c_ct.dimensions(), {B, H});
    checks.shape("new cotangent of c", first_c_ct->dimensions(), {B, H});
  }
  checks.shape("h of every step", h.dimensions(), {B, T, H});
  checks.optional("kept", kept.dimensions(), {B, T, kept_of(layer.kind) * H});
  checks.shape("cotangent of h", last_h_ct.dimensions(), {B, H});
  checks.optional("cotangents of h", h_ct.dimensions(), {B, T, H});
  if (is_gated(layer.kind)) checks.shape("kept", kept.dimensions(), {B, T, kept_of(layer.kind) * H});
  checks.optional("gradient of bias", bias_ct->dimensions(), {G * H});
  if (bias_ct->element_count()) {  // else no weight has a gradient
    checks.shape("gradient of kernel", kernel_ct->dimensions(), {E, G * H});
    if (!is_gated(layer.kind)) checks.shape("gradient of recurrent", recurrent_ct->dimensions(), {H, G * H});
    if (has_extra(layer.kind)) checks.shape("gradient of extra", extra_ct->dimensions(), {H});
  }
  checks.shape("new cotangent of h", first_h_ct->dimensions(), {B, H});
  checks.optional("cotangent of x", x_ct->dimensions(), {B, T, E});
  if (!checks.wrong.empty()) return ffi::Error::InvalidArgument(checks.wrong);
  const Backward out{h.typed_data(), data_or_null(c), data_or_null(kept), data_or_null(last_c_ct),
                     last_h_ct.typed_data(), data_or_null(h_ct), kernel_ct->typed_data(),
                     recurrent_ct->typed_data(), data_or_null(*bias_ct), data_or_null(*extra_ct),
                     data_or_null(*first_c_ct), first_h_ct->typed_data(), data_or_null(*x_ct)};
  const int64_t parts = parts_of(layer, threads);
  kernels(bfloat16).backward(layer, out, parts, [&](int64_t count, const std::function<void(int64_t)>& task) {
    share(pool, threads, count, task);
  });
  return ffi::Error::Success();
}

ffi::Error Recurrence_(ffi::ThreadPool pool, bool reverse, bool late, bool paired, bool conjugate, int64_t threads,
                       Floats a, Floats b, Floats first, NewFloats h, NewFloats last) {
  if (a.dimensions().size() != 3) return ffi::Error::InvalidArgument("a must be [B, T, N]");
  const int64_t B = a.dimensions()[0], T = a.dimensions()[1], N = a.dimensions()[2];
  Checks checks;
  checks.shape("b", b.dimensions(), {B, T, N});
  checks.shape("first", first.dimensions(), {B, N});
  checks.shape("h", h->dimensions(), {B, T, N});
  checks.shape("last", last->dimensions(), {B, N});
  if (!checks.wrong.empty()) return ffi::Error::InvalidArgument(checks.wrong);
  if (paired && N % 2) return ffi::Error::InvalidArgument("paired numbers need an even N");
  const Recurrence recurrence{T, B, N, reverse, late, paired, conjugate, a.typed_data(), b.typed_data(),
                              first.typed_data(), h->typed_data(), last->typed_data()};
  const int64_t parts = std::max<int64_t>(1, std::min(threads, B * N));
  kernels().recurrence(recurrence, parts, [&](int64_t count, const std::function<void(int64_t)>& task) {
    share(pool, threads, count, task);
  });
  return ffi::Error::Success();
}

#define LAYER_ARGUMENTS \
  Ctx<ffi::ThreadPool>().Attr<int64_t>("kind").Attr<bool>("reverse").Attr<int64_t>("threads") \
  .Attr<bool>("bfloat16").Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>() \
  .Arg<Floats>().Arg<Bools>()

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(rnn_jax_forward, Forward_,
                              ffi::Ffi::Bind().LAYER_ARGUMENTS.Ret<Floats>().Ret<Floats>().Ret<Floats>()
                                  .Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(rnn_jax_backward, Backward_,
                              ffi::Ffi::Bind().LAYER_ARGUMENTS.Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>().Ret<Floats>().Ret<Floats>()
                                  .Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(rnn_jax_recurrence, Recurrence_,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attr<bool>("reverse").Attr<bool>("late")
                                  .Attr<bool>("paired").Attr<bool>("conjugate").Attr<int64_t>("threads").Arg<Floats>()
                                  .Arg<Floats>().Arg<Floats>().Ret<Floats>().Ret<Floats>());

extern "C" const char* rnn_jax_processor() { return kernels(has_bfloat16()).name; }
extern "C" bool rnn_jax_has_bfloat16() { return has_bfloat16(); }
extern "C" uint64_t rnn_jax_sources() { return RNN_JAX_SOURCES; }
