"""The local gRPC service of node and coordinator, its thin client, and a transport over the coordinator's courier.

The only place that knows grpcio. Flower's couriers import ``client`` and ``courier_messages`` and nothing else of ours
comes with them but errors and the canonical encoding.
"""
