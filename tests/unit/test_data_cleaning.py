"""Checks of rows: each planted defect is found, counted and placed, and its clean twin is not."""

import json
import os
import random
from pathlib import Path

import pytest

from engine.data import leaks
from engine.data.cleaning.hidden import find_doubled, find_hidden, repaired, without_hidden
from engine.data.cleaning.languages import language_of
from engine.data.cleaning.near import BandTable, Groups, similarity
from engine.data.cleaning.word_hashes import shingled
from engine.data.pipeline import PreparedData, prepare
from engine.planning.profiles import CheckResult
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
VERBS = ["open", "close", "paint", "lift", "fold", "clean", "move", "turn", "push", "weigh", "wash", "mend", "hang"]
THINGS = ["door", "lamp", "chair", "shelf", "drawer", "window", "table", "cable", "fence", "bottle", "basket", "clock"]
PLACES = ["kitchen", "garden", "cellar", "office", "garage", "attic", "hallway", "yard"]


def sentence(draw: random.Random, words: int = 40) -> str:
    return " ".join(f"{draw.choice(VERBS)} {draw.choice(THINGS)} {draw.randrange(900)}" for _ in range(words // 3))


def clean_rows(count: int = 200, words: int = 40) -> list[dict]:
    draw = random.Random("clean rows")
    return [
        {
            "prompt": f"{draw.choice(VERBS)} what in the {draw.choice(PLACES)} number {n}?",
            "completion": sentence(draw, words),
        }
        for n in range(count)
    ]


def write(folder: Path, rows: list[dict], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prepared(folder: Path, rows: list[dict], *, objective: str = "chat", seed: int = 17, **data) -> PreparedData:
    tree = {
        "objective": objective,
        "model": {"base": "m"},
        "data": {"source": write(folder, rows), **data},
        "training": {"seed": seed},
    }
    return prepare(Recipe.model_validate(tree))


def check(data: PreparedData, name: str) -> CheckResult:
    (found,) = (result for result in data.profile.checks if result.name == name)
    return found


def severity(data: PreparedData, name: str) -> str:
    (found,) = (finding for finding in data.profile.findings if finding.code == f"data.{name}")
    return found.severity


def adds_up(data: PreparedData) -> bool:
    profile = data.profile
    used = profile.num_train + profile.num_held_out + profile.num_test
    return used + sum(profile.dropped.values()) == profile.num_rows


def test_clean_rows_raise_nothing_and_every_check_says_that_it_ran(tmp_path):
    data = prepared(tmp_path, clean_rows())
    assert data.profile.findings == []
    assert {result.name: result.count for result in data.profile.checks} == dict.fromkeys(
        (
            "hidden_characters",
            "double_encoding",
            "secrets",
            "personal_data",
            "near_duplicates",
            "contradictions",
            "repeated_answers",
            "length_outliers",
            "other_languages",
            "class_balance",
        ),
        0,
    )


def test_a_check_that_is_off_is_not_listed(tmp_path):
    data = prepared(tmp_path, clean_rows(60), cleaning={"near_duplicates": "off", "secrets": "off"})
    assert not {"near_duplicates", "secrets"} & {result.name for result in data.profile.checks}


class TestNearDuplicates:
    def rows(self) -> list[dict]:
        rows = clean_rows(60, 120)
        words = rows[7]["completion"].split()
        words[33] = "something"
        rows[31] = {"prompt": rows[7]["prompt"], "completion": " ".join(words)}
        rows[44] = {"prompt": rows[9]["prompt"].upper(), "completion": f"  {rows[9]['completion']}. "}
        return rows

    def test_are_named_with_the_row_that_they_are_like(self, tmp_path):
        found = check(prepared(tmp_path, self.rows()), "near_duplicates")
        assert (found.count, found.dropped) == (2, 0)
        assert found.places == ["rows.jsonl:32 like rows.jsonl:8", "rows.jsonl:45 like rows.jsonl:10"]

    def test_drop_keeps_the_first_and_counts(self, tmp_path):
        data = prepared(tmp_path, self.rows(), cleaning={"near_duplicates": "drop"})
        ids = {row["id"] for row in [*data.train_rows, *data.held_out_rows]}
        assert data.profile.dropped == {"near_duplicates": 2}
        assert not {"rows.jsonl:32", "rows.jsonl:45"} & ids
        assert {"rows.jsonl:8", "rows.jsonl:10"} <= ids
        assert adds_up(data)

    def test_stand_on_one_side_of_every_split(self, tmp_path):
        for seed in range(12):
            data = prepared(tmp_path, self.rows(), seed=seed, held_out=0.3)
            held = {row["id"] for row in data.held_out_rows}
            assert len({"rows.jsonl:8", "rows.jsonl:32"} & held) in (0, 2), seed
            assert len({"rows.jsonl:10", "rows.jsonl:45"} & held) in (0, 2), seed

    def test_one_question_answered_otherwise_is_none(self, tmp_path):
        rows = clean_rows(60, 120)
        rows[31] = {"prompt": rows[7]["prompt"], "completion": "It is done on Mondays."}
        assert check(prepared(tmp_path, rows), "near_duplicates").count == 0

    def test_one_long_text_with_two_questions_is_none(self, tmp_path):
        rows = clean_rows(60)
        text = sentence(random.Random(5), 300)
        rows += [{"prompt": f"{text}\nWho is {name}?", "completion": f"{name} {name}"} for name in ("Ann", "Bob")]
        assert check(prepared(tmp_path, rows), "near_duplicates").count == 0

    def test_many_are_a_warning(self, tmp_path):
        rows = clean_rows(30, 120)
        copies = [{"prompt": row["prompt"], "completion": f"{row['completion']} now"} for row in rows[:20]]
        data = prepared(tmp_path, rows + copies)
        assert check(data, "near_duplicates").count == 20
        assert severity(data, "near_duplicates") == "warning"

    def test_the_order_of_the_rows_changes_nothing(self, tmp_path):
        rows = self.rows()
        turned = prepared(tmp_path, rows[::-1])
        assert check(turned, "near_duplicates").count == 2

    def test_chinese_has_words_too(self):
        one = "机器学习是人工智能的一个分支,它研究如何让计算机从数据中学习规律并做出预测。"
        assert shingled([one]).num_words[0] > 30
        assert similarity(one, one.replace("规律", "规则")) > 0.8
        assert similarity(one, "今天的天气很好,我们一起去公园散步吧。") < 0.1


def test_bands_find_most_similar_rows_and_few_others():
    draw = random.Random(3)
    originals = [sentence(draw, 150).split() for _ in range(150)]
    table = BandTable(seed=1)
    for number, words in enumerate(originals):
        changed = [*words]
        changed[draw.randrange(len(words))] = "other"
        table.add([2 * number, 2 * number + 1], [" ".join(words), " ".join(changed)])
    pairs = set(map(tuple, table.pairs().tolist()))
    true = {(2 * number, 2 * number + 1) for number in range(150)}
    assert len(true & pairs) >= 148
    assert len(pairs - true) <= 5


def test_groups_join_through_others():
    groups = Groups(6)
    groups.join(4, 2)
    groups.join(2, 5)
    assert groups.firsts().tolist() == [0, 1, 2, 3, 2, 2]


class TestContradictions:
    def test_both_rows_are_named(self, tmp_path):
        rows = clean_rows(60)
        rows[40] = {"prompt": rows[3]["prompt"], "completion": rows[40]["completion"]}
        data = prepared(tmp_path, rows)
        found = check(data, "contradictions")
        assert (found.count, found.places) == (2, ["rows.jsonl:4 against rows.jsonl:41"])
        assert severity(data, "contradictions") == "note"

    def test_drop_takes_all_of_them(self, tmp_path):
        rows = clean_rows(60)
        rows[40] = {"prompt": rows[3]["prompt"], "completion": rows[40]["completion"]}
        data = prepared(tmp_path, rows, cleaning={"contradictions": "drop"})
        assert data.profile.dropped == {"contradictions": 2}
        assert adds_up(data)

    def test_labels_that_differ_are_a_warning(self, tmp_path):
        rows = [{"prompt": f"text {n}", "completion": ["good", "bad"][n % 2]} for n in range(100)]
        rows[50] = {"prompt": "text 3", "completion": "good"}
        data = prepared(tmp_path, rows)
        assert check(data, "contradictions").places == ["rows.jsonl:4 against rows.jsonl:51"]
        assert severity(data, "contradictions") == "warning"

    def test_the_same_question_under_other_instructions_is_none(self, tmp_path):
        rows = clean_rows(60)
        both = [
            {"prompt": "Say hello.", "completion": "Bonjour à vous.", "system": "Speak French."},
            {"prompt": "Say hello.", "completion": "Guten Tag.", "system": "Speak German."},
        ]
        assert check(prepared(tmp_path, rows + both), "contradictions").count == 0

    def test_an_answer_in_another_case_is_none(self, tmp_path):
        rows = clean_rows(60)
        rows[40] = {"prompt": rows[3]["prompt"], "completion": rows[3]["completion"].upper()}
        assert check(prepared(tmp_path, rows), "contradictions").count == 0


class TestRepeatedAnswers:
    STOCK = "I am sorry, but I cannot help you with that."

    def rows(self, count: int) -> list[dict]:
        rows = clean_rows(100)
        return [row | {"completion": self.STOCK} if n < count else row for n, row in enumerate(rows)]

    def test_a_stock_answer_is_quoted_and_counted(self, tmp_path):
        data = prepared(tmp_path, self.rows(12))
        found = check(data, "repeated_answers")
        assert found.count == 12
        assert self.STOCK in found.message
        assert severity(data, "repeated_answers") == "note"

    def test_every_third_row_is_a_warning(self, tmp_path):
        assert severity(prepared(tmp_path, self.rows(34)), "repeated_answers") == "warning"

    def test_drop_keeps_the_first(self, tmp_path):
        data = prepared(tmp_path, self.rows(12), cleaning={"repeated_answers": "drop"})
        assert data.profile.dropped == {"repeated_answers": 11}
        assert adds_up(data)

    def test_answers_from_a_list_are_none(self, tmp_path):
        labels = ["the customer wants a refund", "the customer asks for an invoice"]
        rows = [{"prompt": f"text {n}", "completion": labels[n % 2]} for n in range(100)]
        assert check(prepared(tmp_path, rows), "repeated_answers").count == 0

    def test_short_answers_are_none(self, tmp_path):
        rows = clean_rows(100)
        rows = [row | {"completion": "Yes."} if n < 30 else row for n, row in enumerate(rows)]
        assert check(prepared(tmp_path, rows), "repeated_answers").count == 0


class TestLengthOutliers:
    def test_far_rows_are_named_the_longest_first(self, tmp_path):
        rows = clean_rows(100)
        rows[20]["completion"] = sentence(random.Random(1), 9000)
        rows[60]["completion"] = sentence(random.Random(2), 20000)
        found = check(prepared(tmp_path, rows), "length_outliers")
        assert found.places == ["rows.jsonl:61", "rows.jsonl:21"]

    def test_drop(self, tmp_path):
        rows = clean_rows(100)
        rows[20]["completion"] = sentence(random.Random(1), 9000)
        assert prepared(tmp_path, rows, cleaning={"length_outliers": "drop"}).profile.dropped == {"length_outliers": 1}

    def test_passages_that_we_cut_ourselves_are_not_reported_and_other_pieces_of_text_are(self, tmp_path):
        draw = random.Random(6)
        path = tmp_path / "book.txt"
        path.write_text("\n\n".join([*(sentence(draw, 400)[:1497] for _ in range(80)), "The end."]))
        tree = {"objective": "domain-adaptation", "model": {"base": "builtin:starter"}}

        def counts(**data: object) -> dict[str, int]:
            recipe = Recipe.model_validate({**tree, "data": {"source": str(path), **data}})
            return {check.name: check.count for check in prepare(recipe).profile.checks}

        assert "length_outliers" not in counts()
        assert counts(cleaning={"length_outliers": "drop"})["length_outliers"] == 1
        assert counts(text_unit="paragraph")["length_outliers"] == 1

    def test_lengths_that_spread_by_themselves_are_none(self, tmp_path):
        draw = random.Random(4)
        rows = [row | {"completion": sentence(draw, round(draw.lognormvariate(4, 1)) + 3)} for row in clean_rows(300)]
        assert check(prepared(tmp_path, rows), "length_outliers").count == 0


class TestLanguages:
    TEXTS = {
        "English": "The lamp in the kitchen is not on, and you have to turn it on with the switch by the door.",
        "German": "Die Lampe in der Küche ist nicht an, und man muss sie mit dem Schalter an der Tür einschalten.",
        "French": "La lampe de la cuisine est éteinte, il faut la rallumer avec le bouton qui est près des portes.",
        "Spanish": "La lámpara de la cocina no está encendida, y hay que encenderla con el interruptor.",
        "Cyrillic": "Лампа на кухне не горит, её нужно включить выключателем у двери.",
        "Greek": "Η λάμπα της κουζίνας δεν είναι αναμμένη και πρέπει να την ανάψετε.",
        "Chinese": "厨房的灯没有开,你必须用门边的开关把它打开。",
        "Japanese": "台所の電気がついていないので、ドアの横のスイッチで入れてください。",
        "Korean": "부엌의 불이 꺼져 있으니 문 옆의 스위치로 켜 주세요.",
        "Arabic": "المصباح في المطبخ ليس مضاء ويجب تشغيله بالمفتاح.",
        "Devanagari": "रसोई की बत्ती बंद है, इसे दरवाजे के पास के स्विच से चालू करें।",
    }

    @pytest.mark.parametrize("language", TEXTS)
    def test_is_known_by_letters_or_small_words(self, language):
        assert language_of(self.TEXTS[language]) == language

    @pytest.mark.parametrize(
        "text",
        ["", "42", "Tom has 5 + 3 = 8 apples", "def add(a, b):\n    return a + b", "🙂🙂🙂", "lamp.kitchen.on", "ok"],
    )
    def test_what_is_unclear_stays_so(self, text):
        assert language_of(text) in ("", "English")

    def test_capitals_numbers_and_other_marks_do_not_matter(self):
        said = "„THE answer“ 12 of THE_day, and – that’s it: to be 7 with the naïve…"
        assert language_of(said) == "English"
        assert language_of("…" * 900 + said) == ""

    def test_rows_in_another_language_are_named_and_may_be_dropped(self, tmp_path):
        rows = [
            {"prompt": f"{n}?", "completion": f"{self.TEXTS['English']} This is what I would do at number {n}."}
            for n in range(60)
        ]
        rows[5]["completion"] = self.TEXTS["German"]
        rows[9]["completion"] = self.TEXTS["Cyrillic"]
        found = check(prepared(tmp_path, rows, cleaning={"near_duplicates": "off"}), "other_languages")
        assert found.places == ["rows.jsonl:6", "rows.jsonl:10"]
        assert "German 1" in found.message
        dropped = prepared(tmp_path, rows, cleaning={"other_languages": "drop"})
        assert dropped.profile.dropped == {"other_languages": 2}


class TestHiddenCharacters:
    @pytest.mark.parametrize(
        ("text", "kinds"),
        [
            ("a\x07b", ("control characters",)),
            ("a\u200bb", ("zero-width characters",)),
            ("a\u202eb\u202c", ("direction changes",)),
            ("a\x1b[2J\ufeff", ("control characters", "zero-width characters")),
        ],
    )
    def test_are_found_and_removed(self, text, kinds):
        assert find_hidden(text) == kinds
        assert find_hidden(without_hidden(text)) == ()

    @pytest.mark.parametrize(
        "text", ["tab\tline\nend\r\n", "نمی‌خواهم", "👩‍👩‍👧", "क्‍ष", "a\u200e(b)", "soft\xa0space", "naïve — “quoted” …"]
    )
    def test_what_scripts_need_is_left_alone(self, text):
        assert find_hidden(text) == ()

    def test_text_changes_only_when_asked(self, tmp_path):
        rows = clean_rows(60)
        rows[4]["completion"] += " za\u200bp"
        reported, removed = (
            prepared(tmp_path, rows, cleaning={"hidden_characters": action}) for action in ("report", "remove")
        )
        assert check(reported, "hidden_characters").places == ["rows.jsonl:5"]
        assert any(
            "za\u200bp" in str(row["messages"][1]["content"]) for row in [*reported.train_rows, *reported.held_out_rows]
        )
        assert check(removed, "hidden_characters").changed == 1
        assert not any(
            "\u200b" in json.dumps(row, ensure_ascii=False) for row in [*removed.train_rows, *removed.held_out_rows]
        )


class TestDoubleEncoding:
    @pytest.mark.parametrize("text", ["café", "don’t — “say …", "Müller über Straße", "5 €"])
    def test_is_found_and_repaired(self, text):
        doubled = text.encode("utf-8").decode("cp1252")
        assert find_doubled(doubled)
        assert repaired(doubled) == text
        assert find_doubled(text) == ()

    def test_is_repaired_on_demand_alone(self, tmp_path):
        rows = clean_rows(60)
        rows[4]["completion"] += " at the cafÃ©"
        rows[6]["completion"] += " at the café"
        reported, mended = (prepared(tmp_path, rows, cleaning={"double_encoding": a}) for a in ("report", "repair"))
        assert check(reported, "double_encoding").places == ["rows.jsonl:5"]
        assert "Ã© for é" in check(reported, "double_encoding").message
        texts = [row["messages"][1]["content"] for row in [*mended.train_rows, *mended.held_out_rows]]
        assert sum(text.endswith("at the café") for text in texts) == 2


class TestClassBalance:
    def test_rare_classes_are_named(self, tmp_path):
        rows = [{"prompt": f"t {n}", "completion": "refund" if n < 3 else ["card", "cash"][n % 2]} for n in range(100)]
        found = check(prepared(tmp_path, rows), "class_balance")
        assert found.count == 3
        assert "refund 3" in found.message

    def test_balanced_classes_are_no_finding(self, tmp_path):
        rows = [{"prompt": f"t {n}", "completion": ["a", "b", "c"][n % 3]} for n in range(90)]
        assert check(prepared(tmp_path, rows), "class_balance").count == 0


class TestLeaks:
    def both(self, folder: Path, held: list[dict], **cleaning) -> PreparedData:
        path = write(folder, held, "held.jsonl")
        return prepared(folder, clean_rows(200, 120), held_out=path, cleaning=cleaning)

    def held(self) -> list[dict]:
        draw = random.Random("held out")
        return [{"prompt": f"which {n}?", "completion": sentence(draw, 90)} for n in range(150)]

    def test_none(self, tmp_path):
        assert check(self.both(tmp_path, self.held()), "leaked_rows").count == 0

    def test_rows_that_were_not_compared_are_said(self, tmp_path, monkeypatch):
        monkeypatch.setattr(leaks, "MAX_ROWS", 150)
        found = check(self.both(tmp_path, self.held()), "leaked_rows")
        assert found.count == 0
        assert "50 rows were not compared word for word" in found.message

    def test_one_per_cent_is_dropped_and_said(self, tmp_path):
        held = self.held()
        held[5] = clean_rows(200, 120)[11]
        data = self.both(tmp_path, held)
        assert data.profile.dropped == {"in_held_out": 1}
        assert severity(data, "dropped.in_held_out") == "warning"

    def test_more_block_and_name_both_rows(self, tmp_path):
        held = self.held()
        held[5:8] = clean_rows(200, 120)[11:14]
        with pytest.raises(ProblemError) as caught:
            self.both(tmp_path, held)
        (problem,) = caught.value.problems
        assert problem.code == "data.leaked_rows"
        assert "3 of 150 held-out rows" in problem.message
        assert "rows.jsonl:12 = held.jsonl:6" in problem.message
        assert "leaked_rows: drop" in problem.fix
        assert self.both(tmp_path, held, leaked_rows="drop").profile.dropped == {"in_held_out": 3}
        reported = self.both(tmp_path, held, leaked_rows="report")
        assert reported.profile.dropped == {}
        assert check(reported, "leaked_rows").count == 3

    def test_nearly_equal_ones_are_a_warning_or_dropped(self, tmp_path):
        held, train = self.held(), clean_rows(200, 120)
        held[5] = {"prompt": train[11]["prompt"].upper(), "completion": train[11]["completion"]}
        words = train[20]["completion"].split()
        words[50] = "something"
        held[9] = {"prompt": train[20]["prompt"], "completion": " ".join(words)}
        data = self.both(tmp_path, held)
        assert check(data, "leaked_rows").places == [
            "rows.jsonl:12 like held.jsonl:6",
            "rows.jsonl:21 like held.jsonl:10",
        ]
        assert severity(data, "leaked_rows") == "warning"
        dropped = self.both(tmp_path, held, leaked_rows="drop")
        assert dropped.profile.dropped == {"leaked_rows": 2}
        assert adds_up(dropped)
