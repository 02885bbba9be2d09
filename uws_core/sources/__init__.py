"""The only room that opens weight files or the network.

Files and the Hub offer ranges of bytes; a format turns them into a `Source`; `opening` is the front door.
"""

from uws_core.sources.opening import open_source as open_source
