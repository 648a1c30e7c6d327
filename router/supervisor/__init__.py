"""The parent process of the router workers: spawning, rolling restart, membership inside one router.

Must never carry a scoring request or decide about slots.
"""
