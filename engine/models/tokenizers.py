"""Tokenizers as their files say, with a stated choice for everything they lack.

The tokenizer file is what every other runtime reads, so it decides. The loader of transformers rebuilds some tokenizers
as the class that the configuration names, which then drops characters that the file maps to the unknown token.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from engine.catalog.objectives import ModelKind
from engine.planning.known_classes import kind_of
from engine.planning.layer_sums import class_of
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.text import clean_line

_PROBES = (
    "Once upon a time,\n\tthere  was a café.",
    " naïve Zoë — “quoted” … €5 ½",
    "def f(x):\n    return {x: [1, 2]}  # ok\n\n",
    "日本語 中文 한국어 עברית العربية हिन्दी ภาษาไทย",
    "🙂👩‍👩‍👧 \u200b\u00a0 end ",
    "ALL CAPS 12345 3.14 http://x.y/z?q=1&r=2",
)
_PAD_NAMES = ("<|finetune_right_pad_id|>", "<pad>", "[PAD]", "<|pad|>", "<PAD>", "<|endoftext|>", "<unk>", "[UNK]")
_MASK_NAMES = ("[MASK]", "<mask>", "<|mask|>")
_EOS_NAMES = (
    "<|im_end|>",
    "<|endoftext|>",
    "</s>",
    "<eos>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|end|>",
    "[EOS]",
    "[SEP]",
)
_TOOLS_BEFORE = "# Tools\\n\\nYou may call these functions, given as JSON between <tools> and </tools>:\\n<tools>"
_TOOLS_AFTER = (
    "\\n</tools>\\n\\nWrite each call as JSON between tags:\\n"
    '<tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n</tool_call>'
)
"""What ChatML says of tools, in the tags of Hermes and Qwen; Jinja string literals."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")


@dataclass(frozen=True, slots=True)
class LoadedTokenizer:
    """A tokenizer that is ready for training.

    Attributes:
        tokenizer: Has pad and eos; for conversations also a chat template, for hidden words a mask token.
        choices: Sentences about what it lacked and what was taken instead.
    """

    tokenizer: PreTrainedTokenizerBase
    choices: list[str] = field(default_factory=list)


def load_tokenizer(folder: Path | str, recipe: Recipe) -> LoadedTokenizer:
    """Load the tokenizer of a model folder and fill what it lacks.

    Args:
        folder: Local model folder, from `engine.models.hub.resolve_model`.
        recipe: Decides on the chat template and on code from the model.

    Raises:
        ProblemError: No tokenizer, a damaged one, none of the tokens that the task needs, or a broken template file.
    """
    folder = Path(folder)
    choices: list[str] = []
    tokenizer = faithful_tokenizer(folder, choices, trust=recipe.model.trust_remote_code)
    _add_tokens(tokenizer, recipe.model.new_tokens, choices)
    kind = kind_in(folder)
    if kind == "encoder":
        _ensure_frame(tokenizer, choices)
    _ensure_eos(tokenizer, folder, choices)
    _ensure_pad(tokenizer, choices)
    if kind == "encoder" and recipe.goal.head_of(kind) == "masked-lm":
        _ensure_mask(tokenizer, choices)
    if kind == "decoder" and recipe.goal.converses:
        _ensure_template(tokenizer, recipe.model.chat_template, choices)
    return LoadedTokenizer(tokenizer, choices)


