"""Entry point for `ray job submit -- python jobs/pipeline.py ...`: the command `alpagasus run`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["run", *sys.argv[1:]]))
