"""Text from a language model, token by token, with the state that the model keeps.

`text.py` has what one calls: `generate` a text, `write` one as it grows, `complete` many. Nothing is imported here, so
that settings and prompts can be checked before torch is loaded.
"""
