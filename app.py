"""Starts the charlm demo in the browser: `python app.py`."""

from charlm.ui import build_app, serve

demo = build_app()

if __name__ == "__main__":
    serve(demo)
