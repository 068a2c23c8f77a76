"""The proof of a lesson, as a pytest plug-in: ours and other people's.

    pytest -p mi_course.testing.plugin --pyargs mi_course.testing --mi-lesson ID

It proves, for every exercise: it is complete; the reference, the alternatives and the oracle pass; the stub is not
attempted; each mistake is refused with its own message; guesses earn nothing; values of a wrong form get a clear
message; half precision is judged as half precision; the verdict is the same through the wire, which no truth crosses;
and every one-step mutant of the reference, and every habit of `kinds` (`.squeeze()`, a cache that forgets an argument,
a floor under magnitudes), is refused, but for those listed with a reason. `-k NAME` narrows it to one exercise.

The lesson must be built, since references and stubs are read from its notebooks. Alternatives, and the mutants that may
pass, stand in the module that `Plugin.alternatives` names:

    ANSWERS = {"double": [by_shifting, by_multiplying]}           # two or more other right answers to each exercise
    EQUIVALENT = {"double": {"return x * 2": "the same sum"}}     # mutants that are right: changed statement, reason
    EQUIVALENT_KINDS = {"double": {"abs on `x`": "x counts"}}     # kinds that are right, or that no case can show

An answer to a `value` exercise is the value, or a function of the case that returns it.
"""
