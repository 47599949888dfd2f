"""From text to batches: a source gives documents, `corpus` tokenizes them once, `batches` cuts rows, `TextDataModule`
hands them to Lightning. A source and a corpus need no torch, so bad files are found before anything heavy starts.
"""
