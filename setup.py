"""Packaging. Nothing here looks at the machine: which GPU packages to install is the choice of an extra.

``gpurender/kernels`` has no ``__init__.py`` (its README says why), so packages are found as namespaces are. The link
``kernels`` at the root is a door for readers and is not installed.
"""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "gpurender/util/version.py").read_text(), re.MULTILINE).group(1)

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
        "gpurender.recipes": ["*.json"],
        "": ["*.cu", "*.cuh"],
    },
    include_package_data=False,
    install_requires=["numba", "numpy", "pillow", "torch", "tqdm"],  # torch brings the triton that fits it
    extras_require={
        "cuda12": ["cupy-cuda12x"],
        "cuda13": ["cupy-cuda13x"],
        "accelerate": ["accelerate>=1.15"],
        "dali-cuda12": ["nvidia-dali-cuda120"],
        "dali-cuda13": ["nvidia-dali-cuda130"],
        "fuzz": ["atheris"],
        "lightning": ["lightning>=2.6"],
        "plot": ["matplotlib"],
        "torchdata": ["torchdata>=0.11"],
        "train": ["timm", "torchvision"],
        "transformers": ["accelerate>=1.15", "transformers>=5.20"],
        "test": [
            "accelerate>=1.15",
            "build",
            "cosmic-ray",
            "coverage",
            "cupy-cuda13x",
            "hypothesis",
            "lightning>=2.6",
            "matplotlib",
            "nvidia-dali-cuda130",
            "psutil",
            "pytest",
            "pytest-xdist",
            "scikit-image",
            "scipy",
            "setuptools>=77",
            "timm",
            "torchdata>=0.11",
            "torchvision",
            "transformers>=5.20",
        ],
        "dev": ["gpurender[test]", "mypy", "ruff"],
    },
    entry_points={"console_scripts": ["gpurender = gpurender.commands.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
