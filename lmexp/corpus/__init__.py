"""Documents in, clean documents out.

The road: `sources` names the inputs, `readers` (with `html`, `epub`, `mediawiki`) turns each into documents; `cleaning`,
`redaction`, `leaks` and `words` are plain functions on text; `steps` wraps them for datatrove; `stages` puts the steps
in their order, keeps what each gives by its content and runs them on datatrove's executors; `card` says what was done.
Source: https://github.com/huggingface/datatrove
"""
