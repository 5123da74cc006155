"""Tiny models, texts and independent computations that the trainer's tests share."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback

from fdistill.loss import sequence_loss
from fdistill.models import build_model, train_tokenizer
from fdistill.trainer import FDistillConfig, FDistillTrainer

torch.set_num_threads(1)

SIZES = {
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 2},
    "bart": {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 128,
    },
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
    },
}
FAMILIES = tuple(SIZES)
KINDS = {"t5": "encoder-decoder", "bart": "encoder-decoder", "gpt2": "decoder-only", "llama": "decoder-only"}

ROWS = [
    {"prompt": f"name: place {index}, food: {food}", "completion": f"Place {index} serves {food}{'.' * (index % 3)}"}
    for index, food in enumerate(["fish", "noodles and tea", "rice", "bread", "soup", "pies", "curry", "jam"])
]


@cache
def tokenizer_of(kind: str) -> Any:
    """A byte-level tokenizer of a few hundred tokens."""
    return train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 290, kind)


def tokenizer_for(family: str) -> Any:
    return tokenizer_of(KINDS[family])


def tiny_model(family: str, seed: int = 0) -> Any:
    """A tiny model whose next-token distributions differ from uniform: its weights are larger than usual."""
    spread = 3.0 if family == "t5" else 15.0
    model = build_model({"model_type": family, **SIZES[family]}, tokenizer_for(family), seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    return model


def with_draws(family: str, rows: list[dict] | None = None, several: int = 1) -> list[dict]:
    """Rows with completions that stand for the teacher's, as ids."""
    tokenizer = tokenizer_for(family)
    made = []
    for index, row in enumerate(ROWS if rows is None else rows):
        draws = [
            tokenizer(f"{row['completion']} {draw}!{'?' * (index % 4)}", add_special_tokens=False)["input_ids"]
            + [tokenizer.eos_token_id]
            for draw in range(several)
        ]
        made.append({**row, "teacher_completion_ids": draws[0] if several == 1 else draws})
    return made


def naive_logits(model: Any, prompts: list[list[int]], completions: list[list[int]]) -> list[Tensor]:
    """Logits that predict every completion, one example at a time and without padding: no adapter, no batch."""
    found = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids, tokens = torch.tensor([prompt]), torch.tensor([completion])
        if model.config.is_encoder_decoder:
            start = torch.tensor([[model.config.decoder_start_token_id]])
            read = torch.cat([start, tokens[:, :-1]], 1)
            found.append(type(model).forward(model, input_ids=ids, decoder_input_ids=read).logits[0])
        else:
            whole = type(model).forward(model, input_ids=torch.cat([ids, tokens], 1)).logits[0]
            found.append(whole[len(prompt) - 1 : -1])
    return found


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


#: Of the largest entry of a gradient: float32 keeps 6e-8, and passes with another padding add up hundreds of numbers in
#: another order.
FLOAT32_TOLERANCE = 2e-5


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = FLOAT32_TOLERANCE) -> None:
    """Both have the same names, and every entry agrees up to `tolerance` of the largest entry of all."""
    assert found.keys() == wanted.keys()
    scale = max(float(x.abs().max()) for x in wanted.values())
    for name, tensor in wanted.items():
        error = float((found[name] - tensor).abs().max())
        assert error <= tolerance * scale, f"{name}: off by {error}, and the largest entry is {scale}"


class Record(TrainerCallback):
    """Keeps the gradient of every optimizer step as it is before the step, and the batches' completions."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.gradients.append(gradients(model))


class RecordingTrainer(FDistillTrainer):
    """Keeps what every training batch was made of."""

    def note_outputs(self, batch: dict, outputs: dict) -> None:
        super().note_outputs(batch, outputs)
        self.batches = [*getattr(self, "batches", []), (batch, outputs)]


def config(folder: Any, **options: Any) -> FDistillConfig:
    """One step on the CPU that neither clips nor saves nor reports, unless told otherwise."""
    defaults: dict[str, Any] = {
        "objective": "js",
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "max_completion_length": 12,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "verify": False,
    }
    return FDistillConfig(output_dir=str(folder), **{**defaults, **options})


def run_steps(student: Any, teacher: Any, args: FDistillConfig, rows: list[dict], family: str, **kwargs: Any):
    """Train, and return the trainer, its record and the student as it was before."""
    record = Record()
    trainer = RecordingTrainer(
        student, teacher, args, rows, processing_class=tokenizer_for(family), callbacks=[record], **kwargs
    )
    before = copy.deepcopy(trainer.model)
    trainer.train()
    return trainer, record, before


def kept(tokens: Tensor, mask: Tensor) -> list[list[int]]:
    """The real tokens of every row, forced ones included: everything up to the last counted one."""
    return [row[: int(m.nonzero().max()) + 1].tolist() for row, m in zip(tokens, mask, strict=True)]


def independent_loss(trainer: Any, student: Any, teacher: Any, **options: Any) -> Tensor:
    """The loss of the recorded batches as one batch: logits one example at a time, then `sequence_loss`."""
    objective = trainer.objective
    rows: dict[str, list] = {source: [] for source in objective.sources}
    for batch, outputs in trainer.batches:
        prompts = [row[m].tolist() for row, m in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        for source in objective.sources:
            held = outputs if source == "student" else batch
            tokens, mask = held[f"{source}_tokens"], held[f"{source}_mask"]
            times = len(tokens) // len(prompts)
            owners = [prompt for prompt in prompts for _ in range(times)]
            rows[source] += list(zip(owners, kept(tokens, mask), [m.tolist() for m in mask], strict=True))
    parts = []
    for source, found in rows.items():
        prompts, tokens = [row[0] for row in found], [row[1] for row in found]
        with torch.no_grad():
            theirs = pad_sequence(naive_logits(teacher, prompts, tokens), batch_first=True) if teacher else None
        ours = pad_sequence(naive_logits(student, prompts, tokens), batch_first=True)
        mask = pad_sequence([torch.tensor(row[2][: len(row[1])]) for row in found], batch_first=True)
        parts.append(
            sequence_loss(
                objective,
                source,
                student_logits=ours,
                teacher_logits=theirs if objective.needs_teacher(source) else None,
                tokens=pad_sequence([torch.tensor(row) for row in tokens], batch_first=True),
                mask=mask,
                reduction=trainer.args.reduction,
                **(options if source == "student" else {}),
            ).loss
        )
    return torch.stack(parts).sum()
