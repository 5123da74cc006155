"""`python -m tests.mutants.run`: apply every mutant to a copy of the tree, run its tests, list the survivors.

    python -m tests.mutants.run [--only WORD] [--workers N]

A mutant is caught when a test fails that passes on the tree as it is; tests that fail there already are named, and nothing is
tried. The exit code is 1 then, where a mutant survives, and where its text no longer stands in the file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("fdistill", "reference", "tests", "pyproject.toml")


def copy_tree(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name)
        else:
            shutil.copy2(source, target / name)


def run_tests(tests: tuple[str, ...], file: str = "", text: str = "") -> subprocess.CompletedProcess[str]:
    """Run tests in a copy of the tree in which `file` holds `text`."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        if file:
            (tree / file).write_text(text)
        environment = {**os.environ, "PYTHONPATH": f"{tree}:{tree / 'reference'}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def outcome(mutant: Mutant) -> tuple[str, str]:
    """("caught" | "survived" | "stale" | "broken", by what) for one mutant."""
    text = (ROOT / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        return "stale", f"the text to replace stands {text.count(mutant.old)} times in {mutant.file}"
    done = run_tests(mutant.tests, mutant.file, text.replace(mutant.old, mutant.new))
    if done.returncode == 0:
        return "survived", ""
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if done.returncode != 1 or not failed:
        return "broken", (done.stdout + done.stderr).strip().splitlines()[-1]
    return "caught", failed[0].split()[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only mutants whose fault or file contains this")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if arguments.only in m.fault or arguments.only in m.file]
    if not chosen:
        parser.error(f"no fault and no file contains {arguments.only!r}")
    with ThreadPoolExecutor(arguments.workers) as pool:
        files = sorted({path for mutant in chosen for path in mutant.tests})
        clean = zip(files, pool.map(run_tests, [(path,) for path in files]), strict=True)
        red = [f"{path}: {done.stdout.strip().splitlines()[-1:]}" for path, done in clean if done.returncode != 0]
        if red:
            print("Without any fault these fail already, so they can catch none:", *red, sep="\n  ")
            return 1
        results = []
        for mutant, (verdict, by) in zip(chosen, pool.map(outcome, chosen), strict=True):
            results.append(verdict)
            print(f"{verdict:9} {mutant.file}: {mutant.fault}{f'  [{by}]' if by else ''}", flush=True)
    caught = results.count("caught")
    print(f"{caught} of {len(results)} mutants caught.")
    print(f"{caught} passed, {len(results) - caught} failed")
    return 0 if caught == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
