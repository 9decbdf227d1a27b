// Arrays of XLA's calls, and what collects the sizes that do not fit: shared by the calls for CPUs and for GPUs.
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "recurrence.h"
#include "xla/ffi/api/ffi.h"

namespace rnn_jax {

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using Bools = ffi::Buffer<ffi::PRED>;
using NewFloats = ffi::ResultBuffer<ffi::F32>;

template <class Buffer>
auto data_or_null(Buffer& buffer) -> decltype(buffer.typed_data()) {
  return buffer.element_count() ? buffer.typed_data() : nullptr;
}

// Collects what does not fit: every size is checked before a pointer moves.
struct Checks {
  std::string wrong;
  template <class Dimensions>
  void shape(const char* name, Dimensions found, std::initializer_list<int64_t> expected) {
    if (std::equal(found.begin(), found.end(), expected.begin(), expected.end())) return;
    wrong += std::string(wrong.empty() ? "" : "; ") + name + " has a shape that does not fit";
  }
  template <class Dimensions>  // a vector of size 0 stands for an array that is absent
  void optional(const char* name, Dimensions found, std::initializer_list<int64_t> expected) {
    if (found.size() == 1 && found[0] == 0) return;
    shape(name, found, expected);
  }
};

// What a forward pass writes, with its sizes checked.
inline Forward forward_of(Checks& checks, Kind kind, int64_t T, int64_t B, int64_t H, NewFloats last_c,
                          NewFloats last_h, NewFloats h, NewFloats c, NewFloats kept) {
  if (kind == Kind::lstm) {
    checks.shape("last c", last_c->dimensions(), {B, H});
    checks.optional("c of every step", c->dimensions(), {B, T, H});
  }
  checks.shape("last h", last_h->dimensions(), {B, H});
  checks.shape("h of every step", h->dimensions(), {B, T, H});
  checks.optional("kept", kept->dimensions(), {B, T, kept_of(kind) * H});
  return Forward{data_or_null(*last_c), last_h->typed_data(), h->typed_data(), data_or_null(*c), data_or_null(*kept)};
}

}  // namespace rnn_jax
