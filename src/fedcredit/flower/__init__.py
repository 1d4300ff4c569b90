"""Flower as the carrier: bytes as one Flower record, the two couriers, and the processes of an embedded relay.

The only place that knows flwr. Nothing here reads what it carries.
"""
