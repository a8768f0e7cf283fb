"""What a comparison has to say on the terminal. Pure."""

from __future__ import annotations

from alpagasus_ray.compare.pairing import Answers
from alpagasus_ray.corpus.ingest import describe_failures
from alpagasus_ray.corpus.testsets import POOLED
from alpagasus_ray.manifests import Manifest


def summary_line(names: tuple[str, str], manifest: Manifest, worked: bool) -> str:
    """Return what a comparison came to."""
    pooled = manifest.details[POOLED]
    score = pooled["winning_score"]
    parts = [
        f"{pooled['win']} win, {pooled['tie']} tie, {pooled['lose']} lose",
        "no verdict" if score is None else f"winning score {score:.3f}",
        f"{pooled['flips']} flips",
    ]
    if manifest.counts["escalated_prompts"]:
        left = pooled["escalation"]["still_flipped"]
        parts[-1] += f" went to {manifest.settings['escalate']}, {left} flipped there too"
    if pooled["failures"]:
        parts.append(f"{pooled['failures']} not judged ({describe_failures(manifest.failures)})")
    if left_out := manifest.counts["left_out_prompts"]:
        parts.append(f"clear before the other {left_out:,} prompts were judged")
    return f"compare: {names[0]} against {names[1]}: {', '.join(parts)}" + (
        "" if worked else " (done before)"
    )


def slot_follower(manifest: Manifest) -> list[str]:
    """Return a line where the judge followed the slot more often than the answers."""
    pooled = manifest.details[POOLED]
    if pooled["flips"] * 2 <= pooled["n"]:
        return []
    return [
        f"on {pooled['flips']:,} of {pooled['n']:,} prompts the judge named the other model when the answers "
        "changed places: such a judge tells little about them"
    ]


def empty_answers(names: tuple[str, str], answers: tuple[Answers, Answers]) -> list[str]:
    """Return a line for each model that gave empty answers: they are judged as they are."""
    lines = []
    for name, of_model in zip(names, answers, strict=True):
        empty = [
            f"{testset} {answer.prompt_id}"
            for testset, of_testset in of_model.items()
            for answer in of_testset.values()
            if not answer.text.strip()
        ]
        if empty:
            lines.append(
                f"compare: {len(empty):,} of {name}'s answers: empty, and judged so (the first: {empty[0]})"
            )
    return lines
