# %% [markdown] id="title"
# # {{number}} · {{lesson}}
#
# After {{minutes}} minutes you can double a number.

# %% id="setup"
import math

import mi_course

lesson = mi_course.lesson("tiny")

# %% id="surprise"
offset = 2
print(offset + offset)

# %% [markdown] id="double"
# {{exercise double}}
#
# Return twice a number.


# %% id="answer-double"
def double(x: int) -> int:
    """Twice `x`."""
    # BEGIN SOLUTION
    return x + x
    # END SOLUTION


lesson.check(double)

# %% id="use-it"
print(lesson.use("double")(21))

# %% [markdown] id="favorites"
# {{exercise favorites}}
#
# List three perfect numbers.

# %% id="answer-favorites"
# BEGIN SOLUTION
favorites = [number for number in range(2, 500) if math.fsum(d for d in range(1, number) if number % d == 0) == number]
# END SOLUTION
lesson.check(favorites, name="favorites")

# %% id="claims-recap" tags=["claims"]
lesson.seen("perfect", len(favorites))
sums = [sum(d for d in range(1, number) if number % d == 0) for number in favorites]
mi_course.claim("each of the three equals the sum of its divisors", sums == favorites)

# %% [markdown] id="recap"
# You have doubled numbers, and found {{seen:perfect}} perfect ones.

# %% id="status"
lesson.status()
