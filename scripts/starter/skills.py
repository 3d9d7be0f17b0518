"""Exercises that build copying: repeating, listing, spelling, answering from a passage, confirming a request."""

# ruff: noqa: SIM905 - word lists read best as running text.

import random

from scripts.starter import words
from scripts.starter.grammar import expand, listing, phrase, tidy
from scripts.starter.stories import world

Turn = tuple[str, str]

_ONSETS = "b d f g h k l m n p r s t v w bl br cl dr fl gl pl st th tr".split()
_VOWELS = "a e i o u ai ea oo ou".split()
_CODAS = ("", "", "n", "r", "m", "nd", "st")


def made_up_word(rng: random.Random) -> str:
    """Return a word that nobody has used, so that only copying can produce it."""
    syllables = rng.randint(1, 3)
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))


def _any_word(rng: random.Random) -> str:
    pools = (words.THINGS, words.ANIMALS, words.NAMES, words.GOODS, words.ROOMS, words.COLOURS, words.CITIES)
    return made_up_word(rng) if rng.random() < 0.4 else rng.choice(rng.choice(pools))


def _any_clock(rng: random.Random) -> str:
    return f"{rng.randint(0, 23):02d}:{rng.choice((0, 0, 15, 30, 45, rng.randint(0, 59))):02d}"


def repeat(rng: random.Random) -> Turn:
    """Ask to say words again."""
    if rng.random() < 0.3:
        slots = world(rng)
        text = expand(
            "(the $adj $thing is in the $room|$name (sees|has|likes) the $animal|we meet at the $place on "
            "$day|$friend brings $fruit and $goods).",
            rng,
            **slots,
        )
    else:
        pieces = [
            rng.choice((_any_word(rng), str(rng.randint(0, 999)), _any_clock(rng))) for _ in range(rng.randint(1, 6))
        ]
        text = " ".join(pieces)
    asked = rng.choice(
        ("Say this again: ", "Repeat: ", "Please repeat after me: ", "Write this: ", "Copy these words: ", "Say: ")
    )
    return asked + text, text


def drill(rng: random.Random) -> str:
    """Return a line of unrelated words and numbers, written out two or three times, as plain text.

    Nothing but looking back predicts the second line: this teaches attention to copy long before stories would.
    """
    line = " ".join(
        rng.choice((_any_word(rng), _any_word(rng), str(rng.randint(0, 99)))) for _ in range(rng.randint(3, 12))
    )
    return "\n".join([line] * rng.choice((2, 2, 3)))


def spell(rng: random.Random) -> Turn:
    """Ask for the letters of a word, or the word of letters."""
    word = _any_word(rng).lower()
    letters = "-".join(word)
    if rng.random() < 0.5:
        return f"Spell the word {word}.", letters
    return f"Which word is {letters}?", word


def make_list(rng: random.Random) -> Turn:
    """Ask to turn words into a list, or to pick one of a list."""
    chosen = [_any_word(rng) for _ in range(rng.randint(2, 6))]
    kind = rng.randrange(4)
    if kind == 0:
        return f"Make a list of {listing(chosen)}.", "\n".join(f"- {word}" for word in chosen)
    if kind == 1:
        return "Write these in one line:\n" + "\n".join(f"- {word}" for word in chosen), ", ".join(chosen)
    if kind == 2:
        index = rng.choice((0, len(chosen) - 1))
        place = "first" if index == 0 else "last"
        return f"Which word is {place}: {', '.join(chosen)}?", f"{chosen[index]}"
    index = rng.randrange(len(chosen) - 1)
    return f"Which word comes after {chosen[index]}: {', '.join(chosen)}?", f"{chosen[index + 1]}"


def join(rng: random.Random) -> Turn:
    """Ask to write words in another layout: joined by a sign, or one on each line."""
    chosen = [rng.choice((_any_word(rng), str(rng.randint(0, 99)))) for _ in range(rng.randint(2, 5))]
    name, sign = rng.choice((("hyphens", "-"), ("slashes", "/"), ("commas", ","), ("colons", ":")))
    if rng.random() < 0.6:
        return f"Join these words with {name}: {' '.join(chosen)}", sign.join(chosen)
    return f"Write one word on each line: {listing(chosen)}.", "\n".join(chosen)


