"""The report page: one HTML file with everything inside, opened from disk or served live by `lmexp.runs.dashboard`.

`page` turns content (a plain dictionary) into HTML; page.js, curves.js and parallel.js draw it in the browser.
"""
