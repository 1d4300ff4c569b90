"""Attacks on secure aggregation that succeed against Flower's SecAgg+, written against what any such protocol has.

``target.py`` names an attacker's moves, ``attacks.py`` holds the attacks, ``flower.py`` runs the installed flwr code.
"""
