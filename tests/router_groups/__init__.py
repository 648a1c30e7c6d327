"""Several groups of router workers, each with its supervisor, in front of the same replicas, as on several machines.

    authority   (the process that measures)   orders the announcements of the groups into one history of views
    group       a supervisor and its workers; links between groups are TCP with certificates
    network     a network namespace for each group, so that links can be cut; needs root
    proxy       stands between the workers of two groups, delays and breaks off

Nothing here judges; the product never imports it.
"""
