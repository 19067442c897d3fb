"""Parts of ``planner_validation.py``: real daemons over limited links, and what was foretold of them."""
