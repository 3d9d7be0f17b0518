"""Rewards: what can judge an answer that a model has written, in plain words. Done by `engine.rewards`."""

from dataclasses import dataclass
from typing import Literal, get_args

RewardName = Literal[
    "last_line",
    "contains_answer",
    "exact_answer",
    "number",
    "format",
    "length",
    "json_valid",
    "model",
    "file",
]
"""What `reinforcement.rewards` takes."""


@dataclass(frozen=True, slots=True)
class Reward:
    """One way of judging.

    Attributes:
        name: What a recipe says.
        summary: What it gives, one sentence.
        when: When to take it.
        compares: It needs the right answer of the row.
        solves: 1 means that the answer is right, so that solved answers can be counted.
        setting: The recipe path that it cannot do without; empty when there is none.
    """

    name: RewardName
    summary: str
    when: str
    compares: bool = False
    solves: bool = False
    setting: str = ""


REWARDS: tuple[Reward, ...] = (
    Reward(
        "last_line",
        "1 when the last line is that of the right answer (a leading #### aside), else 0.",
        "Answers that reason first and end with the result, as GSM8K's do.",
        compares=True,
        solves=True,
    ),
    Reward(
        "contains_answer",
        "1 when the result of the right answer stands anywhere in it, as whole words, else 0.",
        "Short results in free sentences. It is easily fooled by listing many results.",
        compares=True,
        solves=True,
    ),
    Reward(
        "exact_answer",
        "1 when the whole answer is the right one, white space and capitals aside, else 0.",
        "Commands, labels and extractions that have one right form.",
        compares=True,
        solves=True,
    ),
    Reward(
        "number",
        "1 when the last number equals the last number of the right answer, else 0.",
        "Arithmetic, however the answer is worded.",
        compares=True,
        solves=True,
    ),
    Reward(
        "format",
        "1 when your pattern fits somewhere in it, else 0.",
        "A form that can be described, such as a tag or a date. Add a reward for what is in it.",
        solves=True,
        setting="reinforcement.pattern",
    ),
    Reward(
        "length",
        "1 at the wished number of tokens, falling to 0 at none and at twice as many.",
        "Beside another reward, with a small weight: to keep answers from growing.",
        setting="reinforcement.wished_length",
    ),
    Reward(
        "json_valid",
        "1 when all of it is a JSON object or list, else 0.",
        "Answers that a program reads. Add a reward for what is in it.",
        solves=True,
    ),
    Reward(
        "model",
        "The score of a reward model, of any size.",
        "What is good can be compared but not written down as a rule: the third step of RLHF.",
        setting="reinforcement.reward_model",
    ),
    Reward(
        "file",
        "What a function of your own Python file returns.",
        "A rule that is not in this list.",
        setting="reinforcement.reward_file",
    ),
)

SOLVED = 1.0
"""What the rewards that tell right from wrong give for a right answer."""


def find_reward(name: str) -> Reward:
    """Return the reward of this name.

    Raises:
        KeyError: No reward has this name.
    """
    for reward in REWARDS:
        if reward.name == name:
            return reward
    raise KeyError(name)


assert tuple(reward.name for reward in REWARDS) == get_args(RewardName)
