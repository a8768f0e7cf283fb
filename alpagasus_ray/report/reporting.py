"""The report: facts gathered from the run, drawn, and written as one page, one JSON file and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from alpagasus_ray.artifacts import MANIFEST, RunDirectory
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.report import mt_bench, page
from alpagasus_ray.report.benchmark_figures import benchmark_lines, collect_benchmarks, missing_benchmarks
from alpagasus_ray.report.collecting import collect_arms, collect_histograms
from alpagasus_ray.report.comparisons import Pair, collect_pairs, collect_rankings
from alpagasus_ray.report.examples import AnswerFiles, examples
from alpagasus_ray.report.settings import rules_used, settings_shown, versions_used

if TYPE_CHECKING:
    from alpagasus_ray.report.drawing import Picture

STAGES = {
    "triplets": "corpus",
    "reviews": "grading",
    "arms": "selection",
    "models": "training",
    "answers": "answers to the test sets",
    "benchmarks": "benchmarks",
    "verdicts": "comparison",
    "ranking": "ranking",
}
"""What each folder of the run is called in words, in the order of the road."""
OPTIONAL = frozenset({"benchmarks", "ranking"})
"""What a run may well do without."""


def write_report(run: RunDirectory, recipe: Recipe) -> Manifest:
    """Commit RUN/report/ (index.html, report.json and the figures as PNG) and return its manifest.

    Whatever stages the run has are shown. Raises UserError where it has none.
    """
    manifests = committed(run)
    if not manifests:
        raise UserError(f"{run.uri} holds nothing to report: run `alpagasus grade` or `alpagasus run` first")
    # The page shows times, counts and costs, which are no part of an artifact's content.
    shown = {folder: asdict(manifest) for folder, manifest in manifests.items()}
    settings = {"pairs": recipe.compare.pairs_of(list(recipe.arms)), "shown": settings_hash(shown)}
    manifest, _ = run.make(run.report, "report", settings, manifests, lambda: _write(run, recipe, manifests))
    return manifest


def committed(run: RunDirectory) -> dict[str, Manifest]:
    """Return the manifests of the run's artifacts by folder, in the order of the stages."""
    folders = [
        f"{top}/{name}".removesuffix(f"/{MANIFEST}")
        for top in (*STAGES, *mt_bench.FOLDERS)
        for name in run.list_files(top)
        if f"/{name}".endswith(f"/{MANIFEST}")
    ]
    return {folder: manifest for folder in folders if (manifest := run.manifest(folder))}


def gather(run: RunDirectory, recipe: Recipe, manifests: Mapping[str, Manifest]) -> page.Facts:
    """Return everything that the report shows."""
    pairs = collect_pairs(run, recipe, manifests)
    arms = collect_arms(run, manifests, pairs)
    histograms = collect_histograms(run, manifests, arms)
    answers: AnswerFiles = {}
    benched = mt_bench.collect_mt_bench(run, manifests)
    said = [page.Headline("", sentence) for sentence in mt_bench.sentences(benched)]
    own = page.headlines(pairs, arms, histograms) if pairs or histograms or not said else []
    return page.Facts(
        headlines=(*own, *said, *page.guard_headlines(manifests)),
        pairs=pairs,
        rankings=collect_rankings(run, manifests),
        histograms=histograms,
        arms=arms,
        examples=tuple(example for pair in pairs for example in examples(run, pair, answers)),
        benchmarks=collect_benchmarks(manifests, [arm.name for arm in arms]),
        stages=tuple(page.stage_rows(manifests)),
        settings=settings_shown(manifests),
        rules=tuple(rules_used(manifests)),
        versions=versions_used(manifests),
        missing=tuple(_missing(recipe, manifests, pairs)),
        outdated=tuple(folder for folder in manifests if _is_outdated(folder, manifests)),
        mt_bench=benched,
    )


def draw_pictures(facts: page.Facts) -> dict[str, Picture]:
    """Return every picture that there are figures for, by the folder of the run that it shows, or a name."""
    # These bring matplotlib, which other commands need not wait for.
    from alpagasus_ray.report import figures, mt_bench_figures, training_figures

    pictures = {shown.folder: figures.score_histogram(shown) for shown in facts.histograms}
    judged = [pair for pair in facts.pairs if any(result.n for result in pair.rows)]
    pictures |= {pair.folder: figures.outcome_bars(pair) for pair in judged}
    if scored := [pair for pair in judged if any(row.winning_score is not None for row in pair.rows)]:
        pictures["winning-scores"] = figures.score_intervals(scored)
    pictures |= {shown.folder: figures.arm_ranking(shown) for shown in facts.rankings}
    for judge, scores in facts.mt_bench.by_judge.items():
        if len(mt_bench.categories_of(scores)) >= mt_bench_figures.MIN_SPOKES:
            pictures[f"mt-bench-radar-{judge}"] = mt_bench_figures.radar(scores)
    if any(arm.train_time_s is not None for arm in facts.arms):
        pictures["training-cost"] = training_figures.training_cost(facts.arms)
    if any(arm.losses for arm in facts.arms):
        pictures["training-loss"] = training_figures.loss_curves(facts.arms)
    curved = [arm for arm in facts.arms if arm.curves]
    return pictures | {RunDirectory.model(arm.name): training_figures.training_curves(arm) for arm in curved}


