"""TFDS builders of the published data sets, one module each, named like the data set.

`base` checks the raw files of a data set and writes its examples, `raw_images` reads single files;
`scenes` draws its images and needs no files. `data.prepare` and `data.load` call the builders by
name; nothing else should.

A module has the builder class and, if the data set has raw files, `has_raw_files(folder)`.
`SPLIT_REQUIREMENTS`, where a module has it, lists the files that only some splits need.
"""
