"""The report page: one HTML file with everything inside, opened from disk or served live by `lmexp.runs.dashboard`.

`page` turns content (a plain dictionary) into HTML; the scripts beside it draw it in the browser.
"""
