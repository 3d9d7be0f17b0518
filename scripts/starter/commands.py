"""Write the quick start's data: plain requests at home and the commands that they mean.

    python -m scripts.starter.commands --output presets/commands/commands.jsonl

Every command occurs once, so whichever rows are held out, the command that they ask for was never trained on.
"""

# ruff: noqa: SIM905 - word lists read best as running text.

import argparse
import json
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from scripts.starter import words
from scripts.starter.grammar import expand, phrase

SEED = 17
NUM_ROWS = 1200
MAX_TRIES = 10_000

Slots = dict[str, str]

_ASK = "(please |could you |can you |would you |hey, |now |I want you to |||||)"
_END = "(|||, please|, thanks)"
_MUSIC = tuple("jazz rock blues folk soul opera swing samba reggae techno waltzes ballads".split())
_PLANTS = tuple("fern cactus basil rose ivy orchid mint palm tulip lily thyme bonsai".split())
_ITEMS = (
    *words.FRUIT,
    *words.VEGETABLES,
    "eggs",
    "candles",
    "muffins",
    "waffles",
    "napkins",
    "light bulbs",
    "tea bags",
    "bread rolls",
    "bars of soap",
    "bags of flour",
    "jars of honey",
    "bottles of milk",
    "loaves of bread",
    "bags of rice",
    "jars of jam",
    "bottles of olive oil",
    "packs of butter",
    "bars of dark chocolate",
    "tins of beans",
    "boxes of matches",
    "cartons of oat milk",
)
_CHORES = (
    "feed the $animal",
    "call $friend",
    "pay the rent",
    "water the garden",
    "return the $thing",
    "clean the $place",
    "pick up $friend",
    "buy a $thing",
    "write to $friend",
    "wash the $thing",
    "book a table",
    "mend the $thing",
    "bake a cake for $friend",
)
_NEWS = (
    "I am running late",
    "the $dish is ready",
    "I will be there at $time",
    "I found the $thing",
    "we meet at the $spot on $day",
    "the train leaves at $time",
    "I left the $thing in the $place",
    "dinner is at $time",
    "we need more $goods",
    "I cannot come on $day",
    "the $animal is asleep",
    "$other is here",
    "the $thing is in the $place",
)
_WISHES = (
    "see you on $day",
    "please bring the $thing",
    "happy birthday",
    "can you come at $time",
    "meet me at the $spot",
    "thanks for the $dish",
)
_EVENTS = tuple("lunch dinner tea chess tennis coffee football breakfast yoga rehearsal".split())


_GLOWS = tuple("red blue green yellow white orange pink purple turquoise golden violet amber".split())


def _clock(rng: random.Random, first_hour: int = 7, last_hour: int = 22) -> str:
    return f"{rng.randint(first_hour, last_hour):02d}:{rng.randrange(0, 60, 5):02d}"


def _percent(rng: random.Random) -> tuple[str, str]:
    """Return a share as it is said and as a command writes it."""
    value = rng.randint(1, 99) if rng.random() < 0.5 else rng.randrange(5, 100, 5)
    return rng.choice((f"{value} percent", f"{value} percent", f"{value}%")), str(value)


