"""The score statement on the first lines of a reply: numbers, what they are out of, words of scoring."""

from __future__ import annotations

import re
from dataclasses import dataclass

from alpagasus_ray.judge.score_format import (
    NO_SCORE,
    NOT_FINITE,
    OUT_OF_SCALE,
    SEVERAL_SCORES,
    ScoreFormat,
    UnreadableScoreError,
)

# --- lines ---------------------------------------------------------------------------------------------

_MAX_CHARS = 4_000  # a statement stands at the start; replies may be of any length
_MAX_LINES = 8
_ALIKE = str.maketrans(
    {"．": ".", "٫": ".", "，": ",", "：": ":", "／": "/", "−": "-", "–": "-", "‐": "-", "‑": "-"}
    | {"—": " - ", "’": "'", "（": "(", "）": ")", "∞": " infinity "}
    | dict.fromkeys("\u200b\u2060\ufeff\ue001\ue002", "")
)
_MARKUP = re.compile(r"^(?:> )+|</?[A-Za-z]\w*>|[*`#\"|$\\]+")
_EMPHASIS = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
_LIST_MARKER = re.compile(r"^\(?[12][.)] (?=\S)")


def first_lines(text: str) -> list[str]:
    """Return the first lines that are not blank."""
    text = text.lstrip()
    if text.startswith("<think>"):
        text = text.partition("</think>")[2].lstrip()
    if len(text) > _MAX_CHARS:
        text = text[:_MAX_CHARS].rsplit(None, 1)[0]  # never half a number
    return [line for line in text.splitlines() if line.strip()][:_MAX_LINES]


def _without_markup(line: str) -> str:
    line = line.translate(_ALIKE)
    line = re.sub(r"(?<=\d) ?½", ".5", line) if "½" in line else line
    line = _MARKUP.sub(" ", line.strip())
    line = " ".join((_EMPHASIS.sub(" ", line) if "_" in line else line).split())
    return _LIST_MARKER.sub("", line)


# --- scales and names ----------------------------------------------------------------------------------

_RANGE = r"(\d+(?:\.\d+)?) ?(?:to|-) ?(\d+(?:\.\d+)?)"
_SCALES = (
    re.compile(rf"(?i)(?:\b(?:on|from|using) )?(?:\b(?:a|the) )?\bscale (?:of |from )?{_RANGE}"),
    re.compile(r"(?i)(?:\bon )?(?:\ba )?()\b(\d+)[- ]point scale"),
    re.compile(r"(?i)(?:/|\bout of) ?()(\d+(?:[.,]0+(?!\d))?)(?!\.?\d)"),
)
_BRACKETED_SCALE = re.compile(rf"[(\[] ?{_RANGE} ?[)\]]")
_NAME_1, _NAME_2 = "\ue001", "\ue002"
_NAME = re.compile(
    r"\b(?i:(?:the )?(?:assistant|answer|response|model)[ _#-]*)([12AB])(?:'s\b)?(?!\w|[.,]\d| ?/| out of)"
)
_ASSISTANT = re.compile(r"(?i)^(?:the )?(?:ai )?assistant ?: ?")
_BOTH_NAMES = re.compile(r"(?i)\bassistants? 1 (?:and|&) (?:assistant )?2\b")


def _without_scale(line: str, scale: tuple[float, float]) -> str:
    """Return the line without what its scores are out of; raise where that is not the rubric's scale."""

    def is_the_rubrics(match: re.Match[str]) -> bool:
        lowest, highest = match[1], float(match[2].replace(",", "."))
        return highest == scale[1] and (not lowest or float(lowest) in (0, 1, scale[0]))

    def drop(match: re.Match[str]) -> str:
        if not is_the_rubrics(match):
            raise UnreadableScoreError(OUT_OF_SCALE)
        return " "

    folded = line.casefold()
    if "scale" in folded or "/" in folded or "out of" in folded:  # few have any: the patterns take long
        for pattern in _SCALES:
            line = pattern.sub(drop, line)
    # Brackets may as well hold a range of scores or a pair of them: only the scale itself is dropped.
    if "(" in line or "[" in line:
        line = _BRACKETED_SCALE.sub(lambda match: " " if is_the_rubrics(match) else match[0], line)
    line = " ".join(line.split())
    return re.sub(r"(?<=\d) ,(?=\d)", ", ", line)  # "8/10,9/10" has become "8 ,9"


