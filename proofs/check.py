#!/usr/bin/env python3
"""Checks the proofs: compiles every file, runs coqchk, and reads every theorem's assumptions.

Usage: python proofs/check.py     (standard library only; needs Coq 8.16 or later, no other Coq library)

The files and their order stand in _CoqProject. Everything is built in proofs/build, which git ignores.
A theorem passes if `Print Assumptions` names nothing but the foundations of the standard library's reals.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
LIBRARY = "FDistill"

# The standard library's own foundations of the reals, and nothing else.
ALLOWED = {
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
}
FORBIDDEN = re.compile(
    r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjectures?|Unset\s+Guard\s+Checking"
    r"|Unset\s+Positivity\s+Checking|Unset\s+Universe\s+Checking|bypass_check|type_in_type)\b"
)
THEOREM = re.compile(r"^Theorem\s+([A-Za-z_][\w']*)", re.MULTILINE)


class ProofError(Exception):
    """A proof, or the machine it is checked on, is not as it should be."""


def main() -> int:
    start = time.monotonic()
    try:
        require_tools()
        files = files_in_order()
        sources = {file: file.read_text(encoding="utf-8") for file in files}
        refuse_holes(sources)
        compile_all(files)
        run_coqchk(files)
        verdicts = assumptions(theorems(sources))
    except ProofError as error:
        print(f"proofs: {error}", file=sys.stderr)
        return 1
    failed = print_table(verdicts)
    print(f"coqchk accepts all {len(files)} files; {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    return 1 if failed else 0


def require_tools() -> None:
    missing = [tool for tool in ("coqc", "coqchk") if shutil.which(tool) is None]
    if missing:
        raise ProofError(
            f"{' and '.join(missing)} not found on this machine. Both come with Coq, and the proofs need Coq alone: "
            "`apt-get install coq` (Debian, Ubuntu), `brew install coq` (macOS) or `opam install coq`."
        )


def files_in_order() -> list[Path]:
    lines = (HERE / "_CoqProject").read_text(encoding="utf-8").splitlines()
    listed = [line.strip() for line in lines if line.strip().endswith(".v")]
    present = {path.name for path in HERE.glob("*.v")}
    if set(listed) != present:
        raise ProofError(
            "_CoqProject does not list exactly the files in proofs/: "
            f"missing there {sorted(present - set(listed))}, missing on disk {sorted(set(listed) - present)}"
        )
    return [HERE / name for name in listed]


def without_comments(source: str) -> str:
    """Coq comments nest; each is replaced by a space for every character, line breaks kept."""
    kept, depth, i = [], 0, 0
    while i < len(source):
        if source.startswith("(*", i):
            depth, i = depth + 1, i + 2
            kept.append("  ")
        elif depth and source.startswith("*)", i):
            depth, i = depth - 1, i + 2
            kept.append("  ")
        else:
            kept.append(source[i] if depth == 0 or source[i] == "\n" else " ")
            i += 1
    return "".join(kept)


def refuse_holes(sources: dict[Path, str]) -> None:
    for file, source in sources.items():
        for number, line in enumerate(without_comments(source).splitlines(), start=1):
            hole = FORBIDDEN.search(line)
            if hole:
                raise ProofError(f"{file.name}:{number}: `{hole.group()}` leaves something unproved")


def theorems(sources: dict[Path, str]) -> list[tuple[str, str]]:
    """Every (module, theorem) whose statement starts a line with `Theorem`."""
    return [
        (file.stem, name) for file, source in sources.items() for name in THEOREM.findall(without_comments(source))
    ]


def run(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=BUILD, check=False)
    if done.returncode:
        raise ProofError(f"{what} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def compile_all(files: list[Path]) -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir()
    for file in files:
        start = time.monotonic()
        shutil.copy(file, BUILD / file.name)
        run(["coqc", "-q", "-R", ".", LIBRARY, file.name], f"compiling {file.name}")
        print(f"compiled {file.name} in {time.monotonic() - start:.1f} s", file=sys.stderr)


def run_coqchk(files: list[Path]) -> None:
    """The independent checker reads the compiled files again; it reads our files, and trusts Coq's own library."""
    print("coqchk ...", file=sys.stderr)
    modules = [f"{LIBRARY}.{file.stem}" for file in files]
    norec = [part for module in modules for part in ("-norec", module)]
    run(["coqchk", "-silent", "-R", ".", LIBRARY, *norec], "coqchk")


def assumptions(names: list[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """What each theorem rests on, according to `Print Assumptions`."""
    modules = dict.fromkeys(module for module, _ in names)
    lines = [f"Require {LIBRARY}.{module}." for module in modules]
    for module, name in names:
        lines.append(f'Goal True. idtac "THEOREM {module}.{name}". Abort.')
        lines.append(f"Print Assumptions {LIBRARY}.{module}.{name}.")
    (BUILD / "Assumptions.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return parse_assumptions(run(["coqc", "-q", "-R", ".", LIBRARY, "Assumptions.v"], "Print Assumptions"), names)


def parse_assumptions(output: str, names: list[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    blocks = re.split(r"^THEOREM (\S+)\s*$", output, flags=re.MULTILINE)[1:]
    found = dict(zip(blocks[0::2], blocks[1::2], strict=True))
    result = {}
    for module, name in names:
        block = found.get(f"{module}.{name}", "").strip()
        if block == "Closed under the global context":
            result[module, name] = []
        elif block.startswith("Axioms:"):
            # An axiom's name starts its line; its type may go on over indented lines.
            result[module, name] = re.findall(r"^([A-Za-z_][\w.']*)", block.removeprefix("Axioms:"), re.MULTILINE)
        else:
            raise ProofError(f"Print Assumptions said nothing readable about {module}.{name}: {block!r}")
    return result


def print_table(verdicts: dict[tuple[str, str], list[str]]) -> int:
    width = max(len(name) for _, name in verdicts)
    failed = 0
    for (module, name), axioms in verdicts.items():
        extra = sorted(set(axioms) - ALLOWED)
        failed += bool(extra)
        if extra:
            verdict = f"FAILED: assumes {', '.join(extra)}"
        elif axioms:
            verdict = "passed: the reals' own foundations only"
        else:
            verdict = "passed: no assumptions"
        print(f"{name:<{width}}  {module + '.v':<18}  {verdict}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
