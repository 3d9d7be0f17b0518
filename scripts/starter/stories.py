"""Plain prose of the small world: stories, homes, days, shopping, cooking, weather, music."""

import random

from scripts.starter import words
from scripts.starter.grammar import expand, listing, phrase, tidy

_OPENINGS = (
    "(once upon a time|one day|long ago), there was a $mood ($girl|child|$job) $named_name.",
    "$name lived in a $adj house (near|by|next to) the $place.",
    "one (sunny|rainy|cold|warm|quiet) $part, $name (went|walked|ran) to the $place.",
    "$name had a $adj $thing. $he liked it very much.",
    "it was a (warm|cold|bright|rainy) $part, and $name was at the $place.",
    "once upon a time, $name and $friend (lived|played|worked) (near|by) the $place.",
)
_LOST = (
    "$his $adj $thing was (lost|gone|missing). $name looked (under|behind) the $furniture, but it was not there.",
    '"(where is|have you seen) my $thing?" $he asked. $friend shook $friend_his head and said, "(no, I '
    'have not|I do not know)."',
    "together they looked in the $room and (in|near) the $place. (at last|after a long time) $friend "
    "found it (under|behind|next to) the $furniture.",
    '"(thank you|how kind of you), $friend!" said $name. $he was $mood again, and they (went home|drank '
    "some tea|laughed together).",
)
_SHARE = (
    "$name had $number $fruit in a $container. $friend had none and was (hungry|sad|tired).",
    '"you can have (some|half) of my $fruit," said $name. $friend (smiled|was glad) and said, "(thank '
    'you|you are very kind)!"',
    "they sat (on the grass|under a tree|by the water) and ate the $fruit together. (they tasted sweet|it "
    "was a good day).",
    "the next day $friend brought $name a $adj $thing. since then they are good friends.",
)
_ANIMAL = (
    "(suddenly|then) $he saw a $adj_animal $animal. it was (cold|hungry|tired|afraid) and could not (find "
    "the way home|find its mother|walk any more).",
    '"do not be afraid," said $name. "I will help you." $he gave the $animal some (water|bread|milk) and '
    "(a warm blanket|a soft place to sleep).",
    "the $animal (looked at $him|came closer) and was not afraid any more. they walked to the $place together.",
    "there the $animal found its (mother|family|friends). $name (waved|smiled) and went home, tired but $mood.",
)
_BUILD = (
    "$name wanted to (build|make) a $adj $thing. $he took some (wood|paper|string), a $tool and a lot of time.",
    "first it was too (small|big|short). then it fell down. $name did not give up and (tried again|started again).",
    '$friend came and asked, "(can I help you|shall we do it together)?" "(yes, please|of course)," said $name.',
    "in the $part the $thing was ready. it was $adj and (strong|beautiful), and everybody (liked it|came to see it).",
)
_RAIN = (
    "it (rained|snowed) all day, and $name stayed (at home|in the $room). $he (read a book|played with a "
    "$thing|looked out of the window).",
    "in the $part $friend knocked at the door. $friend_his coat was wet, but there was a $adj $thing in the bag.",
    '"come in," said $name. "I will make some (tea|soup|cocoa)." they sat by the (fire|window) and told '
    "each other stories.",
    "when the (rain|storm) was over, the sun came out, and they saw a rainbow over the $place.",
)
_MARKET = (
    "$name took a $container and went to the market to buy $number $fruit and some $goods.",
    'the $job (smiled|waved) and said, "good morning, my friend! what would you like?" "$number $fruit, '
    'please," said $name.',
    "on the way home $he met $friend, who was carrying a heavy $container. $name helped to carry it as "
    "far as the $place.",
    "at home $he put the $fruit on the $furniture and the $goods in the (pantry|kitchen). then it was "
    "time for (lunch|dinner|tea).",
)
_NIGHT = (
    "in the evening $name could not sleep. the wind (sang|blew) around the house, and the $room was dark.",
    "$he heard a (soft|strange) sound. was it a $animal? $name took a (lamp|torch) and went to the $room.",
    "it was only $friend, who was looking for (a $thing|some $goods). they both laughed.",
    "then $name went back to bed, closed $his eyes and dreamed of the $place.",
)
_ARCS = (_LOST, _SHARE, _ANIMAL, _BUILD, _RAIN, _MARKET, _NIGHT)
_TOOLS = ("hammer", "saw", "needle", "brush", "rope", "nail")


