"""Documents in, clean documents out.

The road: `sources` names the inputs, `readers` (with `html`, `epub`, `mediawiki`) turns each into documents;
`cleaning`, `redaction`, `leaks` and `words` are plain functions on text; `steps` wraps them for datatrove; `stages`
puts them in their order and names what each gives by its content, `jobs` says which steps a stage takes, `executors`
runs them; `prepare` is the whole, and `card` says what was done.
Source: https://github.com/huggingface/datatrove
"""
