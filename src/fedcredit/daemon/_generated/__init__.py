"""Code made from ``local.proto``; the command stands there."""