def light_level(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for a brightness."""
    if rng.random() < 0.2:
        said, level = rng.choice((("off", "0"), ("to half", "50"), ("all the way up", "100")))
        return (
            f"{_ASK}(turn|switch) the (lamp|light) in the $room $said{_END}",
            {"said": said},
            f"light.set --room $room --level {level}",
        )
    said, level = _percent(rng)
    template = rng.choice(
        (
            f"{_ASK}(dim|set|turn|put|bring) the (lamp|light|lights) in the $room to $said{_END}",
            f"{_ASK}(dim|set) the $room (lamp|light|lights) to $said{_END}",
            "it is too (dark|bright) in the $room, (make it|I would like) $said",
            "I am reading in the $room, give me $said light",
        )
    )
    return template, {"said": said}, f"light.set --room $room --level {level}"


def light_colour(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for a colour of light."""
    template = rng.choice(
        (
            f"{_ASK}(make|turn) the (light|lamp) in the $room $colour{_END}",
            f"{_ASK}(give|bring) the $room a $colour (light|glow){_END}",
            "I would like $colour light in the $room",
            "the $room should (shine|glow) $colour (tonight|now|)",
        )
    )
    return template, {"colour": rng.choice(_GLOWS)}, "light.colour --room $room --colour $colour"


def heating(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for a temperature."""
    template = rng.choice(
        (
            f"{_ASK}(heat|warm) the $room to $degrees degrees{_END}",
            f"{_ASK}(set|turn|put) the (heater|heating) in the $room to $degrees( degrees|){_END}",
            "it is (cold|chilly|freezing) in the $room, $degrees degrees would be nice",
            "I like $degrees degrees in the $room",
        )
    )
    return template, {"degrees": str(rng.randint(12, 28))}, "heat.set --room $room --degrees $degrees"


def blinds(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for blinds to be moved."""
    said, percent = _percent(rng)
    template = rng.choice(
        (
            f"{_ASK}(lower|move|set|bring) the (blind|blinds) in the $room to $said{_END}",
            f"{_ASK}(close|open) the $room (blind|blinds|shutters) to $said{_END}",
            "the sun is (too bright|blinding me) in the $room, blinds to $said",
        )
    )
    return template, {"said": said}, f"blind.move --room $room --percent {percent}"


def timer(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for a timer."""
    value = rng.randint(2, 59)
    template = rng.choice(
        (
            f"{_ASK}(set|start) a timer for $said minutes for the $dish{_END}",
            f"{_ASK}(set|start) a $dish timer for $said minutes{_END}",
            "the $dish will (need|take) $said minutes(, start the timer|, wake me then|)",
            "tell me when the $said minutes for the $dish are over",
        )
    )
    return template, {"said": str(value)}, f"timer.start --minutes {value} --label $dish"


def alarm(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask to be woken."""
    template = rng.choice(
        (
            f"{_ASK}(wake|get) me up (at $time on $day|on $day at $time){_END}",
            f"{_ASK}set (an alarm|the alarm) for ($time on $day|$day at $time){_END}",
            "I (must|have to|need to) get up at $time on $day",
            "it will be a long $day, alarm at $time",
        )
    )
    return template, {"time": _clock(rng, 4, 10)}, "alarm.set --day $day --time $time"


def event(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for an appointment."""
    template = rng.choice(
        (
            f"{_ASK}(add|plan|note) $event with $friend (on $day at $time|at $time on $day){_END}",
            f"{_ASK}put $event with $friend in (my|the) calendar for $day at $time{_END}",
            "there is $event with $friend on $day at $time",
            "I am meeting $friend for $event on $day at $time",
        )
    )
    return template, {"event": rng.choice(_EVENTS)}, "event.add --what $event --who $friend --day $day --time $time"


def shopping(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for something to be bought."""
    count = rng.randint(2, 12)
    template = rng.choice(
        (
            f"{_ASK}(add $said $item to|put $said $item on) the (shopping list|list){_END}",
            "we (need|should buy|want) $said $item",
            f"{_ASK}(buy|order|get) $said $item( for $friend|){_END}",
        )
    )
    return template, {"said": str(count), "item": rng.choice(_ITEMS)}, f"shop.add --count {count} --item $item"


def music(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for music."""
    said, volume = _percent(rng)
    template = rng.choice(
        (
            f"{_ASK}play (some |)$music in the $room at $said{_END}",
            f"{_ASK}(put|turn) on (some |)$music in the $room, volume $said{_END}",
            "I (want|would like|feel like) (some |)$music in the $room at $said volume",
            "how about (some |)$music in the $room at $said",
        )
    )
    return (
        template,
        {"said": said, "music": rng.choice(_MUSIC)},
        f"music.play --kind $music --room $room --volume {volume}",
    )


def message(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for a message to be sent."""
    text = rng.choice(_NEWS + _WISHES)
    colon = (f"{_ASK}send (a message to $friend|$friend a message): $text", "message for $friend: $text")
    clause = (f"{_ASK}(tell|text|write to) $friend that $text", f"{_ASK}let $friend know that $text")
    template = rng.choice(colon if text in _WISHES else colon + clause + clause)
    return template, {"text": text}, "message.send --to $friend --text $text"


def reminder(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask to be reminded."""
    template = rng.choice(
        (
            f"{_ASK}remind me to $text on $day at $time{_END}",
            f"{_ASK}remind me on $day at $time to $text{_END}",
            "do not let me forget to $text on $day at $time",
            "I have to $text on $day at $time(, remind me|)",
        )
    )
    return template, {"text": rng.choice(_CHORES)}, "remind.add --day $day --time $time --text $text"


def oven(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for the oven."""
    minutes = rng.randint(5, 90)
    template = rng.choice(
        (
            f"{_ASK}(heat|set|turn) the oven to $degrees degrees for $said minutes{_END}",
            f"{_ASK}bake the $dish for $said minutes at $degrees( degrees|){_END}",
            "the $dish goes into the oven at $degrees degrees for $said minutes",
        )
    )
    slots = {"said": str(minutes), "degrees": str(rng.randrange(120, 255, 5))}
    return template, slots, f"oven.heat --degrees $degrees --minutes {minutes}"


def robot(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask the robot to clean."""
    template = rng.choice(
        (
            f"{_ASK}(let|have) the robot (sweep|clean|vacuum) the $room at $time{_END}",
            f"{_ASK}send the robot (to|into) the $room at $time{_END}",
            "the $room is (dusty|dirty|full of crumbs), robot at $time",
        )
    )
    return template, {}, "robot.sweep --room $room --time $time"


def plants(rng: random.Random) -> tuple[str, Slots, str]:
    """Ask for a plant to be watered."""
    amount = str(rng.randrange(50, 750, 10))
    template = rng.choice(
        (
            f"{_ASK}water the $plant with $amount (millilitres|ml){_END}",
            f"{_ASK}give (the|my) $plant $amount (millilitres|ml) of water{_END}",
            "(the|my) $plant (is dry|looks thirsty|lets its leaves hang), $amount ml (of water|)",
        )
    )
    return template, {"amount": amount, "plant": rng.choice(_PLANTS)}, "plant.water --plant $plant --ml $amount"


INTENTS: tuple[Callable[[random.Random], tuple[str, Slots, str]], ...] = (
    light_level,
    light_colour,
    heating,
    blinds,
    timer,
    alarm,
    event,
    shopping,
    music,
    message,
    reminder,
    oven,
    robot,
    plants,
)


def _common(rng: random.Random) -> Slots:
    friend, other = rng.sample(words.NAMES, 2)
    return {
        "room": rng.choice(words.ROOMS),
        "place": rng.choice(words.ROOMS),
        "spot": rng.choice(words.PLACES),
        "friend": friend,
        "other": other,
        "thing": rng.choice(words.THINGS),
        "animal": rng.choice(words.ANIMALS),
        "goods": rng.choice(words.GOODS),
        "time": _clock(rng),
        "colour": rng.choice(words.COLOURS),
        "dish": rng.choice(words.DISHES),
        "day": rng.choice(words.DAYS),
    }


def _row(intent: Callable[[random.Random], tuple[str, Slots, str]], rng: random.Random) -> tuple[str, str]:
    template, own, command = intent(rng)
    slots = _common(rng)
    # Slots that are sentences themselves are filled first, with the same people, times and things.
    slots |= {name: phrase(value, rng, **slots) for name, value in own.items()}
    request = expand(template, rng, **slots)
    if request.startswith("Please"):
        request = request.removesuffix(", please")
    if "$text" not in template:
        request += _closing(request, rng)
    return request, phrase(command, rng, **slots)


def _closing(request: str, rng: random.Random) -> str:
    """Return the sign that some people end a request with; a message has none, its last word is sent as it is."""
    if rng.random() < 0.6:
        return ""
    return "?" if request.startswith(("Could", "Can", "Would", "How")) else "."


def command_rows(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (request, command), intents in turn; no request and no command comes twice.

    Raises:
        ValueError: A kind of command has no new row left; its rooms, levels and colours are finite.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        for intent in INTENTS:
            tries = (_row(intent, rng) for _ in range(MAX_TRIES))
            fresh = ((request, command) for request, command in tries if seen.isdisjoint((request.lower(), command)))
            row = next(fresh, None)
            if row is None:
                raise ValueError(
                    f"{len(seen) // 2} rows written, and no new {intent.__name__} row is left: ask for fewer"
                )
            seen |= {row[0].lower(), row[1]}
            yield row


def write_commands(path: Path, num_rows: int, seed: int) -> None:
    """Write rows in `messages` form, shuffled."""
    rows = list(islice(command_rows(seed), num_rows))
    random.Random(seed).shuffle(rows)
    with path.open("w", encoding="utf-8") as file:
        for request, command in rows:
            messages = [{"role": "user", "content": request}, {"role": "assistant", "content": command}]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write the quick start's data.")
    parser.add_argument("--output", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--rows", type=int, default=NUM_ROWS, help="number of rows")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the generator")
    options = parser.parse_args()
    write_commands(options.output, options.rows, options.seed)
    print(f"{options.rows} rows written to {options.output}")


if __name__ == "__main__":
    main()
