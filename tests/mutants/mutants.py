"""The faults: each replaces one stretch of text that stands exactly once in its file, and names the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass

LOSS = ("tests/unit/test_loss_contract.py", "tests/unit/test_objectives.py", "tests/unit/test_checks.py")
BATCHES = (*LOSS, "tests/properties/test_backend_batches.py")
KERNEL_TESTS = ("tests/properties/test_backend_kernels.py",)
FUSED = ("tests/properties/test_backend_compiled.py",)
SPARSED = ("tests/properties/test_backend_sparse.py",)
SLOPED = (*BATCHES, "tests/properties/test_backend_slopes.py")
BASELINES = ("tests/properties/test_backend_baselines.py",)


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, `old` becomes `new`; `tests` must fail."""

    file: str
    fault: str
    old: str
    new: str
    tests: tuple[str, ...] = LOSS


DIVERGENCES = "fdistill/divergences.py"
GENERATORS = "fdistill/generators.py"
OBJECTIVES = "fdistill/objectives/table.py"
OPTIONS = "fdistill/objectives/options.py"
PREFIX = "fdistill/prefix.py"
ROWS = "fdistill/loss/rows.py"
STEPS = "fdistill/loss/steps.py"
SCORE = "fdistill/loss/score.py"
CHUNKED = "fdistill/loss/chunked.py"
COMPILED = "fdistill/loss/compiled.py"
SPARSE = "fdistill/loss/sparse.py"
KERNELS = "fdistill/loss/kernels.py"
TRITON_ROWS = "fdistill/loss/triton_rows.py"
GRADIENTS = "fdistill/loss/gradients.py"
SLOPES = "fdistill/loss/slopes.py"
SEQUENCE = "fdistill/loss/sequence.py"
LOGITS = "fdistill/logits.py"
ADAPTERS = "fdistill/models/adapters.py"
ANCESTRAL = "fdistill/sampling/ancestral.py"
RANDOM = "fdistill/sampling/random.py"
STEP = "fdistill/trainer/step.py"
BASE = "fdistill/trainer/base.py"
RISKS = "fdistill/evaluate/risks.py"
ESTIMATES = "fdistill/evaluate/divergences.py"
MODELS = ("tests/unit/test_models_adapters.py",)
SAMPLING = ("tests/unit/test_sampling.py",)
TRAINER = ("tests/unit/test_trainer_step.py", "tests/integration/test_trainer_matrix.py")
RISK_TESTS = ("tests/unit/test_evaluate_divergences.py", "tests/unit/test_evaluate_metrics.py")

