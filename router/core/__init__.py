"""Decisions of the data plane: routing, authorization, slots and header fields.

Pure: events and `now` come in, results go out. No I/O, no asyncio, no clock, no chance.
"""
