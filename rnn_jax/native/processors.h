// What kernels.inc needs, included before a file turns on the instructions of one processor: a function of the
// standard library that was compiled with them could be called on a processor that lacks them.
#pragma once
#include <cstdlib>
#include <cstring>

#include "recurrence.h"

// The pragma that turns on the instructions is GCC's: what Clang builds for x86 has the portable kernels alone.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RNN_X86 1
#else
#define RNN_X86 0
#endif
