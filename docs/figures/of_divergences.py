"""Pictures of pages 1 to 6: what the divergences are, and their bounds."""

from __future__ import annotations

import numpy as np
from drawing import COLOURS, GREY, NAMES, panels, random_pair, tree
from fdistill_reference import GENERATORS, TabularModel, bounds, examples, sequence_divergence, words
from fdistill_reference import stepwise_divergence as value
from fdistill_reference.counterexamples import biased_coins
from fdistill_reference.middles import middle_model
from fdistill_reference.prefixes import Prefixes
from matplotlib.figure import Figure


def divergences() -> list[Figure]:
    figures, (left, right) = panels("what a sequence costs, f(t)", "divergence of one token, teacher: P(ha) = 0.6")
    t = np.linspace(0.02, 4, 400)
    chances = np.linspace(0.01, 0.99, 197)
    teacher = TabularModel.from_probabilities([[0.6, 0.4]], 1)
    for name in ("kl", "reverse_kl", "js", "tvd"):
        style = {"color": COLOURS[name], "label": NAMES[name]}
        left.plot(t, GENERATORS[name](t), **style)
        students = (TabularModel.from_probabilities([[a, 1 - a]], 1) for a in chances)
        right.plot(chances, [sequence_divergence(name, teacher, q) for q in students], **style)
    left.axhline(0, color=GREY, linewidth=0.8)
    left.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
    left.set(xlabel="ratio t = P / Q", ylim=(-1, 3))
    right.axvline(0.6, color=GREY, linewidth=0.8, linestyle=":")
    right.set(xlabel="student's probability of ha", ylim=(0, 1.2))
    left.legend()
    return figures


def steps() -> list[Figure]:
    p, q = examples.laughter()
    figures, (axis,) = panels("", height=3.8)
    local, prefixes = words.kl(p.log_probs, q.log_probs), Prefixes(p, q)
    shown = " + ".join(f"{x:.3f} · {weight:.1g}" for x, weight in zip(local, prefixes.teacher, strict=True))
    axis.set_title(f"KL(P‖Q) = {shown} = {sequence_divergence('kl', p, q):.3f}")
    tree(
        axis,
        p,
        lambda row: f"P = {prefixes.teacher[row]:.1f},  KL = {local[row]:.3f}",
        lambda row, v: f"{examples.LAUGHS[v]}  {np.exp(p.log_probs[row, v]):.1f} | {np.exp(q.log_probs[row, v]):.1f}",
    )
    axis.text(-0.4, -1.75, "on the edges: teacher | student", fontsize=8.5, color=GREY)
    return figures


def every_f() -> list[Figure]:
    figures, (left, right) = panels(
        "divergence of the first t tokens, share of the whole", "JS: cost of the next token, per max(P, Q)"
    )
    p, q = random_pair(2, 8, 3)
    for name in ("kl", "reverse_kl", "js", "tvd", "hellinger"):
        grown = [0.0, *(sequence_divergence(name, p.truncated(t), q.truncated(t)) for t in range(1, 9))]
        left.step(
            range(9), np.array(grown) / grown[-1], where="post", color=COLOURS[name], label=NAMES[name], alpha=0.9
        )
    left.set(xlabel="tokens t", ylim=(0, 1.05))
    left.legend(loc="lower right")
    t, f = np.linspace(0.02, 4, 300), GENERATORS["js"]
    for r, shade in ((0.1, "#a6dbc8"), (1.0, "#009e73"), (10.0, "#00543d")):
        lifted = f(r * t) - f(np.array(r)) - r * f.derivative(np.array(r)) * (t - 1)
        right.plot(t, lifted / max(r, 1.0), color=shade, label=f"r = {r:g}")
    right.set(xlabel="ratio of the token, t = p / q", ylim=(-0.01, 0.4))
    right.legend()
    return figures


