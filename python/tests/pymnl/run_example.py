"""Runs one of pymnl's examples with the same random numbers each time.

    run_example.py FILE [ARGUMENTS...]
"""

import random
import runpy
import sys

random.seed(1)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
