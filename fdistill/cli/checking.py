"""`fdistill verify`: the property table of this machine, or the verdict on a loss of the user's."""

from typing import Any

from fdistill.cli import draw
from fdistill.cli.display import shown


def verify(
    device: str,
    dtype: str,
    seed: int,
    cases: bool,
    loss: str | None,
    expected: str | None,
    options: list[str],
    json: bool,
) -> int:
    """Print the table or the verdict; return 0 if everything holds, else 1."""
    if loss is not None:
        return _judge(loss, expected, options, json)
    if expected is not None or options:
        raise _usage("--as and --with belong to --loss MODULE:FUNCTION, which is not given.")
    return _cases(device, seed, json) if cases else _table(device, dtype, seed, json)


def _table(device: str, dtype: str, seed: int, json: bool) -> int:
    with shown() as display, display.step("verify", f"checking the losses on {device} in {dtype}") as update:
        from fdistill.verify import run_verify

        results = run_verify(device, dtype, seed=seed, progress=update)
    passed = all(result.passed for result in results)
    if json:
        draw.as_json({"device": device, "dtype": dtype, "passed": passed, "properties": [r.as_dict() for r in results]})
        return 0 if passed else 1
    rows = [
        [
            result.name,
            result.cases,
            f"{result.error:.1e}",
            f"{result.tolerance:.0e}",
            "ok" if result.passed else f"FAILS: {result.worst}",
        ]
        for result in results
    ]
    draw.plain_table(["property", "cases", "largest error", "allowed", ""], rows, numeric=(1, 2, 3))
    draw.line(f"{sum(r.passed for r in results)} of {len(results)} properties hold on {device} in {dtype}.")
    return 0 if passed else 1


def _cases(device: str, seed: int, json: bool) -> int:
    found = []
    with shown() as display, display.step("verify", "comparing every objective with the reference"):
        from fdistill.verify import enumeration_table

        found = list(enumeration_table(device, seed=seed))
    if json:
        draw.as_json([vars(case) for case in found])
    else:
        rows = [[case.label, *(f"{error:.1e}" for error in (case.value, case.stepwise, case.full))] for case in found]
        draw.plain_table(["objective", "value", "step-wise gradient", "full gradient"], rows, numeric=(1, 2, 3))
    return 0 if all(max(case.value, case.stepwise, case.full) <= 1e-9 for case in found) else 1


def _judge(loss: str, expected: str | None, options: list[str], json: bool) -> int:
    if expected is None:
        raise _usage("--loss needs --as NAME: the divergence it should be, such as js or kl.")
    with shown() as display, display.step("verify", f"judging {loss}"):
        from fdistill.verify import judge

        verdict = judge(loss, expected, _options(options))
    if json:
        draw.as_json(verdict.as_dict())
        return 0 if verdict.passed else 1
    draw.line(f"{loss} as {expected}: {'yes' if verdict.passed else 'NO'}")
    draw.line(f"  computes: {verdict.computes}")
    if verdict.reduction:
        draw.line(f"  reduction: {verdict.reduction}")
    for check, ok, text in verdict.notes:
        draw.line(f"  {'ok  ' if ok else 'note'} {check}: {text}")
    return 0 if verdict.passed else 1


def _options(texts: list[str]) -> dict[str, Any]:
    """Return KEY=VALUE texts as a dictionary, values read as YAML."""
    import yaml

    made = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise _usage(f"--with {text}: a key and a value are needed, as in --with beta=0.3.")
        made[key] = yaml.safe_load(value)
    return made


def _usage(text: str) -> Exception:
    import typer

    return typer.BadParameter(text)
