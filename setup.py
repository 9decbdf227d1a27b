"""What pyproject.toml cannot say: the recipes of configs/ are installed as the package rnn_jax.recipes."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rnn_jax*"]), "rnn_jax.recipes"],
    package_dir={"rnn_jax.recipes": "configs"},
)
