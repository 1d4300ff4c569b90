"""Bad messages by name (QUALITY.md 3.6, R8): whole tables of them, and a consortium whose round must end all the same.

``world.py`` plays honest rounds up to any moment, ``bending.py`` changes one thing in a genuine message and makes the
rest of it right again, ``requests.py`` and ``answers.py`` hold the tables.
"""
