"""How a run stands, read from its manifests and its event log: nobody is asked, nothing is written. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import duration
from alpagasus_ray.errors import UserError
from alpagasus_ray.event_log import EXIT, PUT_EVERY_S, START, last_put, read_events
from alpagasus_ray.manifests import Manifest
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.run_steps import Step, steps_of

Event = Mapping[str, Any]
SILENT_AFTER_S = 4 * PUT_EVERY_S
"""An object store has no locks: a command that was not heard of for so long counts as gone."""
MAX_COUNTS = 3


@dataclass(frozen=True)
class StepStatus:
    """How one step stands."""

    stage: str
    what: str
    folder: str
    state: str
    """done, again (some failed for a reason that may pass), stale (made from what has changed since),
    running, failed, stopped, left."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    wall_time_s: float | None = None
    why: str = ""

    @property
    def is_committed(self) -> bool:
        """Whether there is an artifact, be it one to be made again."""
        return self.state in ("done", "again", "stale")

    def to_text(self) -> str:
        """Return its line."""
        said = [f"{count:,} {name.replace('_', ' ')}" for name, count in _whole(self.counts)]
        said += [f"{count:,} {kind}" for kind, count in self.failures.items()]
        said += [f"${self.cost_usd:,.2f}"] if self.cost_usd else []
        said += [duration(self.wall_time_s)] if self.wall_time_s else []
        words = ", ".join([*said, *filter(None, [self.why])])
        return f"{self.stage:<9} {self.what:<32} {self.state:<8} {words}".rstrip()


@dataclass(frozen=True)
class RunStatus:
    """How a run stands."""

    run_dir: str
    is_running: bool
    steps: Sequence[StepStatus]
    command: str | None
    """The last one."""
    outcome: str | None
    """Of that: done, failed, stopped; None where it said no last word."""
    why: str
    heard_s: float | None
    """How long ago it was last heard of."""
    progress: Mapping[str, Any] | None
    """How far it is: the last that it said of the stage it is at."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """Return a line a step, and what goes on."""
        cost_usd = sum(step.cost_usd or 0.0 for step in self.steps)
        num_committed = sum(step.is_committed for step in self.steps)
        head = f"{self.run_dir}: {num_committed} of {len(self.steps)} steps committed"
        head += f", ${cost_usd:,.2f}" if cost_usd else ""
        return "\n".join([head, *(step.to_text() for step in self.steps), *self._goes_on()])

    def _goes_on(self) -> list[str]:
        if self.command is None:
            return []
        ago = f"{duration(self.heard_s or 0.0)} ago"
        if self.is_running:
            far = f": {self.progress['label']}: {self.progress['line']}" if self.progress else ""
            return [f"`alpagasus {self.command}` is at work{far} ({ago})"]
        if self.outcome is None:
            return [f"`alpagasus {self.command}` ended without a word, last heard of {ago}: run it again"]
        return [f"`alpagasus {self.command}`: {self.outcome} {ago}" + (f": {self.why}" if self.why else "")]


def run_status(run: RunDirectory, recipe: Recipe, now: datetime | None = None) -> RunStatus:
    """Return how a run stands; raises UserError where there is none."""
    events = read_events(run)
    if not events and not run.exists(run.recipe):
        raise UserError(f"{run.shown('')[:-1]}: there is no run (give --run-dir DIR)")
    last = _last_command(events)
    heard_s = _heard_s(run, events, last, now or datetime.now(UTC))
    ended = next((event for event in last if event["event"] == EXIT), None)
    is_heard = not run.is_local and heard_s is not None and heard_s < SILENT_AFTER_S
    is_running = ended is None and (run.is_locked() or is_heard)
    manifests: dict[str, Manifest | None] = {}
    begun = {str(event.get("folder")) for event in last if event["event"] == "begin"} if is_running else set()
    return RunStatus(
        run.shown("")[:-1],
        is_running,
        [_step_status(run, step, events, begun, manifests) for step in steps_of(run, recipe)],
        command=last[0]["command"] if last else None,
        outcome=ended.get("outcome", "ended") if ended else None,
        why=ended.get("why", "") if ended else "",
        heard_s=heard_s,
        progress=_progress(last) if is_running else None,
    )


def _last_command(events: Sequence[Event]) -> list[Event]:
    """Return the events of the command that started last."""
    starts = [place for place, event in enumerate(events) if event["event"] == START]
    if not starts:
        return []
    command = events[starts[-1]]["command"]
    return [event for event in events[starts[-1] :] if event["command"] == command]


def _progress(last: Sequence[Event]) -> Event | None:
    """Return how far the stage is that the command is at; None where it has said nothing yet."""
    for event in reversed(last):
        if event["event"] == "progress" and all(
            isinstance(event.get(name), str) for name in ("label", "line")
        ):
            return event
        if event["event"] in ("begin", "end"):
            return None
    return None


def _step_status(
    run: RunDirectory,
    step: Step,
    events: Sequence[Event],
    begun: Collection[str],
    manifests: dict[str, Manifest | None],
) -> StepStatus:
    named = (step.stage, step.what, step.folder)
    told = [event for event in events if event.get("folder") == step.folder]
    last = told[-1]["event"] if told else None
    if last == "begin" and step.folder in begun:
        return StepStatus(*named, "running")
    manifest = _manifest(run, step.folder, manifests)
    if manifest is None:
        if last == "begin":
            return StepStatus(*named, "stopped", why="it ended without a word: run the same command again")
        return (
            StepStatus(*named, last, why=told[-1].get("why", ""))
            if last in ("failed", "stopped")
            else (StepStatus(*named, "left"))
        )
    return StepStatus(
        *named,
        _state(run, manifest, manifests),
        manifest.counts,
        manifest.failures,
        manifest.cost_usd,
        manifest.wall_time_s,
        why=told[-1].get("why", "") if last in ("failed", "stopped") else "",
    )


def _state(run: RunDirectory, manifest: Manifest, manifests: dict[str, Manifest | None]) -> str:
    for folder, content in manifest.inputs.items():
        now = _manifest(run, folder, manifests)
        if now is not None and now.content != content:
            return "stale"
    return "again" if manifest.details.get("passing_failures") else "done"


def _manifest(run: RunDirectory, folder: str, manifests: dict[str, Manifest | None]) -> Manifest | None:
    if folder not in manifests:
        manifests[folder] = run.manifest(folder)
    return manifests[folder]


def _whole(counts: Mapping[str, Any]) -> list[tuple[str, int]]:
    whole = [(name, count) for name, count in counts.items() if isinstance(count, int) and count]
    return whole[:MAX_COUNTS]


def _heard_s(
    run: RunDirectory, events: Sequence[Event], last: Sequence[Event], now: datetime
) -> float | None:
    """Return how long ago a run was last heard of: an object store says when a log was put, events or not."""
    if not events:
        return None
    heard = datetime.fromisoformat(events[-1]["time"])
    if last and not run.is_local and last[-1]["event"] != EXIT:
        heard = max(heard, last_put(run, last[0]["command"]) or heard)
    return max(0.0, (now - heard).total_seconds())
