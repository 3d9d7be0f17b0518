"""What the starter model knows: small facts as questions with answers, in full sentences."""

# ruff: noqa: SIM905 - word lists read best as running text.

import random

from scripts.starter import words
from scripts.starter.grammar import expand, listing, tidy

_COLOUR_OF = {
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "a lemon": "yellow",
    "a tomato": "red",
    "coal": "black",
    "the sun": "yellow",
    "a carrot": "orange",
    "milk": "white",
    "a frog": "green",
    "a plum": "purple",
    "a leaf": "green",
    "chocolate": "brown",
    "a strawberry": "red",
    "the sea": "blue",
    "a cherry": "red",
    "a banana": "yellow",
    "a crow": "black",
    "a swan": "white",
    "a pig": "pink",
    "the night": "black",
    "an elephant": "grey",
    "a pea": "green",
    "bread": "brown",
}
_SOUND = {
    "a dog": "barks",
    "a cat": "meows",
    "a cow": "moos",
    "a duck": "quacks",
    "a bee": "buzzes",
    "a lion": "roars",
    "a sheep": "bleats",
    "an owl": "hoots",
    "a frog": "croaks",
    "a horse": "neighs",
    "a pig": "grunts",
    "a bird": "sings",
    "a mouse": "squeaks",
    "a hen": "clucks",
    "a snake": "hisses",
    "a wolf": "howls",
    "a crow": "caws",
}
_OPPOSITES = (
    "big small|hot cold|up down|open closed|day night|happy sad|fast slow|long short|old new|heavy light|loud quiet|"
    "wet dry|full empty|near far|early late|strong weak|clean dirty|hard soft|high low|left right|warm cool|"
    "first last|rich poor|thick thin|bright dark|rough smooth|in out|on off|over under|before after"
)
OPPOSITES = tuple(tuple(pair.split()) for pair in _OPPOSITES.split("|"))
_USES = {
    "a kettle": "boil water",
    "a knife": "cut bread",
    "a lamp": "light a room",
    "a clock": "tell the time",
    "a key": "open a door",
    "a pencil": "write and draw",
    "an oven": "bake bread and cakes",
    "an umbrella": "stay dry in the rain",
    "a broom": "sweep the floor",
    "a bed": "sleep",
    "a chair": "sit",
    "a boat": "cross the water",
    "a towel": "dry your hands",
    "a map": "find the way",
    "a hammer": "drive in nails",
    "a needle": "sew",
    "a mirror": "see yourself",
    "a bell": "call people",
    "a ladder": "climb up",
    "a phone": "call your friends",
    "a heater": "warm a room",
    "a fridge": "keep food cold",
    "a radio": "listen to music",
    "a blanket": "keep warm",
    "a bridge": "cross the river",
    "a comb": "comb your hair",
    "a spoon": "eat soup",
    "a timer": "measure time",
}
_WHAT_IS = {
    "a baker": "a person who makes bread",
    "a farmer": "a person who grows food",
    "a library": "a place with many books",
    "a river": "water that flows to the sea",
    "a kettle": "a pot for hot water",
    "an island": "land with water all around it",
    "a carpenter": "a person who builds with wood",
    "a nurse": "a person who cares for the sick",
    "a kitchen": "a room for cooking",
    "a forest": "a place with many trees",
    "a piano": "an instrument with black and white keys",
    "a lamb": "a young sheep",
    "a puppy": "a young dog",
    "a kitten": "a young cat",
    "a week": "a time of seven days",
    "a museum": "a house for old and beautiful things",
    "a garage": "a room for a car",
    "a study": "a room for reading and writing",
    "an hour": "a time of sixty minutes",
    "a harbour": "a place for ships",
    "snow": "frozen water that falls from the clouds",
    "a recipe": "a plan for cooking something",
    "a story": "something that is told about people or animals",
    "a robot": "a machine that does work for people",
}
_LEGS = {
    "a dog": 4,
    "a spider": 8,
    "a bird": 2,
    "a cat": 4,
    "an ant": 6,
    "a horse": 4,
    "a bee": 6,
    "a hen": 2,
    "a snake": 0,
    "a fish": 0,
    "a person": 2,
    "a cow": 4,
    "a frog": 4,
    "a table": 4,
}
_CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Norway": "Oslo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Austria": "Vienna",
    "Ireland": "Dublin",
    "Greece": "Athens",
    "Japan": "Tokyo",
    "Germany": "Berlin",
    "England": "London",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "India": "Delhi",
}
_WHERE = {
    "sleep": "the bedroom",
    "cook": "the kitchen",
    "take a bath": "the bathroom",
    "park a car": "the garage",
    "read old books": "the library",
    "buy bread": "the bakery",
    "see the sea": "the beach",
    "learn to read": "school",
    "buy fruit": "the market",
    "catch a train": "the station",
    "grow flowers": "the garden",
    "keep jam and flour": "the pantry",
}
_SMALL_TALK = (
    (
        "(hello|hi|good morning|good evening|hello there)(.|!)",
        "(hello|hi)! (how can I help you?|what can I do for you?|how are you today?)",
    ),
    (
        "(who are you|what are you|what is your name)?",
        "I am a small language model. I (can tell little stories and answer simple questions|know a few "
        "simple things and like little stories).",
    ),
    ("(how are you|how are you today)?", "(I am well, thank you.|very well, thank you.) how can I help you?"),
    (
        "(thank you|thanks|thank you very much)(.|!)",
        "you are welcome(.|!) (is there anything else|what else can I do)?",
    ),
    (
        "(goodbye|bye|good night|see you soon)(.|!)",
        "(goodbye|good night|see you soon)(.|!) (take care.|have a good day.|)",
    ),
    ("(can you help me|please help me|I need help)(.|?)", "(yes, of course|of course). what do you need?"),
    ("what can you do?", "I can tell a little story, answer a simple question, make a list or repeat your words."),
    (
        "I am (tired|sad|hungry|cold|bored).",
        "(I am sorry to hear that|that is a pity). (would you like to hear a story|can I do something for you)?",
    ),
)


