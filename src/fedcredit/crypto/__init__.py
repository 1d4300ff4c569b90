"""Keys, signatures, seals, keystreams and certificates. The only place that knows the ``cryptography`` package."""
