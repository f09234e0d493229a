"""Packaging of cliptd: the library `cliptd` and the task readers `tasks`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+?)"', (ROOT / "cliptd" / "__init__.py").read_text(encoding="utf-8"), re.M
)
assert VERSION, "cliptd/__init__.py names the version"

ONNX = ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.5"]
TEST = [
    *ONNX,
    "pytest>=8.0",
    "pytest-timeout>=2.3.1",
    "pytest-xdist>=3.6.1",
    "peft>=0.19",
    "easy-vqa>=1.0",
    "tensorboard>=2.18",
    "ruff>=0.12",
    "codespell>=2.4",
    "mypy>=1.18",
    "setuptools>=77",  # the test of the wheel builds without the network
]
DOCS = ["mkdocs>=1.6", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.30", "latex2mathml>=3.78"]

setup(
    name="cliptd",
    version=VERSION[1],
    description="Distil CLIP teachers into vision-language models and into small CLIP-like models",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The cliptd authors",
    keywords=[
        "CLIP",
        "distillation",
        "vision-language",
        "VQA",
        "VCR",
        "SNLI-VE",
        "TinyCLIP",
        "MobileCLIP",
        "DIME-FM",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["cliptd", "cliptd.*", "tasks", "tasks.*"]),
    package_data={
        "cliptd": ["py.typed", "**/*.pyi"],
        "tasks": ["**/*.json", "**/*.txt", "**/*.safetensors"],  # the models that ship with iconworld
    },
    install_requires=[  # the lowest that were tested; .ci/lower_bounds tests them again
        "numpy>=2.0",
        "torch>=2.8",
        "torchvision>=0.23",
        "transformers>=5.12",
        "open_clip_torch>=3.3",
        "timm>=1.0.20",
        "datasets>=4.0",
        "accelerate>=1.10",
        "huggingface_hub>=1.5",
        "evaluate>=0.4.5",
        "ijson>=3.3",
        "lazy-loader>=0.4",
        "safetensors>=0.6.2",
        "pillow>=11.0",
        "pyyaml>=6.0.1",
        "tyro>=0.9.30",
        "rich>=13.7",
        "tqdm>=4.67",
        "matplotlib>=3.9",
        "qtawesome>=1.4",
        "iconipy>=0.5",
    ],
    entry_points={"console_scripts": ["cliptd = tasks.commands.__main__:main"]},
    extras_require={
        "test": TEST,
        "docs": DOCS,
        "dev": [*TEST, *DOCS, "pre-commit>=4.0"],
        "benchmark": ["webdataset>=0.2.5", "pandas>=2.2"],  # what open_clip's own training needs
        "onnx": ONNX,
        "tracking": ["tensorboard>=2.18", "wandb>=0.19", "trackio>=0.2"],
    },
)
