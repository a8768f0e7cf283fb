"""Do training's prompts have the tokens that serving will see? Looked at before anything is started. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from alpagasus_ray.corpus.row_forms import RejectedRowError, RowForm
from alpagasus_ray.corpus.triplets import parse_triplet
from alpagasus_ray.errors import UserError
from alpagasus_ray.train.examples import example_ids
from alpagasus_ray.train.prompting import PROMPTINGS

SAMPLE_SIZE = 50
"""Rows that are looked at, drawn at random, and the longest besides."""
SHOWN = 4
"""Ids that are shown from a difference on."""


def check_parity(
    rows: Sequence[Mapping[str, Any]], form: RowForm, template: str, tokenizer: Any, served: Any, seed: int
) -> None:
    """Raise UserError at the first of a sample of rows whose prompt serving would see in other tokens.

    `tokenizer` is training's, `served` the one that is loaded from what training will write. A prompt that
    starts with two BOS is refused too: no model was trained on it.
    """
    training, serving = PROMPTINGS[template](tokenizer), PROMPTINGS[template](served)
    bos = getattr(tokenizer, "bos_token_id", None)
    for number in _sample(rows, seed):
        try:
            triplet = parse_triplet(rows[number], form)
            ids, num_prompt_tokens = example_ids(triplet, tokenizer, training)
        except RejectedRowError:
            continue
        trained, asked = ids[:num_prompt_tokens], serving.served_ids(triplet)
        _check_row(number, trained, asked, bos, training.end_id, _source(template))


def _check_row(
    number: int, trained: list[int], asked: list[int], bos: int | None, end: int, source: str
) -> None:
    where = f"row {number + 1} of train.json: its prompt"
    if bos is not None and trained[:2] == [bos, bos]:
        raise UserError(
            f"{where} starts with two BOS ({_around(trained, 0)}): {source} adds one too many; set "
            "add_bos_token to false in tokenizer_config.json, or take one out of tokenizer.json's "
            "post-processor or the chat template"
        )
    if trained == asked:
        return
    pairs = zip(trained, asked, strict=False)
    place = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(trained), len(asked)))
    told = (
        f"{where} is trained on as {_around(trained, place)} and will be served as {_around(asked, place)} "
        f"(ids around place {place}): "
    )
    if asked == [*trained, end]:
        raise UserError(
            f"{told}the tokenizer ends every text with EOS ({end}), so an asked model would find its answer "
            "over; set add_eos_token to false in tokenizer_config.json, or take EOS out of tokenizer.json's "
            "post-processor"
        )
    raise UserError(
        f"{told}{source} does not survive being saved and loaded; save it anew with "
        "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) and train from that"
    )


def _source(template: str) -> str:
    return "the chat template, or the tokenizer," if template == "chat" else "the tokenizer"


def _sample(rows: Sequence[Mapping[str, Any]], seed: int) -> list[int]:
    """Return the places of the longest row and of others at random, in order."""
    if not rows:
        return []
    drawn = random.Random(seed).sample(range(len(rows)), min(SAMPLE_SIZE, len(rows)))
    return sorted({*drawn, max(range(len(rows)), key=lambda place: len(str(rows[place])))})


def _around(ids: list[int], place: int) -> str:
    start, stop = max(0, place - 2), place + SHOWN
    shown = " ".join(str(one) for one in ids[start:stop])
    return f"{'... ' if start else ''}{shown or 'nothing'}{' ...' if stop < len(ids) else ''}"