def middle() -> list[Figure]:
    p, q = examples.laughter()
    figures, (left, right) = panels("belief w that the teacher writes", "mean belief, by who is writing")
    weights, m = Prefixes(p, q).weight(0.5), middle_model(p, q)
    tree(
        left,
        p,
        lambda row: f"w = {weights[row]:.2f}",
        lambda row, v: f"{examples.LAUGHS[v]}  {np.exp(m.log_probs[row, v]):.2f}",
        colours=weights,
    )
    left.text(-0.4, -1.8, "on the edges: the middle m", fontsize=8.5, color=GREY)
    p, q = random_pair(2, 12, 1, 0.8)
    prefixes = Prefixes(p, q)
    belief = prefixes.weight(0.5)
    levels = p.tree.levels()
    for probs, colour, name in (
        (prefixes.teacher, "#b40426", "teacher writes"),
        (prefixes.student, "#3b4cc0", "student writes"),
    ):
        right.plot(
            range(len(levels)),
            [probs[rows] @ belief[rows] for rows in levels],
            "o-",
            color=colour,
            label=name,
            markersize=4,
        )
    right.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    right.set(xlabel="tokens seen", ylim=(0, 1))
    right.legend()
    return figures


def token_middle() -> list[Figure]:
    figures, (axis,) = panels("the loss J, six tokens, one random pair")
    p, q = random_pair(2, 6, 4, 1.3)
    dial = np.linspace(0, 1, 21)
    token, exact = value("js", p, q), sequence_divergence("js", p, q)
    axis.plot(dial, [value("js", p, q, middle=x) for x in dial], color=COLOURS["js"], label="temper: τ = dial")
    axis.plot(
        dial,
        [value("js", p, q, middle="sequence", clip=4 * x) for x in dial],
        color="#0072b2",
        linestyle="--",
        label="clip: |log r| ≤ 4 · dial",
    )
    axis.plot(
        dial,
        [value("js", p, q, middle="sequence", memory=x) for x in dial],
        color="#d55e00",
        linestyle="-.",
        label="memory: γ = dial",
    )
    axis.axhline(token, color=GREY, linewidth=0.8, linestyle=":")
    axis.axhline(exact, color=GREY, linewidth=0.8, linestyle=":")
    axis.text(1.0, token, "Eqn. 11 (token)", ha="right", va="bottom", color=GREY)
    axis.text(0.0, exact, "JS (Eqn. 12)", ha="left", va="top", color=GREY)
    axis.set(xlabel="dial", ylim=(exact - 0.12 * (token - exact), token + 0.12 * (token - exact)))
    axis.legend(loc="center right")
    return figures


def total_variation() -> list[Figure]:
    figures, (left, right) = panels("three-token laughs", "coins, heads 0.6 and 0.4")
    p, q = examples.longer_laughter()
    bars = {
        "TVD, exact": sequence_divergence("tvd", p, q),
        "product": bounds.product_bound(p, q),
        "overlap": bounds.overlap_bound(p, q),
        "(37) student": bounds.student_bound(p, q),
        "(25) paper": bounds.paper_bound(p, q),
        "(36) teacher": bounds.teacher_bound(p, q),
    }
    shades = ["#333333", "#009e73", "#0072b2", "#dbb3c9", "#cc79a7", "#dbb3c9"]
    drawn = left.barh(list(bars), list(bars.values()), color=shades)
    left.bar_label(drawn, fmt="%.3f", padding=3)
    left.invert_yaxis()
    left.set(xlim=(0, 0.62))
    lengths = range(1, 11)
    pairs = [biased_coins(length, 0.2) for length in lengths]
    for name, bound, colour in (
        ("(25) paper", bounds.paper_bound, "#cc79a7"),
        ("overlap", bounds.overlap_bound, "#0072b2"),
        ("product", bounds.product_bound, "#009e73"),
        ("TVD, exact", lambda a, b: sequence_divergence("tvd", a, b), "#333333"),
    ):
        right.plot(lengths, [bound(*pair) for pair in pairs], color=colour, label=name)
    right.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    right.set(xlabel="tosses T", ylim=(0, 2))
    right.legend()
    return figures
