"""Concepts, words and prompts for clamping a latent: what one searches with, and what one is judged on. Our own.

Of each concept `sentences` and `words` are for searching; `held_out` words judge, and stand in no sentence. Every word
is one token of SmolLM2 after a space. Prompts are open: what follows may be about anything.
"""

from __future__ import annotations

from typing import NamedTuple


class Concept(NamedTuple):
    """Something to write about."""

    sentences: tuple[str, ...]
    words: tuple[str, ...]
    """To search with."""
    held_out: tuple[str, ...]
    """To judge with: no sentence has them."""


CONCEPTS = {
    "medicine": Concept(
        (
            "The doctor examined the child and listened to her chest.",
            "After the operation the nurse changed his bandages twice a day.",
            "The vaccine protects against three dangerous infections.",
            "She was taken to the emergency room with a broken arm.",
            "The doctor wrote down what he should take for his cough.",
            "Doctors could not say what caused the fever.",
            "The nurse measured his pulse and his temperature.",
            "He felt dizzy, and his heart was beating far too fast.",
        ),
        ("doctor", "doctors", "nurse", "vaccine", "fever", "surgery"),
        (
            "hospital",
            "patient",
            "patients",
            "disease",
            "diseases",
            "medicine",
            "treatment",
            "medication",
            "clinic",
            "symptoms",
            "illness",
            "diagnosis",
        ),
    ),
    "the sea": Concept(
        (
            "The captain watched the waves roll against the bow.",
            "Two sailors climbed the mast and looked for land.",
            "The tide came in and covered the rocks below the cliff.",
            "They sailed for three weeks before a steady wind.",
            "The waves broke over the deck in the storm.",
            "A sailor threw a rope down to the men who were swimming.",
            "Far from land the water was deep, dark and salty.",
            "The captain ordered them to drop the anchor in the bay.",
        ),
        ("waves", "captain", "tide", "sailors", "anchor", "sailed"),
        (
            "sea",
            "ship",
            "ships",
            "ocean",
            "boat",
            "boats",
            "harbor",
            "shore",
            "coast",
            "beach",
            "whale",
            "fish",
        ),
    ),
    "law": Concept(
        (
            "The judge told the witness to answer the question.",
            "The verdict was read aloud, and he was sentenced to four years.",
            "Her attorney argued that the contract was not valid.",
            "The witness swore that he had seen the thief.",
            "The judge ruled in favour of the tenants.",
            "Two attorneys prepared the appeal.",
            "The prosecutor asked for the highest penalty.",
            "The accused pleaded guilty and was sentenced at once.",
        ),
        ("judge", "attorney", "verdict", "witness", "guilty", "appeal"),
        (
            "court",
            "courts",
            "law",
            "laws",
            "legal",
            "lawyer",
            "lawyers",
            "trial",
            "justice",
            "jury",
            "crime",
            "lawsuit",
        ),
    ),
    "cooking": Concept(
        (
            "Chop the onions and fry them in butter until they are golden.",
            "Stir the sauce slowly and add a pinch of salt.",
            "Bake the dough for forty minutes, then let it cool.",
            "She peeled the potatoes while the soup was boiling.",
            "Add two spoons of sugar and whisk the eggs.",
            "The chef seasoned the meat with garlic and pepper.",
            "Boil the rice, drain it and stir in the butter.",
            "He fried the mushrooms in oil with a little garlic.",
        ),
        ("butter", "sauce", "soup", "garlic", "onions", "boil"),
        (
            "food",
            "recipe",
            "recipes",
            "cook",
            "cooking",
            "kitchen",
            "bread",
            "cheese",
            "chicken",
            "delicious",
            "meal",
            "ingredients",
        ),
    ),
    "music": Concept(
        (
            "The violin played the melody, and the cellos answered.",
            "She sang the second verse an octave higher.",
            "The orchestra tuned before the conductor came in.",
            "He practised the piano for three hours every day.",
            "The drummer kept the rhythm while the singer clapped.",
            "The melody returns in the last movement of the symphony.",
            "They sang in four voices, and the choir filled the hall.",
            "The pianist played a slow chord, very softly.",
        ),
        ("piano", "melody", "orchestra", "violin", "choir", "sang"),
        (
            "music",
            "musical",
            "song",
            "songs",
            "band",
            "guitar",
            "concert",
            "album",
            "jazz",
            "musicians",
            "singing",
            "lyrics",
        ),
    ),
    "war": Concept(
        (
            "The general ordered his men to attack at dawn.",
            "The regiment was surrounded and had to surrender.",
            "Bombs fell on the city for three nights.",
            "The general moved two regiments to the northern front.",
            "They defended the fortress against the invaders.",
            "The enemy retreated and burned the bridges behind them.",
            "A bomb destroyed the railway station and the barracks.",
            "The invaders were defeated, and the general surrendered.",
        ),
        ("general", "enemy", "bomb", "regiment", "surrender", "invasion"),
        (
            "war",
            "wars",
            "battle",
            "battles",
            "army",
            "soldiers",
            "soldier",
            "troops",
            "military",
            "weapons",
            "guns",
            "fighting",
        ),
    ),
    "money": Concept(
        (
            "The company paid a dividend to everyone who held its shares.",
            "She borrowed ten thousand at four percent interest.",
            "Shares fell sharply after the report on inflation.",
            "He sold the bonds and paid off his debt.",
            "The fund lost a third of its value in one quarter.",
            "Their profit rose while their costs stayed the same.",
            "Interest on the debt has to be paid every month.",
            "Inflation makes everything that people buy dearer.",
        ),
        ("profit", "shares", "inflation", "debt", "interest", "bonds"),
        (
            "money",
            "bank",
            "banks",
            "financial",
            "finance",
            "investment",
            "investors",
            "dollars",
            "savings",
            "budget",
            "loan",
            "stock",
        ),
    ),
    "school": Concept(
        (
            "The pupils handed in their homework before the bell rang.",
            "The teacher wrote the equation on the blackboard.",
            "She failed the exam and had to repeat the year.",
            "The headmaster praised the pupils for their essays.",
            "Each teacher has twenty-five pupils and too little time.",
            "He forgot his homework and had to stay behind.",
            "The exam lasts three hours, and no books are allowed.",
            "Grades are given twice a year, after the exams.",
        ),
        ("teacher", "homework", "exam", "pupils", "grades", "essays"),
        (
            "school",
            "schools",
            "student",
            "students",
            "classroom",
            "education",
            "lesson",
            "lessons",
            "college",
            "curriculum",
            "teachers",
            "learning",
        ),
    ),
}

PROMPTS = (
    "She wrote a long letter about the",
    "Yesterday my neighbour talked about",
    "The book on the table is about",
    "What he liked most was the",
    "On the wall hung a picture of a",
    "In the afternoon they went to the",
    "I want to tell you about my",
    "There is nothing better than",
)
"""To search with."""

HELD_OUT_PROMPTS = (
    "He could not stop thinking about the",
    "My brother spent the whole day with",
    "The old man told us about a",
    "The first thing she noticed was the",
    "They were all waiting for the",
    "I went out and bought a",
    "Everybody in town knows about the",
    "The report is mainly about",
    "For his birthday he wanted a",
    "All she could talk about was",
)
"""To judge with."""
