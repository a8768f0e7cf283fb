"""The small tables that the toy world's right answers are read from."""

from __future__ import annotations

from itertools import pairwise

OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "old": "young",
    "fast": "slow",
    "happy": "sad",
    "rich": "poor",
    "hard": "soft",
    "early": "late",
}

PLURALS = {
    "cat": "cats",
    "child": "children",
    "mouse": "mice",
    "tooth": "teeth",
    "baby": "babies",
    "knife": "knives",
    "foot": "feet",
    "city": "cities",
}

CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Greece": "Athens",
    "Canada": "Ottawa",
}

COLORS = {
    "a banana": "yellow",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "blood": "red",
    "a carrot": "orange",
    "an elephant": "gray",
    "a clear sky": "blue",
}

SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "lion": "roars",
    "duck": "quacks",
    "bee": "buzzes",
    "snake": "hisses",
    "wolf": "howls",
}

KINDS = {
    "an animal": ("dog", "horse", "tiger", "rabbit"),
    "a fruit": ("apple", "pear", "cherry", "lemon"),
    "a tool": ("hammer", "saw", "drill", "spade"),
}

ITEMS = tuple(word for words in KINDS.values() for word in words)
"""The words that lists are made of."""

NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

NEXT_NUMBERS = dict(pairwise(NUMBER_WORDS[2:11]))

POSITIONS = ("first", "last")

PEOPLE = ("Tom", "Anna", "Omar", "Mei", "Ben", "Lucy", "Ivan", "Sara")
GOODS = ("apples", "books", "coins", "stamps")

ADJECTIVES = ("Old", "Young", "Brave", "Tired", "Clever", "Quiet")
ACTORS = ("farmers", "sailors", "teachers", "doctors", "singers", "children")
VERBS = ("carry", "paint", "repair", "watch", "find", "sell")
OBJECTS = ("boats", "houses", "lamps", "flowers", "bridges", "clocks")
"""One word of each makes a sentence of the toy world."""
