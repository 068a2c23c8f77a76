"""Other right answers to lesson 01."""

ANSWERS = {}
