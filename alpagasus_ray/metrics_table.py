"""The table of all metrics that Ray exports for us: what is emitted and the dashboard both read it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "ray_"
"""Ray puts it before the names of all metrics that it exports."""


@dataclass(frozen=True)
class Metric:
    """One metric: `alpagasus_<room>_<what>_<unit>`, and `_total` at the end of a counter's name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...]
    """Names of few values, none of them secret: no row, no prompt, no run."""
    buckets: tuple[float, ...] = ()
    """A histogram's upper bounds."""

    @property
    def room(self) -> str:
        """Whose it is."""
        return self.name.split("_")[1]

    @property
    def exported(self) -> str:
        """The name by which Prometheus knows it."""
        return PREFIX + self.name


JUDGE = ("stage", "model", "account")
ROWS = Metric("alpagasus_judge_rows_total", "counter", "rows", "Rows judged, scored or failed", JUDGE)
ROWS_PER_SECOND = Metric(
    "alpagasus_judge_rows_per_second", "gauge", "rows_per_second", "Rows judged over the last seconds", JUDGE
)
FAILED_ROWS = Metric(
    "alpagasus_judge_failed_rows_total", "counter", "rows", "Rows without a score", (*JUDGE, "kind")
)
LEDGER_HITS = Metric(
    "alpagasus_judge_ledger_hit_rows_total", "counter", "rows", "Rows whose reply was paid for before", JUDGE
)
TOKENS = Metric(
    "alpagasus_judge_reply_tokens_total",
    "counter",
    "tokens",
    "Tokens paid for now, of prompts and of completions",
    (*JUDGE, "kind"),
)
COST = Metric(
    "alpagasus_judge_cost_usd_total", "counter", "usd", "Dollars, where the model's price is known", JUDGE
)
RATE_LIMITED = Metric(
    "alpagasus_judge_rate_limited_requests_total",
    "counter",
    "requests",
    "Requests that the endpoint had no room for (429, 529)",
    JUDGE,
)
IN_FLIGHT = Metric("alpagasus_judge_in_flight_requests", "gauge", "requests", "Requests in flight", JUDGE)
RETRYING = Metric(
    "alpagasus_judge_retrying_requests", "gauge", "requests", "Requests that wait to be sent again", JUDGE
)
PAUSE = Metric(
    "alpagasus_judge_pause_seconds", "gauge", "seconds", "How long the provider asked to be left alone", JUDGE
)

TRAIN = ("arm",)
STEPS = Metric("alpagasus_train_steps_total", "counter", "steps", "Optimizer steps done", TRAIN)
STEP_TIME = Metric(
    "alpagasus_train_step_seconds",
    "histogram",
    "seconds",
    "Time of an optimizer step",
    TRAIN,
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0),
)
LOSS = Metric("alpagasus_train_loss_nats", "gauge", "nats", "Loss of the last step", TRAIN)
VALIDATION_LOSS = Metric(
    "alpagasus_train_validation_loss_nats", "gauge", "nats", "Loss on the rows held out", TRAIN
)
LEARNING_RATE = Metric("alpagasus_train_learning_rate_ratio", "gauge", "ratio", "Learning rate", TRAIN)
GRADIENT_NORM = Metric(
    "alpagasus_train_gradient_norm_ratio", "gauge", "ratio", "Gradient norm before clipping", TRAIN
)
TOKENS_PER_SECOND = Metric(
    "alpagasus_train_tokens_per_second",
    "gauge",
    "tokens_per_second",
    "Tokens of all workers, no padding",
    TRAIN,
)
MFU = Metric("alpagasus_train_mfu_ratio", "gauge", "ratio", "Model FLOPs utilisation", TRAIN)
PEAK_MEMORY = Metric(
    "alpagasus_train_peak_memory_bytes", "gauge", "bytes", "The most that the first worker has held", TRAIN
)
EPOCH = Metric("alpagasus_train_progress_epochs", "gauge", "epochs", "Passes over the arm so far", TRAIN)

METRICS = tuple(value for value in globals().values() if isinstance(value, Metric))
"""All of them, in the order of the dashboard."""