PARTS = ("comparisons", "arms", "mt-bench", "benchmarks")
"""Of what summary_table shows, in its order."""


def summary_table(run: RunDirectory, parts: Sequence[str] = ()) -> str:
    """Return the results as plain text for a terminal, all PARTS or some."""
    parts = parts or PARTS
    manifests = committed(run)
    pairs = collect_pairs(run, Recipe(), manifests)
    arms = collect_arms(run, manifests, pairs)
    blocks = []
    if pairs and "comparisons" in parts:
        confidence = next((result.confidence for pair in pairs for result in pair.rows), 0.95)
        head = (
            "pair",
            "test set",
            "n",
            "win",
            "tie",
            "lose",
            "winning score",
            f"{100 * confidence:g} % interval",
        )
        blocks.append(_columns([head, *(row for pair in pairs for row in _pair_lines(pair))], left=2))
    if arms and "arms" in parts:
        lines = [
            (
                arm.name,
                "-" if arm.kept is None else f"{arm.kept:,}",
                "-" if arm.train_time_s is None else page.time_words(arm.train_time_s),
            )
            for arm in arms
        ]
        blocks.append(_columns([("arm", "rows", "training time"), *lines], left=1))
    if "mt-bench" in parts:
        benched = mt_bench.collect_mt_bench(run, manifests)
        blocks += [_columns(rows, left=2) for rows in mt_bench.tables(benched)]
    if "benchmarks" in parts and (
        reached := benchmark_lines(collect_benchmarks(manifests, [arm.name for arm in arms]))
    ):
        blocks.append(_columns(reached, left=3))
    return "\n\n".join(blocks) or "nothing selected or compared yet"


def _write(run: RunDirectory, recipe: Recipe, manifests: Mapping[str, Manifest]) -> Made:
    facts = gather(run, recipe, manifests)
    pictures = draw_pictures(facts)
    text = json.dumps(asdict(facts), indent=2, ensure_ascii=False, allow_nan=False)
    run.write_text(f"{run.report}/report.json", text + "\n")
    for name, picture in pictures.items():
        run.write_bytes(f"{run.report}/{name.replace('/', '-')}.png", picture.png)
    svgs = {name: picture.svg for name, picture in pictures.items()}
    run.write_text(f"{run.report}/index.html", page.render_page(facts, svgs))
    return Made(counts={"figures": len(pictures), "pairs": len(facts.pairs), "arms": len(facts.arms)})


def _missing(recipe: Recipe, manifests: Mapping[str, Manifest], pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield in words what the run does not have (yet)."""
    tops = {folder.partition("/")[0] for folder in manifests}
    yield from (words for top, words in STAGES.items() if top not in tops | OPTIONAL)
    yield from missing_benchmarks(recipe, manifests)
    arms = [folder.partition("/")[2] for folder in manifests if folder.startswith("arms/")]
    for top, what in (("models", "a model"), ("answers", "answers")):
        yield from (f"{what} of {arm}" for arm in arms if top in tops and f"{top}/{arm}" not in manifests)
    compared = {(pair.a, pair.b) for pair in pairs}
    pairs_wanted = recipe.compare.pairs_of(list(recipe.arms))
    wanted = [pair for pair in pairs_wanted if pair not in compared and set(pair) <= set(arms)]
    yield from (f"{a} against {b}" for a, b in wanted if pairs)


def _is_outdated(folder: str, manifests: Mapping[str, Manifest]) -> bool:
    inputs = manifests[folder].inputs
    return any(path in manifests and manifests[path].content != content for path, content in inputs.items())


def _pair_lines(pair: Pair) -> Iterator[tuple[str, ...]]:
    for result in pair.rows:
        score = "-" if result.winning_score is None else f"{result.winning_score:.2f}"
        known = result.low is not None and result.high is not None
        interval = f"{result.low:.2f} to {result.high:.2f}" if known else "-"
        counts = (f"{count:,}" for count in (result.n, result.win, result.tie, result.lose))
        yield (f"{pair.a} against {pair.b}", result.testset, *counts, score, interval)


def _columns(rows: Sequence[Sequence[str]], left: int) -> str:
    """Return the rows in columns, the first `left` of them flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