def world(rng: random.Random) -> dict[str, str]:
    """Draw the slots that every template of this world may use."""
    person, friend = rng.sample(words.PEOPLE, 2)
    amount = rng.randint(2, 12)
    return {
        "name": person.name,
        "he": person.he,
        "him": person.him,
        "his": person.his,
        "named_name": f"{rng.choice(('named', 'called'))} {person.name}",
        "friend": friend.name,
        "friend_his": friend.his,
        "girl": "girl" if person.he == "she" else "boy",
        "container": rng.choice(words.CONTAINERS),
        "adj": rng.choice(words.ADJECTIVES),
        "adj_animal": rng.choice(("small", "little", "brown", "grey", "young")),
        "mood": rng.choice(words.MOODS),
        "animal": rng.choice(words.ANIMALS),
        "thing": rng.choice(words.THINGS),
        "room": rng.choice(words.ROOMS),
        "place": rng.choice(words.PLACES),
        "furniture": rng.choice(words.FURNITURE),
        "fruit": rng.choice(words.FRUIT + words.VEGETABLES),
        "goods": rng.choice(words.GOODS),
        "number": words.number_word(amount),
        "digits": str(amount),
        "part": rng.choice(words.DAY_PARTS),
        "job": rng.choice(words.JOBS),
        "tool": rng.choice(_TOOLS),
        "day": rng.choice(words.DAYS),
        "city": rng.choice(words.CITIES),
        "colour": rng.choice(words.COLOURS),
        "music": rng.choice(words.MUSIC),
        "instrument": rng.choice(words.INSTRUMENTS),
        "device": rng.choice(words.DEVICES),
        "weather": rng.choice(words.WEATHER),
        "dish": rng.choice(words.DISHES),
        "month": rng.choice(words.MONTHS),
    }


def story(rng: random.Random, hero: str | None = None) -> str:
    """Return a little story of five to seven sentences; `hero` names who it is about."""
    slots = world(rng)
    if hero is not None:
        slots |= {"name": f"the {hero}", "he": "it", "him": "it", "his": "its", "named_name": f"called the {hero}"}
        opening = "once upon a time there was a $mood $hero. (it lived near the $place.|one day it went to the $place.)"
        slots["hero"] = hero
    else:
        opening = rng.choice(_OPENINGS)
    arc = rng.choice(_ARCS)
    return expand(" ".join((opening, *arc)), rng, **slots)


def home(rng: random.Random) -> str:
    """Return the description of a home or a room."""
    slots = world(rng)
    rooms = rng.sample(words.ROOMS, rng.randint(2, 4))
    lines = [
        expand(
            "$name lives in a (big|small|old|new|quiet|red|white|green) house with $count rooms.",
            rng,
            count=words.number_word(rng.randint(3, 9)),
            **slots,
        )
    ]
    for room in rooms:
        first, second = rng.sample(words.FURNITURE, 2)
        local = slots | {
            "room": room,
            "first": first,
            "second": second,
            "colour": rng.choice(words.COLOURS),
            "adj": rng.choice(words.ADJECTIVES),
            "thing": rng.choice(words.THINGS),
            "like": rng.choice(words.ROOM_ADJECTIVES),
        }
        lines.append(
            expand(
                "(the $room is $like.|the $room is $like and $colour.|the $room is (next "
                "to|below|above|behind) the $other.|) "
                "(there is a $colour $first|a $adj $first stands) in the $room, and "
                "(a $thing lies on|a $thing stands next to|a cat sleeps under) the $second.",
                rng,
                other=rng.choice([name for name in words.ROOMS if name != room]),
                **local,
            )
        )
    lines.append(
        expand(
            "(in the $part it is quiet there|$name likes the $room best|friends often come to visit).",
            rng,
            **slots | {"room": rooms[-1]},
        )
    )
    return tidy(" ".join(lines))


