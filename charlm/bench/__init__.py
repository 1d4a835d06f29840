"""Measurements that anyone can repeat: `python -m charlm bench`.

Every claim is a ratio between things that ran in turn, in the same process or right after each other,
so that whatever else the machine does slows both.
"""
