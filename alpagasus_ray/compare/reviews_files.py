"""Recorded reviews in place of a judge: the files are read, and their judgments given to a pairing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from alpagasus_ray.compare.asking import rubric_of
from alpagasus_ray.compare.judgments import Collected
from alpagasus_ray.compare.pairing import Pairing
from alpagasus_ray.compare.recorded import Matched, RecordedFile, match, recorded_file
from alpagasus_ray.compare.verdicts import FIRST, SWAPPED
from alpagasus_ray.console import Console
from alpagasus_ray.errors import UserError
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import CompareSettings
from alpagasus_ray.text_files import read_text


def read_recorded(files: Sequence[str]) -> list[RecordedFile]:
    """Return the recorded files; raises UserError for one that is missing or of another form."""
    paths = [Path(file).expanduser() for file in files]
    for path in paths:
        if not path.is_file():
            raise UserError(f"--import-reviews {path}: no such file")
    return [recorded_file(read_text(path), str(path), path.name) for path in paths]


class RecordedJudge:
    """Judgments from files: nobody is asked, nothing is paid."""

    cost_usd: float | None = 0.0
    num_asked = 0

    def __init__(self, pairing: Pairing, settings: CompareSettings) -> None:
        self._pairing, self._settings = pairing, settings
        self._paths = [Path(file) for file in settings.import_reviews]
        self._matched: Matched | None = None

    @property
    def content(self) -> list[list[str]]:
        """The files' names, which tell the order that the judge saw the answers in, and their hashes."""
        missing = next((path for path in self._paths if not path.is_file()), None)
        if missing is not None:
            raise UserError(f"--import-reviews {missing}: no such file")
        return sorted([path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in self._paths)

    def check(self) -> None:
        """Read the files; raises UserError where they hold no review of these answers."""
        files = read_recorded([str(path) for path in self._paths])
        matched = match(self._pairing, files, rubric_of(self._settings), self._settings.reader)
        if matched.num_reviews == matched.num_unmatched:
            raise UserError(
                f"none of the {matched.num_reviews:,} reviews in "
                f"{', '.join(path.name for path in self._paths)} is of these answers: questions and both "
                "answers have to be the same"
            )
        if missing := [order for order in (FIRST, SWAPPED) if not matched.num_reviews_of[order]]:
            raise UserError(
                f"--import-reviews {', '.join(path.name for path in self._paths)}: none is of the "
                f"{missing[0]} order of the answers: give the other order's files (FIRST-SECOND-SET.json) too"
            )
        self._matched = matched

    def collect(self, what: str, session: RaySession, console: Console) -> Collected:
        """Return the judgments that the files have."""
        assert self._matched is not None
        matched = self._matched
        notes = []
        if matched.num_unmatched:
            notes.append(f"{matched.num_unmatched:,} of {matched.num_reviews:,} reviews are of other answers")
        return Collected(
            self._pairing,
            matched.rows,
            details={"imported_from": sorted(path.name for path in self._paths), "notes": notes},
        )
