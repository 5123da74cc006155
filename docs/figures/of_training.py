"""Pictures of pages 7 to 11: what the divergences do to a student."""

from __future__ import annotations

import numpy as np
from drawing import COLOURS, FOUR, GREY, NAMES, logit, panels, random_pair
from fdistill_reference import TabularModel, examples, fitting, gradient, sequence_divergence
from fdistill_reference import stepwise_divergence as value
from fdistill_reference.baselines import collapsed, coverage_risk, likelihood_risk, sequence_entropy
from fdistill_reference.coarsening import coarse_divergence, coarsen, squared_distance, top_k
from fdistill_reference.counterexamples import opposed_gradients
from matplotlib.figure import Figure


def stop_gradient() -> list[Figure]:
    figures, (axis,) = panels("the first token alone, and the whole")
    p, q = opposed_gradients(loss=5.0)
    chances = np.linspace(0.02, 0.98, 97)

    def student(chance: float) -> TabularModel:
        return q.with_logits(np.vstack([[logit(chance), 0.0], q.logits[1:]]))

    whole = [sequence_divergence("rkl", p, student(a)) for a in chances]
    first = [sequence_divergence("rkl", p.truncated(1), student(a).truncated(1)) for a in chances]
    axis.plot(chances, whole, color=COLOURS["rkl"], label="reverse KL of whole laughs")
    axis.plot(chances, first, color=GREY, linestyle="--", label="reverse KL of the first token")
    at = sequence_divergence("rkl", p, q)
    for mode, lift, colour, name in (
        ("stepwise", 0.45, GREY, "step-wise: more ha"),
        ("full", -0.55, COLOURS["rkl"], "full: less ha"),
    ):
        way = -np.sign(gradient("rkl", p, q, mode)[0, 0])
        axis.annotate(
            "",
            (0.5 + 0.2 * way, at + lift),
            (0.5, at + lift),
            arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.5},
        )
        axis.text(0.5 + 0.22 * way, at + lift, name, ha="left" if way > 0 else "right", va="center", color=colour)
    axis.plot([0.5], [at], "o", color="black", zorder=3)
    axis.text(0.51, at - 0.05, "student now", ha="left", va="top", fontsize=9)
    axis.set(xlabel="student's probability of ha at the first step", ylim=(0, 5))
    axis.legend(loc="upper left")
    return figures


def baselines() -> list[Figure]:
    figures, (left, right) = panels("ENGINE = reverse KL + H(Q)", "SeqKD = KL + H(P)")
    p, _ = examples.laughter()
    best = np.exp(collapsed(p).log_probs)
    shares = np.linspace(0, 0.98, 50)
    path = [TabularModel.from_probabilities((1 - x) * np.exp(p.log_probs) + x * best, 2) for x in shares]
    rkl = np.array([sequence_divergence("rkl", p, q) for q in path])
    engine = np.array([likelihood_risk(p, q) for q in path])
    left.fill_between(shares, 0, rkl, color=COLOURS["rkl"], alpha=0.35, label="reverse KL")
    left.fill_between(shares, rkl, engine, color="#bbbbbb", alpha=0.5, label="H(Q), the student's")
    left.plot(shares, engine, color="#333333", label="ENGINE's loss")
    kl = np.array([sequence_divergence("kl", p, q) for q in path])
    seqkd = np.array([coverage_risk(p, q) for q in path])
    right.fill_between(
        shares, 0, np.full(len(path), sequence_entropy(p)), color="#bbbbbb", alpha=0.5, label="H(P), constant"
    )
    right.fill_between(shares, seqkd - kl, seqkd, color=COLOURS["kl"], alpha=0.35, label="KL")
    right.plot(shares, seqkd, color="#333333", label="SeqKD's loss")
    for axis in (left, right):
        axis.set(xlabel="equal to the teacher  →  collapsed", ylim=(0, 3.2))
        axis.legend(loc="upper left")
    return figures


def top_k_teachers() -> list[Figure]:
    figures, (axis,) = panels("coarse loss / dense loss")
    p, q = random_pair(8, 2, 0)
    counts = range(1, 9)
    for name, options in (("kl", {}), ("rkl", {}), ("js", {"middle": "sequence"}), ("tvd", {})):
        dense = value(name, p, q, **options)
        shares = [coarse_divergence(name, p, q, k, **options) / dense for k in counts]
        axis.plot(counts, shares, "o-", color=COLOURS[name], label=NAMES[name], markersize=4)
    a, b = p.log_probs[0], q.log_probs[0]
    squares = [
        squared_distance(coarsen(a, top_k(a, k)), coarsen(b, top_k(a, k))) / squared_distance(a, b) for k in counts
    ]
    axis.plot(counts, squares, "s:", color=GREY, label="Σ (p − q)², first step", markersize=4)
    axis.axhline(1, color=GREY, linewidth=0.8)
    axis.set(xlabel="tokens kept, k", ylim=(0, None))
    axis.legend()
    return figures