def _with_marked_names(line: str, wanted: int) -> str:
    """Replace "Assistant 1" and its like, whose digit is no score, by one character each.

    Where one text is graded the name says nothing, and is dropped.
    """
    if wanted == 1:
        return _NAME.sub(" ", _ASSISTANT.sub("", line))
    line = _BOTH_NAMES.sub("Assistant 1 Assistant 2", line)
    return _NAME.sub(lambda match: f" {_NAME_1 if match[1] in '1A' else _NAME_2} ", line)


# --- the score statement -------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z][a-z']*,? [a-z])|(?<=\d) (?=(?:The|This|It) [a-z])")
_TOKEN = re.compile(r"(?:(?<![\w)])[+-])?(?<!\d)[.,]?\d[\w.,%]*|[^\W\d]\w*(?:['.-]\w+)*|\S")
_NUMERIC = re.compile(r"[+-]?[.,]?\d[\d.,]*")
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_VAGUE = frozenset("<>≤≥±+^%?~≈")
_VAGUE_ENDING = re.compile(r"\d-$|\?$")  # "4-", and whatever is only asked
_INFINITE = frozenset({"inf", "infinity", "nan"})


def _vocabulary(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LABELS = _vocabulary(
    """score scores scored rating ratings rate rated grade graded mark evaluation verdict assessment
    judgment judgement accuracy helpfulness quality correctness relevance deserves receives boxed"""
)
_FIRST_PERSON = _vocabulary("i i'd i'll we")
_GIVING = _vocabulary("give assign award")
_FILLERS = _vocabulary("a an and for the vs versus while whereas ai assistants with respectively points")
_PREPOSITIONS = _vocabulary("on in from to with by for according based")
_NOUNS = _vocabulary("input output instruction model ai assistant point total value result")
_LEAD_IN = (_LABELS | _FIRST_PERSON | _GIVING | _FILLERS | _PREPOSITIONS | _NOUNS) | _vocabulary(
    """this that it its so thus therefore hence i'm me my our would will be is are was as at of overall
    final here response answer assistant's response's given json solid"""
)
"""The words that may lead up to a score; any other word makes the line prose."""
_NOT_BEFORE_SCORE = _PREPOSITIONS | _NOUNS
"""Words of scoring that count something else when the number follows at once: "based on 2 points"."""
_UNITS = _vocabulary("point points star stars")
_FOLLOW = _vocabulary("because since explanation reason reasoning due overall respectively")
_FOLLOW_LABELLED = _FOLLOW | _vocabulary("for given based on in with but")
_IS_GIVEN = _vocabulary("given assigned awarded appropriate fair justified warranted deserved")
"""What may be said of a score that is meant: "4 is fair", and not "5 is too high"."""


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """What one line adds to a score statement."""

    scores: tuple[float, ...]
    order: str
    """Scores (s) and names (1, 2) as they follow each other."""
    has_words: bool
    leads_on: bool
    """The statement may go on in the next line."""


def read_line(line: str, rubric: ScoreFormat) -> ScoreLine:
    """Raise UnreadableScoreError where the line holds numbers but is no score statement."""
    wanted = rubric.scores_per_reply
    line = _without_markup(line)
    sentence = _score_sentence(line, rubric)
    tokens = _TOKEN.findall(sentence)
    words = {token.casefold() for token in tokens if _is_word(token)}
    if words & _INFINITE and words - _INFINITE <= _LEAD_IN:
        raise UnreadableScoreError(NOT_FINITE)
    places = [place for place, token in enumerate(tokens) if _NUMERIC.fullmatch(token)]
    values = dict(zip(places, _values([tokens[place] for place in places], wanted), strict=True))
    if places and (_VAGUE_ENDING.search(sentence) or not _states_a_score(tokens, places)):
        raise UnreadableScoreError(NO_SCORE)
    marks = {_NAME_1: "1", _NAME_2: "2"}
    return ScoreLine(
        scores=tuple(value for place in places for value in values[place]),
        order="".join(marks.get(token, "s" * len(values.get(at, ()))) for at, token in enumerate(tokens))
        if places or words <= _LEAD_IN
        else "",  # names in prose say nothing of the order of the scores
        has_words=bool(words),
        leads_on=wanted == 2 if places else line.endswith(":") or words <= _LEAD_IN,
    )


def _score_sentence(line: str, rubric: ScoreFormat) -> str:
    """Return the first sentence with a number other than names and scales; or else the whole line."""
    for sentence in _SENTENCE_END.split(line):
        marked = _with_marked_names(sentence, rubric.scores_per_reply)
        bare = _without_scale(marked, rubric.scale)
        if any(map(str.isdecimal, bare)):
            return bare
    return _without_scale(_with_marked_names(line, rubric.scores_per_reply), rubric.scale)


def _is_word(token: str) -> bool:
    return token[0].isalnum() and not _NUMERIC.fullmatch(token)


def _states_a_score(tokens: list[str], places: list[int]) -> bool:
    """Tell whether the numbers at these places stand where scores do, rather than in prose."""
    folded = [token.casefold() for token in tokens]
    before = {word for word in folded[: places[-1]] if _is_word(word)}
    speaks_of_scores = before & _LABELS or (before & _GIVING and before & _FIRST_PERSON)
    if not before <= _LEAD_IN or not (before <= _FILLERS or speaks_of_scores):
        return False
    padded = ["", *folded, ""]  # the neighbours of tokens[place] are padded[place] and padded[place + 2]
    if any({padded[place], padded[place + 2]} & _VAGUE for place in places):
        return False
    if any(padded[place] in _NOT_BEFORE_SCORE for place in places):
        return False
    after = [word for word in folded[places[-1] + 1 :] if word not in _UNITS]
    if after[:1] == ["is"]:
        return bool(before and _IS_GIVEN & set(after[1:2]))
    return not after or not _is_word(after[0]) or after[0] in (_FOLLOW_LABELLED if before else _FOLLOW)


def _values(numbers: list[str], wanted: int) -> list[tuple[float, ...]]:
    """Return the scores in each number: a comma parts two scores, or else it is a decimal comma.

    The first reading that gives no more scores than wanted holds: "8,9" is a pair, "8,5 7" is one too.
    """
    numbers = [number.rstrip(".,") for number in numbers]
    for read in (_parted, _whole):
        values = [read(number) for number in numbers]
        if all(values) and sum(map(len, values)) <= wanted:
            return values
    raise UnreadableScoreError(SEVERAL_SCORES)


def _parted(number: str) -> tuple[float, ...]:
    parts = number.split(",")
    return tuple(map(float, parts)) if all(map(_PLAIN.fullmatch, parts)) else ()


def _whole(number: str) -> tuple[float, ...]:
    if _DECIMAL_COMMA.fullmatch(number):
        return (float(number.replace(",", ".")),)
    if _PLAIN.fullmatch(number) or _THOUSANDS.fullmatch(number):
        return (float(number.replace(",", "")),)
    return ()


def number_in(text: str) -> float | None:
    """Return the number that a text is, with a decimal point or comma, or None where it is none.

    >>> number_in(" 4,5."), number_in("4/5")
    (4.5, None)
    """
    return next(iter(_whole(text.strip().rstrip(".,"))), None)
