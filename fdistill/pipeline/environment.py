"""Versions and hardware: what a bug report and a run's environment.json need."""

import os
import platform
import sys
from importlib import metadata
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "pyarrow",
    "numpy",
    "scipy",
    "pydantic",
    "typer",
    "rich",
    "sacrebleu",
    "rouge-score",
    "matplotlib",
    "jinja2",
    "peft",
)


def environment(device: bool = True) -> dict[str, Any]:
    """Return versions of Python and the packages used, the platform, and (importing torch) the device."""
    import fdistill

    found: dict[str, Any] = {
        "fdistill": fdistill.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }
    return found | ({"device": _device()} if device else {})


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _device() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"type": default_device(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        found |= {
            "name": torch.cuda.get_device_name(),
            "count": torch.cuda.device_count(),
            "cuda": torch.version.cuda,
            "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        }
    return found


def default_device() -> str:
    """Return "cuda" where there is one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