def signal() -> list[Figure]:
    figures, (left, right) = panels("exact JS while training", "gradient by position, at the start")
    family = fitting.forgetful(8)
    p, q = (family(np.array([logit(chance)])) for chance in (0.8, 0.2))
    runs = (
        ("token (Eqn. 11)", {"middle": "token"}, "stepwise", "#009e73", "-"),
        ("τ = 0.5", {"middle": 0.5}, "stepwise", "#0072b2", "--"),
        ("exact, step-wise", {"middle": "sequence"}, "stepwise", "#d55e00", "-."),
        ("exact, full", {"middle": "sequence"}, "full", "#333333", ":"),
    )
    for name, options, mode, colour, line in runs:
        path = fitting.descend("js", p, q, 0.2, 40, mode=mode, tied=True, **options)
        left.plot([sequence_divergence("js", p, student) for student in path], line, color=colour, label=name)
        slope = gradient("js", p, q, mode, **options)[:, 0]
        right.plot(
            range(1, 9),
            [abs(slope[rows].sum()) for rows in p.tree.levels()],
            line,
            marker="o",
            markersize=4,
            color=colour,
            label=name,
        )
    left.set(xlabel="steps of gradient descent", ylim=(0, 0.7))
    right.set(xlabel="position", ylim=(0, 0.125))
    left.legend()
    return figures


def collapse_line() -> list[Figure]:
    figures, (left, right) = panels("the best bell under each divergence", "its centre, as the humps move apart")
    teacher = examples.humps(41, (12.0, 28.0), (0.6, 0.4), 2.7)
    places, gaps = np.arange(41), np.arange(6.0, 29.0)
    left.fill_between(places, np.exp(teacher.log_probs[0]), color="#cccccc", label="teacher")
    for name, line in zip(FOUR, ("-", "-", "--", "-."), strict=True):
        style = {"color": COLOURS[name], "label": NAMES[name]}
        left.plot(places, np.exp(best_bell(name, 41, 16.0).model.log_probs[0]), line, **style)
        right.plot(gaps, [best_bell(name, 91, gap).parameters[0] - 45 for gap in gaps], line, **style)
    right.plot(gaps, -gaps / 2, color="#bbbbbb", linewidth=6, zorder=0)
    right.plot(gaps, gaps / 2, color="#dddddd", linewidth=4, zorder=0)
    right.text(gaps[0], -gaps[0] / 2 - 5, "larger hump", ha="left", va="top", color=GREY, fontsize=9)
    right.text(gaps[0], gaps[0] / 2 + 5, "smaller hump", ha="left", va="bottom", color=GREY, fontsize=9)
    left.set(xlabel="place", ylim=(0, None))
    right.set(xlabel="distance between the humps", ylabel="place, from the midpoint")
    left.legend()
    return figures


def best_bell(name: str, vocab: int, gap: float) -> fitting.Fit:
    """For a teacher whose humps stand `gap` apart, in the middle of the line."""
    middle = (vocab - 1) / 2
    humps = middle - gap / 2, middle + gap / 2
    starts = [np.array([c, np.log(w)]) for c, w in ((humps[0], 2.7), (humps[1], 2.7), (middle, gap / 2))]
    teacher = examples.humps(vocab, humps, (0.6, 0.4), 2.7)
    return fitting.best_student(name, teacher, fitting.bells(vocab), starts)


def collapse_laughs() -> list[Figure]:
    figures, (axis,) = panels("divergence from the echoing teacher, share of its highest value")
    teacher, family = examples.echo(4, 0.6, (0.9, 0.9)), fitting.forgetful(4)
    chances = np.linspace(0.03, 0.99, 193)
    for name, line in zip(FOUR, ("-", "-", "--", "-."), strict=True):
        curve = np.array([sequence_divergence(name, teacher, family(np.array([logit(a)]))) for a in chances])
        curve = curve / curve.max()
        axis.plot(chances, curve, line, color=COLOURS[name], label=NAMES[name])
        axis.plot(chances[curve.argmin()], curve.min(), "o", color=COLOURS[name])
    axis.set(xlabel="student's probability of ha, after any prefix", ylim=(0, 1.05))
    axis.legend()
    return figures
