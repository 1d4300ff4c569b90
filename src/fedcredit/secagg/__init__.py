"""Secure aggregation (PROTOCOL.md 4): the coordinator learns the sum of the updates and no single one.

Nothing here reads a disk, a clock or a socket: entropy and every stored key are arguments.
"""
