"""Which script and language a row is mostly written in: by its letters and, in Latin letters, by its small words.

No model and no table of scripts: the name of a letter in the Unicode database begins with its script, and the small
words of a language (the, der, les) are so frequent that a sentence or two tell. What is not clear is said to be so.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

_LOOKED_AT_CHARS = 2000
_MIN_LETTERS = 12
_MIN_SMALL_WORDS = 4
"""Different small words of a language that a text must hold."""
_SMALL_SHARE = 0.12
"""Least share of all words; running text has about twice as many."""
_CLEAR = 2.0
"""How many times more small words of one language than of any other make it clear."""
_NOT_LETTERS = re.compile(r"[\W\d_]+")
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
for _language, _words in _SMALL_WORDS.items():
    for _word in _words.split():
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
    """
    letters = _NOT_LETTERS.sub("", text[:_LOOKED_AT_CHARS])
    if letters.isascii():
        return _latin_language(text) if len(letters) >= _MIN_LETTERS else ""
    scripts: Counter[str] = Counter()
    for letter, count in Counter(letters).items():
        if script := script_of(letter):
            scripts[script] += count
    total = scripts.total()
    if scripts["Japanese"] > _KANA_SHARE * (scripts["Japanese"] + scripts["Chinese"]):
        scripts["Japanese"] += scripts.pop("Chinese", 0)
    if not scripts or total < _MIN_LETTERS // (1 if scripts["Latin"] * 2 > total else 2):
        return ""
    script, most = scripts.most_common(1)[0]
    if most <= total / 2:
        return ""
    return _latin_language(text) if script == "Latin" else script


def _latin_language(text: str) -> str:
    words = _NOT_LETTERS.split(text[:_LOOKED_AT_CHARS].lower())
    hits: Counter[str] = Counter()
    different: Counter[str] = Counter()
    for word, count in Counter(words).items():
        for language in _LANGUAGES_OF.get(word, ()):
            hits[language] += count
            different[language] += 1
    if not hits:
        return ""
    (first, most), *others = hits.most_common(2)
    clear = most >= _CLEAR * (others[0][1] if others else 0)
    return first if clear and different[first] >= _MIN_SMALL_WORDS and most >= _SMALL_SHARE * len(words) else ""
