"""Pages that commands leave behind: what a run was, how it went and what came out.

`source` reads the files of a run, `single` and `several` make pages of one and of more, `systems`
one of a comparison; `page` and `markup` are what all pages are made of, `charts` and `heat` draw.
Nothing is computed again: all numbers are those of the files.
"""