def kind_in(folder: Path) -> ModelKind:
    """Return the kind of the model in a folder; a decoder where its configuration does not tell."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "decoder"
    return kind_of(class_of(config), str(config.get("model_type", ""))) if isinstance(config, dict) else "decoder"


def _ensure_frame(tokenizer: PreTrainedTokenizerBase, choices: list[str]) -> None:
    """Let texts of an encoder end where its separator stands, and say when it frames none."""
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is not None:
        tokenizer.eos_token = tokenizer.sep_token
    framed = tokenizer("a")["input_ids"] != tokenizer("a", add_special_tokens=False)["input_ids"]
    if not framed:
        choices.append(
            "The tokenizer puts no token in front of a text; what is learnt of a whole text is read off its first word."
        )


def _ensure_mask(tokenizer: PreTrainedTokenizerBase, choices: list[str]) -> None:
    if tokenizer.mask_token_id is not None:
        return
    vocabulary = tokenizer.get_vocab()
    found = next((name for name in _MASK_NAMES if name in vocabulary), None)
    if found is None:
        raise _problem(
            "no_mask",
            "The tokenizer has no token that stands for a hidden word, which learning from hidden words needs.",
            "Set mask_token in its tokenizer_config.json, or choose another model.",
        )
    tokenizer.mask_token = found
    choices.append(f"The tokenizer names no token that hides a word; {clean_line(found)} is taken.")


def _problem(code: str, message: str, fix: str, path: str = "model.base") -> ProblemError:
    return ProblemError(Problem(f"tokenizer.{code}", clean_line(message, max_chars=600), clean_line(fix), path=path))


def faithful_tokenizer(folder: Path, choices: list[str], *, trust: bool) -> PreTrainedTokenizerBase:
    """Load a tokenizer so that it cuts text as its file says, or as everyone else will read it; say what was chosen.

    Raises:
        ProblemError: No tokenizer, or a damaged one.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        fix = "Copy tokenizer.json and tokenizer_config.json of the same model into the folder."
        raise _problem("missing", f"{folder} holds no tokenizer.", fix)
    loaded = _load(folder, AutoTokenizer.from_pretrained, trust_remote_code=trust)
    file = folder / "tokenizer.json"
    if not file.is_file() or _agrees(loaded, _raw(file)):
        return loaded
    direct = _load(folder, TokenizersBackend.from_pretrained)
    if _agrees(direct, _raw(file)):
        if _spells_back(loaded) and _class_returns(folder, direct):
            choices.append(
                f"Text is cut as {type(loaded).__name__} cuts it, not as tokenizer.json says: transformers reads every "
                "model of this family with that class, so the finished model will be read so too."
            )
            return loaded
        choices.append(
            f"The tokenizer is read straight from tokenizer.json: as {type(loaded).__name__} it would cut text "
            "into other tokens than the file says."
        )
        return direct
    choices.append("The tokenizer class of the model changes what tokenizer.json says; the class is followed.")
    return loaded


def _load(folder: Path, loader: Any, **options: Any) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = loader(str(folder), local_files_only=True, **options)
    except Exception as error:  # The loader raises bare exceptions of a dozen kinds for a damaged file.
        reason = clean_line(str(error).strip().split("\n", 1)[0], max_chars=200)
        fix = "Download or copy the tokenizer files again."
        raise _problem("damaged", f"The tokenizer in {folder} cannot be loaded: {reason}.", fix) from error
    return tokenizer


def _raw(file: Path) -> Tokenizer:
    raw = Tokenizer.from_file(str(file))
    raw.no_padding()
    raw.no_truncation()
    return raw


def _agrees(tokenizer: PreTrainedTokenizerBase, raw: Tokenizer) -> bool:
    return all(
        tokenizer(probe, add_special_tokens=False)["input_ids"] == raw.encode(probe, add_special_tokens=False).ids
        for probe in _PROBES
    )


