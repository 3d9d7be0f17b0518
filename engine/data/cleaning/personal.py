"""Personal data in text: addresses and numbers that belong to somebody, with their checksums where they have one."""

import ipaddress
import re
from collections.abc import Callable

from engine.data.cleaning.secrets import SECRETS, Pattern, always, mask

# Length of an account number by country: https://www.swift.com/standards/data-standards/iban-international-bank-account-number
_IBANS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
    "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
)
_IBAN_LENGTHS = {word[:2]: int(word[2:]) for word in _IBANS.split()}
# Issuers of cards by their first digits, with the lengths of their numbers.
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|2720\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d)\d{12}|35\d{14}|3(?:0[0-5]|[68]\d)\d{11}"
)


def is_iban(written: str) -> bool:
    """Return whether an account number has its country's length and the right check digits (ISO 13616, mod 97)."""
    number = written.replace(" ", "")
    if len(number) != _IBAN_LENGTHS.get(number[:2]):
        return False
    digits = "".join(str(int(character, 36)) for character in number[4:] + number[:4])
    return int(digits) % 97 == 1


def is_card(written: str) -> bool:
    """Return whether digits are a card number: an issuer's beginning and length, and the check digit (Luhn)."""
    digits = re.sub(r"[ -]", "", written)
    if not _CARDS.fullmatch(digits) or len(set(digits)) == 1:
        return False
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def is_address(written: str) -> bool:
    """Return whether text is an IP address of some machine, not of every machine."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or written.startswith(("0.", "255.")))


def _is_phone(written: str) -> bool:
    digits = re.sub(r"\D", "", written)
    return 7 <= len(digits) <= 15 and len(set(digits)) > 2


def _number(kind: str, placeholder: str, shape: str, pattern: str, holds: Callable[[str], bool]) -> Pattern:
    return Pattern(kind, placeholder, None, re.compile(pattern), holds, shape.encode())


_MAIL = r"(?<![\w.%+/-])[A-Za-z0-9_][\w.%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"
_ACCOUNT = r"(?<![A-Za-z0-9])[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])"
_CARD = r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)"
_SSN = r"(?<![\w.-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])"
_WORLD_PHONE = r"(?<![\w+])\+\d{1,3}(?:[ .-]?\(\d{1,4}\))?(?:[ .-]?\d{2,4}){2,5}(?![\w-])"
_AMERICAN_PHONE = (
    r"(?<![\w.+/-])(?:\([2-9]\d\d\) ?|[2-9]\d\d(?P<mark>[-.]))"
    r"[2-9]\d\d(?(mark)(?P=mark)|[-. ])\d{4}(?![\w-]|\.\d)"
)
_IP4 = r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"
_IP6 = r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){3,7}(?![\w:])"


PERSONAL: tuple[Pattern, ...] = (
    Pattern("e-mail", "<EMAIL>", ("@",), re.compile(_MAIL), always),
    _number("account", "<IBAN>", "AA00", _ACCOUNT, is_iban),
    _number("card", "<CARD>", "0" * 13, _CARD, is_card),
    _number("social security", "<SSN>", "0" * 9, _SSN, always),
    _number("phone", "<PHONE>", "+" + "0" * 7, _WORLD_PHONE, _is_phone),
    _number("phone", "<PHONE>", "0" * 10, _AMERICAN_PHONE, _is_phone),
    _number("IP", "<IP>", "0.0", _IP4, is_address),
    Pattern("IP", "<IP>", (":",), re.compile(_IP6), is_address, times=3),
)

_PREFIXES = r"gh[pousr]_|github_pat_|hf_|sk-|[sr]k_live_|AKIA|ASIA|xox[abeoprs]-|AIza|glpat-|npm_|eyJ"
_CUT_SHORT = re.compile(
    rf"(?<![A-Za-z0-9_])(?:{_PREFIXES})(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{{8,}}|-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*",
    re.DOTALL,
)


def hide(text: str) -> str:
    """Return text fit for messages, examples and logs: no secret and no personal data of a row.

    Messages quote rows cut short, and half a token is still half a secret: here a known prefix is enough.
    """
    return mask(hide_secrets(text), PERSONAL)


def hide_secrets(text: str) -> str:
    """Return text without keys and tokens, also cut ones; personal data stays."""
    return _CUT_SHORT.sub("<TOKEN>", mask(text, SECRETS))
