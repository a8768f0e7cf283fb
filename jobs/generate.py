"""Entry point for `ray job submit --working-dir . -- python jobs/generate.py ...`: `alpagasus generate`."""

import sys

# Not this folder, whose select.py would be taken for Python's own, but the one above it.
sys.path[0] = __file__.rpartition("jobs/")[0] or "."

from alpagasus_ray.cli import main

sys.exit(main(["generate", *sys.argv[1:]]))
