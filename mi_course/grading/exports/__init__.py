"""Exports the exercises to other graders: nbgrader, Gradescope, GitHub Classroom."""
