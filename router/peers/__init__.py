"""Worker to worker: what is said over a link, in which order, and the links themselves; and the way clients pass.

`messages` and `session` are pure; `links` is the shell around them. This package must never decide who may use a slot
(that is `router.core`), who is a member, or what a message means: it carries messages in order, once, or not at all.
"""
