"""The start and end of every process: event loop, signals, logs, protection of memory.

It must not know a process that uses it.
"""
