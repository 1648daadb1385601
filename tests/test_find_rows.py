"""Rows known again: after the sheet was sorted, rows were deleted, or messages changed."""

import time

import numpy as np
import pandas as pd
import pytest

from pipeline.common.rows import find_rows


def table(*rows):
    return pd.DataFrame(rows, columns=["custom_id", "message"])


SHEET = table(("row-2", "一"), ("row-3", "二"), ("row-4", "三"), ("row-5", "四"), ("row-6", "五"))


def test_rows_that_stand_as_they_stood_are_found_where_they_are():
    assert find_rows(SHEET, SHEET).tolist() == [0, 1, 2, 3, 4]
    assert find_rows(SHEET[::-1], SHEET).tolist() == [4, 3, 2, 1, 0]
    assert find_rows(SHEET[::2], SHEET).tolist() == [0, 2, 4]


def test_rows_below_a_deleted_one_move_up_and_the_deleted_one_is_gone():
    now = table(("row-2", "一"), ("row-3", "三"), ("row-4", "四"), ("row-5", "五"))
    assert find_rows(SHEET, now).tolist() == [0, -1, 1, 2, 3]
    assert find_rows(now, SHEET).tolist() == [0, 2, 3, 4]


def test_rows_are_found_in_a_sheet_that_was_sorted_or_lost_its_title_row():
    now = table(("row-1", "五"), ("row-2", "四"), ("row-3", "三"), ("row-4", "二"), ("row-5", "一"))
    assert find_rows(SHEET, now).tolist() == [4, 3, 2, 1, 0]


def test_an_id_that_has_another_message_by_now_is_another_row():
    now = table(("row-2", "一"), ("row-3", "别的"))
    assert find_rows(table(("row-3", "二")), now).tolist() == [-1]
    now = table(("row-2", "二"), ("row-3", "别的"))
    assert find_rows(table(("row-3", "二")), now).tolist() == [0]


def test_equal_messages_go_by_id_first_then_in_the_order_in_which_they_stand():
    now = table(("a", "哈哈"), ("b", "哈哈"), ("c", "哈哈"), ("d", "x"))
    assert find_rows(table(("x", "哈哈"), ("c", "哈哈"), ("y", "哈哈")), now).tolist() == [0, 2, 1]
    wanted = table(*[(name, "哈哈") for name in "xyzbw"])
    assert find_rows(wanted, now).tolist() == [0, 2, -1, 1, -1]


def test_no_place_is_given_twice_to_a_row_that_is_wanted_twice():
    assert find_rows(table(("a", "x"), ("a", "x")), table(("a", "x"))).tolist() == [0, -1]
    now = table(("a", "x"), ("b", "x"))
    assert find_rows(table(("b", "x"), ("b", "x")), now).tolist() == [1, 0]


@pytest.mark.parametrize("text", ["a  b\tc", "a\u00a0b c ", "\u3000a b\nc", "abc", "a b\ufeff c"])
def test_white_space_does_not_count(text):
    assert find_rows(table(("row-2", text)), table(("row-2", "a b c"))).tolist() == [0]
    assert find_rows(table(("row-9", text)), table(("row-2", "a b c"))).tolist() == [0]
    assert find_rows(table(("row-2", text)), table(("row-2", "a b d"))).tolist() == [-1]


def test_places_are_those_of_the_rows_as_they_stand_whatever_their_index():
    now = SHEET.set_index(pd.Index([70, 3, 3, 9, 1]))
    assert find_rows(SHEET[1:3].set_index(pd.Index([5, 5])), now).tolist() == [1, 2]


def test_no_row_is_found_among_none():
    found = find_rows(SHEET, SHEET.head(0))
    assert found.tolist() == [-1] * 5 and found.dtype.kind == "i"
    assert find_rows(SHEET.head(0), SHEET).shape == (0,)


def test_75_000_rows_are_found_in_a_moment_also_where_many_are_equal():
    rows = table(*[(f"row-{n}", f"评论 {n % 60_000}") for n in range(75_000)])
    now = rows[3:].assign(custom_id=rows["custom_id"].to_numpy()[:-3])
    same = rows.assign(message="哈哈")
    began = time.perf_counter()
    places = find_rows(rows, now)
    equal = find_rows(same.assign(custom_id="x"), same)
    assert time.perf_counter() - began < 8
    assert (places >= 0).sum() == 75_000 - 3
    found = places >= 0
    assert (now["message"].to_numpy()[places[found]] == rows["message"].to_numpy()[found]).all()
    assert equal.tolist() == np.arange(75_000).tolist()
