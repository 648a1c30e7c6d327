"""`scorefront control`, the process that is a control pod: it leads, or stands by and passes REST on to who does.

`control` composes it. The leader scales the routers (`fleet`), and their cores in place (`growth`); each answers REST
behind `front_door`, with one `token`. It must never carry a scoring request, and write nothing once the lead is lost.
"""
