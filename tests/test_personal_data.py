"""Personal data in comments: what is taken for it, what is not, and what is left in its place."""

import re
import time

import pytest

from pipeline.sheets.personal_data import (
    ACCOUNT,
    EMAIL,
    ID_CARD,
    KINDS,
    NAME,
    PHONE,
    Found,
    find_personal_data,
    mask_personal_data,
    masked_example,
)

# The id card numbers are the examples of GB 11643; the others are made up.
PERSONAL = [
    (PHONE, "有意请打{13812345678}，谢谢", ["138****5678"]),
    (PHONE, "{138 1234 5678}", ["138****5678"]),
    (PHONE, "{199-1234-5678} 或 {17012345678}", ["199****5678", "170****5678"]),
    (PHONE, "1.{13812345678}.{13912345678}", ["138****5678", "139****5678"]),
    (PHONE, "{138-12345678}", ["138****5678"]),
    (PHONE, "{1381234 5678}", ["138****5678"]),
    (PHONE, "{138 123 45678}", ["138****5678"]),
    (PHONE, "{+86 138 1234 5678}", ["+86****5678"]),
    (PHONE, "{+8613812345678}", ["+86****5678"]),
    (PHONE, "{(+86)138-1234-5678}", ["(+8****5678"]),
    (PHONE, "{008613812345678}", ["008****5678"]),
    (PHONE, "{8613812345678}", ["861****5678"]),
    (PHONE, "{１３８１２３４５６７８}", ["１３８****５６７８"]),
    (PHONE, "{＋８６－１３８－１２３４－５６７８}", ["＋８６****５６７８"]),
    (PHONE, "{138\u30001234\u30005678}", ["138****5678"]),
    (PHONE, "{138–1234—5678}", ["138****5678"]),
    (PHONE, "tel{13812345678}.", ["138****5678"]),
    (PHONE, "微信{13812345678}同号", ["138****5678"]),
    (PHONE, "{13812345678}万分感谢", ["138****5678"]),
    (PHONE, "#求助#{13812345678}#", ["138****5678"]),
    (PHONE, "{010-88886666}", ["010****6666"]),
    (PHONE, "{（0755）26001234}", ["（07****1234"]),
    (PHONE, "{(021) 6500 1234}", ["(02****1234"]),
    (PHONE, "{0531 88886666}转12", ["053****6666"]),
    (PHONE, "{+86 10 88886666}", ["+86****6666"]),
    (PHONE, "{0375-2600123}", ["037****0123"]),
    (ID_CARD, "身份证{11010519491231002X}。", ["110****2X"]),
    (ID_CARD, "{34052419800101001x}", ["340****1x"]),
    (ID_CARD, "{110105 19491231 002X}", ["110****2X"]),
    (ID_CARD, "{110105-19491231-002Ｘ}", ["110****2Ｘ"]),
    (ID_CARD, "{１１０１０５１９４９１２３１００２X}", ["１１０****２X"]),
    (ID_CARD, "老证{110105491231002}", ["110****02"]),
    (EMAIL, "发我邮箱{li.lei_88+x@mail.example.com.cn}谢谢", ["l****@mail.example.com.cn"]),
    (EMAIL, "{123456@qq.com}，{LI@EXAMPLE.ORG}。", ["1****@qq.com", "L****@EXAMPLE.ORG"]),
    (EMAIL, "QQ邮箱：{123456@qq.com}", ["1****@qq.com"]),
    (EMAIL, "{ａｂ＠example．com}", ["ａ****＠example．com"]),
    (NAME, "//{@张三李四}:转发微博", ["@张****"]),
    (NAME, "回复{@li-lei_88}：不对{@李雷}，{@ab}", ["@l****", "@李****", "@a****"]),
    (NAME, "王子{@李雷}", ["@李****"]),
    (NAME, "prince{@李雷} 好", ["@李****"]),
    (NAME, "{＠张三}", ["＠张****"]),
    (NAME, "http://t.cn/A6abc//{@lilei}:hi", ["@l****"]),
    (NAME, "123456{@qq}", ["@q****"]),
    (ACCOUNT, "微信：{li_lei} 加我", ["li****i"]),
    (ACCOUNT, "加vx{lilei2021}，", ["li****1"]),
    (ACCOUNT, "微信号{xiaoming}", ["xi****g"]),
    (ACCOUNT, "WeChat: {lei-2021x}", ["le****x"]),
    (ACCOUNT, "QQ{123456789}!", ["12****9"]),
    (ACCOUNT, "扣扣群号：{123456}", ["12****6"]),
    (ACCOUNT, "QQ{123456}@", ["12****6"]),
    (ACCOUNT, "Q:{1234567890} 企鹅{34567}", ["12****0", "34****7"]),
]
OTHERS = """
    点赞13812次
    20210101
    2021-01-01 12:30:45
    2008-11-13 20:49
    1949-10-01 2021-10-01
    价格13812345678元
    13812345678 万
    ¥13812345678
    13812345678.50
    0.13812345678
    1381234567
    113812345678
    138123456789
    6222021381234567890
    订单202101011381234567
    400-138-1234-5678
    138-1234-5678-90
    1 3 8 1 2 3 4 5 6 7 8
    13,812,345,678
    12812345678
    验证码123456
    1234567
    1609459200 1609459200000
    400-8888-666
    6000-12000
    010-12345678
    0101 20210101
    1775-1783年
    110105194912310021
    11010519491331002X
    99010519491231002X
    11010529491231002X
    11010519490229002X
    110105491331002
    990105491231002
    11010519491231002XY
    211010519491231002X
    @
    @ 张三
    @。@
    这酸爽@_@ 呵呵
    @_@呵呵
    3@5
    @2021
    @a 你好
    lol@你
    https://example.com/@lilei/13812345678?id=34052419800101001x
    http://user@example.com
    #女权@#
    3 @ 5元
    微信 iPhone 版
    微信10000多人
    QQ 20000人
    QQ群有10000人
    #Qanon8chan
    qq音乐123456
    http://t.cn/A6w1QqH6
    账号被封了
    No.1
    ‹phone›‹id card›‹e-mail›‹name›‹account›
    [0] 【1】 ［2］
"""
OTHERS = [line.strip() for line in OTHERS.splitlines() if line.strip()]
OTHERS += ["", "@" + "他" * 31, "138\n1234\n5678", "１２３", "微信：‹account›"]


