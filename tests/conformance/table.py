"""`python -m tests.conformance.table`: the table of what each installed toolkit's losses compute, as Markdown."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from fdistill.verify import judge
from tests.conformance.toolkits import FOREIGN


def package_version(package: str) -> str:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return "?"


def main() -> None:
    print("| loss | version | calls itself | computes | averages as | is it? | warnings |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for foreign in FOREIGN:
        if find_spec(foreign.package) is None:
            print(f"| {foreign.toolkit} | not installed | {foreign.calls_itself} | | | | |")
            continue
        verdict = judge(foreign.call, foreign.judged_as, foreign.options)
        warnings = "; ".join(f"{name}: {text}" for name, ok, text in verdict.notes if not ok) or "none"
        answer = "yes" if verdict.passed else "no"
        print(
            f"| {foreign.toolkit} | {package_version(foreign.package)} | {foreign.calls_itself} | {verdict.computes} "
            f"| {verdict.reduction} | {answer} | {warnings} |"
        )


if __name__ == "__main__":
    main()
