"""Plain nn.Modules that turn tokens into hidden states, with a head that turns those into a loss.

The contract is in `state.py`; every model here fits it, and generation is written against it alone.
"""
