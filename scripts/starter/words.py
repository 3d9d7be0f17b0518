"""The words of the starter model's small world."""

# ruff: noqa: SIM905 - word lists read best as running text.

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """A name with its pronouns."""

    name: str
    he: str
    him: str
    his: str


_WOMEN = (
    "Nora Mia Ada Ruth Lena Ivy Zoe Maya Clara Hanna Olga Priya Aisha Rosa Greta Wanda Tilda Emma Lucy Anna Yuki Sofia "
    "Ines Freya Nadia Leila Alma Vera Elsa Iris Julia Marta Paula Sara Tess Una Bella Carla Dora Edith Fatima Gwen"
).split()
_MEN = (
    "Tom Amir Ben Otto Leo Sam Hugo Ravi Kofi Felix Oscar Milo Ivan Pablo Jonas Theo Max Finn Omar Noah Emil Luca "
    "Arthur Boris Carl David Elias Frank Georg Henry Igor Jack Karim Liam Marco Niko Paul Quentin Ray Simon Tim Victor"
).split()

PEOPLE = tuple(
    [Person(name, "she", "her", "her") for name in _WOMEN] + [Person(name, "he", "him", "his") for name in _MEN]
)
NAMES = tuple(person.name for person in PEOPLE)

ANIMALS = tuple(
    "fox rabbit bear mouse owl cat dog duck frog hedgehog squirrel goat horse hen lamb turtle beaver deer robin otter "
    "badger donkey swan sparrow pony kitten puppy goose mole crow".split()
)
ADJECTIVES = tuple(
    "small big old new red blue green yellow white black brown grey round long warm soft bright quiet clean heavy "
    "light pretty wooden golden silver shiny little tall strong purple orange pink".split()
)
ROOM_ADJECTIVES = tuple("small big bright warm quiet clean old new cosy large cool tidy".split())
CONTAINERS = tuple("basket bowl box bag bucket jar pot tin".split())
COLOURS = tuple("red blue green yellow white black brown grey purple orange pink golden silver turquoise".split())
MOODS = tuple("happy glad proud calm cheerful kind brave curious gentle clever".split())
THINGS = tuple(
    "ball box cup book lamp hat key kite boat basket bell blanket bottle bowl brush button candle clock coat "
    "drum flag fork glove jar kettle knife letter map mirror nail paper pencil picture pillow plate pot ribbon ring "
    "rope scarf shell shoe spoon stone ticket towel toy umbrella vase whistle stick pan "
    "parcel purse saw sock torch tray bucket hammer needle".split()
)
ROOMS = tuple(
    "kitchen bedroom bathroom study hall attic cellar garage nursery pantry library workshop lounge laundry playroom "
    "office".split()
)
FURNITURE = tuple("table bed desk shelf sofa chair bench chest cupboard stove piano rug lamp clock mirror".split())
PLACES = tuple(
    "park forest garden market village harbour river lake hill meadow beach school library farm station bridge field "
    "square museum bakery island valley".split()
)
FRUIT = tuple("apples pears plums cherries lemons oranges grapes peaches bananas strawberries figs melons".split())
VEGETABLES = tuple("carrots potatoes onions beans peas tomatoes cabbages mushrooms peppers leeks".split())
GOODS = tuple(
    "bread milk butter cheese flour sugar salt rice honey tea coffee soap candles eggs paper jam pasta oil yogurt "
    "cream nuts oats pepper juice matches".split()
)
DISHES = tuple("soup pancakes porridge salad bread cake pie stew pasta pudding tea rice muffins waffles".split())
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple("January February March April May June July August September October November December".split())
DAY_PARTS = ("morning", "afternoon", "evening")
EVENTS = (
    "a music lesson",
    "a swimming lesson",
    "lunch with $friend",
    "tea with $friend",
    "a walk in the $place",
    "a visit to the dentist",
    "a long meeting",
    "a train to catch",
    "football with $friend",
    "a painting class",
    "a picnic at the $place",
    "dinner with $friend",
    "a phone call with $friend",
    "a trip to the $place",
    "a chess game",
    "a dance class",
    "a book club",
    "a birthday party",
)
WEATHER = ("sunny", "rainy", "cloudy", "windy", "foggy", "snowy", "stormy", "cold", "warm", "hot", "mild", "dry")
CITIES = tuple(
    "Lisbon Oslo Cairo Lima Paris Rome Vienna Dublin Athens Tokyo Berlin Madrid London Prague Delhi Quito Havana "
    "Nairobi Sydney Toronto".split()
)
MUSIC = ("jazz", "folk songs", "piano music", "rock", "old dances", "choir music", "guitar music", "lullabies", "blues")
INSTRUMENTS = tuple("piano violin drum flute guitar trumpet harp cello".split())
JOBS = tuple(
    "baker teacher farmer doctor painter sailor gardener builder singer driver writer tailor cook nurse postman "
    "carpenter".split()
)
DEVICES = ("lamp", "heater", "radio", "fan", "kettle", "oven", "television", "speaker", "blind", "alarm", "robot")

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_word(number: int) -> str:
    """Return an integer from 0 to 100 in words."""
    if number < 20:
        return UNITS[number]
    if number == 100:
        return "one hundred"
    ten, unit = divmod(number, 10)
    return TENS[ten - 2] + (f"-{UNITS[unit]}" if unit else "")
