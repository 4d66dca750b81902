"""The file of ratings: what it may look like, and one clear line, with its number, for all else."""

from __future__ import annotations

from pathlib import Path

import pytest

from melody.errors import MelodyError
from melody.listening.analysis import analyse
from melody.listening.ratings import REQUIRED, parse_ratings

HEADER = ",".join(REQUIRED)
ROW = "ann,a waltz,musicality,melody,musiclm,first"


def parsed(*lines: str, header: str = HEADER):  # type: ignore[no-untyped-def]
    return parse_ratings("\n".join([header, *lines, ""]).encode(), "ratings.csv")


def test_the_answer_speaks_of_the_order_in_which_clips_were_heard() -> None:
    header = f"{HEADER},first_shown"
    first, second, similar, neither = parsed(
        f"{ROW},b",
        "ann,a waltz,audio quality,melody,musiclm,second,b",
        "ann,a waltz,text correlation,melody,musiclm,similar,b",
        "bob,a waltz,musicality,melody,musiclm,first,",
        header=header,
    ).judgements
    assert (first.preferred, second.preferred, similar.preferred) == ("musiclm", "melody", None)
    assert neither.preferred == "melody"


def test_columns_in_any_order_and_spellings_that_mean_the_same() -> None:
    (one,) = parsed(
        "Text_Correlation, SIMILAR ,musiclm,melody,  a   waltz ,ann",
        header="question,answer,system_a,system_b,item,rater",
    ).judgements
    assert (one.question, one.answer, one.item, one.rater) == ("text correlation", "similar", "a waltz", "ann")


def test_a_byte_order_mark_blank_lines_crlf_and_other_alphabets_are_fine() -> None:
    text = f'\ufeff{HEADER}\r\n\r\nМария,"сонг, медленно",musicality,ours,Moûsai,second\r\n,,,,,\r\n'
    (one,) = parse_ratings(text.encode(), "r.csv").judgements
    assert (one.rater, one.item, one.preferred, one.line) == ("Мария", "сонг, медленно", "Moûsai", 3)


def test_names_that_look_the_same_are_the_same() -> None:
    composed, decomposed = "Mo\u00fbsai", "Mou\u0302sai"
    ratings = parsed(f"ann,x,musicality,{composed},melody,first", f"bob,x,musicality,{decomposed},melody,first")
    assert len({one.system_a for one in ratings.judgements}) == 1


def test_columns_of_ones_own_are_listed_as_not_read() -> None:
    assert parsed(f"{ROW},loud", header=f"{HEADER},comment").unread_columns == ["comment"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"{ROW}x"], "ratings.csv, line 2: unknown answer 'firstx'; did you mean 'first'?"),
        (
            [ROW, ROW.replace("musicality", "quality")],
            "line 3: unknown question 'quality'; did you mean 'audio quality'?",
        ),
        ([ROW, ROW], "line 3: 'ann' on musicality of 'a waltz', melody and musiclm: already judged in line 2"),
        (
            [ROW, "ann,a waltz,musicality,musiclm,melody,first"],
            "line 3: 'ann' on musicality of 'a waltz', musiclm and melody: already judged in line 2",
        ),
        ([ROW, ROW.replace("ann,", " ,")], "line 3: rater is empty"),
        ([ROW, "bob,a waltz,musicality,MeLoDy,musiclm,first"], "line 3: system 'MeLoDy': line 2 writes it 'melody'"),
        ([ROW, "bob,a waltz,musicality,melody,melody,first"], "line 3: 'melody' against itself"),
        ([ROW, "bob,a waltz,musicality,melody,musiclm"], "line 3: got 5 cells; the header has 6"),
        ([ROW, 'bob,"a waltz,musicality,melody,musiclm,first'], "line 3: not CSV"),
        ([], "ratings.csv holds no judgement"),
    ],
)
def test_a_bad_row_is_named_by_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(MelodyError) as caught:
        parsed(*lines)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("first_shown", "c", "first_shown is 'c': expected a (system_a was heard first) or b"),
        ("attention", "frist", "unknown attention 'frist'; did you mean 'first'?"),
        ("repeat", "-1", "repeat is '-1': expected a whole number from 0 to 99"),
        ("repeat", "1", "line 2: a repeat of what 'ann' has not judged before"),
        ("timestamp", "yesterday", "timestamp is 'yesterday': expected ISO 8601"),
    ],
)
def test_a_bad_optional_cell_is_named_too(column: str, cell: str, message: str) -> None:
    with pytest.raises(MelodyError) as caught:
        parsed(f"{ROW},{cell}", header=f"{HEADER},{column}")
    assert message in str(caught.value)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("rater", "ratr"), "column 'rater' is missing; is 'ratr' meant?"),
        ("rater,item,question,system_a,system_b", "column 'answer' is missing (needed: rater, item, question"),
        (f"{HEADER},answer", "column 'answer' is there twice"),
        (f"{HEADER},atention", "unknown column 'atention'; did you mean 'attention'?"),
    ],
)
def test_a_bad_header_is_refused(header: str, message: str) -> None:
    with pytest.raises(MelodyError) as caught:
        parsed(ROW + "," * (header.count(",") - ROW.count(",")), header=header)
    assert message in str(caught.value)


def test_a_repeat_is_asked_again_on_purpose() -> None:
    first, again = parsed(f"{ROW},0", f"{ROW},1", header=f"{HEADER},repeat").judgements
    assert (first.counts, again.counts) == (True, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ratings.csv is empty"),
        (b"\xef\xbb\xbf \n", "ratings.csv is empty"),
        (f"{HEADER}\nren\xe9,x,musicality,a,b,first\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8"),
        (b"\xff\xfe\x00rate", "ratings.csv is not UTF-16, though it begins as such"),
        (f"{HEADER}\n".encode() + ROW.encode().replace(b"waltz", b"wa\x00tz"), "line 2: not CSV"),
    ],
)
def test_files_that_are_no_utf8_csv(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(content)
    with pytest.raises(MelodyError) as caught:
        analyse(path)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match=r"cannot read .*absent.csv: No such file"):
        analyse(tmp_path / "absent.csv")
    with pytest.raises(MelodyError, match="Is a directory"):
        analyse(tmp_path)
