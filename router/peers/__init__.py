"""Links between workers: frames, sessions and connections; and the sockets of the hand-off.

`frames` and `session` are pure; `links` is the shell around them. This package must never decide on slots
(`router.core` does), on membership, or on the meaning of a message: it delivers messages in order, once, or not at all.
"""
