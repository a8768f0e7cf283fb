"""`python -m alpagasus_ray STAGE ...`: what a submitted job runs.

It says in one line what the cluster's image lacks. So it imports nothing of ours before it has looked, and
stays readable for a Python that is too old.
"""

from __future__ import annotations

import sys

OLDEST_PYTHON = (3, 11)
USER_CAN_MEND = 2


def main() -> int:
    """Run the command; return its exit status."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        here, needed = (".".join(map(str, version[:2])) for version in (sys.version_info, OLDEST_PYTHON))
        return _refuse(f"this is Python {here}, and {needed} or newer is needed")
    try:
        from alpagasus_ray import cli
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("alpagasus_ray"):
            raise
        return _refuse(
            f"the Python package {error.name} is missing here: take an image that has it, or submit with "
            "--install FILE"
        )
    return cli.main(sys.argv[1:])


def _refuse(line: str) -> int:
    sys.stderr.write(f"alpagasus: {line}\n")
    return USER_CAN_MEND


if __name__ == "__main__":
    sys.exit(main())
