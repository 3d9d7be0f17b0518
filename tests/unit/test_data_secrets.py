"""Secrets and personal data: found by shape, checksum and entropy, masked by kind, and never repeated in a message."""

import json
import string
from pathlib import Path
from random import Random

import pytest

from engine.data.cleaning.personal import PERSONAL, hide, is_card, is_iban
from engine.data.cleaning.secrets import SECRETS, _body, find_kinds, finder, looks_random, mask
from engine.data.pipeline import prepare
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

_DRAW = Random("made up")


def drawn(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_DRAW.choice(alphabet) for _ in range(count))


KEY = "-----BEGIN RSA PRIVATE {0}-----\n{1}\n{1}\n-----END RSA PRIVATE {0}-----".format("KEY", drawn(64))
# Put together here, so that no scanner of repositories takes them for real ones.
TOKENS = {
    "github": "gh" + "p_" + drawn(36),
    "github fine": "github" + "_pat_" + drawn(22) + "_" + drawn(59),
    "hugging face": "h" + "f_" + drawn(34, string.ascii_letters),
    "openai": "s" + "k-" + drawn(20) + "T3Blbk" + "FJ" + drawn(20),
    "openai project": "s" + "k-proj-" + drawn(60) + "_" + drawn(40),
    "anthropic": "s" + "k-ant-api03-" + drawn(80),
    "aws": "AK" + "IA" + drawn(16, string.ascii_uppercase + "234567"),
    "aws of the manual": "AK" + "IAIOSFODNN7EXAMPLE",
    "slack": "xo" + "xb-" + drawn(12, string.digits) + "-" + drawn(24),
    "google": "AI" + "za" + drawn(35),
    "gitlab": "gl" + "pat-" + drawn(20),
    "stripe": "sk_" + "live_" + drawn(24),
    "signed": "ey" + "J" + drawn(30) + ".ey" + "J" + drawn(50) + "." + drawn(43),
}
PEOPLE = {
    "e-mail": "anna.berg+lists@mail.lamps.example",
    "account": "GB82 WEST 1234 5698 7654 32",
    "account written close": "DE89370400440532013000",
    "card": "4111 1111 1111 1111",
    "card with hyphens": "5500-0055-5555-5559",
    "social security": "078-05-1120",
    "phone abroad": "+49 30 901820",
    "phone": "(415) 555-2671",
    "phone with hyphens": "415-555-2671",
    "IP": "84.23.177.9",
    "IPv6": "2a02:810d:8c0:5a4:1c1:9bff:fe2e:8d1",
}
HARMLESS = [
    "sk-learn-contrib-is-a-project-of-many-people",
    "set it to sk-your-api-key-goes-here-please",
    "ghp_" + "x" * 36,
    "hf_" + "aaaaaaaaaa" * 4,
    "https://user@host.example/path and http://host:8080/x",
    "BEGIN PUBLIC KEY",
    "call a@b or @handle or name@ home",
    "the total is 1,234,567.89 and 12 345 678 901",
    "order 1234567890123456 of 2026-03-01",
    "version 1.2.3 and 10.4.2-rc1 and 1.2.3.4.5",
    "3.14159265358979 and 299792458",
    "2023-10-05 12:30:45 and 12:30:45:10",
    "127.0.0.1 and 0.0.0.0 and 999.1.1.1",
    "DE00 1234 5678 9012 3456 78",
    "4111 1111 1111 1112",
    "ISBN 978-3-16-148410-0",
    "f(x) = 800 - 555 - 2671",
    "sha256 9e7dd2f6de4b6ecdcdf37b89fa82fb18d6684281a1e898fd598ca13af19af989",
]


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_found_and_masked(name):
    text = f'export TOKEN="{TOKENS[name]}" # keep'
    assert find_kinds(text, SECRETS) == ("access token",)
    assert mask(text, SECRETS) == 'export TOKEN="<TOKEN>" # keep'


def test_a_private_key_is_masked_whole_and_also_where_its_end_is_missing():
    assert find_kinds(KEY, SECRETS) == ("private key",)
    assert mask(f"key:\n{KEY}\ndone", SECRETS) == "key:\n<PRIVATE_KEY>\ndone"
    assert mask(KEY[:90], SECRETS) == "<PRIVATE_KEY>"


def test_a_password_in_an_address_leaves_the_address():
    text = "postgres://app:Tr0ub4dor@db.example/shop"
    assert mask(text, SECRETS) == "postgres://app:<PASSWORD>@db.example/shop"


def test_a_secret_key_is_known_by_the_words_before_it():
    secret = drawn(40)
    assert mask(f"aws_secret_access_key = {secret}", SECRETS) == "aws_secret_access_key = <TOKEN>"
    assert find_kinds(f"commit {drawn(40, '0123456789abcdef')}", SECRETS) == ()


