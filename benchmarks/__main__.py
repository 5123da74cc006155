"""`python -m benchmarks [QUESTION ...] [--quick] [--publish]`: measure, print, and keep the numbers.

Full mode writes `benchmarks/results/QUESTION.json`; `--publish` puts what is there into docs/performance.md. Quick mode
takes seconds, uses small sizes and keeps nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from dataclasses import replace

QUESTIONS = ("losses", "heads", "kernels", "sparse", "offline", "step", "trainers", "scaling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds; nothing is kept")
    parser.add_argument("--publish", action="store_true", help="only put kept results into docs/performance.md")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0: one a processor")
    asked = parser.parse_args()
    unknown = [name for name in asked.questions if name not in QUESTIONS]
    if unknown:
        parser.error(f"unknown question {unknown[0]!r}: it is one of {', '.join(QUESTIONS)}")
    questions = asked.questions or QUESTIONS
    if not asked.publish:
        run(questions, "quick" if asked.quick else "full", asked.threads)
    if not asked.quick:
        publish_kept(questions)


def run(questions: tuple[str, ...] | list[str], mode: str, threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(
        threads or os.cpu_count() or 1
    )  # read by torch when it is imported, and by children
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from benchmarks.environment import describe
    from benchmarks.results import markdown, save

    for name in questions:
        start = time.perf_counter()
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        answer = replace(importlib.import_module(f"benchmarks.{name}").measure(mode), environment=describe())
        print(f"\n## {answer.title}\n\n{markdown(answer)}\n", flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if mode == "full" and answer.tables:
            save(answer)


def publish_kept(questions: tuple[str, ...] | list[str]) -> None:
    from benchmarks.results import FOLDER, load, publish

    kept = [FOLDER / f"{name}.json" for name in questions]
    publish([load(path) for path in kept if path.exists()])


if __name__ == "__main__":
    main()
