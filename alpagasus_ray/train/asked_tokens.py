"""The tokens in which training wrote a prompt: what a served model has to be asked with."""

from __future__ import annotations

from collections.abc import Sequence

from alpagasus_ray.corpus.testsets import Prompt
from alpagasus_ray.corpus.triplets import Triplet
from alpagasus_ray.train.models import load_tokenizer
from alpagasus_ray.train.prompting import PROMPTINGS


def asked_token_ids(model: str, template: str, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Return each prompt's tokens as training would have written them before an answer.

    `model` is the trained model's folder, `template` what train.template was. Raises UserError where the
    folder has no tokenizer.
    """
    prompting = PROMPTINGS[template](load_tokenizer(model))
    triplets = [Triplet(prompt.id, prompt.instruction, prompt.input, "") for prompt in prompts]
    return [prompting.ids(prompting.texts(triplet)[0]) for triplet in triplets]
