"""Entry point for `ray job submit -- python jobs/generate.py ...`: the command `alpagasus generate`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["generate", *sys.argv[1:]]))
