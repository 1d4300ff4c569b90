"""The server courier that Flower runs beside the coordinator daemon."""
