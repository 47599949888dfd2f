"""A trained run answers: in a terminal, and over HTTP."""
