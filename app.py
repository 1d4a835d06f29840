"""Starts the charlm demo in the browser: `python app.py`."""

import sys

from charlm.cli import main

if __name__ == "__main__":
    sys.exit(main(["app"]))