def marked(text):
    """Return a text without braces and the places that they enclose."""
    places, plain = [], ""
    for n, part in enumerate(re.split("[{}]", text)):
        if n % 2:
            places.append((len(plain), len(plain) + len(part)))
        plain += part
    return plain, places


@pytest.mark.parametrize(("kind", "text", "examples"), PERSONAL, ids=[row[1] for row in PERSONAL])
def test_personal_data_is_found_where_it_stands_and_shown_without_giving_it_away(
    kind, text, examples
):
    text, places = marked(text)
    found = find_personal_data(text)
    assert found == [Found(kind, start, end) for start, end in places]
    assert [masked_example(text, each) for each in found] == examples


@pytest.mark.parametrize(("kind", "text"), [row[:2] for row in PERSONAL])
def test_each_is_replaced_by_a_mark_that_is_no_answer_and_the_rest_stays(kind, text):
    plain, _ = marked(text)
    masked = mask_personal_data(plain)
    assert masked == re.sub("{.*?}", f"‹{kind}›", text)
    assert find_personal_data(masked) == []


@pytest.mark.parametrize("text", OTHERS)
def test_other_text_comes_back_as_it_was(text):
    assert find_personal_data(text) == []
    assert mask_personal_data(text) == text


def test_several_kinds_in_a_comment_are_found_in_their_order():
    text, places = marked(
        "{@李雷}：{13812345678}，{li@example.com}，微信{li_lei}，{11010519491231002X}"
    )
    kinds = [NAME, PHONE, EMAIL, ACCOUNT, ID_CARD]
    assert sorted(kinds) == sorted(KINDS)
    assert find_personal_data(text) == [
        Found(kind, *place) for kind, place in zip(kinds, places, strict=True)
    ]
    assert mask_personal_data(text) == "‹name›：‹phone›，‹e-mail›，微信‹account›，‹id card›"


def test_an_id_card_whose_check_digit_is_another_is_none():
    others = [f"11010519491231002{digit}" for digit in "0123456789"]
    assert [text for text in others if find_personal_data(text)] == []


HOSTILE = [
    "1",
    "a",
    "@",
    "a@",
    "@a",
    "a.",
    "1 ",
    "138-1234-",
    "微信号",
    "http://",
    "a_",
    "+86",
    "(0",
]
HOSTILE += ["110101 ", "qq:", "https://a//", "x@b.", "0-9", "微信a-", "号a"]


def test_a_long_text_takes_no_longer_than_its_length():
    start = time.perf_counter()
    for part in HOSTILE:
        find_personal_data(part * (100_000 // len(part)) + "!")
    assert time.perf_counter() - start < 10  # seconds; the square of the length takes minutes
