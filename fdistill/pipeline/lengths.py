"""How long a recipe's texts are in tokens, and so which share of them training will truncate."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from fdistill.pipeline.inputs import RunInputs
from fdistill.recipe import Recipe


class TokenCounter:
    """Counts tokens as training will: by the run's tokenizer where the run has one already, else by the recipe's."""

    def __init__(self, recipe: Recipe):
        self.inputs = RunInputs(recipe)
        made = (self.inputs.folder.teacher / "tokenizer.json").exists()
        self.tokenizer = self.inputs.tokenizer if made else self.inputs.new_tokenizer()

    def __call__(self, examples: Sequence[Any]) -> dict[str, Any]:
        """Return what `statistics` takes beside the examples: token counts and the limits of the students' training."""
        from fdistill.models import tokenize_completion, tokenize_prompt

        adapter: Any = SimpleNamespace(kind=self.inputs.kind)
        limits = self.inputs.lengths
        return {
            "prompt_tokens": [len(tokenize_prompt(self.tokenizer, adapter, example.prompt)) for example in examples],
            "completion_tokens": [
                len(tokenize_completion(self.tokenizer, text, prompt=None))
                for example in examples
                for text in example.texts
            ],
            "max_prompt_length": limits[0],
            "max_completion_length": limits[1],
        }
