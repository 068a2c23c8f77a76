"""The course's exercises for other people's graders: nbgrader, Gradescope, GitHub Classroom."""
