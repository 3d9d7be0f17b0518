"""Formats that a finished model can be converted to, and which architectures the converters take.

GGUF: class names registered in llama.cpp's `convert_hf_to_gguf.py` (`ModelBase.register`). ONNX: architectures listed
by optimum-onnx ("Supported architectures from Transformers"); the exporter inside transformers 5
(`transformers.exporters.OnnxExporter`) traces the same decoders. Both read a whole model: adapters are merged first.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One format.

    Attributes:
        name: What a recipe says.
        title: Words for people.
        used_by: What reads it.
        converter: What writes it.
        architectures: Class names of transformers that the converter takes.
    """

    name: str
    title: str
    used_by: str
    converter: str
    architectures: frozenset[str]


_BOTH = frozenset(
    {
        "ArceeForCausalLM",
        "BloomForCausalLM",
        "CohereForCausalLM",
        "FalconForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "GemmaForCausalLM",
        "GPT2LMHeadModel",
        "GPTBigCodeForCausalLM",
        "GPTNeoXForCausalLM",
        "GraniteForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "NemotronForCausalLM",
        "Olmo2ForCausalLM",
        "OlmoForCausalLM",
        "PhiForCausalLM",
        "Phi3ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "SmolLM3ForCausalLM",
        "StableLmForCausalLM",
    }
)
EXPORT_FORMATS: tuple[ExportFormat, ...] = (
    ExportFormat(
        name="gguf",
        title="GGUF",
        used_by="llama.cpp, Ollama and LM Studio",
        converter="llama.cpp's converter",
        architectures=_BOTH
        | {
            "Cohere2ForCausalLM",
            "GraniteMoeForCausalLM",
            "MambaForCausalLM",
            "MixtralForCausalLM",
            "OlmoeForCausalLM",
            "Qwen2MoeForCausalLM",
            "Starcoder2ForCausalLM",
        },
    ),
    ExportFormat(
        name="onnx",
        title="ONNX",
        used_by="ONNX Runtime",
        converter="the ONNX exporter",
        architectures=_BOTH | {"CodeGenForCausalLM", "GPTJForCausalLM", "GPTNeoForCausalLM", "OPTForCausalLM"},
    ),
)


def find_format(name: str) -> ExportFormat:
    """Return the format of this name.

    Raises:
        KeyError: No format has this name.
    """
    for entry in EXPORT_FORMATS:
        if entry.name == name:
            return entry
    raise KeyError(name)
