"""Made rows of texts with classes and of words with tags, which tiny encoders learn in seconds."""

WORDS = {"sport": "goal team match ball", "food": "soup bread taste cook", "travel": "train hotel ticket road"}
FILLERS = ["we", "had", "a", "very", "long", "day", "and", "it", "was", "all", "fine"]


def class_rows(count: int) -> list[dict]:
    """Return texts whose class three words tell, among words that say nothing."""
    names = list(WORDS)
    rows = []
    for number in range(count):
        name = names[number % 3]
        told = WORDS[name].split()
        said = [FILLERS[(number * 7 + at) % len(FILLERS)] for at in range(1 + number % 3)]
        said[number % 2 : number % 2] = [told[(number + at * (1 + number // 12)) % 4] for at in range(3)]
        rows.append({"text": f"{' '.join(said)} {number}", "label": name})
    return rows


def several_rows(count: int) -> list[dict]:
    """Return texts with none, one or two of the classes."""
    names = list(WORDS)
    rows = []
    for number in range(count):
        wanted = [name for at, name in enumerate(names) if (number >> at) & 1]
        said = [FILLERS[number % len(FILLERS)]]
        for name in wanted:
            said += WORDS[name].split()[number % 3 : number % 3 + 2]
        rows.append({"text": f"{' '.join(said)} {number}", "label": wanted})
    return rows


def tag_rows(count: int) -> list[dict]:
    """Return words with the tags of a colour and of a place of two words."""
    rows = []
    for number in range(count):
        words = [FILLERS[(number * 3 + at) % len(FILLERS)] for at in range(2 + number % 4)]
        tags = ["O"] * len(words)
        words += [("red", "green", "blue")[number % 3], "near", *("new harbour", "old market")[number % 2].split()]
        tags += ["B-COLOUR", "O", "B-PLACE", "I-PLACE"]
        rows.append({"words": [*words, str(number)], "ner_tags": [*tags, "O"]})
    return rows


def all_words() -> list[str]:
    numbers = " ".join(map(str, range(100)))
    return [*WORDS.values(), " ".join(FILLERS), "red green blue near new harbour old market", numbers]
