"""What pyproject.toml cannot say: recipes that lie elsewhere, and kernels that are built where they can be.

The recipes of configs/ are installed as the package rnn_jax.recipes. The kernels of rnn_jax/native need a C++
compiler and the headers that come with jaxlib, those of rnn_jax/native/cuda also nvcc, in CUDA_HOME or on the
PATH; without them the package is installed all the same. RNN_JAX_NATIVE=0 builds no kernels for GPUs.
"""

import os
import runpy
import shutil
from glob import glob
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

jaxlib = find_spec("jaxlib")
HEADERS = [str(Path(jaxlib.origin).with_name("include"))] if jaxlib and jaxlib.origin else []
digest = runpy.run_path("rnn_jax/native/sources.py")["digest"]
FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", "-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden"]
kernels = Extension(
    "rnn_jax.native._kernels",
    sorted(glob("rnn_jax/native/*.cc")),
    include_dirs=HEADERS,
    define_macros=[("RNN_JAX_SOURCES", f"{digest('_kernels')}u")],
    depends=sorted(glob("rnn_jax/native/*.h") + glob("rnn_jax/native/*.inc")),
    extra_compile_args=[*FLAGS, "-g0", "-w"],
    optional=True,
)

# Code for the GPUs of 2020 and 2022, which those of their families run too, and PTX for all that came after.
GPUS = [("compute_80", "sm_80"), ("compute_90", "sm_90"), ("compute_90", "compute_90")]
persistent = Extension(
    "rnn_jax.native._persistent",
    sorted(glob("rnn_jax/native/cuda/*.cu") + glob("rnn_jax/native/cuda/*.cc")),
    include_dirs=HEADERS,
    depends=sorted(glob("rnn_jax/native/*.h") + glob("rnn_jax/native/cuda/*.*h")),
    extra_compile_args=[
        *("-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", "-shared", "-cudart", "static"),
        *("-Xcompiler", "-fPIC,-fvisibility=hidden,-w"),
        f"-DRNN_JAX_SOURCES={digest('_persistent')}u",
        *(f"-gencode=arch={arch},code={code}" for arch, code in GPUS),
    ],
    optional=True,
)


def find_nvcc():
    """Returns the compiler for GPUs, or None."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return next(
        filter(None, (shutil.which("nvcc", path=f"{home}/bin") for home in homes)), shutil.which("nvcc")
    )


class BuildKernels(build_ext):
    """Compiles an extension with sources in CUDA with nvcc, and any other as setuptools does."""

    def build_extension(self, ext):
        """Compiles and links one extension; one that is optional may fail."""
        if ext is not persistent:
            super().build_extension(ext)
            return
        path = Path(self.get_ext_fullpath(ext.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        include = [f"-I{folder}" for folder in ext.include_dirs]
        try:
            self.spawn([find_nvcc(), *ext.extra_compile_args, *include, *ext.sources, "-o", str(path)])
        except Exception as error:  # no headers, no compiler for its host part, ...
            raise CompileError(f"nvcc failed: {error}") from error


wanted = os.environ.get("RNN_JAX_NATIVE", "1") != "0"
setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=[kernels, *([persistent] if wanted and find_nvcc() else [])],
    packages=[*find_packages(include=["rnn_jax*"]), "rnn_jax.recipes"],
    package_dir={"rnn_jax.recipes": "configs"},
)
