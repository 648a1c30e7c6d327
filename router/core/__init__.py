"""The decisions of the data plane: where a request goes, whether it may, which slot it gets, what headers travel.

Pure: events and `now` come in, results go out. No I/O, no asyncio, no clock, no chance.
"""
