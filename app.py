"""Starts the charlm demo in the browser: `python app.py`."""

import signal

from charlm.ui import LAUNCH, build_app

demo = build_app()

if __name__ == "__main__":
    # A server that is told to stop ends like one that is interrupted: runs end, files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo.launch(**LAUNCH)
