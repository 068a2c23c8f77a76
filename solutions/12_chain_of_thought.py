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
# About {{minutes}} minutes · {{points}} points · after lesson 00.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("chain_of_thought"), mi_course.load_model()

# %% id="claims-recap" tags=["claims"]
from mi_course import claim

claim("(not written yet) What the recap says, with its margin.", ...)

# %% [markdown] id="recap"
# ## What you have done
#
# (not written yet) What was found, and what was not.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
