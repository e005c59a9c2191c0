"""The data and wire rules that producer and sink share: events, record batch, journal format, names, settings, errors."""
