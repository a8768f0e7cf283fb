"""Entry point for `ray job submit --working-dir . -- python jobs/grade.py ...`: `alpagasus grade`."""

import sys

# Not this folder, whose select.py would be taken for Python's own, but the one above it.
sys.path[0] = __file__.rpartition("jobs/")[0] or "."

from alpagasus_ray.cli import main

sys.exit(main(["grade", *sys.argv[1:]]))
