"""Runs the command line with phantoms rendered at 64 px, which takes a third of the time.

python -m tests.tfds_ffa.fast prepare --dataset phantom/64 ...
"""

import os
import sys

from tfds_ffa.phantom import exams

exams.RENDER_SIZE = 64
exams.CHUNK_EXAMS = int(os.environ.get("CHUNK_EXAMS", exams.CHUNK_EXAMS))

if __name__ == "__main__":
    from ffa_sora_jax.cli import main

    sys.exit(main(sys.argv[1:]))