def quote(rng: random.Random) -> Turn:
    """Ask what somebody said."""
    slots = world(rng)
    said = expand(
        "(I have lost the $thing.|the $dish is ready.|we meet at the $place.|I will come on $day.|the "
        "$animal is in the $room.|please bring $fruit.|I like $music.)",
        rng,
        **slots,
    )
    name = slots["name"]
    return rng.choice(
        (f'{name} said, "{said}" What did {name} say?', f"{name} said: {said} What did {name} say?")
    ), f'{name} said, "{said}"'


def form(rng: random.Random) -> Turn:
    """Ask to move facts between a sentence and a form."""
    person = rng.choice(words.PEOPLE)
    fields = {
        "Name": person.name if rng.random() < 0.6 else made_up_word(rng).capitalize(),
        "City": rng.choice(words.CITIES),
        "Age": str(rng.randint(4, 90)),
        "Colour": rng.choice(words.COLOURS),
        "Animal": rng.choice(words.ANIMALS),
    }
    sentence = expand(
        "($name is $age years old, lives in $city, likes the colour $colour and has a $animal.|"
        "$name from $city is $age. (the favourite colour is $colour, and there is a $animal at home|$name "
        "has a $animal and likes $colour).|"
        "(my name is|I am) $name and I live in $city with my $animal. I am $age, and I like $colour.)",
        rng,
        **{name.lower(): value for name, value in fields.items()},
    )
    keys = rng.sample(list(fields), rng.randint(2, 5))
    lines = "\n".join(f"{key}: {fields[key]}" for key in keys)
    if rng.random() < 0.5:
        key = keys[0]
        return f"{sentence} {expand('(what is the $key?|tell me the $key.|$key?)', rng, key=key.lower())}", fields[key]
    return f"{sentence}\nFill in: {', '.join(keys)}.", lines


def passage(rng: random.Random) -> Turn:
    """Tell where things are and ask about one of them."""
    count = rng.randint(2, 4)
    people = rng.sample(words.PEOPLE, count)
    things = rng.sample(words.THINGS, count)
    rooms = rng.sample(words.ROOMS, count)
    facts = [
        phrase(
            "$name (put|left|forgot|has put) the $thing in the $room.", rng, name=person.name, thing=thing, room=room
        )
        for person, thing, room in zip(people, things, rooms, strict=True)
    ]
    index = rng.randrange(count)
    person, thing, room = people[index], things[index], rooms[index]
    asked, answered = rng.choice(
        (
            (f"Where is the {thing}?", f"The {thing} is in the {room}."),
            (f"Who was in the {room}?", f"{person.name} was in the {room}."),
            (f"What is in the {room}?", f"The {thing} is in the {room}."),
            (f"What did {person.name} leave?", f"{person.name} left the {thing}."),
        )
    )
    return f"{' '.join(facts)} {asked}", answered


def tell_time(rng: random.Random) -> Turn:
    """Ask for a time of day in digits."""
    hour, minute = rng.randint(1, 12), rng.choice((0, 0, 15, 30, 45))
    following = words.number_word(hour % 12 + 1)
    spoken = {
        0: f"{words.number_word(hour)} o'clock",
        15: f"quarter past {words.number_word(hour)}",
        30: f"half past {words.number_word(hour)}",
        45: f"quarter to {following}",
    }[minute]
    part, shift = rng.choice((("in the morning", 0), ("in the evening", 12), ("", 0))) if hour < 12 else ("", 0)
    hour_of_day = hour % 12 + shift if part else hour
    return f"How do you write {spoken} {part}".strip() + "?", f"{hour_of_day:02d}:{minute:02d}"


