"""Other right answers to lesson 08."""


ANSWERS = {}
