"""The data and wire rules that producer and sink share."""
