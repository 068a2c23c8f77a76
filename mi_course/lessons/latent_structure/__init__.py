"""Lesson 13: what a model infers that nobody told it (Shai et al. 2024; Nanda et al. 2023)."""

# Part A, beliefs

# Part B, modular addition

EXERCISES = (
    # Part A
    # Part B
)
