#!/usr/bin/env python3
"""Checks the proofs: compiles every file, runs coqchk, and reads every theorem's assumptions.

Usage: python proofs/check.py [--each]     (standard library only; needs Coq 8.16 or later, no other Coq library)

The files and their order stand in _CoqProject. Everything is built in proofs/build, which git ignores.
A theorem passes if `Print Assumptions` names nothing but the foundations of the standard library's reals. The
command walks through all of that library every time, about a second, so it is asked once per file, about all
theorems of the file together: what they assume together includes what each assumes. Where that is more than the
foundations, and with --each everywhere, it is asked about each theorem alone.
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
Theorem = tuple[str, str]  # the file's name without .v, and the theorem's
THEOREM = re.compile(r"^Theorem\s+([A-Za-z_][\w']*)", re.MULTILINE)


class ProofError(Exception):
    """A proof, or the machine it is checked on, is not as it should be."""


def main(arguments: list[str]) -> int:
    if not set(arguments) <= {"--each"}:
        print(__doc__, file=sys.stderr)
        return 2
    start = time.monotonic()
    try:
        require_tools()
        files = files_in_order()
        sources = {file: file.read_text(encoding="utf-8") for file in files}
        refuse_holes(sources)
        compile_all(files)
        run_coqchk(files)
        verdicts = assumptions(theorems(sources), each="--each" in arguments)
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


def theorems(sources: dict[Path, str]) -> list[Theorem]:
    """Every (file, theorem) whose statement starts a line with `Theorem`."""
    return [(file.stem, name) for file, source in sources.items() for name in THEOREM.findall(without_comments(source))]


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


def assumptions(names: list[Theorem], each: bool) -> dict[Theorem, list[str]]:
    """What every theorem rests on: its file's theorems together, or, where that says too little, it alone."""
    modules = {module: [n for n in names if n[0] == module] for module, _ in names}
    print("Print Assumptions ...", file=sys.stderr)
    together = {} if each else print_assumptions(modules)
    clean = {module for module, axioms in together.items() if set(axioms) <= ALLOWED}
    alone = print_assumptions({".".join(n): [n] for n in names if n[0] not in clean})
    return {n: together[n[0]] if n[0] in clean else alone[".".join(n)] for n in names}


def print_assumptions(groups: dict[str, list[Theorem]]) -> dict[str, list[str]]:
    """The axioms under each group of theorems; the group is the term (theorem, (theorem, ...))."""
    if not groups:
        return {}
    lines = [f"Require {LIBRARY}.{module}." for module in dict.fromkeys(m for g in groups.values() for m, _ in g)]
    for number, (label, group) in enumerate(groups.items()):
        term = "I"
        for module, name in reversed(group):
            term = f"(conj (@{LIBRARY}.{module}.{name}) {term})"
        lines.append(f"Definition group_{number} := {term}.")
        lines.append(f'Goal True. idtac "GROUP {label}". Abort.')
        lines.append(f"Print Assumptions group_{number}.")
    (BUILD / "Assumptions.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    output = run(["coqc", "-q", "-R", ".", LIBRARY, "Assumptions.v"], "Print Assumptions")
    blocks = re.split(r"^GROUP (\S+)\s*$", output, flags=re.MULTILINE)[1:]
    found = {label: read_axioms(label, block) for label, block in zip(blocks[0::2], blocks[1::2], strict=True)}
    if set(found) != set(groups):
        raise ProofError(f"Print Assumptions said nothing about {sorted(set(groups) - set(found))}")
    return found


def read_axioms(label: str, block: str) -> list[str]:
    """An axiom's name starts its line; its type may go on over indented lines."""
    block = block.strip()
    if block == "Closed under the global context":
        return []
    if not block.startswith("Axioms:"):
        raise ProofError(f"Print Assumptions said nothing readable about {label}: {block!r}")
    return re.findall(r"^([^\s:]+)", block.removeprefix("Axioms:"), re.MULTILINE)


def print_table(verdicts: dict[Theorem, list[str]]) -> int:
    width = max(len(name) for _, name in verdicts)
    failed = 0
    for (module, name), axioms in verdicts.items():
        extra = sorted(set(axioms) - ALLOWED)
        failed += bool(extra)
        if extra:
            verdict = f"FAILED: assumes {', '.join(extra)}"
        elif axioms:
            verdict = "passed: the foundations of the reals only"
        else:
            verdict = "passed: no assumptions"
        print(f"{name:<{width}}  {module + '.v':<18}  {verdict}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
