"""Rows by their places in the triplets' files: the driver hands out places, and the actors read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import dataset

from alpagasus_ray.artifacts import RunDirectory


@dataclass(frozen=True)
class RowsAtPlaces:
    """Reads the triplets that a block of places names, those that stand twice left out."""

    run_uri: str
    fields: tuple[str, ...]
    """What the rubric wants of each row, besides its id."""

    def __call__(self, places: pa.Table) -> pa.Table:
        """Return the rows at these places: id and the fields."""
        run = RunDirectory(self.run_uri)
        columns = ["id", "duplicate", *self.fields]
        tables = []
        for place in places.to_pylist():
            path = run.path(f"{run.triplets}/{place['file']}")
            with pq.ParquetFile(path, filesystem=run.filesystem) as file:
                tables.append(file.read_row_group(place["row_group"], columns=columns))
        rows = pa.concat_tables(tables)
        return rows.filter(pc.invert(rows["duplicate"])).drop_columns(["duplicate"])


def places_of_triplets(run: RunDirectory) -> pa.Table:
    """Return the places of all triplets: a file and one of its row groups each."""
    places = []
    for name in run.list_files(run.triplets):
        if name.endswith(".parquet"):
            path = run.path(f"{run.triplets}/{name}")
            with pq.ParquetFile(path, filesystem=run.filesystem) as file:
                places += [{"file": name, "row_group": group} for group in range(file.num_row_groups)]
    return pa.Table.from_pylist(places)


def sampled_rows(
    run: RunDirectory, fields: Sequence[str], draw: Callable[[Iterator[str]], Sequence[str]]
) -> pa.Table:
    """Return the rows whose ids `draw` takes, in its order. It gets all ids, one by one."""
    files = [run.path(f"{run.triplets}/{name}") for name in run.list_files(run.triplets)]
    triplets = dataset(
        [name for name in files if name.endswith(".parquet")], filesystem=run.filesystem, format="parquet"
    )
    is_first = ~pc.field("duplicate")
    batches = triplets.to_batches(columns=["id"], filter=is_first)
    drawn = pa.array(draw(id for batch in batches for id in batch["id"].to_pylist()), pa.string())
    is_drawn = is_first & pc.field("id").isin(drawn)
    # The texts of the files alone that have some of them: ids are a small part of the bytes.
    parts = [part for part in triplets.get_fragments() if len(drawn) and part.count_rows(filter=is_drawn)]
    rows = triplets.schema.empty_table().select(["id", *fields])
    if parts:
        rows = pa.concat_tables([part.to_table(columns=["id", *fields], filter=is_drawn) for part in parts])
    return rows.take(pc.index_in(drawn, value_set=rows["id"]))
