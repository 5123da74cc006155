"""Students cut out of a teacher: some of its layers, copied, and everything else as it is."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from fdistill.errors import RecipeError
from fdistill.models.adapters import unwrap


def make_student(teacher: Any, encoder_layers: int | None = None, decoder_layers: int | None = None) -> Any:
    """Return a model of the teacher's class with fewer layers, copied from alternate layers of the teacher.

    Layers are spread evenly, the first and the last included (Shleifer and Rush, 2020); of one layer it is the first.
    Embeddings, heads and norms are copied too. Nothing is shared with the teacher, and the result saves and loads like
    any model of Transformers. Which layers were taken is kept in `student.config.fdistill_layers`.

    Args:
        teacher: a Transformers model with a language-model head.
        encoder_layers: layers of the student's encoder; None: as many as the teacher's. Encoder-decoder models only.
        decoder_layers: layers of its decoder, or of a decoder-only model; None: as many as the teacher's.
    """
    teacher = unwrap(teacher)
    stacks = layer_stacks(teacher)
    wanted = {"encoder": encoder_layers, "decoder": decoder_layers}
    if encoder_layers is not None and "encoder" not in stacks:
        raise RecipeError(
            f"encoder_layers is {encoder_layers}, but {type(teacher).__name__} has no encoder. "
            "Give decoder_layers alone for a decoder-only teacher."
        )
    layers = {
        stack: pick_layers(len(modules), wanted[stack], f"{stack}_layers") for stack, (_, modules) in stacks.items()
    }
    student = _empty_student(teacher, layers)
    _copy_weights(teacher, student, {name: layers[stack] for stack, (name, _) in stacks.items()})
    return student


def pick_layers(available: int, wanted: int | None, name: str = "layers") -> list[int]:
    """Return `wanted` of the indices 0..available-1, evenly spread, both ends included."""
    if wanted is None:
        return list(range(available))
    if not 1 <= wanted <= available:
        raise RecipeError(
            f"{name} is {wanted}, but the teacher has {available} layers to copy from: "
            f"a student made from a teacher takes 1 to {available} of them."
        )
    if wanted == 1:
        return [0]
    # i (available-1) / (wanted-1), rounded half up in whole numbers
    return [(2 * i * (available - 1) + wanted - 1) // (2 * (wanted - 1)) for i in range(wanted)]


def layer_stacks(model: Any) -> dict[str, tuple[str, nn.ModuleList]]:
    """Return by stack ("encoder", "decoder") the qualified name and the modules of its list of layers."""
    if model.config.is_encoder_decoder:
        parts = {"encoder": model.get_encoder(), "decoder": model.get_decoder()}
    else:
        parts = {"decoder": model.base_model}
    names = {module: name for name, module in model.named_modules()}
    found = {}
    for stack, part in parts.items():
        lists = [child for _, child in part.named_modules() if isinstance(child, nn.ModuleList) and len(child) > 0]
        if not lists:
            raise RecipeError(f"{type(model).__name__} keeps its {stack} layers where make_student does not find them.")
        found[stack] = (names[lists[0]], lists[0])
    return found


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _empty_student(teacher: Any, layers: dict[str, list[int]]) -> Any:
    """Build a model of the teacher's class with the layer counts of `layers`; its weights are still to be copied."""
    config = _student_config(teacher.config, layers)
    with torch.random.fork_rng(devices=[]):  # its initial weights are all overwritten: leave the caller's numbers alone
        student = type(teacher)(config)
    student = student.to(device=teacher.device, dtype=teacher.dtype)
    student.generation_config = copy.deepcopy(teacher.generation_config)
    student.train(teacher.training)
    return student


def _student_config(teacher_config: Any, layers: dict[str, list[int]]) -> Any:
    config = copy.deepcopy(teacher_config)
    config.fdistill_layers = layers
    counts = {
        "encoder": ("encoder_layers", "num_layers", "num_encoder_layers"),
        "decoder": ("decoder_layers", "num_decoder_layers") if "encoder" in layers else ("num_hidden_layers",),
    }
    _select_per_layer_lists(config, layers)
    for stack, picked in layers.items():
        for field in counts[stack]:
            if hasattr(config, field):
                setattr(config, field, len(picked))
    if "encoder" in layers and "num_hidden_layers" in vars(config):
        config.num_hidden_layers = len(layers["encoder"])
    return config


def _select_per_layer_lists(config: Any, layers: dict[str, list[int]]) -> None:
    """Cut lists with an entry a layer (layer_types, no_rope_layers) to the layers that were picked."""
    picked = layers["decoder"]
    before = config.num_hidden_layers
    for field, value in list(vars(config).items()):
        per_layer = field.endswith(("_types", "_layers")) and isinstance(value, (list, tuple))
        if per_layer and field != "fdistill_layers" and len(value) == before and "encoder" not in layers:
            setattr(config, field, type(value)(value[index] for index in picked))


def _copy_weights(teacher: Any, student: Any, layers: dict[str, list[int]]) -> None:
    """Copy every parameter and buffer; `layers` maps the name of each list of layers to the indices picked from it."""
    source = teacher.state_dict()
    weights = {}
    for name in student.state_dict():
        origin = name
        for stack, picked in layers.items():
            if name.startswith(stack + "."):
                index, rest = name[len(stack) + 1 :].split(".", 1)
                origin = f"{stack}.{picked[int(index)]}.{rest}"
        if origin not in source:
            raise RecipeError(
                f"the teacher has no weights {origin!r} to copy: its layers are wrapped. "
                "Merge its adapters first (merge_and_unload)."
            )
        weights[name] = source[origin]
    student.load_state_dict(weights)
