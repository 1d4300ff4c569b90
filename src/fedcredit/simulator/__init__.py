"""The consortium simulator: nine made-up institutions that lend against vehicles, guarantee and insure.

``world.toml`` holds every number with where it comes from, ``scenarios/`` the packs. ``generate`` writes a world;
``oracle`` holds what no institution can know.
"""
