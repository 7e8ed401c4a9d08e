"""The page of `explore`: what networks see, as figures that a reader can change.

`page` puts the page together, `contents` collects what it shows; the page itself is in page/.
"""
