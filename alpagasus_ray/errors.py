"""The errors that a user, rather than a developer, is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can mend; the message is one line that says how (exit status 2)."""


class StoppedEarly(Exception):
    """A limit of the user's was reached; all is kept, and the message says what is left (exit 0)."""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return a hint that names what is known and close to `wrong`.

    >>> nearest("treshold", ["threshold", "seed"])
    ' Did you mean "threshold"?'
    >>> nearest("zzz", ["threshold", "seed"])
    ' Known: seed, threshold.'
    """
    known = sorted(known)
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else f" Known: {', '.join(known)}."
