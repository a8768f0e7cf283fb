"""The rows that the guard has judged first: real ones, and some that are spoilt on purpose."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alpagasus_ray.corpus.triplets import seeded_draw
from alpagasus_ray.grade.guard import MIN_ROWS, complaint, look, unreadable_complaint
from alpagasus_ray.llm.asking import is_unreadable
from alpagasus_ray.recipe import GuardSettings

EVASION = "I'm not sure."
KEPT_SHARE = 3
"""A truncated output keeps one word of so many."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A row whose output was spoilt on purpose. It is judged, and becomes no review."""

    sound_id: str
    """The row that it was made from."""
    fault: str
    row: dict[str, str]
    """As the sound row, but for its id and its output."""


def pilot_rows(rows: pa.Table, settings: GuardSettings) -> pa.Table:
    """Return the rows that are judged first: a draw by their ids, or all where they are not more.

    The draw hangs on each row's content, so an edited row elsewhere moves no other. Empty where there
    are too few rows to say anything of.
    """
    ids = rows["id"].to_pylist()
    drawn = pa.array(pilot_ids(ids, settings), pa.string())
    return rows.take(pc.index_in(drawn, value_set=rows["id"]))


def pilot_ids(ids: Iterable[str], settings: GuardSettings) -> list[str]:
    """Return the ids of `pilot_rows`, of distinct ids that come one by one and are not kept."""
    drawn = heapq.nsmallest(settings.pilot_rows, ids, key=lambda id: seeded_draw(id, settings.seed))
    return drawn if len(drawn) >= MIN_ROWS else []


def planted(rows: Sequence[Mapping[str, str]], count: int, seed: int = 0) -> list[Planted]:
    """Return up to `count` of the rows, each with its output spoilt, the faults in turn.

    An output is swapped with another row's, evasive, or broken off. The same rows give the same faults,
    whatever their order.
    """
    drawn = sorted(rows, key=lambda row: seeded_draw(row["id"], seed))
    spoilt: list[Planted] = []
    for place, row in enumerate(drawn[:count]):
        others = [*drawn[place + 1 :], *drawn[:place]]
        outputs = {"swapped": _swapped(row, others), "evasive": EVASION, "truncated": _truncated(row)}
        turn = place % len(outputs)
        in_turn = [*outputs.items()][turn:] + [*outputs.items()][:turn]
        # There always is one: the evasion itself can be broken off.
        fault, output = next((f, text) for f, text in in_turn if text is not None and text != row["output"])
        spoilt.append(Planted(row["id"], fault, {**row, "id": f"{row['id']}-{fault}", "output": output}))
    return spoilt


class PilotSample:
    """The rows of `pilot_rows`, of rows that come one by one and are not kept."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._num_rows = 0
        self._last_first: list[tuple[int, int, Mapping[str, str]]] = []

    def add(self, row: Mapping[str, str]) -> None:
        """Take in a row with an id."""
        draw = int.from_bytes(seeded_draw(row["id"], self._settings.seed), "big")
        heapq.heappush(self._last_first, (-draw, self._num_rows, row))
        self._num_rows += 1
        if len(self._last_first) > self._settings.pilot_rows:
            heapq.heappop(self._last_first)

    def rows(self) -> list[Mapping[str, str]]:
        """Return the rows that would be judged first."""
        if self._settings.action == "off" or self._num_rows < MIN_ROWS:
            return []
        return [row for *_, row in sorted(self._last_first, reverse=True)]


class Pilot:
    """The rows to be judged first, and what the judged ones say of the judge."""

    def __init__(self, rows: pa.Table, settings: GuardSettings) -> None:
        self._settings = settings
        real = rows.slice(0, 0) if settings.action == "off" else pilot_rows(rows, settings)
        self._planted: list[Planted] = []
        if "output" in rows.column_names:  # a rubric that shows no output cannot mind a spoilt one
            self._planted = planted(real.to_pylist(), settings.planted_rows, settings.seed)
        self._planted_ids = {one.row["id"] for one in self._planted}
        spoilt = pa.Table.from_pylist([one.row for one in self._planted], schema=real.schema)
        self.rows = pa.concat_tables([real, spoilt])
        """With the columns of the rows that were given; empty where nothing is to be looked at."""

    def is_planted(self, judged: Mapping[str, Any]) -> bool:
        """Return whether a judged row is one that was spoilt: it becomes no review."""
        return judged["id"] in self._planted_ids

    def findings(self, judged: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the judged rows show, for the manifest: a Look, and `complaint` in words or None.

        `judged` are the rows of `rows` as the judge gives them back, in any order (see judging.JUDGED).
        """
        rows = list(judged)
        scores = {row["id"]: row["scores"][0] for row in rows if row["scores"]}
        unreadable = Counter(row["failure"] for row in rows if is_unreadable(row["failure"]))
        twins = [(one.sound_id, one.row["id"]) for one in self._planted]
        spoilt = {id for _, id in twins}
        seen = look(
            [score for id, score in scores.items() if id not in spoilt],
            [(scores[sound], scores[id]) for sound, id in twins if sound in scores and id in scores],
        )
        line = unreadable_complaint(unreadable, len(rows)) or complaint(seen, self._settings)
        return {**asdict(seen), "num_unreadable": unreadable.total(), "complaint": line}


def _swapped(row: Mapping[str, str], others: Iterable[Mapping[str, str]]) -> str | None:
    """Return the output of the next row that asks and says something else."""
    asked = {name: text for name, text in row.items() if name not in ("id", "output")}
    for other in others:
        is_same = all(other[name] == text for name, text in asked.items())
        if not is_same and other["output"] != row["output"]:
            return other["output"]
    return None


def _truncated(row: Mapping[str, str]) -> str | None:
    """Return the first words of an output; None where it has too few for the cut to show."""
    words = list(re.finditer(r"\S+", row["output"]))
    kept = len(words) // KEPT_SHARE
    return row["output"][: words[kept - 1].end()] if kept else None
