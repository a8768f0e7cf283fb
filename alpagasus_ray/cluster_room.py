"""Whether work waits for a cluster's CPUs or GPUs: their total is enough, but not what is free."""

from __future__ import annotations

KINDS = ("CPU", "GPU")


def waits_for_room(kind: str, amount: float) -> str:
    """Return in words that less than `amount` of a kind is free: `waiting for room: 8 of 8 CPU are in use`.

    Empty where there is room. What asks may hold the rest itself: it is for work that has not begun.
    """
    import ray  # here, as in ray_session.py: seconds that a run with nothing to do need not wait

    if ray.available_resources().get(kind, 0.0) >= amount:
        return ""
    return f"waiting for room: {_in_use(kind)}"


def groups_wait_for_room() -> str:
    """Return in words that workers that start together, of a training or an engine, wait; else empty."""
    from ray.util import placement_group_table

    waiting = [group for group in placement_group_table().values() if group["state"] == "PENDING"]
    if not waiting:
        return ""
    wanted = {kind for group in waiting for bundle in group["bundles"].values() for kind in bundle}
    return f"waiting for room: {' and '.join(_in_use(kind) for kind in KINDS if kind in wanted)}"


def _in_use(kind: str) -> str:
    import ray

    total = ray.cluster_resources().get(kind, 0.0)
    free = ray.available_resources().get(kind, 0.0)
    return f"{total - free:g} of {total:g} {kind} are in use"
