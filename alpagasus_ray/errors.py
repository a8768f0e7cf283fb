"""The errors that a user, rather than a developer, is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can mend; the message is one line that says how (exit status 2)."""


class StoppedEarly(Exception):
    """A limit of the user's was reached; all is kept, and the message says what is left (exit 0)."""


def how_it_ended(error: BaseException) -> tuple[str, str]:
    """Return "failed" or "stopped", and why, for whoever reads it later.

    Of a defect the class alone: what it says may hold a row's text.

    >>> how_it_ended(UserError("no data: give --data FILE")), how_it_ended(KeyError("x"))
    (('failed', 'no data: give --data FILE'), ('failed', 'a defect: KeyError'))
    """
    if isinstance(error, UserError):
        return "failed", str(error)
    if isinstance(error, StoppedEarly):
        return "stopped", str(error)
    return (
        ("failed", f"a defect: {type(error).__name__}") if isinstance(error, Exception) else ("stopped", "")
    )


def nearest(wrong: str, known: Iterable[str], elsewhere: str | None = None) -> str:
    """Return a hint that names what is known and close to `wrong`; where nothing is, all.

    `elsewhere` is where else exactly this is known: it is meant, unless something here is all but the same.

    >>> nearest("treshold", ["threshold", "seed"])
    ' Did you mean "threshold"?'
    >>> nearest("rank", ["train", "grade"], elsewhere="train.lora.rank")
    ' Did you mean "train.lora.rank"?'
    >>> nearest("zzz", ["threshold", "seed"])
    ' Known: seed, threshold.'
    """
    known = sorted(known)
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6 if elsewhere is None else 0.85)
    close = close or ([] if elsewhere is None else [elsewhere])
    return f' Did you mean "{close[0]}"?' if close else f" Known: {', '.join(known)}."
