"""Packaging. Nothing here looks at the machine: which GPU packages to install is the choice of an extra.

``gpurender/kernels`` has no ``__init__.py`` (its README says why), so packages are found as namespaces are. The link
``kernels`` at the root is a door for readers and is not installed.
"""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "gpurender/util/version.py").read_text(), re.MULTILINE).group(1)

# Before Triton 3.6 a square root flushes subnormal numbers to zero; that of 3.0 to 3.3 fails more tests.
TRITON = "triton>=3.6.0"

setup(
    name="gpurender",
    version=VERSION,
    description="Formula-driven pre-training images, rendered while the model trains on them",
    keywords=["pre-training", "synthetic data", "fractals", "vision transformers"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    platforms=["Linux"],
    python_requires=">=3.10",
    package_dir={"": "."},  # an editable install is then a path in a .pth file, which type checkers read
    packages=find_namespace_packages(include=["gpurender", "gpurender.*"]),
    package_data={
        "gpurender": ["py.typed"],
        "gpurender.commands.explorer.static": ["*.html", "*.css", "*.js", "*.svg"],
        "gpurender.recipes": ["*.json"],
        "": ["*.cu", "*.cuh"],
    },
    include_package_data=False,
    # Lower bounds are versions that the tests have run on (trials/versions.py). torch brings the triton that fits it.
    install_requires=["numba>=0.57.1", "numpy>=1.24.4", "pillow>=9.5.0", "torch>=2.4.1", "tqdm>=4.64.1"],
    extras_require={
        "cuda12": ["cupy-cuda12x>=13.6.0", TRITON],
        "cuda13": ["cupy-cuda13x>=13.6.0", TRITON],
        "accelerate": ["accelerate>=1.15"],
        "dali-cuda12": ["nvidia-dali-cuda120"],
        "dali-cuda13": ["nvidia-dali-cuda130"],
        "docs": ["furo", "myst-parser>=4", "sphinx>=8.1"],
        "fuzz": ["atheris"],
        "jax": ["jax"],
        "lightning": ["lightning>=2.6"],
        "plot": ["matplotlib"],
        "ray": ["fsspec>=2024.12", "ray>=2.60"],
        "search": ["optuna>=4.5"],
        "serve": ["scikit-learn", "starlette>=0.45", "uvicorn>=0.34"],
        "torchdata": ["torchdata>=0.11"],
        "train": ["accelerate>=1.15", "safetensors>=0.4.5", "timm>=1.0.31", "torchvision"],
        "transformers": ["accelerate>=1.15", "transformers>=5.20"],
        "test": [
            "accelerate>=1.15",
            "build",
            "cosmic-ray",
            "coverage",
            "cupy-cuda13x",
            "fsspec>=2024.12",
            "furo",
            "httpx",
            "hypothesis",
            "lightning>=2.6",
            "matplotlib",
            "mypy",
            "myst-parser>=4",
            "nvidia-dali-cuda130",
            "optuna>=4.5",
            "psutil",
            "pytest",
            "pytest-xdist",
            "ray>=2.60",
            "scikit-image",
            "scikit-learn",
            "scipy",
            "safetensors>=0.4.5",
            "setuptools>=77",
            "sphinx>=8.1",
            "starlette>=0.45",
            "tensorboard",
            "timm>=1.0.31",
            "torchdata>=0.11",
            "torchvision",
            "transformers>=5.20",
            "uvicorn>=0.34",
            "webdataset>=1.0",
        ],
        "dev": ["gpurender[test]", "playwright", "ruff"],
    },
    entry_points={"console_scripts": ["gpurender = gpurender.commands.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