_REQUESTS: tuple[tuple[str, str], ...] = (
    (
        "(could you|would you|can you) make the $room (warmer|cooler)? $degrees degrees would be nice.",
        "(yes|of course), the $room will be at $degrees degrees.",
    ),
    (
        "it is too (dark|bright) in the $room. (the lamp should be|I want the lamp) at $percent percent.",
        "the lamp in the $room is at $percent percent now.",
    ),
    (
        "(I have to|$name has to) call $friend on $day at $clock. (do not let me forget|please remember it).",
        "I will remember: call $friend on $day at $clock.",
    ),
    ("we have no more $goods, and $digits $fruit would be good.", "I put $goods and $digits $fruit on the list."),
    ("(how about|I would like to hear) some $music in the $room?", "here is some $music in the $room."),
    ("the $dish needs $minutes minutes.", "I will tell you when the $dish is ready, in $minutes minutes."),
    ("(who|when) (comes|is coming)? $name comes on $day at $clock.", "$name comes on $day at $clock."),
    ("I want to get up at $clock on $day.", "I will wake you at $clock on $day."),
    ("(what will the weather be|how is the weather) in $city on $day?", "on $day it will be $weather in $city."),
    ("tell $friend that the $thing is (ready|lost|in the $room).", "I told $friend about the $thing."),
    ("(is|was) the $device in the $room on?", "(yes|no), the $device in the $room is (on|off)."),
    ("the $thing in the $room should be $colour.", "now the $thing in the $room is $colour."),
    (
        "(please|) (brighten|light up) the $room (a little|), $percent percent (is enough|will do).",
        "the light in the $room is at $percent percent now.",
    ),
    (
        "(please|) (count|measure) $minutes minutes for (the|my) $dish.",
        "I will tell you when the $minutes minutes for the $dish are over.",
    ),
    ("(please|) (knock|ring) at $clock on $day, I (want|have) to (work|go out).", "I will wake you at $clock on $day."),
    ("(please|) keep the $room at $degrees degrees.", "the $room will be at $degrees degrees."),
    ("(please|) let me hear $music in the $room.", "here is some $music in the $room."),
    ("(please|) write down that $friend comes on $day at $clock.", "I wrote it down: $friend comes on $day at $clock."),
    ("(please|) bring $digits $fruit and $goods from the shop.", "I put $digits $fruit and $goods on the list."),
    ("(please|) say to $friend that $name is (here|ill|late|at the $place).", "I told $friend about $name."),
    ("(please|) (paint|colour) the $thing in the $room $colour.", "now the $thing in the $room is $colour."),
)


def request(rng: random.Random) -> Turn:
    """Ask for something at home and hear a confirmation in plain words."""
    slots = world(rng) | {
        "degrees": str(rng.randint(15, 26)),
        "percent": str(rng.randint(1, 100)),
        "minutes": str(rng.randint(2, 90)),
        "clock": _any_clock(rng),
    }
    if rng.random() < 0.25:
        slots |= {"room": made_up_word(rng), "thing": made_up_word(rng), "friend": made_up_word(rng).capitalize()}
    asked, answered = rng.choice(_REQUESTS)
    return expand(asked, rng, **slots), expand(answered, rng, **slots)


EXERCISES = (
    repeat,
    repeat,
    repeat,
    spell,
    make_list,
    make_list,
    join,
    join,
    quote,
    form,
    form,
    passage,
    passage,
    tell_time,
    request,
    request,
    request,
)


def exercise(rng: random.Random) -> Turn:
    """Return one exercise as a question and its answer."""
    asked, answered = rng.choice(EXERCISES)(rng)
    return tidy_request(asked, rng), answered


def tidy_request(asked: str, rng: random.Random) -> str:
    """Return the request as written, or now and then in small letters at its start, as people type."""
    return asked[0].lower() + asked[1:] if rng.random() < 0.1 else asked


def scale_words(rng: random.Random) -> str:
    """Return counting written out, as plain text."""
    start = rng.randint(1, 90)
    numbers = range(start, start + rng.randint(4, 9))
    return tidy(listing([f"{words.number_word(number)} is {number}" for number in numbers]) + ".")
