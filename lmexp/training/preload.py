"""What a server of trials loads before it forks them: torch, Lightning and what a run imports on its way.

Not transformers, which takes seconds and which few trials need.
"""

import signal
from contextlib import suppress

from lmexp.config.schema import OPTIONS, built_class
from lmexp.training.children import STOPS
from lmexp.training.start import loading

signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # a fork must not die of what stops a trial before it is one

with loading():
    import torch.profiler  # noqa: F401

    import lmexp.training.loop  # noqa: F401
    from lmexp.runs import sync

    sync.load()

    for _option in (option for options in OPTIONS.values() for option in options.values() if option.name != "hf"):
        with suppress(ImportError):  # an extra that is not installed
            built_class(_option)
