"""Which script and language a row is mostly written in: by its letters and, in Latin letters, by its small words.

No model and no table of scripts: the name of a letter in the Unicode database begins with its script, and the small
words of a language (the, der, les) are so frequent that a sentence or two tell. What is not clear is said to be so.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter

LOOKED_AT_CHARS = 800
"""Characters at the beginning of a row that tell its language, about 120 words."""
_MIN_LETTERS = 12
_MIN_SMALL_WORDS = 4
"""Different small words of a language that a text must hold."""
_SMALL_SHARE = 0.12
"""Least share of all words; running text has about twice as many."""
_CLEAR = 2.0
"""How many times more small words of one language than of any other make it clear."""
_ASCII = re.compile(r"[\x00-\x7f]+")
_WORD_BYTES = bytes(code | 0x20 if chr(code).isalpha() else 0x20 for code in range(0x80)) + bytes(range(0x80, 0x100))
"""For each byte of UTF-8 its letter in lower case; a space for ASCII that is no letter. On bytes, because a search for
letters in text takes thirty times as long."""
_EAST_ASIAN = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
_KANA_SHARE = 0.05
"""Japanese text holds more kana than this, however many Chinese characters it has."""
_NO_SCRIPT = frozenset({"MODIFIER", "FEMININE", "MASCULINE", "MICRO", "SUPERSCRIPT", "SUBSCRIPT", "DOUBLE-STRUCK"})
_WIDTHS = frozenset({"FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "SCRIPT", "BLACK-LETTER"})

# Words of one letter, and those that English has too, are left out.
_SMALL_WORDS = {
    "English": "the of and to is that for it with was you are this have be not by from they at which what would",
    "German": "der die das und ist nicht ein eine zu den mit von auf für sich dem des auch es wird sind oder ich",
    "French": "le la les et est des un une du que qui dans pour pas sur au avec ce il sont nous vous aux cette",
    "Spanish": "el la los las y es que en un una del por con para se su como más pero lo al son está",
    "Portuguese": "os é que em um uma da dos das não para com por se na mais como ao são você seu sua ou foi",
    "Italian": "il lo la gli le è che di un una per non con del della sono si nel alla dei più come anche",
    "Dutch": "het een en van niet dat te zijn met voor er aan wordt ook bij door ik je maar om deze naar kan",
    "Swedish": "och att det som en är på för med av den till inte har jag ett om var eller vid från kan",
    "Danish": "og at det som en er på for med af den til ikke har jeg et om var eller ved fra kan blev",
    "Norwegian": "og å det som en er på for med av den til ikke har jeg et om var eller ved fra kan ble",
    "Finnish": "ja ei että se hän oli ovat mutta kun niin myös tai joka kuin ole jos sekä olla tämä mitä",
    "Polish": "na nie się jest że jak ale za od przez są dla oraz tym być tego który czy które może",
    "Czech": "na se je že jako za ale od jsou které nebo podle byl jeho aby má není při také jen",
    "Hungarian": "az és hogy nem egy van meg ez azt csak volt ha már mint vagy minden kell lesz",
    "Romanian": "și în de la cu nu este un pe că din ce mai să pentru sunt care au fi sau prin dar",
    "Turkish": "ve bir bu da de için ile çok olarak daha olan gibi kadar sonra değil ama her mi",
    "Indonesian": "yang dan itu dengan untuk tidak ini dari dalam akan pada juga saya karena ada oleh adalah",
    "Vietnamese": "và của là có cho không được các một những với trong người này đã khi để về như tôi cũng",
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _spelled in _SMALL_WORDS.items():
    for _word in _spelled.split():
        _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)


@lru_cache(maxsize=1 << 14)
def script_of(letter: str) -> str:
    """Return the script of a letter, such as `Latin` or `Cyrillic`; empty for what belongs to none."""
    first, *rest = unicodedata.name(letter, "").split(" ") or [""]
    if first in _WIDTHS and rest:
        first = next((word for word in rest if word in ("LATIN", "KATAKANA", "HANGUL")), "")
    return "" if first in _NO_SCRIPT else _EAST_ASIAN.get(first, first.title())


def language_of(text: str) -> str:
    """Return the language of a text, or its script where that is all that its letters tell; empty when unclear.

    Chinese and Japanese are told apart by kana; of other scripts the name of the script is the answer.

    Args:
        text: Its first `LOOKED_AT_CHARS` characters are looked at.
    """
    text = text[:LOOKED_AT_CHARS]
    if text.isascii():
        words = _words(text)
        enough = len(words) >= _MIN_LETTERS or sum(map(len, words)) >= _MIN_LETTERS
        return _latin_language(words) if enough else ""
    text = text.lower()
    others = Counter(_ASCII.sub("", text))
    for character in [character for character in others if not _is_letter(character)]:
        del others[character]
        text = text.replace(character, " ")
    words = _words(text)
    scripts = _scripts(others, sum(map(len, words)) - others.total())
    total = scripts.total()
    if scripts["Japanese"] > _KANA_SHARE * (scripts["Japanese"] + scripts["Chinese"]):
        scripts["Japanese"] += scripts.pop("Chinese", 0)
    if not scripts or total < _MIN_LETTERS // (1 if scripts["Latin"] * 2 > total else 2):
        return ""
    script, most = scripts.most_common(1)[0]
    if most <= total / 2:
        return ""
    return _latin_language(words) if script == "Latin" else script


def _words(text: str) -> list[str]:
    """Return the runs of letters, in lower case, of a text whose letters beyond ASCII are so already."""
    return text.encode("utf-8", "surrogatepass").translate(_WORD_BYTES).decode("utf-8", "surrogatepass").split()


def _is_letter(character: str) -> bool:
    return character.isalnum() and not character.isdecimal()


def _scripts(others: Mapping[str, int], num_ascii: int) -> Counter[str]:
    """Return how many letters there are of each script, from those beyond ASCII and the number of others."""
    scripts = Counter({"Latin": num_ascii} if num_ascii else {})
    for letter, count in others.items():
        if script := script_of(letter):
            scripts[script] += count
    return scripts


def _latin_language(words: Sequence[str]) -> str:
    found = Counter(filter(_LANGUAGES_OF.__contains__, words))
    if len(found) < _MIN_SMALL_WORDS:
        return ""
    hits: dict[str, int] = {}
    different: dict[str, int] = {}
    for word, count in found.items():
        for language in _LANGUAGES_OF[word]:
            hits[language] = hits.get(language, 0) + count
            different[language] = different.get(language, 0) + 1
    (first, most), *others = sorted(hits.items(), key=itemgetter(1), reverse=True)
    clear = most >= _CLEAR * (others[0][1] if others else 0)
    return first if clear and different[first] >= _MIN_SMALL_WORDS and most >= _SMALL_SHARE * len(words) else ""
