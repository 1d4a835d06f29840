"""Starts the charlm demo in the browser: `python app.py`."""

from charlm.ui import LAUNCH, build_app

demo = build_app()

if __name__ == "__main__":
    demo.launch(**LAUNCH)
