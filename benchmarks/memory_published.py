"""Published measurements of training memory, and the nearest configuration that our engine can express for each.

The rows are facts with their sources (`data/memory-published.csv`). Rank and targets of litgpt's rows come from
`config_hub/finetune` of Lightning-AI/litgpt, those of torchtune's from its `8B_*_single_device` recipes.
"""

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.memory_cases import DATA, Case, Workshop, full_rows, plan_for
from benchmarks.memory_predict import Predictor, Results, formula_tensors, share_off
from engine.hardware.hypothetical import parse_machine
from engine.planning.plan import Plan
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import ProblemError

GIB = 2**30
UNITS = {"bytes": 1, "GB (1e9)": 10**9, "GiB": GIB, "MiB": 2**20, "GB card": GIB}
MACHINE = "A100 80GB"
"""What the plans are made for; only its number formats matter here."""
CALIBRATION_ROW = "peft/lora--llama-3.2-3B-rank32"
"""The longest batch of PEFT's runs is not published. It is fitted so that this one row agrees; the others test it."""
FIT_RANGE = (64, 4096)
FIT_SHARE = 0.002
"""How well the fitted row has to agree."""
MLP = ("gate_proj", "up_proj", "down_proj")
QUERY_VALUE = ("q_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Published:
    """One published measurement.

    Attributes:
        metric: `allocated`, `reserved`, `device` or `card`.
        case: The nearest configuration of ours; None when there is none.
        differs: What was different over there, which a miss must be read with; or why there is no configuration.
    """

    name: str
    num_bytes: int
    metric: str
    case: Case | None
    differs: str


def read_published() -> list[Published]:
    """Return all rows, none left out."""
    with (DATA / "memory-published.csv").open(encoding="utf-8", newline="") as file:
        return [_published(row) for row in csv.DictReader(file)]


def _published(row: dict[str, str]) -> Published:
    family = row["id"].partition("/")[0]
    case, differs = _FAMILIES[family](row)
    return Published(row["id"], round(float(row["peak"]) * UNITS[row["unit"]]), _metric(row), case, differs)


def _metric(row: dict[str, str]) -> str:
    if row["unit"] == "GB card":
        return "card"
    if row["metric"].startswith("NVML"):
        return "device"
    return "reserved" if "reserved" in row["metric"] else "allocated"


Expressed = tuple[Case | None, str]


def _nearest(row: dict[str, str], method: str, length: int, **changes: Any) -> Case:
    name = re.sub(r"[^\w.-]+", "_", row["id"])
    model = row["model"].removeprefix("meta-llama/").removesuffix("-Instruct")
    base, batch = _MODELS.get(model, model), int(row["batch"])
    # What was published is training; nobody merged, and answers were not generated or were short.
    return Case(name, base, method, batch, length, merge=False, generate=False, **changes)


_MODELS = {"stablelm-alpha-3b": "stablelm-base-alpha-3b"}
_PEFT_LORA: dict[str, tuple[dict[str, Any], str]] = {
    "rank32": (
        {"rank": 32, "targets": QUERY_VALUE},
        "full logits instead of TRL's fused output layer; fits the length",
    ),
    "rank64": ({"rank": 64, "targets": QUERY_VALUE}, "full logits instead of TRL's fused output layer"),
    "rank32-lorafa": ({"rank": 32, "targets": QUERY_VALUE}, "LoRA-FA freezes A; full logits"),
    "rank14-target-mlp-bdlora": ({"rank": 14, "targets": MLP}, "block-diagonal LoRA; full logits"),
}


def _peft(row: dict[str, str]) -> Expressed:
    if row["method"] == "FULL":
        case = _nearest(row, "full", 0)
        return case, "weights and optimizer states in bfloat16, ours are float32; full logits"
    variant = row["id"].partition("llama-3.2-3B-")[2]
    if row["method"] != "LORA" or variant not in _PEFT_LORA:
        return None, f"the method {row['method']} is not among ours"
    changes, differs = _PEFT_LORA[variant]
    return _nearest(row, "lora", 0, **changes), differs


def _query_value(model: str) -> tuple[str, ...]:
    """Return the layers that hold queries and values; some families keep all three in one."""
    return ("query_key_value",) if model.startswith(("falcon", "stablelm")) else QUERY_VALUE


_LITGPT = "litgpt's own model code and bfloat16 adapters, torch 2.1 to 2.4"


def _litgpt_tables(row: dict[str, str]) -> Expressed:
    length = int(row["seq"].rsplit(" ", 1)[-1])
    method = "qlora" if row["precision"].startswith("nf4") else "lora"
    differs = _LITGPT if row["precision"] != "nf4" else f"{_LITGPT}; no double quantisation"
    return _nearest(row, method, length, rank=8, targets=_query_value(row["model"]), dropout=0.05), differs


_LITGPT_ADAPTERS: dict[str, tuple[int, str, float]] = {
    "falcon-7b": (32, "query and value", 0.05),
    "gemma-2b": (8, "all and head", 0.1),
    "gemma-7b": (16, "all and head", 0.1),
    "Llama-2-7b": (32, "query and value", 0.05),
    "Llama-3-8B": (32, "query and value", 0.05),
    "Mistral-7B": (32, "query and value", 0.05),
    "phi-2": (8, "all and head", 0.05),
    "stablelm-base-alpha-3b": (32, "query and value", 0.05),
    "TinyLlama": (32, "all and head", 0.05),
}


def _litgpt_hub(row: dict[str, str]) -> Expressed:
    if row["method"] == "Full":
        return _nearest(row, "full", 512), "weights and optimizer states in bfloat16, ours are float32; 512 is a limit"
    rank, layers, dropout = _LITGPT_ADAPTERS[row["model"]]
    head = layers == "all and head"
    targets = "all-linear" if head else _query_value(row["model"])
    differs = f"{_LITGPT}; 512 is a limit, not the longest row" + ("; an adapter on the head" if head else "")
    return _nearest(row, row["method"].lower(), 512, rank=rank, targets=targets, dropout=dropout), differs


def _fsdp_qlora(row: dict[str, str]) -> Expressed:
    if "DDP" not in row["id"]:
        return None, "weights are shared out over two GPUs (FSDP)"
    targets = ("q_proj", "k_proj", "v_proj", *MLP)
    case = _nearest(row, "qlora", int(row["seq"]), rank=64, targets=targets, dropout=0.1, checkpointing=True)
    return case, "flat buffers of FSDP on two GPUs, full logits, transformers 4.38"


def _torchtune(row: dict[str, str]) -> Expressed:
    if row["method"].startswith("Full"):
        return None, "optimizer step inside the backward pass, bfloat16 weights and 8-bit paged states"
    changes = {"rank": 8, "targets": ("q_proj", "v_proj", "o_proj", *MLP), "checkpointing": True, "packing": True}
    return _nearest(row, row["method"].lower(), 2048, **changes), "torchtune's own model code, compiled"


def _unsloth(row: dict[str, str]) -> Expressed:
    changes = {"rank": 32, "optimizer": "adamw_8bit", "checkpointing": True}
    return _nearest(row, "qlora", int(row["seq"]), **changes), "own kernels, checkpoints moved to host RAM"


_FAMILIES: dict[str, Callable[[dict[str, str]], Expressed]] = {
    "peft": _peft,
    "litgpt-rt": _litgpt_tables,
    "litgpt-ch": _litgpt_hub,
    "fsdp_qlora": _fsdp_qlora,
    "torchtune": _torchtune,
    "unsloth": _unsloth,
    "hf-docs": lambda row: (None, "a classifier on BERT; our objectives are language models"),
    "soup": lambda row: (None, "two layers are resident and the others streamed"),
}


@dataclass(slots=True)
class Comparison:
    """Predicts published rows.

    Attributes:
        lengths: `{prediction: tokens}` fitted for PEFT's runs.
    """

    shop: Workshop
    predictor: Predictor
    lengths: dict[str, int]

    def plan(self, case: Case) -> Plan:
        """Return our plan of a case."""
        base = self.shop.config_folder(case.model)
        source = self.shop.folder / "rows.jsonl"
        return plan_for(case, base, parse_machine(MACHINE), full_rows(case), source, self.shop.home)

    def formula(self, case: Case, metric: str) -> int:
        """Return what the formula says, in the published metric."""
        memory = self.plan(case).memory
        match metric:
            case "allocated":
                return formula_tensors(memory)
            case "reserved":
                return memory.expected_bytes - memory.components["CUDA context"]
            case _:
                return memory.expected_bytes

    def rehearsal(self, case: Case, metric: str) -> int:
        """Return what the rehearsal says, in the published metric.

        Raises:
            ProblemError: The rehearsal failed.
        """
        plan = self.plan(case)
        result = self.predictor.result(plan)
        if result is None:
            raise AssertionError("no rehearsals were wanted")
        return _of_result(result, metric, plan.memory.components["CUDA context"])

    def fit(self, row: Published, predict: Callable[[Case, str], int]) -> int:
        """Return the length at which a prediction agrees with a row, by the secant method."""
        assert row.case is not None
        first, second = 512, 768
        values = {length: predict(replace(row.case, length=length), row.metric) for length in (first, second)}
        for _ in range(4):
            slope = (values[second] - values[first]) / (second - first)
            # Segments come in steps, so that neighbouring lengths may need the same.
            if slope <= 0 or abs(values[second] / row.num_bytes - 1) < FIT_SHARE:
                return second
            length = round(second + (row.num_bytes - values[second]) / slope)
            length = min(max(length, FIT_RANGE[0]), FIT_RANGE[1])
            if length in values:
                return length
            values[length] = predict(replace(row.case, length=length), row.metric)
            first, second = second, length
        return second


def _of_result(result: RehearsalResult, metric: str, context_bytes: int) -> int:
    if metric == "allocated":
        return result.peaks["training"]
    if metric == "reserved":
        # None of these runs is known to have used expandable segments.
        return result.reserved_high_bytes or 0
    return (result.smallest_card_bytes or 0) + context_bytes


def compare_published(shop: Workshop, predictor: Predictor, results: Results, *, only: str = "") -> None:
    """Predict every row that can be expressed and keep the errors; the others keep their reason."""
    rows = read_published()
    comparison = Comparison(shop, predictor, {})
    predictions: dict[str, Callable[[Case, str], int]] = {"formula": comparison.formula}
    if predictor.rehearsals is not None:
        predictions["rehearsal"] = comparison.rehearsal
    calibration = next(row for row in rows if row.name == CALIBRATION_ROW)
    for name, predict in predictions.items():
        comparison.lengths[name] = comparison.fit(calibration, predict)
    results.conditions["fitted_lengths"] = comparison.lengths
    for row in rows:
        if only in row.name:
            results.add(row.name, _record(row, comparison, predictions.items()))
            print(f"{row.name}: {results.rows[row.name].get('errors', row.differs)}", flush=True)


def _record(
    row: Published, comparison: Comparison, predictions: Iterable[tuple[str, Callable[[Case, str], int]]]
) -> dict[str, Any]:
    record: dict[str, Any] = {"published_bytes": row.num_bytes, "metric": row.metric}
    if row.case is None:
        return record | {"not_expressed": row.differs}
    record |= {"nearest": row.case.facts(), "differs": row.differs, "predicted": {}, "errors": {}}
    for name, predict in predictions:
        length = row.case.length or comparison.lengths[name]
        try:
            found = predict(replace(row.case, length=length), row.metric)
        except ProblemError as error:
            record[f"{name}_failed"] = str(error)
            continue
        record["predicted"][name] = found
        record["errors"][name] = share_off(found, row.num_bytes)
    return record
