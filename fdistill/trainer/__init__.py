"""Training on transformers.Trainer: `FDistillConfig` and `FDistillTrainer`.

Chapters: `config` (what can be set), `data` (text to batches), `loading` (models and tokenizer, checked), `sources` (where
completions and teacher probabilities come from), `step` (draw, one student pass, one teacher pass, loss), `forward` (a
step inside one forward of the student), `dropout`, `metrics`, `card`, `base` (what pre-distillation shares), `trainer`.
"""

from fdistill.trainer.config import FDistillConfig
from fdistill.trainer.trainer import FDistillTrainer

__all__ = ["FDistillConfig", "FDistillTrainer"]
