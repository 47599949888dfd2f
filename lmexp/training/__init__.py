"""A config in, a trained run out.

`start` finds or makes the run folder and needs no torch; `loop` trains from the folder; `python -m lmexp.training RUN`
is the same door for every rank and every trial of a sweep.
"""

from lmexp.training.start import train as train