MUTANTS: tuple[Mutant, ...] = (
    Mutant(DIVERGENCES, "KL the wrong way round", "log_p.exp(), log_p - log_q)", "log_q.exp(), log_q - log_p)"),
    Mutant(DIVERGENCES, "reverse KL the wrong way round", "log_q.exp(), log_q - log_p)", "log_p.exp(), log_p - log_q)"),
    Mutant(DIVERGENCES, "tvd without its ½", "return 0.5 * (log_p.exp()", "return (log_p.exp()"),
    Mutant(
        DIVERGENCES,
        "the middle's weight on the other model",
        "_log_middle_over(log_p, log_q, log_odds)",
        "_log_middle_over(log_p, log_q, -log_odds)",
    ),
    Mutant(
        DIVERGENCES,
        "the student's middle mirrored",
        "_log_middle_over(log_q, log_p, -log_odds)",
        "_log_middle_over(log_q, log_p, log_odds)",
    ),
    Mutant(
        DIVERGENCES,
        "the middle held constant",
        "difference = (log_other - log_this)",
        "difference = (log_other - log_this).detach()",
    ),
    Mutant(DIVERGENCES, "ENGINE with the student's entropy", "log_q.exp(), -log_p)", "log_q.exp(), log_q - log_p)"),
    Mutant(DIVERGENCES, "JS halves with equal weights", "log_odds.sigmoid() * teacher_half", "0.5 * teacher_half"),
    Mutant(DIVERGENCES, "0 log 0 is NaN", "values.masked_fill(probs == 0, 0.0)", "values", BATCHES),
    Mutant(
        DIVERGENCES,
        "nll of the first token",
        "tokens.unsqueeze(-1)).squeeze(-1)",
        "0 * tokens.unsqueeze(-1)).squeeze(-1)",
    ),
    Mutant(
        GENERATORS,
        "student rows without the prefix ratio",
        'log_p + (0.0 if over == "teacher" else log_r)',
        "log_p",
    ),
    Mutant(GENERATORS, "the shifted generator without f(r)", "- b_scaled * at_r", ""),
    Mutant(
        GENERATORS, "chi-square's generator halved", "lambda t: (t - 1).square()", "lambda t: 0.5 * (t - 1).square()"
    ),
    Mutant(
        GENERATORS,
        "js generator with the weights swapped",
        "a, b = teacher_weight, 1 - teacher_weight",
        "b, a = teacher_weight, 1 - teacher_weight",
    ),
    Mutant(GENERATORS, "teacher rows not divided by r", "log_b = log_q - log_r", "log_b = log_q"),
    Mutant(GENERATORS, "any function passes as convex", "if falls.any():", "if False:"),
    Mutant(OBJECTIVES, "kl on student prefixes", '_simple("teacher", "kl")', '_simple("student", "kl")'),
    Mutant(OBJECTIVES, "rkl is kl", '_simple("student", "reverse_kl")', '_simple("student", "kl")'),
    Mutant(OBJECTIVES, "seqkd reads samples", '_simple("teacher", "nll", "beam")', '_simple("teacher", "nll")'),
    Mutant(
        OBJECTIVES,
        "js's student half weighed by π",
        'Term("student", "reverse_kl_to_middle", 1 - pi,',
        'Term("student", "reverse_kl_to_middle", pi,',
    ),
    Mutant(OBJECTIVES, "the prior lost from the middle", "return prior + tau", "return tau"),
    Mutant(
        OBJECTIVES,
        "sequence middle is the token middle",
        '{"token": 0.0, "sequence": 1.0}',
        '{"token": 0.0, "sequence": 0.0}',
    ),
    Mutant(
        OBJECTIVES,
        "teacher-only JS with the mirror's weight",
        "log_inverse_posterior(s.log_ratio, pi)",
        "log_inverse_posterior(-s.log_ratio, 1 - pi)",
    ),
    Mutant(
        OBJECTIVES,
        "overlap weights swapped",
        "lambda s: (-power * s.log_ratio.relu()).exp(),",
        "lambda s: (-power * (-s.log_ratio).relu()).exp() + 0,",
    ),
    Mutant(
        OBJECTIVES,
        "product weights swapped",
        "return lambda s: s.log_overlap_teacher.exp(), lambda s: s.log_overlap_student.exp()",
        "return lambda s: s.log_overlap_student.exp(), lambda s: s.log_overlap_teacher.exp()",
    ),
    Mutant(
        OPTIONS,
        "a schedule that runs backwards",
        "(1 - progress) * float(value[0]) + progress * float(value[1])",
        "progress * float(value[0]) + (1 - progress) * float(value[1])",
    ),
    Mutant(
        OBJECTIVES,
        "tvd's student half weighed by π",
        'Term("student", "tvd", 1 - pi, student_prefix)',
        'Term("student", "tvd", pi, student_prefix)',
    ),
    Mutant(
        OBJECTIVES,
        "balance without the overlap share",
        'Term("teacher", "tvd", pi, share)',
        'Term("teacher", "tvd", pi, None)',
    ),
    Mutant(
        PREFIX,
        "the ratio includes the current token",
        "return torch.cat([torch.zeros_like(before[:, :1]), before[:, :-1]], dim=1)",
        "return before",
    ),
    Mutant(PREFIX, "the ratio upside down", "ratio = (log_p - log_q)", "ratio = (log_q - log_p)"),
    Mutant(
        PREFIX,
        "masked tokens enter the ratio",
        "log_p = token_log_probs_teacher.masked_fill(~mask, 0.0)",
        "log_p = token_log_probs_teacher.nan_to_num(0.0) - 1.0 * ~mask",
    ),
    Mutant(
        PREFIX,
        "the ratio runs on into the next document",
        "starts = None if documents is None else first_steps(documents)\n    log_p",
        "starts = None\n    log_p",
    ),
    Mutant(
        PREFIX,
        "memory forgets the new token and not the old",
        "torch.zeros_like(state)) + step",
        "torch.zeros_like(state)) + memory * step",
    ),
    Mutant(
        PREFIX,
        "overlap share without the prior",
        "math.log(teacher_weight) + log_ratio.relu()",
        "math.log(0.5) + log_ratio.relu()",
    ),
    Mutant(PREFIX, "full gradient through constants", "value.detach() for name", "value for name"),
    Mutant(
        ROWS,
        "the tail bucket lost",
        "torch.cat([log_q_of_ids, logsumexp(others).unsqueeze(-1)], dim=-1)",
        "torch.cat([log_q_of_ids, log_q_of_ids[..., :1]], dim=-1)",
    ),
    Mutant(
        ROWS, "top-k renormalised and the tail dropped", "if ids.shape[-1] == log_q.shape[-1]:", "if True:", SLOPED[-1:]
    ),
    Mutant(
        ROWS,
        "half precision inside",
        "self.index[part])\n\n    def log_probs(self, part: slice = ALL) -> Tensor:\n"
        "        return self.logits_of(part).to(self.dtype).log_softmax(-1)",
        "self.index[part])\n\n    def log_probs(self, part: slice = ALL) -> Tensor:\n"
        "        return self.logits_of(part).log_softmax(-1).to(self.dtype)",
        BATCHES,
    ),
    Mutant(
        ROWS, "rows scattered to the wrong steps", "index_copy(0, index, rows)", "index_copy(0, index.flip(0), rows)"
    ),
    Mutant(
        STEPS,
        "gradient flows into the teacher",
        "    with torch.no_grad():\n        log_p = None if",
        "    if True:\n        log_p = None if",
        (*LOSS,),
    ),
    Mutant(
        STEPS,
        "the prefix live under the step-wise gradient",
        "return prefix if batch.full else prefix.detach()",
        "return prefix",
    ),
    Mutant(
        STEPS,
        "the prefix constant under the full gradient",
        "return prefix if batch.full else prefix.detach()",
        "return prefix.detach()",
    ),
    Mutant(STEPS, "a term's weight lost", "value if self.term.weight == 1.0 else self.term.weight * value", "value"),
    Mutant(
        STEPS,
        "ratio from buckets",
        "return teacher.token_log_probs\n",
        "return teacher.log_probs_of_ids[..., 0]\n",
        BATCHES,
    ),
    Mutant(
        SCORE,
        "the return starts at the step itself",
        "return torch.cat([from_here[:, 1:], torch.zeros_like(from_here[:, :1])], dim=1)",
        "return from_here",
    ),
    Mutant(SCORE, "the score part has a value", "(log_q - log_q.detach()) * advantage", "log_q * advantage"),
    Mutant(
        SCORE,
        "a baseline that includes the sample",
        "(total[group] - returns) / (sizes[group] - 1).unsqueeze(1)",
        "total[group] / sizes[group].unsqueeze(1)",
        BASELINES,
    ),
    Mutant(SCORE, "a baseline that is forgotten", "- baseline_of(batch, returns)", "", BASELINES),
    Mutant(
        SCORE,
        "the return runs on into the next document",
        "return torch.stack(out[::-1], dim=1)",
        "return returns_to_go(steps, None)",
        BATCHES,
    ),
    Mutant(
        SEQUENCE,
        "the score part on teacher samples too",
        'batch.full and batch.source == "student" and values',
        "batch.full and values",
    ),
    Mutant(SEQUENCE, "no score part", "loss = loss if found.score is None else loss + found.score.sum()", "pass"),
    Mutant(
        SEQUENCE,
        "the count of tokens for sequences",
        'counts["tokens" if reduction == "token" else "sequences"]',
        'counts["sequences" if reduction == "token" else "tokens"]',
    ),
    Mutant(SEQUENCE, "the normalizer ignored", "if normalizer is None else normalizer", "if True else normalizer"),
    Mutant(
        SEQUENCE,
        "packed documents counted as rows",
        "starts = None if documents is None else first_steps(documents)",
        "starts = None",
    ),
    Mutant(
        SEQUENCE,
        "a given baseline in another unit than the returns",
        "baseline=batch.baseline / count",
        "baseline=batch.baseline",
        BASELINES,
    ),
    Mutant(SEQUENCE, "weights ignored", "return expanded.detach()", "return torch.ones_like(expanded)"),
    Mutant(
        GRADIENTS,
        "a block's gradient of the head overwrites the last",
        "self.weight.addmm_(back.t(), scaled)",
        "self.weight.copy_(back.t() @ scaled)",
        BATCHES,
    ),
    Mutant(GRADIENTS, "the hidden states' gradient unscaled", "else found * head.scale", "else found", BATCHES),
    Mutant(GRADIENTS, "the cap's slope lost", "if head.softcap is not None:", "if False:", BATCHES),
    Mutant(
        CHUNKED,
        "the last row dropped",
        "for start in range(first, rows, size))",
        "for start in range(first, max(rows - 1, 1), size))",
        BATCHES,
    ),
    Mutant(CHUNKED, "the pull of the normaliser lost", "pull = pull - factor * found.total", "pass", SLOPED),
    Mutant(
        CHUNKED,
        "the second term's slope overwrites the first's",
        "out.addcmul_(found.slope, factor.unsqueeze(-1))",
        "torch.mul(found.slope, factor.unsqueeze(-1), out=out)",
        BATCHES,
    ),
    Mutant(CHUNKED, "a fused chunk's values unweighted", "[factor * value for factor,", "[value for factor,", FUSED),
    Mutant(
        CHUNKED,
        "what fused chunks leave over is lost",
        "return len(logits) - (left if left < least else 0)",
        "return len(logits)",
        FUSED,
    ),
    Mutant(
        CHUNKED,
        "rows that compiled loops refused are left out",
        "elif not self._fused_as_they_lie(block, terms, dense):",
        "elif self._fused_as_they_lie(block, terms, dense) is None:",
        FUSED,
    ),
    Mutant(TRITON_ROWS, "a kernel's normaliser lost", "pull * (slope - q * whole)", "pull * slope", KERNEL_TESTS),
    Mutant(
        TRITON_ROWS,
        "the sum behind the online softmax keeps its old scale",
        "total * tl.exp(before - largest) + tl.sum",
        "total + tl.sum",
        KERNEL_TESTS,
    ),
    Mutant(
        TRITON_ROWS,
        "a kernel's student half of JS without its weight",
        "(log_ratio + own / ratio)",
        "log_ratio",
        KERNEL_TESTS,
    ),
    Mutant(
        KERNELS,
        "a user's function taken for ours",
        "if getattr(divergences, name, None) is function else None",
        "",
        KERNEL_TESTS,
    ),
    Mutant(
        CHUNKED,
        "logits that a kernel has overwritten are read again",
        "self.overwritten = out.data_ptr() == logits.data_ptr()",
        "self.overwritten = False",
        KERNEL_TESTS,
    ),
    Mutant(COMPILED, "the fused normaliser lost", "gradient - q.exps * (back", "gradient - 0 * q.exps * (back", FUSED),
    Mutant(
        COMPILED,
        "a logarithm once a row, between the loops",
        "self.scale.expand_as(self.exps).log()",
        "self.scale.log()",
        FUSED,
    ),
    Mutant(
        COMPILED,
        "a masked batch's gradient packed to the front",
        "out.index_copy_(0, index, gradient.to(out.dtype))",
        "out[: len(index)] = gradient.to(out.dtype)",
        FUSED,
    ),
    Mutant(
        COMPILED,
        "a masked batch's tokens looked up in other rows",
        "logits[index.unsqueeze(-1), ids]",
        "logits[: len(index)].gather(-1, ids)",
        FUSED,
    ),
    Mutant(SLOPES, "a sign of what contraction leaves of nothing", ".masked_fill_(q == p, 0.0)", "", FUSED),
    Mutant(COMPILED, "products and sums rounded one by one", '"fast"} if', '"off"} if', FUSED),
    Mutant(CHUNKED, "a compiled gradient left beside the logits", "out[part] = target", "pass", FUSED),
    Mutant(CHUNKED, "weights that look ahead believed", "if work.told_the_truth(final):", "if True:", BATCHES),
    Mutant(
        SLOPES,
        "total variation's slope of the other sign",
        "slope, slope.sum(-1), 0.5)",
        "slope, slope.sum(-1), -0.5)",
        SLOPED,
    ),
    Mutant(
        SLOPES,
        "the middle's weight on the wrong model",
        "slope.sum(-1), -own_share)",
        "slope.sum(-1), -teacher_share)",
        SLOPED,
    ),
    Mutant(SPARSE, "a bucket's slope not shared out", "slope[:, -1] / others", "slope[:, -1]", SPARSED),
    Mutant(
        SPARSE,
        "an unreachable bucket's shares believed",
        "if bool((outside < out.shape[-1] * torch.finfo(dtype).tiny).any()):",
        "if False:",
        SPARSED,
    ),
    Mutant(SPARSE, "a term's slope over another's", "slope.addcmul_(", "slope.zero_().addcmul_(", SPARSED),
    Mutant(
        STEPS,
        "a slope without its term's weight",
        "factor=self.term.weight * found.factor",
        "factor=found.factor",
        BATCHES,
    ),
    Mutant(CHUNKED, "the incoming gradient ignored", "if float(grad_loss) != 1.0:", "if False:", BATCHES),
    Mutant(LOGITS, "the head's scale lost", "states if self.scale == 1.0 else states * self.scale", "states"),
    Mutant(LOGITS, "the cap's argument not divided", "torch.tanh(logits / self.softcap)", "torch.tanh(logits)"),
    Mutant(
        ADAPTERS,
        "decoder-only logits off by one",
        "ids = torch.cat([prompts.ids, tokens[:, :-1]], dim=1)",
        "ids = torch.cat([prompts.ids, tokens[:, 1:]], dim=1)",
        MODELS,
    ),
    Mutant(
        ADAPTERS,
        "the decoder reads the token that it predicts",
        "_readable(torch.cat([first, tokens[:, :-1]], dim=1), model)",
        "_readable(tokens, model)",
        MODELS,
    ),
    Mutant(
        ANCESTRAL,
        "draws scored under the truncated law",
        "rows.take(position, token, log_probs.gather(",
        "rows.take(position, token, weights.gather(",
        SAMPLING,
    ),
    Mutant(
        ANCESTRAL,
        "random numbers that belong to a place in the batch",
        "self.index[rows], self.bits[rows], self.active[rows]",
        "self.index[rows], self.bits[: len(rows)], self.active[rows]",
        SAMPLING,
    ),
    Mutant(
        ANCESTRAL,
        "forced tokens count",
        "        self._append(position, torch.full_like(self.index, token))",
        "        self.mask[self.index, position] = self.active\n"
        "        self._append(position, torch.full_like(self.index, token))",
        SAMPLING,
    ),
    Mutant(
        ANCESTRAL, "sampling goes on after EOS", "self.active & ~torch.isin(token, self.eos)", "self.active", SAMPLING
    ),
    Mutant(RANDOM, "every draw gets the same number", "* _signed(_MIX_1)", "* 0", SAMPLING),
    Mutant(
        STEP,
        "the optimizer step's count ignored",
        "normalizer=normalizers.get(half.source),",
        "normalizer=None,",
        TRAINER,
    ),
    Mutant(
        STEP,
        "the teacher's draws share the student's numbers",
        'torch.full_like(batch["example"], self.num_student_samples)',
        'torch.zeros_like(batch["example"])',
        TRAINER,
    ),
    Mutant(
        STEP,
        "halves read each other's prompts",
        "encoded=None if encoded is None else encoded.select(rows),",
        "encoded=None if encoded is None else encoded.select(rows.flip(0)),",
        TRAINER,
    ),
    Mutant(
        STEP,
        "tokens counted for sequences",
        'counted = mask if self.reduction == "token" else mask.any(1, keepdim=True)',
        "counted = mask",
        TRAINER,
    ),
    Mutant(
        BASE,
        "ranks average what should be summed",
        'loss = outputs["loss"] * ranks',
        'loss = outputs["loss"]',
        ("tests/integration/test_trainer_matrix.py::test_two_processes_are_one_batch",),
    ),
    Mutant(
        ESTIMATES,
        "the estimate of JS is what it falls short of log 2",
        "return math.log(2) - entropy,",
        "return entropy,",
        RISK_TESTS,
    ),
    Mutant(
        RISKS,
        "coverage risk scores with the teacher",
        '_negative_log_likelihood("r_cvg", teacher_samples, teacher_samples.log_q',
        '_negative_log_likelihood("r_cvg", teacher_samples, teacher_samples.log_p',
        RISK_TESTS,
    ),
    Mutant(
        RISKS,
        "likelihood risk scores with the student",
        '_negative_log_likelihood("r_llh", student_samples, student_samples.log_p',
        '_negative_log_likelihood("r_llh", student_samples, student_samples.log_q',
        RISK_TESTS,
    ),
)
