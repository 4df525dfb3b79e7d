"""What a condition may call, and what it costs."""

from __future__ import annotations

from collections.abc import Set

# Function -> the positions of its arguments that must be written out as values: with a column there
# the work could grow with the square of a row's text.
#
# What is not here is left out for a reason: it makes more than it is given (repeat, lpad, replace,
# arrays), its work grows faster than its text (levenshtein), the answer would differ from one row
# or run to the next (random, uuid), or nobody needs it to tell files apart.
FUNCTIONS: dict[str, Set[int]] = {
    # texts
    "lower": frozenset(),
    "upper": frozenset(),
    "initcap": frozenset(),
    "reverse": frozenset(),
    "length": frozenset(),
    "char_length": frozenset(),
    "character_length": frozenset(),
    "octet_length": frozenset(),
    "trim": frozenset({1}),
    "btrim": frozenset({1}),
    "ltrim": frozenset({1}),
    "rtrim": frozenset({1}),
    "left": frozenset(),
    "right": frozenset(),
    "substr": frozenset(),
    "substring": frozenset(),
    "strpos": frozenset({1}),
    "starts_with": frozenset({1}),
    "ends_with": frozenset({1}),
    "contains": frozenset({1}),
    "split_part": frozenset({1}),
    "concat": frozenset(),
    "regexp_like": frozenset({1, 2}),
    # what is missing
    "coalesce": frozenset(),
    "nullif": frozenset(),
    "ifnull": frozenset(),
    "nvl": frozenset(),
    # numbers
    "abs": frozenset(),
    "sign": frozenset(),
    "round": frozenset(),
    "floor": frozenset(),
    "ceil": frozenset(),
    "sqrt": frozenset(),
    "power": frozenset(),
    "pow": frozenset(),
    "exp": frozenset(),
    "ln": frozenset(),
    "log10": frozenset(),
    "log2": frozenset(),
    "isnan": frozenset(),
    "greatest": frozenset(),
    "least": frozenset(),
    # times
    "now": frozenset(),
    "today": frozenset(),
    "current_date": frozenset(),
    "current_timestamp": frozenset(),
    "date_part": frozenset({0}),
    "date_trunc": frozenset({0}),
    "to_timestamp": frozenset(),
    "to_date": frozenset(),
}
WITHOUT_BRACKETS = {"CURRENT_DATE": "current_date", "CURRENT_TIMESTAMP": "now"}
PARTS_OF_TIME = {
    *("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOW", "DOY"),
    *("HOUR", "MINUTE", "SECOND", "EPOCH"),
}
# As they are written -> as the storage layer knows them.
TYPES = {
    "INT": "INT",
    "INTEGER": "INT",
    "BIGINT": "BIGINT",
    "SMALLINT": "SMALLINT",
    "FLOAT": "FLOAT",
    "REAL": "FLOAT",
    "DOUBLE": "DOUBLE",
    "STRING": "VARCHAR",
    "TEXT": "VARCHAR",
    "VARCHAR": "VARCHAR",
    "BOOLEAN": "BOOLEAN",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
}
# Words that are no name of a column unless they stand in quotes.
RESERVED = {
    *("AND", "OR", "NOT", "IS", "IN", "LIKE", "ILIKE", "BETWEEN", "ESCAPE", "NULL", "TRUE"),
    *("FALSE", "CASE", "WHEN", "THEN", "ELSE", "END"),
}

# A comparison costs 1, as much as 100,000 rows of it take, roughly 1 ms of one core.
MOST_WORK = 5000
WORK_IN_A_SECOND = 100_000_000
WORK_OF_A_CALL = 20
WORK_OF_A_LETTER = 5  # of a regular expression: it is tried at every letter of the text
MOST_VALUES = 200_000  # of all lists together
# One in the other. The storage layer allows a few more, and takes half a minute to say so.
DEEPEST = 18
# What the storage layer replaces by a CASE in which the arguments stand several times.
REPEATED = {"coalesce": 4, "ifnull": 4, "nvl": 4, "nullif": 4}
REPEATED_IN_CASE = 3
REPEATED_IN_BETWEEN = 2
LARGEST = 6 * MOST_WORK
# So many values of a list, and letters of a text, count as one: all that are allowed have room
# once, but not as often as a CASE evaluates them.
LISTED_AS_ONE = 10
LETTERS_AS_ONE = 2000
MOST_REPEATS = 1000  # of a counted repetition in a regular expression, all multiplied
LONGEST_PATTERN = 4096
