"""What pyproject.toml cannot say: recipes that lie elsewhere, and kernels that are built where they can be.

The recipes of configs/ are installed as the package rnn_jax.recipes. The kernels of rnn_jax/native need a C++
compiler and the headers that come with jaxlib; without them the package is installed all the same.
"""

from glob import glob
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup

jaxlib = find_spec("jaxlib")
FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", "-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden"]
kernels = Extension(
    "rnn_jax.native._kernels",
    sorted(glob("rnn_jax/native/*.cc")),
    include_dirs=[str(Path(jaxlib.origin).with_name("include"))] if jaxlib and jaxlib.origin else [],
    depends=sorted(glob("rnn_jax/native/*.h") + glob("rnn_jax/native/*.inc")),
    extra_compile_args=[*FLAGS, "-g0", "-w"],
    optional=True,
)

setup(
    ext_modules=[kernels],
    packages=[*find_packages(include=["rnn_jax*"]), "rnn_jax.recipes"],
    package_dir={"rnn_jax.recipes": "configs"},
)
