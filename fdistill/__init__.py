"""f-DISTILL: sequence-level knowledge distillation as f-divergence minimisation (Wen et al., ACL 2023).

Public names load on first use, so that importing the package, and asking for an objective, needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "fdistill.errors": (
        "CheckError",
        "DataError",
        "FDistillError",
        "ObjectiveError",
        "RecipeError",
        "StoreError",
        "TrainingError",
        "VocabularyError",
    ),
    "fdistill.divergences": ("DIVERGENCES", "Divergence"),
    "fdistill.generators": ("GENERATORS", "Generator"),
    "fdistill.prefix": ("Prefix",),
    "fdistill.logits": ("LinearLogits", "Logits", "TopKLogits"),
    "fdistill.objectives": ("OBJECTIVES", "SOURCES", "Objective", "Term", "objective"),
    "fdistill.loss": ("LossOutput", "sequence_loss", "step_losses"),
    "fdistill.models": ("make_student",),
    "fdistill.store": ("TeacherStore",),
    "fdistill.trainer": ("FDistillConfig", "FDistillTrainer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF, "__version__"]

if TYPE_CHECKING:
    from fdistill.divergences import DIVERGENCES, Divergence
    from fdistill.errors import (
        CheckError,
        DataError,
        FDistillError,
        ObjectiveError,
        RecipeError,
        StoreError,
        TrainingError,
        VocabularyError,
    )
    from fdistill.generators import GENERATORS, Generator
    from fdistill.logits import LinearLogits, Logits, TopKLogits
    from fdistill.loss import LossOutput, sequence_loss, step_losses
    from fdistill.models import make_student
    from fdistill.objectives import OBJECTIVES, SOURCES, Objective, Term, objective
    from fdistill.prefix import Prefix
    from fdistill.store import TeacherStore
    from fdistill.trainer import FDistillConfig, FDistillTrainer


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fdistill' has no attribute {name!r}")
    # `fdistill.objective` is a function; the module it lives in must not be returned in its place.
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
