"""Committing the corpus: RUN/triplets/ and, for the demo, the toy world's files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import Corpus, describe_failures, ingest, read_json_rows
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.toyworld import generate_rows, generate_testsets
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import TOYWORLD, CorpusSettings, ToyworldSettings

TOYWORLD_DATA = "data.json"
ROWS_PER_GROUP = 256
"""What a grading actor reads at a time."""


def commit_corpus(run: RunDirectory, settings: CorpusSettings, console: Console) -> Manifest:
    """Commit RUN/triplets/ (triplets, and rejected.json with what was set aside); return its manifest.

    Raises UserError for a file that is missing or unreadable, or has not the columns it needs.
    """
    if settings.data is None:
        manifest = run.manifest(run.triplets)
        if manifest is None:
            raise UserError("no data: give --data FILE (or --set corpus.data=FILE)")
        return manifest
    path = data_file(run, settings)
    source = {"sha256": _sha256(path), "limit": settings.limit}
    read: list[Corpus] = []
    manifest, _ = run.make(
        run.triplets,
        "corpus",
        source,
        {},
        work=lambda: _write_corpus(run, read[0]),
        # A broken file is noticed while the old rows are still there.
        check=lambda: read.append(ingest(read_json_rows(path), settings.limit)),
    )
    counts = manifest.counts
    aside = f", {counts['rejected']:,} set aside: {describe_failures(manifest.failures)}"
    twice = f", {counts['duplicates']:,} of them twice in the file"
    console.say(
        f"corpus: {counts['rows']:,} rows"
        + (twice if counts["duplicates"] else "")
        + (aside if counts["rejected"] else "")
        + (f" (the first {settings.limit:,} only)" if settings.limit else "")
    )
    return manifest


def data_file(run: RunDirectory, settings: CorpusSettings) -> Path:
    """Return the file that the corpus is read from; raises UserError where there is none."""
    if settings.data == TOYWORLD:
        run.require(run.toyworld, "demo")
        return run.local_path(f"{run.toyworld}/{TOYWORLD_DATA}")
    path = Path(str(settings.data)).expanduser()
    if not path.is_file():
        raise UserError(f"--data {settings.data}: no such file")
    return path


def write_toyworld(run: RunDirectory, settings: ToyworldSettings) -> list[str]:
    """Write the toy world's rows and test sets as ordinary files; return texts to train a tokenizer on."""
    rows = generate_rows(settings.num_rows, settings.good_share, settings.seed)
    run.write_text(f"{run.toyworld}/{TOYWORLD_DATA}", json.dumps(rows, ensure_ascii=False, indent=1))
    for name, prompts in generate_testsets(settings.prompts_per_testset, settings.seed).items():
        lines = "".join(json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in prompts)
        run.write_text(f"{run.toyworld}/testsets/{name}.jsonl", lines)
    return [render_prompt(row["instruction"], row["input"]) + row["output"] for row in rows]


def _write_corpus(run: RunDirectory, corpus: Corpus) -> Made:
    run.write_table(f"{run.triplets}/part-00000.parquet", corpus.to_table(), rows_per_group=ROWS_PER_GROUP)
    run.write_text(run.rejected, json.dumps(corpus.rejected, indent=1) + "\n")
    return Made(
        counts={
            "rows": len(corpus.rows),
            "rejected": len(corpus.rejected),
            "duplicates": corpus.num_duplicates,
        },
        failures=corpus.failures(),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
