"""`python -m lmexp` is the same door as the `lmexp` command."""

from lmexp.cli import main

if __name__ == "__main__":
    main()
