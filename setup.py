"""What pyproject.toml cannot say: the recipes of configs/ are installed as the package rnn_jax.recipes.

The page of `rnn-jax serve` is installed beside its code.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rnn_jax*"]), "rnn_jax.recipes"],
    package_data={"rnn_jax.serving": ["page.html"]},
    package_dir={"rnn_jax.recipes": "configs"},
)