def _spells_back(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer loses nothing of a text."""
    return all(
        str(tokenizer.decode(tokenizer(probe, add_special_tokens=False)["input_ids"])).strip() == probe.strip()
        for probe in _PROBES
    )


def _class_returns(folder: Path, direct: PreTrainedTokenizerBase) -> bool:
    """Whether a written copy of `direct` would be read as the family's own class all the same.

    transformers 5 distrusts the `tokenizer_class` of some families (qwen2 among them) and always takes their own.
    """
    config = folder / "config.json"
    if not config.is_file():
        return False
    with TemporaryDirectory(prefix="ftwizard-tokenizer-") as name:
        copy = Path(name)
        (copy / "config.json").write_bytes(config.read_bytes())
        direct.save_pretrained(str(copy))
        return not _agrees(_load(copy, AutoTokenizer.from_pretrained), _raw(copy / "tokenizer.json"))


def _add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], choices: list[str]) -> None:
    """Add words as tokens of their own; they are text like other text, and shown in answers.

    Raises:
        ProblemError: One of them is a token already, so that nothing would be new.
    """
    if not tokens:
        return
    known = tokenizer.get_vocab()
    old = [token for token in tokens if token in known]
    if old:
        raise _problem(
            "not_new",
            f"{old[0]} is a token of this model already.",
            f"Remove {old[0]} from model.new_tokens; the model knows it.",
            path="model.new_tokens",
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    shown = ", ".join(tokens[:4]) + (", …" if len(tokens) > 4 else "")
    choices.append(f"{len(tokens)} new token{'s' if len(tokens) > 1 else ''}: {clean_line(shown, max_chars=80)}.")


def _ensure_eos(tokenizer: PreTrainedTokenizerBase, folder: Path, choices: list[str]) -> None:
    if tokenizer.eos_token_id is not None:
        return
    vocabulary = tokenizer.get_vocab()
    configured = [tokenizer.convert_ids_to_tokens(number) for number in _configured_eos(folder)]
    for name in (*configured, *_EOS_NAMES):
        if name in vocabulary:
            tokenizer.eos_token = name
            choices.append(f"The tokenizer names no end-of-text token; {clean_line(name)} is taken.")
            return
    _ensure_eos_of_another_kind(tokenizer, choices)


def _ensure_eos_of_another_kind(tokenizer: PreTrainedTokenizerBase, choices: list[str]) -> None:
    """End texts with a special token of another purpose, or with a line break, where no token is meant for it."""
    for name in (tokenizer.bos_token, tokenizer.sep_token, tokenizer.pad_token):
        if name is not None:
            tokenizer.eos_token = name
            choices.append(f"The tokenizer has no token that ends a text; {clean_line(name)} ends them from now on.")
            return
    line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if line_break and line_break[-1] != tokenizer.unk_token_id:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(line_break[-1])
        choices.append(
            "The tokenizer has no token that ends a text; a line break ends them from now on, so answers stop at "
            "their first line."
        )
        return
    raise _problem(
        "no_eos",
        "The tokenizer has no token that ends a text and none for a line break: the model could never learn to stop.",
        "Set eos_token in its tokenizer_config.json, or choose another model.",
    )


def _configured_eos(folder: Path) -> list[int]:
    for name in ("generation_config.json", "config.json"):
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
        except (OSError, ValueError):
            continue
        ids = found if isinstance(found, list) else [found]
        if any(isinstance(number, int) for number in ids):
            return [number for number in ids if isinstance(number, int)]
    return []


def _ensure_pad(tokenizer: PreTrainedTokenizerBase, choices: list[str]) -> None:
    """Give the tokenizer a pad token of its own; padding is masked by position, so eos as a last resort is safe."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    vocabulary = tokenizer.get_vocab()
    reserved = sorted(token for token in vocabulary if "reserved" in token.lower())
    candidates = [name for name in (*_PAD_NAMES, *reserved) if name in vocabulary and name != tokenizer.eos_token]
    was = "uses its end-of-text token for padding" if tokenizer.pad_token_id is not None else "has no padding token"
    if not candidates:
        tokenizer.pad_token = tokenizer.eos_token
        choices.append(
            f"The tokenizer {was}; padding is masked by position, so the end of a text is learned all the same."
        )
        return
    tokenizer.pad_token = candidates[0]
    choices.append(f"The tokenizer {was}; {clean_line(candidates[0])} is taken.")


def _ensure_template(tokenizer: PreTrainedTokenizerBase, wanted: str | None, choices: list[str]) -> None:
    if wanted is not None and wanted != "chatml":
        tokenizer.chat_template = _template_file(wanted)
        choices.append(f"The chat template is read from {clean_line(wanted)}.")
    elif wanted == "chatml" or not tokenizer.chat_template:
        # `wanted` cannot tell whose wish it is: the plan fills it in where the tokenizer has none.
        why = "The tokenizer has no chat template; ChatML is taken"
        if tokenizer.chat_template:
            why = "ChatML is taken in place of the tokenizer's own chat template"
        template, how = chatml(tokenizer)
        tokenizer.chat_template = template
        choices.append(f"{why}, {how}.")


def _template_file(wanted: str) -> str:
    try:
        return Path(wanted).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _problem(
            "template_file",
            f"The chat template {wanted} cannot be read: {error}.",
            "Name a Jinja file, or write chatml.",
            path="model.chat_template",
        ) from error


def chatml(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return ChatML in the tokens that a tokenizer has, and what was done in words.

    Where the vocabulary lacks the two ChatML tokens, no new ones are added, because their embeddings would be random
    and adapters leave embeddings alone: the headers are written as text and each turn ends with the end-of-text token.
    Definitions of tools are part of the system turn, a call is JSON between tags, a result a turn of the role `tool`.
    """
    known = tokenizer.get_vocab()
    header, how, end = "'<|im_start|>' + {} + '\\n'", "with its own tokens", "'<|im_end|>'"
    if "<|im_start|>" not in known or "<|im_end|>" not in known:
        end, how = _end_of_turn(tokenizer), "its headers as text and each turn ended by the end-of-text token"
        if _has_unknown(tokenizer, "<|im_start|>assistant\n"):
            header = "{} + ':\\n'"
            how = "the headers as plain words and each turn ended by the end-of-text token"
    first = "{{ bos_token }}" if _adds_bos(tokenizer) else ""
    return first + _chatml_turns(header, end), how


def _chatml_turns(header: str, end: str) -> str:
    """Return the turns of ChatML as Jinja, from the expressions of a header (of a role) and of the end of a turn."""
    system = (
        "{% if tools %}{{ " + header.format("'system'") + " }}"
        "{% if messages and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n\\n' }}{% endif %}"
        "{{ '" + _TOOLS_BEFORE + "' }}{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}"
        "{{ '" + _TOOLS_AFTER + "' + " + end + " + '\\n' }}{% endif %}"
    )
    call = "({'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson)"
    calls = (
        "{% for call in message['tool_calls'] or [] %}"
        "{{ ('\\n' if message['content'] or not loop.first else '') + '<tool_call>\\n' + "
        + call
        + " + '\\n</tool_call>' }}"
        "{% endfor %}"
    )
    turn = "{{ " + header.format("message['role']") + " + message['content'] }}" + calls + "{{ " + end + " + '\\n' }}"
    turns = (
        "{% for message in messages %}{% if not (tools and loop.first and message['role'] == 'system') %}"
        f"{turn}{{% endif %}}{{% endfor %}}"
    )
    return f"{system}{turns}{{% if add_generation_prompt %}}{{{{ {header.format(repr('assistant'))} }}}}{{% endif %}}"


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the Jinja expression that the tokenizer reads as its end-of-text token right after a word.

    Some files normalise their special tokens, so that only ` </s>` with a space is one token and `</s>` is spelled out.
    """
    for expression, spelled in (("eos_token", ""), ("' ' + eos_token", " ")):
        ids = tokenizer(f"word.{spelled}{tokenizer.eos_token}\n", add_special_tokens=False)["input_ids"]
        if tokenizer.eos_token_id in ids:
            return expression
    raise _problem(
        "eos_is_text",
        "The tokenizer spells its own end-of-text token out as ordinary text, so no chat template can end a turn.",
        "Set model.chat_template to a Jinja file that ends turns with a token, or choose another model.",
        path="model.chat_template",
    )


def _has_unknown(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
