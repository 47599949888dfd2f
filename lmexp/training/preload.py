"""What a server of trials loads before it forks them: torch, Lightning and what a run imports on its way."""

from lmexp.training.start import loading

with loading():
    import wandb  # noqa: F401

    import lmexp.training.loop  # noqa: F401
