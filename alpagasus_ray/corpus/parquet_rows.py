"""Rows out of Parquet, a batch at a time."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alpagasus_ray.corpus.rows import BadRow
from alpagasus_ray.corpus.source_files import SourceFile
from alpagasus_ray.errors import UserError

BATCH_ROWS = 1024


def read_parquet_rows(file: SourceFile) -> Iterator[Any]:
    """Yield the rows as objects that JSON can hold; a BadRow for one that cannot be made into such.

    Dates, times and decimals become texts, bytes too where they are UTF-8. Raises UserError for a file
    that is not whole.
    """
    if file.is_compressed:
        raise UserError(f"{file.name}: Parquet is compressed in itself; unpack the .gz first")
    with file.named_errors(), file.filesystem.open_input_file(file.path) as opened:
        # Without buffering ahead a row group is read page by page, not whole.
        parquet = pq.ParquetFile(opened, buffer_size=1 << 20, pre_buffer=False)
        as_json = all(_is_json(column.type) for column in parquet.schema_arrow)
        for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
            yield from _rows(batch, as_json)


def _rows(batch: pa.RecordBatch, as_json: bool) -> Iterator[Any]:
    try:
        rows = batch.to_pylist()
        yield from rows if as_json else [{name: _plain(row[name]) for name in row} for row in rows]
    except (ValueError, OverflowError) as error:
        # One text that is not UTF-8, or a date before the year 1: the others of the batch are sound.
        if batch.num_rows > 1:
            for place in range(batch.num_rows):
                yield from _rows(batch.slice(place, 1), as_json)
            return
        broken = isinstance(error, UnicodeDecodeError)
        yield BadRow("row is not UTF-8" if broken else "row holds what JSON cannot", str(error))


def _is_json(kind: pa.DataType) -> bool:
    """Return whether the values of a column are what JSON has."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_json(kind.value_type)
    if types.is_struct(kind):
        return all(_is_json(inner.type) for inner in kind)
    plain = (types.is_string, types.is_large_string, types.is_integer, types.is_floating)
    return any(is_kind(kind) for is_kind in (*plain, types.is_boolean, types.is_null))


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; raises ValueError for one that it cannot."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):  # a map is a list of pairs
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | decimal.Decimal):
        return str(value)
    raise ValueError(f"{type(value).__name__} is nothing that JSON has")