def week(rng: random.Random) -> str:
    """Return a calendar told in prose or as lines."""
    slots = world(rng)
    days = sorted(rng.sample(range(7), rng.randint(2, 4)))
    as_lines = rng.random() < 0.4
    lines = [expand("$name's week:" if as_lines else "$name has a (busy|full|quiet) week.", rng, **slots)]
    for day in days:
        local = world(rng) | {"name": slots["name"], "he": slots["he"], "day": words.DAYS[day]}
        local["event"] = phrase(rng.choice(words.EVENTS), rng, **local)
        local["hour"] = str(rng.randint(1, 12))
        template = "$day: $event at $hour." if as_lines else ("on $day (at $hour|$part) ($he|$name) has $event.")
        sentence = expand(template, rng, **local)
        lines.append(sentence)
    return ("\n" if as_lines else " ").join(lines)


def shopping(rng: random.Random) -> str:
    """Return a shopping list, told or listed."""
    slots = world(rng)
    items = rng.sample(words.FRUIT + words.VEGETABLES, 2) + rng.sample(words.GOODS, rng.randint(1, 3))
    counts = [f"{words.number_word(rng.randint(2, 12))} {item}" for item in items[:2]]
    amounts = counts + [f"some {item}" for item in items[2:]]
    rng.shuffle(amounts)
    if rng.random() < 0.4:
        return tidy("Shopping list:\n" + "\n".join(f"- {amount}" for amount in amounts))
    return expand(
        "(we need|$name needs|$name wants to buy|please buy) $amounts. (the shop is near the $place.|the "
        "market opens at $clock.|"
        "$friend can carry the bag.) (the $first are for the $dish|do not forget the $last).",
        rng,
        amounts=listing(amounts),
        clock=words.number_word(rng.randint(6, 11)),
        first=items[0],
        last=items[-1],
        **slots,
    )


def instructions(rng: random.Random) -> str:
    """Return how to cook or do something, in steps."""
    slots = world(rng)
    first, second, third = rng.sample(words.GOODS, 3)
    minutes = rng.choice((2, 3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 45))
    slots |= {"first": first, "second": second, "third": third}
    slots["minutes"] = str(minutes) if rng.random() < 0.5 else words.number_word(minutes)
    return expand(
        "how to make $dish(.|:) first, take a (big|clean|small) (bowl|pot|pan) and put the $first and the "
        "$second into it. "
        "(then|next), (stir well|add some water|cut the $fruit) and add the $third. "
        "(set a timer for|wait|let it cook for) $minutes minutes. "
        "(at the end|finally), put it on a $adj plate and (eat it warm|share it with $friend|let it "
        "cool). (enjoy your $dish!|)",
        rng,
        **slots,
    )


def weather(rng: random.Random) -> str:
    """Return a small weather report."""
    slots = world(rng) | {"degrees": str(rng.randint(-5, 34)), "next": rng.choice(words.WEATHER)}
    return expand(
        "(today|on $day) it is $weather in $city. (it is $degrees degrees|the air is (fresh|clear|still)). "
        "(tomorrow|in the $part) it will be $next. "
        "(take an umbrella with you|you do not need a coat|wear a warm scarf|it is a good day for the $place).",
        rng,
        **slots,
    )


def music(rng: random.Random) -> str:
    """Return a note about music."""
    return expand(
        "$name (likes|loves|listens to) $music. (every $day|in the $part) $he (plays|practises) the "
        "$instrument in the $room. "
        "$friend (sings|plays the drum|listens) and (says that it is (too loud|very beautiful)|claps in time). "
        "(the neighbours like it too|at the end they both laugh|a $animal outside the window seems to listen).",
        rng,
        **world(rng),
    )
