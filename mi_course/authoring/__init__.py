"""For authors: builds a lesson's notebooks from `solutions/*.py`, and finds what is missing.

source     reads the percent script: cells, ids, tags, answer regions
generate   makes the learner's notebook and the solution from source and exercises
claims     holds prose against outputs: claims cells, numbers that come from the run, the table
execute    runs the solution, and keeps the reproducible outputs
review     finds what exercises lack, and answers that leak into the learner's notebook
syllabus   makes the files that cover all lessons: README.md and the release's hashes
build      joins these: `build` and `check`
new        writes the files of a new lesson or exercise
"""
