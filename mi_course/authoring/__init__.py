"""Makes a lesson's notebooks from `solutions/*.py`, and says what is missing in it. For authors only.

source     reads the percent script: cells, ids, tags, answer regions
generate   the learner's notebook and the solution, as functions of source and spec
execute    runs the solution, and keeps what comes out the same again
review     what an exercise must have; answers that would be seen too early
syllabus   what is made from all lessons together
build      joins these: `build` and `check`
"""
