"""Side-by-side measurements; each prints a ratio or a difference with its control."""