@pytest.mark.parametrize("name", PEOPLE)
def test_personal_data_is_found_and_masked_by_its_kind(name):
    kind = name.split(" ")[0].replace("IPv6", "IP").replace("social", "social security")
    text = f"Reach Anna at {PEOPLE[name]}, please."
    assert find_kinds(text, PERSONAL) == (kind,)
    placeholder = {"e-mail": "<EMAIL>", "account": "<IBAN>", "social security": "<SSN>"}.get(kind, f"<{kind.upper()}>")
    assert mask(text, PERSONAL) == f"Reach Anna at {placeholder}, please."


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_alike_is_left_alone(text):
    assert find_kinds(text, SECRETS) == ()
    assert find_kinds(text, PERSONAL) == ()
    assert mask(mask(text, SECRETS), PERSONAL) == text


def test_checksums():
    assert is_iban("GB82 WEST 1234 5698 7654 32")
    assert not is_iban("GB82 WEST 1234 5698 7654 33")
    assert not is_iban("XX82 WEST 1234 5698 7654 32")
    assert is_card("378282246310005")
    assert not is_card("378282246310006")
    assert not is_card("4444 4444 4444 4444")
    assert not looks_random("aaaaaaaaaaaaaaaa1A")


def test_a_long_text_takes_no_time_to_look_through():
    # A shape that tries again at every character would take hours here; the time limit of the test is the check.
    for text in ("a" * 200_000, "1" * 200_000, "1 " * 100_000, "a." * 100_000, "GB82 " * 40_000, "1:" * 100_000):
        find_kinds(text, SECRETS)
        find_kinds(text, PERSONAL)
        hide(text)


PLANTED = [KEY.split("\n")[1], *TOKENS.values(), *PEOPLE.values()]


def planted_rows() -> list[dict]:
    rows = [{"prompt": f"question {n} of the day?", "completion": f"answer {n} to it"} for n in range(60)]
    secrets = [KEY, *TOKENS.values(), *PEOPLE.values()]
    return [
        {"prompt": f"what is in drawer {n}?", "completion": f"it holds {text}"} for n, text in enumerate(secrets)
    ] + rows


def recipe(folder: Path, rows: list, **data) -> Recipe:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe.model_validate({"objective": "chat", "model": {"base": "m"}, "data": {"source": str(path), **data}})


def leaked(text: str) -> list[str]:
    return [secret for secret in PLANTED if secret in text or json.dumps(secret)[1:-1] in text]


@pytest.mark.parametrize("action", ["report", "mask", "drop", "off"])
def test_no_secret_of_a_row_stands_in_what_is_told_about_the_data(tmp_path, action):
    data = prepare(recipe(tmp_path, planted_rows(), cleaning={"secrets": action, "personal_data": action}))
    assert leaked(data.profile.model_dump_json()) == []
    used = json.dumps([*data.train_rows, *data.held_out_rows])
    assert len(leaked(used)) == (len(PLANTED) if action in ("report", "off") else 0)
    counts = {result.name: result.count for result in data.profile.checks}
    if action != "off":
        assert counts["secrets"] == 1 + len(TOKENS)
        assert counts["personal_data"] == len(PEOPLE)
        (finding,) = (finding for finding in data.profile.findings if finding.code == "data.secrets")
        assert finding.severity == ("warning" if action == "report" else "note")
        assert "rows.jsonl:1" in finding.message
    assert "<TOKEN>" in used or action != "mask"


@pytest.mark.parametrize(
    "row", [{"messages": "{0}"}, {"messages": [{"role": "{0}", "content": "x"}]}, {"{0}": "x"}, {"messages": ["{0}"]}]
)
def test_no_secret_stands_in_an_error_about_a_row(tmp_path, row):
    for secret in TOKENS.values():
        spoiled = json.loads(json.dumps(row).replace("{0}", secret))
        with pytest.raises(ProblemError) as caught:
            prepare(recipe(tmp_path, [spoiled] * 3))
        assert leaked(str(caught.value)) == []
        assert caught.value.__context__ is None


def test_half_a_token_is_hidden_too():
    cut = TOKENS["github"][:20] + "…"
    assert hide(f"found '{cut}") == "found '<TOKEN>…"
    assert hide("sk-learn.jsonl:3 and hf_rows.csv:4 are files") == "sk-learn.jsonl:3 and hf_rows.csv:4 are files"


@pytest.mark.parametrize("patterns", [SECRETS, PERSONAL], ids=["secrets", "personal"])
def test_the_quick_search_finds_what_the_patterns_match(patterns):
    pieces = [*TOKENS.values(), KEY, "+49 151 2345678", "(415) 555-2671", "4111 1111 1111 1111", "123-45-6789",
              "DE89 3704 0044 0532 0130 00", "8.8.8.8", "2001:db8:0:1::8329", "a@b.co", "１２３.1.2.3", "٤١٥-555-2671",
              "1957", "写", " ", "\n", "x", ":"]  # fmt: skip
    draw, find = Random("pieces"), finder(patterns)
    texts = ["".join(draw.choices(pieces, k=draw.randrange(1, 6))) for _ in range(3000)]
    searched = [
        tuple(dict.fromkeys(p.kind for p in patterns if any(p.holds(_body(m)) for m in p.pattern.finditer(text))))
        for text in texts
    ]
    assert [find(text) for text in texts] == searched
    assert len(set(searched)) > 3
