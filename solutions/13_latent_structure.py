# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] id="title"
# # {{lesson}}
#
# (not written yet) What the learner can do afterwards, in one sentence.
#
# About {{minutes}} minutes · {{points}} points · after lesson 04.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson = mi_course.lesson("latent_structure")

# %% [markdown] id="part-a"
# ## Part A. What must a perfect predictor carry?
#
# (not written yet)

# %% [markdown] id="part-b"
# ## Part B. An algorithm that nobody wrote
#
# (not written yet)

# %% [markdown] id="part-c"
# ## Part C. Connecting the dots
#
# (not written yet)

# %% id="claims-recap" tags=["claims"]
claim("(not written yet) What the recap says, with its margin.", ...)

# %% [markdown] id="recap"
# ## What you have done
#
# (not written yet) What was found, and what was not.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
