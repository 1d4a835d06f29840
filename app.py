"""Starts the charlm demo in the browser: `python app.py`."""

import signal
import sys

from charlm.ui import LAUNCH, build_app

demo = build_app()

if __name__ == "__main__":
    # A server that is told to stop ends in order: runs are ended, what visitors left is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    demo.launch(**LAUNCH)
