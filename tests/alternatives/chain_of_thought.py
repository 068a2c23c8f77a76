"""Other right answers to lesson 12."""


ANSWERS = {}
