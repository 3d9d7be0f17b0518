"""Rows with one of each defect that `data.cleaning` looks for, in columns that `data.split` can go by."""

from typing import Any

SENTENCE = "Thank you for asking, our staff will be glad to help you with that."
# In pieces, so that no scanner takes it for a real one.
TOKEN = "gh" + "p_" + "Zk3qW9xLr7TbVn2MhYd5SgJc8PfAe4RuXo1K"
LONG = " ".join(f"step {number}: put part {number * 7} beside part {number * 11}" for number in range(12))
GERMAN = "Die Lampe ist aus, und der Schalter für das Licht ist nicht mit dem Netz verbunden, weil es kalt ist."


def spoiled_rows() -> list[dict[str, Any]]:
    """Return rows with `prompt` and `completion`, one of each defect among clean ones."""
    clean = [(f"how is room {number} lit at {number % 7} o'clock", f"with {number * 3} lamps") for number in range(60)]
    stock = [(f"may I bring {number} chairs", SENTENCE) for number in range(6)]
    spoiled = [
        ("how do I build the shelf", LONG),
        ("how do I build the shelf", LONG.replace("part 77", "part 78")),
        ("is the window shut", "yes, it is shut"),
        ("is the window shut", "no, it stands open"),
        ("what do you know of lamps", "a lamp gives light " * 100),
        ("was ist mit der Lampe und dem Licht", GERMAN),
        ("what is on the screen", "lam\u200bp one"),
        ("where is the menu", "in the caf\u00c3\u00a9"),
        ("what is the token", f"it is {TOKEN}"),
        ("who is in charge", "write to anna.berg@lamps.example"),
    ]
    rows = [*clean, *stock, *spoiled]
    return [
        {"prompt": prompt, "completion": completion, "user": f"u{number % 9}", "place": f"p{number % 5}"}
        for number, (prompt, completion) in enumerate(rows)
    ]


def chosen_rows() -> list[dict[str, Any]]:
    """Return rows whose answers are picked from a short list, one of them rare."""
    return [
        {"prompt": f"is lamp {number} on", "completion": "maybe" if number < 2 else "yes" if number % 2 else "no"}
        for number in range(60)
    ]
