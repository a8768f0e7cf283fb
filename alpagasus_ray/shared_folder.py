"""Do the nodes of a cluster see one folder? Asked before anything is paid for that they could not keep."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

from alpagasus_ray.errors import UserError
from alpagasus_ray.storage import Storage

ANSWERS_WITHIN_S = 30.0


def check_shared(storage: Storage, what: str) -> None:
    """Raise UserError where a node that does work cannot read and write what is in a folder here.

    Ray is up already. Nothing is asked of an object store, nor where this node is the only one. A node that
    takes longer than ANSWERS_WITHIN_S (an environment is being installed) is not waited for.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not storage.is_local:
        return
    here = ray.get_runtime_context().get_node_id()
    nodes = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here and {"CPU", "GPU"} & set(node["Resources"])
    }
    if not nodes:
        return
    token = f".seen-{uuid.uuid4().hex}"
    storage.write_text(token, token)
    try:
        # Without a CPU: others may have all that there are.
        task = ray.remote(num_cpus=0, max_retries=0)(complaint_of_node)
        asked = {
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                storage.root, token
            ): address
            for node, address in nodes.items()
        }
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWERS_WITHIN_S)
        for reference in answered:
            with suppress(RayError):  # the node is going away: the work goes to the others
                if (complaint := ray.get(reference)) is not None:
                    raise UserError(
                        f"{what} {storage.uri}: node {asked[reference]} does not have what is written here "
                        f"({complaint}): take a folder that all nodes share, or an object store (s3://...)"
                    )
    finally:
        storage.remove(token)


def complaint_of_node(folder: str, token: str) -> str | None:
    """Return why the node that this runs on cannot work in a folder; None where it can."""
    own = Path(folder) / f"{token}-{uuid.uuid4().hex}"
    try:
        if (Path(folder) / token).read_text(encoding="utf-8") != token:
            return "another file"
        own.touch(exist_ok=False)
        own.unlink()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
