"""Python that loads an exported model with plain transformers or peft and asks it once, for the model card."""

import json
from collections.abc import Sequence
from typing import Literal

from engine.catalog.objectives import Head
from engine.deployment.base_reference import BaseReference
from engine.planning.plan import Plan

Kind = Literal["adapter", "merged"]
LOADER = "load_adapter.py"
"""File beside adapters that peft does not know, which loads them (`engine.deployment.load_adapter`)."""
PIPELINES: dict[Head, str] = {
    "causal-lm": "text-generation",
    "masked-lm": "fill-mask",
    "seq2seq-lm": "text2text-generation",
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
}
"""How the hub calls what a model with this head does."""
CLASSES: dict[Head, str] = {
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}


def loading_code(plan: Plan, base: BaseReference, kind: Kind, *, tokenizer_class: str, prompt: str) -> str:
    """Return Python that loads the model and lets it answer one prompt.

    Args:
        plan: What was carried out.
        base: How others may call the base model.
        kind: What the folder holds.
        tokenizer_class: Class that reads the stored tokenizer as training did.
        prompt: What it is asked.
    """
    model_class, writes = CLASSES[plan.task.head], plan.task.writes
    names = [model_class, tokenizer_class, *(["GenerationConfig"] if kind == "adapter" and writes else [])]
    lines = ["import re", ""] if plan.task.head == "token-classification" else []
    lines.append(f"from transformers import {', '.join(names)}")
    own = plan.recipe.method.facts.learns == "bottleneck"
    if kind == "adapter":
        lines += [*([] if own else ["from peft import PeftModel"]), *_base_code(plan, base)]
    lines += ["", 'folder = "."  # this folder', f"tokenizer = {tokenizer_class}.from_pretrained(folder)"]
    if kind == "adapter" and plan.recipe.model.new_tokens:
        lines += ["# Rows for the tokens that the adapter brings.", _MORE_ROWS]
    if kind == "adapter":
        lines += _OWN_LOADER if own else ["model = PeftModel.from_pretrained(base, folder)"]
        if writes:
            lines.append("model.generation_config = GenerationConfig.from_pretrained(folder)  # where an answer ends")
    else:
        lines.append(f"model = {model_class}.from_pretrained(folder)")
    return "\n".join([*lines, *_input_code(plan, f"{plan.task.prefix}{prompt}"), *_asking(plan)])


_MORE_ROWS = "base.resize_token_embeddings(max(len(tokenizer), base.get_input_embeddings().num_embeddings))"
_OWN_LOADER = [
    "import sys",
    "",
    "sys.path.insert(0, folder)",
    f"from {LOADER.removesuffix('.py')} import load_adapter  # peft does not know these adapters",
    "",
    "model = load_adapter(base, folder)",
]


_TAGGING = [
    "numbers = model(**inputs).logits.argmax(-1)[0].tolist()",
    'for word in re.finditer(r"\\w+|[^\\w\\s]", text):',
    "    # A word has the tag of the first token that holds a letter of it.",
    "    places = [place for place, (_, end) in enumerate(offsets) if end > word.start()]",
    '    print(word.group(), model.config.id2label[numbers[places[0]]] if places else "O")',
]


def _base_code(plan: Plan, base: BaseReference) -> list[str]:
    model_class, head = CLASSES[plan.task.head], _head_code(plan)
    if base.kind == "builtin":
        name = json.dumps(base.name)
        return [
            "from engine.catalog.builtin import builtin_path  # the base model comes with ftwizard",
            "",
            f"base = {model_class}.from_pretrained(builtin_path({name}){head})",
        ]
    revision = f", revision={json.dumps(base.revision)}" if base.revision else ""
    where = "" if base.kind == "hub" else "  # the folder of the base model"
    return ["", f"base = {model_class}.from_pretrained({json.dumps(base.name)}{revision}{head}){where}"]


def _head_code(plan: Plan) -> str:
    """Return what the base model has to be told of its new head; the adapter brings the head's weights."""
    if plan.task.head not in ("sequence-classification", "token-classification"):
        return ""
    names = list(plan.task.labels) or ["reward"]
    return f", num_labels={len(names)}, id2label=dict(enumerate({json.dumps(names)})), ignore_mismatched_sizes=True"


def _input_code(plan: Plan, prompt: str) -> Sequence[str]:
    if plan.task.head == "masked-lm":
        return [
            f'text = {json.dumps(prompt)} + f" {{tokenizer.mask_token}}."',
            'inputs = tokenizer(text, return_tensors="pt")',
        ]
    if plan.task.head == "token-classification":
        return [
            f"text = {json.dumps(prompt)}",
            'inputs = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")',
            'offsets = inputs.pop("offset_mapping")[0].tolist()',
        ]
    if not plan.recipe.goal.converses or plan.model.kind != "decoder":
        return [f'inputs = tokenizer({json.dumps(prompt)}, return_tensors="pt")']
    messages = [{"role": "user", "content": prompt}]
    if plan.recipe.data.system_prompt:
        messages.insert(0, {"role": "system", "content": plan.recipe.data.system_prompt})
    return [
        f"messages = {json.dumps(messages)}",
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ")",
    ]


def _asking(plan: Plan) -> Sequence[str]:
    match plan.task.head:
        case "causal-lm":
            return [
                "output = model.generate(**inputs, max_new_tokens=64, do_sample=False)",
                'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
            ]
        case "seq2seq-lm":
            return [
                "output = model.generate(**inputs)",
                "print(tokenizer.decode(output[0], skip_special_tokens=True))",
            ]
        case "masked-lm":
            return [
                'place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)',
                "print(tokenizer.decode(model(**inputs).logits[0, place].argmax()))  # its guess",
            ]
        case "sequence-classification" if plan.task.signal == "rewards":
            return ["print(float(model(**inputs).logits[0, 0]))  # the reward"]
        case "sequence-classification" if plan.task.multi_label:
            return [
                "shares = model(**inputs).logits.sigmoid()[0].tolist()",
                "print([model.config.id2label[number] for number, share in enumerate(shares) if share > 0.5])",
            ]
        case "sequence-classification":
            return ["print(model.config.id2label[int(model(**inputs).logits.argmax(-1))])"]
        case _:
            return _TAGGING
