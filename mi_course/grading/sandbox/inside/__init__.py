"""What runs inside the sandbox, as the package `mi_sandbox`: it is copied there, beside wire, asking, interp and show.

Nothing here knows a truth, and nothing of the rest of the grader can be imported from here.
"""
