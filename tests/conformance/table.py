"""`python -m tests.conformance.table`: the table of what each installed toolkit's losses compute, as Markdown."""

from importlib.metadata import PackageNotFoundError, version

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
        if reason := foreign.cannot_run():
            print(f"| {foreign.toolkit} | {reason} | {foreign.calls_itself} | | | | |")
            continue
        verdict = judge(foreign.call, foreign.judged_as, foreign.options)
        warnings = "; ".join(f"{name}: {text}" for name, ok, text in verdict.notes if not ok) or "none"
        answer = "yes" if verdict.passed else "no"
        print(
            f"| {foreign.toolkit} | {package_version(foreign.package)} | {foreign.calls_itself} | {verdict.computes} "
            f"| {verdict.reduction} | {answer} | {warnings} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