def _about_words(rng: random.Random) -> tuple[str, str]:
    kind = rng.randrange(7)
    if kind == 0:
        thing, colour = rng.choice(list(_COLOUR_OF.items()))
        return f"what colour is {thing}?", f"{thing} is {colour}."
    if kind == 1:
        animal, sound = rng.choice(list(_SOUND.items()))
        return f"what sound does {animal} make?", f"{animal} {sound}."
    if kind == 2:
        first, second = rng.sample(rng.choice(OPPOSITES), 2)
        return f"what is the opposite of {first}?", f"the opposite of {first} is {second}."
    if kind == 3:
        thing, use = rng.choice(list(_USES.items()))
        question = rng.choice(
            (f"what is {thing} for?", f"what do you do with {thing}?", f"why do people have {thing}?")
        )
        return question, f"with {thing} you can {use}."
    if kind == 4:
        thing, meaning = rng.choice(list(_WHAT_IS.items()))
        return rng.choice((f"what is {thing}?", f"what does {thing.split()[-1]} mean?")), f"{thing} is {meaning}."
    if kind == 5:
        country, city = rng.choice(list(_CAPITALS.items()))
        return f"what is the capital of {country}?", f"the capital of {country} is {city}."
    action, place = rng.choice(list(_WHERE.items()))
    return rng.choice(
        (f"where can I {action}?", f"where do people {action}?")
    ), f"you can {action} in {place}.".replace("in the station", "at the station").replace(
        "in school", "at school"
    ).replace("in the market", "at the market").replace("in the beach", "at the beach")


def _about_order(rng: random.Random) -> tuple[str, str]:
    sequence = rng.choice((words.DAYS, words.MONTHS))
    noun = "day" if sequence is words.DAYS else "month"
    index = rng.randrange(len(sequence))
    later = rng.random() < 0.6
    other = sequence[(index + (1 if later else -1)) % len(sequence)]
    side = "after" if later else "before"
    question = rng.choice(
        (f"which {noun} comes {side} {sequence[index]}?", f"what {noun} is {side} {sequence[index]}?")
    )
    return question, f"{other} comes {side} {sequence[index]}."


def _about_numbers(rng: random.Random) -> tuple[str, str]:
    kind = rng.randrange(5)
    if kind == 0:
        animal, legs = rng.choice(list(_LEGS.items()))
        count = words.number_word(legs) if legs else "no"
        return f"how many legs does {animal} have?", f"{animal} has {count} legs."
    number = rng.randint(0, 100)
    if kind == 1:
        return f"how do you write {words.number_word(number)} in digits?", f"{number}"
    if kind == 2:
        return f"how do you say {number} in words?", f"{words.number_word(number)}"
    first, second = rng.randint(0, 10), rng.randint(0, 10)
    if kind == 3:
        return f"what is {first} plus {second}?", f"{first} plus {second} is {first + second}."
    start = rng.randint(1, 12)
    stop = start + rng.randint(3, 7)
    return f"count from {start} to {stop}.", ", ".join(str(value) for value in range(start, stop + 1)) + "."


def _about_groups(rng: random.Random) -> tuple[str, str]:
    groups = {
        "fruits": words.FRUIT,
        "animals": words.ANIMALS,
        "colours": words.COLOURS,
        "rooms": words.ROOMS,
        "days": words.DAYS,
        "vegetables": words.VEGETABLES,
        "months": words.MONTHS,
        "instruments": words.INSTRUMENTS,
        "cities": words.CITIES,
    }
    name, members = rng.choice(list(groups.items()))
    count = rng.randint(2, 5)
    chosen = rng.sample(members, count)
    question = expand(
        "(name|tell me|list|give me) $count $name(.| please.)", rng, count=words.number_word(count), name=name
    )
    if rng.random() < 0.3:
        return question.replace(".", " as a list."), "\n".join(f"- {word}" for word in chosen)
    return question, f"{listing(chosen)}."


def _small_talk(rng: random.Random) -> tuple[str, str]:
    question, answer = rng.choice(_SMALL_TALK)
    return expand(question, rng), expand(answer, rng)


_KINDS = (_about_words, _about_words, _about_words, _about_order, _about_numbers, _about_groups, _small_talk)


def question(rng: random.Random) -> tuple[str, str]:
    """Return one question and its answer."""
    asked, answered = rng.choice(_KINDS)(rng)
    opening = rng.choice(("", "", "", "", "please tell me, ", "tell me, "))
    if "?" not in asked:
        opening = ""
    return tidy(opening + asked), tidy(answered)
