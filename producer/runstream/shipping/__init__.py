"""Shipping: how journaled events get to a topic of Kafka, by a process of their own.

A program that streams to Kafka logs into a journal directory (`launch`, which starts the process where none is there).
One shipper per journal directory (`process`, or `cli` in the foreground) follows its journals (`shipper`) and hands
record batches and chunks (`cargo`, `staged`) to a topic (`transport`, `kafka_transport`).  What the brokers have
acknowledged is noted (`progress`) and freed.
"""
