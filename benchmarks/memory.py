"""Peak memory of one contender, in a process of its own: nothing that another one left behind is counted.

`python -m benchmarks.memory MODULE NAME SIZE` prints what MODULE.work(NAME, SIZE) takes at most beyond what its inputs
take, in bytes. SIZE is a JSON object.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STATUS = Path("/proc/self/status")


class Unmeasured(RuntimeError):
    """Peak memory cannot be had here."""


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process in memory; `VmHWM`: the most since the last `forget_peak`."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def forget_peak() -> None:
    """Let the peak start anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak(module: str, name: str, size: Mapping[str, Any]) -> int:
    """Bytes that `benchmarks.<module>.work(name, size)` takes at most beyond its inputs, measured in a fresh process.

    Raises:
        Unmeasured: no Linux, or the process failed; the message holds its last line.
    """
    if not STATUS.exists():
        raise Unmeasured("peak memory is read from /proc, which only Linux has")
    # A fixed threshold: every large tensor is its own mapping, which goes back to the system when it is freed.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.memory", module, name, json.dumps(dict(size))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasured((done.stderr.strip() or "no message").splitlines()[-1])
    return int(done.stdout.split()[-1])


def peaks(module: str, works: Mapping[str, tuple[str, Mapping[str, Any]]], notes: list[str]) -> dict[str, int | None]:
    """`peak` of several works, by label a (name, size) pair, a few processes at a time.

    Returns:
        Bytes by label; None where they could not be had, and then `notes` gets a sentence that says why.
    """

    def one(label: str) -> int | None:
        try:
            return peak(module, *works[label])
        except Unmeasured as problem:
            notes.append(f"Memory of {label} is not measured: {problem}.")
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(works, pool.map(one, works), strict=True))


def main(module: str, name: str, size: str) -> None:
    """Warm up on the module's tiny size (imports, threads) or the real one (compiled code), then measure one call."""
    question = importlib.import_module(f"benchmarks.{module}")
    question.work(name, question.TINY)()
    if name in getattr(question, "COMPILED", ()):
        question.work(name, json.loads(size))()
    work = question.work(name, json.loads(size))
    gc.collect()
    forget_peak()
    before = resident()
    work()
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
