"""The numbers behind the pictures, as plain lists that any page could draw.

Each module has the `LINES` of PyTorch that its tab shows: a test runs them and compares.
"""
