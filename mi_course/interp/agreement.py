"""Subject–verb agreement: sentences with a distractor between subject and verb.

In "The author near the guards" the verb belongs to the author, not to the nearer guards. Each pair of nouns comes in all
four combinations of number, so that the last noun says nothing about the verb. All nouns are one token of SmolLM2, with a
leading space; so all sentences of a template have the same length.
"""

from __future__ import annotations

from collections.abc import Sequence

NOUNS = (
    *(("author", "authors"), ("doctor", "doctors"), ("teacher", "teachers"), ("student", "students")),
    *(("officer", "officers"), ("guard", "guards"), ("lawyer", "lawyers"), ("farmer", "farmers")),
    *(("pilot", "pilots"), ("singer", "singers"), ("manager", "managers"), ("driver", "drivers")),
)
"""Singular and plural of the nouns of lesson 01."""
TEMPLATES = (
    "The {noun} near the {other}",
    "The {noun} next to the {other}",
    "The {noun} that helped the {other}",
    "The {noun} that met the {other}",
)
"""Prepositional phrases, then subject relatives."""
OBJECT_RELATIVES = ("The {noun} that the {other} liked", "The {noun} that the {other} helped")
"""Where SmolLM2 often fails: the noun beside the verb is the subject of another one."""
ANSWERS = (" is", " are")
"""The verb after a singular subject, and after a plural one."""


def agreement_prompts(
    template: str, nouns: Sequence[tuple[str, str]] = NOUNS, shift: int = 1
) -> tuple[list[str], list[tuple[str, str]]]:
    """Sentences up to the verb, and the (right, wrong) verb of each.

    template: text with {noun}, the subject, and {other}, the distractor. nouns: (singular, plural) pairs. Each is the
    subject once, with the noun `shift` places further as its distractor, in all four combinations of number.

    >>> prompts, verbs = agreement_prompts("The {noun} near the {other}", [("dog", "dogs"), ("cat", "cats")])
    >>> prompts[:3]
    ['The dog near the cat', 'The dog near the cats', 'The dogs near the cat']
    >>> verbs[2]
    (' are', ' is')
    """
    rows = [
        (noun, nouns[(i + shift) % len(nouns)], number, other)
        for i, noun in enumerate(nouns)
        for number in (0, 1)
        for other in (0, 1)
    ]
    prompts = [template.format(noun=noun[number], other=second[other]) for noun, second, number, other in rows]
    return prompts, [(ANSWERS[number], ANSWERS[1 - number]) for _, _, number, _ in rows]
