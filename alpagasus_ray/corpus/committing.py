"""Committing the corpus: RUN/triplets/ and, for the demo, the toy world's files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import (
    KeptRow,
    RejectedRow,
    describe_failures,
    find_form,
    ingest,
    possible_forms,
)
from alpagasus_ray.corpus.row_forms import ALPACA, RowForm
from alpagasus_ray.corpus.sources import Source, open_source
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.toyworld import generate_rows, generate_testsets
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import TOYWORLD, CorpusSettings, ToyworldSettings
from alpagasus_ray.schemas import TRIPLETS

TOYWORLD_DATA = "data.json"
ROWS_PER_GROUP = 256
"""What a grading actor reads at a time."""
PART_ROWS = 16_384
PART_CHARACTERS = 32 << 20
"""Of source rows in one Parquet file: rows of a megabyte each must not make one part of 16 GB."""


def commit_corpus(run: RunDirectory, settings: CorpusSettings, console: Console) -> Manifest:
    """Commit RUN/triplets/ (triplets, and rejected.json with what was set aside); return its manifest.

    Rows go through one by one: memory is needed for their ids and for one part. Raises UserError for
    data that are missing or unreadable, or have not the columns they need.
    """
    if settings.data is None:
        manifest = run.manifest(run.triplets)
        if manifest is None:
            raise UserError("no data: give --data FILE (or --set corpus.data=FILE)")
        return manifest
    source = source_of(run, settings)
    made_from = {"sha256": source.sha256(), **settings.model_dump(include={"limit", "format", "columns"})}
    staged: list[Made] = []
    try:
        manifest, _ = run.make(
            run.triplets,
            "corpus",
            made_from,
            {},
            work=lambda: _take_over(run, staged[0]),
            # A broken file is noticed while the old rows are still there.
            check=lambda: staged.append(_stage(run, source, settings)),
        )
    finally:
        run.remove_folder(run.triplets_staged)
    _tell(manifest, settings, console)
    return manifest


def _tell(manifest: Manifest, settings: CorpusSettings, console: Console) -> None:
    counts = manifest.counts
    form = RowForm.from_json(manifest.details.get("row_form"))
    aside = f", {counts['rejected']:,} set aside: {describe_failures(manifest.failures)}"
    twice = f", {counts['duplicates']:,} of them twice in the file"
    console.say(
        f"corpus: {counts['rows']:,} rows"
        + (f" in the {form.name} form" if form.name != ALPACA.name else "")
        + (twice if counts["duplicates"] else "")
        + (aside if counts["rejected"] else "")
        + (f" (the first {settings.limit:,} only)" if settings.limit else "")
    )


def source_of(run: RunDirectory, settings: CorpusSettings) -> Source:
    """Return where the recipe's data come from; raises UserError where there is nothing."""
    if settings.data == TOYWORLD:
        run.require(run.toyworld, "demo")
        return open_source(run.child_uri(f"{run.toyworld}/{TOYWORLD_DATA}"))
    return open_source(str(settings.data))


def write_toyworld(run: RunDirectory, settings: ToyworldSettings) -> list[str]:
    """Write the toy world's rows and test sets as ordinary files; return texts to train a tokenizer on."""
    rows = generate_rows(settings.num_rows, settings.good_share, settings.seed)
    run.write_text(f"{run.toyworld}/{TOYWORLD_DATA}", json.dumps(rows, ensure_ascii=False, indent=1))
    for name, prompts in generate_testsets(settings.prompts_per_testset, settings.seed).items():
        lines = "".join(json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in prompts)
        run.write_text(f"{run.toyworld}/testsets/{name}.jsonl", lines)
    return [render_prompt(row["instruction"], row["input"]) + row["output"] for row in rows]


def rows_of(source: Source, settings: CorpusSettings) -> tuple[RowForm, Iterator[KeptRow | RejectedRow]]:
    """Return the form of a source's rows, and the rows one by one, kept or set aside."""
    forms = possible_forms(settings.format, dict(settings.columns.items()))
    form = find_form(source.rows(settings.format), forms, source.name)
    return form, ingest(source.rows(settings.format), form, settings.limit)


def _stage(run: RunDirectory, source: Source, settings: CorpusSettings) -> Made:
    """Write the artifact's files beside it, and return what there is to say of them."""
    form, rows = rows_of(source, settings)
    run.clear(run.triplets_staged)
    parts = _Parts(run)
    num_rejected, failures = 0, Counter[str]()
    rejected_path = run.path(f"{run.triplets_staged}/{run.rejected.rpartition('/')[2]}")
    with run.filesystem.open_output_stream(rejected_path) as rejected:
        rejected.write(b"[")
        for row in rows:
            if isinstance(row, KeptRow):
                parts.add(row.record)
                continue
            rejected.write((",\n" if num_rejected else "\n").encode() + json.dumps(row.record).encode())
            num_rejected += 1
            failures[row.reason] += 1
        rejected.write(b"\n]\n")
    parts.flush()
    counts = {"rows": parts.num_rows, "rejected": num_rejected, "duplicates": parts.num_duplicates}
    return Made(counts=counts, failures=failures, details={"row_form": form.to_json()})


def _take_over(run: RunDirectory, made: Made) -> Made:
    for name in run.list_files(run.triplets_staged):
        run.filesystem.move(run.path(f"{run.triplets_staged}/{name}"), run.path(f"{run.triplets}/{name}"))
    return made


class _Parts:
    """Triplets on their way to Parquet files of at most PART_ROWS rows and about PART_CHARACTERS of text."""

    def __init__(self, run: RunDirectory) -> None:
        self.num_rows = self.num_duplicates = 0
        self._run = run
        self._rows: list[dict[str, Any]] = []
        self._num_parts = self._num_characters = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take one row in; write a part where there are enough."""
        self._rows.append(row)
        self.num_rows += 1
        self.num_duplicates += row["duplicate"]
        self._num_characters += len(row["source"])
        if len(self._rows) >= PART_ROWS or self._num_characters >= PART_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=TRIPLETS)
            name = f"part-{self._num_parts:05}.parquet"
            path = f"{self._run.triplets_staged}/{name}"
            self._run.write_table(path, table, rows_per_group=ROWS_PER_GROUP)
            self._num_parts += 1
            self._rows, self._num_characters = [], 0
