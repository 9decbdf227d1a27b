// The two kernels as XLA's custom calls: sizes are checked before a pointer moves.
#include <cstdint>

#include "../checks.h"
#include "persistent.h"

namespace {

using namespace rnn_jax;
using Halves = ffi::Buffer<ffi::F16>;

#ifdef RNN_JAX_EMULATED  // on a CPU, where there is no stream
using Context = ffi::ThreadPool;
void* stream_of(ffi::ThreadPool) { return nullptr; }
using Stream = ffi::ThreadPool;
#else
using Stream = struct CUstream_st*;  // cudaStream_t
using Context = ffi::PlatformStream<Stream>;
void* stream_of(Stream stream) { return stream; }
#endif

ffi::ErrorOr<NarrowLayer> layer_of(Checks& checks, int64_t kind, bool reverse, const Floats& h, Halves recurrent,
                                   Floats first_c, Floats first_h, Floats mask, Bools valid) {
  if (kind < 0 || kind > 2) return ffi::Unexpected(ffi::Error::InvalidArgument("unknown kind of cell"));
  if (h.dimensions().size() != 3 || first_h.dimensions().size() != 2 || recurrent.dimensions().size() != 3)
    return ffi::Unexpected(ffi::Error::InvalidArgument("z or h must be [B, T, ...], U [G, H, H] and h [B, H]"));
  const int64_t B = h.dimensions()[0], T = h.dimensions()[1], H = first_h.dimensions()[1];
  const int64_t G = gates_of(Kind(kind)), width = recurrent.dimensions()[1];
  if (H < 1 || H > width) return ffi::Unexpected(ffi::Error::InvalidArgument("H must be from 1 to the kernel's width"));
  if (B * T > (int64_t{1} << 31) / (4 * H))
    return ffi::Unexpected(ffi::Error::InvalidArgument("the kernels take arrays of at most 2^31 entries"));
  checks.shape("recurrent", recurrent.dimensions(), {G, width, width});
  checks.shape("h", first_h.dimensions(), {B, H});
  if (Kind(kind) == Kind::lstm) checks.shape("c", first_c.dimensions(), {B, H});
  checks.optional("hidden_mask", mask.dimensions(), {B, H});
  checks.optional("valid", valid.dimensions(), {B, T});
  return NarrowLayer{Kind(kind), T, B, H, width, reverse, nullptr, recurrent.untyped_data(), nullptr,
                     data_or_null(first_c), first_h.typed_data(), data_or_null(mask),
                     reinterpret_cast<const uint8_t*>(data_or_null(valid))};
}

ffi::Error error_of(const char* wrong) {
  return wrong ? ffi::Error::Internal(wrong) : ffi::Error::Success();
}

ffi::Error Forward_(Stream stream, int64_t kind, bool reverse, Floats z, Halves recurrent, Floats extra,
                    Floats first_c, Floats first_h, Floats mask, Bools valid, NewFloats last_c, NewFloats last_h,
                    NewFloats h, NewFloats c, NewFloats kept) {
  Checks checks;
  auto found = layer_of(checks, kind, reverse, z, recurrent, first_c, first_h, mask, valid);
  if (!found.has_value()) return found.error();
  NarrowLayer layer = *found;
  const int64_t T = layer.steps, B = layer.batch, H = layer.units;
  checks.shape("z", z.dimensions(), {B, T, gates_of(layer.kind) * H});
  if (layer.kind == Kind::gru) checks.shape("extra", extra.dimensions(), {H});
  const Forward out = forward_of(checks, layer.kind, T, B, H, last_c, last_h, h, c, kept);
  if (!checks.wrong.empty()) return ffi::Error::InvalidArgument(checks.wrong);
  layer.z = z.typed_data();
  layer.extra = data_or_null(extra);
  return error_of(narrow_forward(layer, out, stream_of(stream)));
}

ffi::Error Backward_(Stream stream, int64_t kind, bool reverse, Halves recurrent, Floats first_c, Floats first_h,
                     Floats mask, Bools valid, Floats h, Floats c, Floats kept, Floats last_c_ct, Floats last_h_ct,
                     Floats h_ct, NewFloats slopes, NewFloats first_c_ct, NewFloats first_h_ct) {
  Checks checks;
  auto found = layer_of(checks, kind, reverse, h, recurrent, first_c, first_h, mask, valid);
  if (!found.has_value()) return found.error();
  const NarrowLayer layer = *found;
  const int64_t T = layer.steps, B = layer.batch, H = layer.units;
  if (layer.kind == Kind::lstm) {
    checks.shape("c of every step", c.dimensions(), {B, T, H});
    checks.shape("cotangent of c", last_c_ct.dimensions(), {B, H});
    checks.shape("new cotangent of c", first_c_ct->dimensions(), {B, H});
  }
  checks.shape("h of every step", h.dimensions(), {B, T, H});
  if (kept_of(layer.kind)) checks.shape("kept", kept.dimensions(), {B, T, kept_of(layer.kind) * H});
  checks.shape("cotangent of h", last_h_ct.dimensions(), {B, H});
  checks.optional("cotangents of h", h_ct.dimensions(), {B, T, H});
  checks.shape("slopes", slopes->dimensions(), {B, T, slopes_of(layer.kind) * H});
  checks.shape("new cotangent of h", first_h_ct->dimensions(), {B, H});
  if (!checks.wrong.empty()) return ffi::Error::InvalidArgument(checks.wrong);
  const NarrowBackward out{h.typed_data(),       data_or_null(c),         data_or_null(kept),
                           data_or_null(last_c_ct), last_h_ct.typed_data(), data_or_null(h_ct),
                           slopes->typed_data(), data_or_null(*first_c_ct), first_h_ct->typed_data()};
  return error_of(narrow_backward(layer, out, stream_of(stream)));
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(rnn_jax_persistent_forward, Forward_,
                              ffi::Ffi::Bind().Ctx<Context>().Attr<int64_t>("kind").Attr<bool>("reverse")
                                  .Arg<Floats>().Arg<Halves>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Floats>().Arg<Bools>().Ret<Floats>().Ret<Floats>().Ret<Floats>()
                                  .Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(rnn_jax_persistent_backward, Backward_,
                              ffi::Ffi::Bind().Ctx<Context>().Attr<int64_t>("kind").Attr<bool>("reverse")
                                  .Arg<Halves>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Bools>()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>());
extern "C" uint64_t rnn_jax_sources() { return RNN_JAX_SOURCES; }
