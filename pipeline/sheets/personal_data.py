"""What looks like somebody's phone, id card, e-mail address, @name or account in a comment.

For Chinese comments: mobile and landline numbers of the mainland, numbers of its id cards
(GB 11643), names after @ as Weibo writes them, WeChat and QQ accounts that a word announces.
Left alone: addresses of web pages, hotlines (400, 800), numbers in words, names without @.
"""

import re
from dataclasses import dataclass
from datetime import date

PHONE, ID_CARD, EMAIL, NAME, ACCOUNT = KINDS = "phone", "id card", "e-mail", "name", "account"


@dataclass(frozen=True)
class Found:
    """What was found, one of KINDS, and where: text[start:end]."""

    kind: str
    start: int
    end: int


# Characters in the form that the patterns know; one for one, so that places in a text stay.
FULL_WIDTH = {0xFEE0 + ord(c): c for c in map(chr, range(33, 127)) if c.isalnum() or c in "@._+-()"}
SPACES, DASHES = "\t\u00a0\u2002\u2003\u2009\u202f\u3000", "\u2010\u2011\u2012\u2013\u2014\u2212"
PLAIN = str.maketrans(FULL_WIDTH | dict.fromkeys(SPACES, " ") | dict.fromkeys(DASHES, "-"))

# Most texts have none of these, and then nothing that the patterns below find: @, _, letters after
# 号, a digit after a letter, seven digits; five of an account are announced by a word.
DIGIT, LETTERS = "[0-9０-９]", "A-Za-zａ-ｚＡ-Ｚ"
BETWEEN = f"[ {SPACES}{DASHES}()（）－-]{{0,3}}"
HINT = re.compile(
    rf"[0-9０-９@＠_＿号](?:(?<=[@＠_＿])|(?<=号)[:： ]?[{LETTERS}]"
    rf"|(?<=[{LETTERS}{DASHES}－-]{DIGIT})|(?:{BETWEEN}{DIGIT}){{6}})"
)
FIVE_DIGITS = re.compile(rf"{DIGIT}(?:{BETWEEN}{DIGIT}){{4}}")
ANNOUNCED = re.compile(  # by the last letter of the word
    rf"[信鹅扣微qtnvxQTNVXｑｔｎｖｘＱＴＮＶＸ][群号码加是为:：, {SPACES}]{{0,4}}{DIGIT}"
)

GAP = "[ -]{1,2}"
BEFORE, AFTER = r"(?<!\d)(?<!\b0\.)", r"(?!\d|\.\d{1,2}(?!\d))"
GROUPED = rf"""1[3-9]\d (?:
    {GAP}\d{{4}}{GAP}\d{{4}} | {GAP}\d{{3}}{GAP}\d{{5}} | {GAP}\d{{8}} | \d{{4}}{GAP}\d{{4}}
) (?!-\d)"""
MOBILE = rf"""
    {BEFORE} (?<![$¥￥€£])
    (?: (?: \(?(?:\+|00)86\)? | 86 ) [ -]{{0,2}} (?: 1[3-9]\d{{9}} | {GROUPED} )
      | 1[3-9]\d{{9}}
      | (?<!\d-) {GROUPED}
    ) {AFTER} (?! [ ]?(?: 万(?!分)|[亿元块]|[美欧日韩]元|美金 ) )"""
# Area codes: 10 of Beijing, 2x of large cities, three digits from 3 to 9 of the others.
LANDLINE = rf"""
    {BEFORE} (?<!\d-)
    (?: \(?0(?:10|2\d|[3-9]\d\d)\)? | \(?(?:\+|00)86\)? [ -]{{0,2}} (?:10|2\d|[3-9]\d\d) )
    [ -]{{0,2}} [2-8] (?: \d{{2,3}}[ -]\d{{4}} | \d{{6,7}} ) {AFTER} (?!-\d\d)"""
PATTERNS = {
    "address of a page": r"(?ai: https?:// (?: (?!//@) [\w.~:/?\#@!$&'*+=%-] )+ )",
    EMAIL: r"(?ai: (?<![\w.%+-]) [\w.%+-]+ @ (?:[a-z0-9-]+\.)+ [a-z]{2,} )",
    ID_CARD: rf"""(?a:
        (?<!\d) [1-9]\d{{5}} (?:{GAP})? \d{{8}} (?:{GAP})? \d{{3}}[\dXx] (?![\dA-Za-z])
      | (?<!\d) [1-9]\d{{14}} (?!\d) )""",
    PHONE: f"(?a: {MOBILE} | {LANDLINE} )",
    NAME: r"(?<! @_) @ (?! \d+ (?![\w-]) ) [\w-]{2,30} (?![\w-])",
    # The account is a number of QQ, or letters with a digit or _; after 号 letters will do.
    ACCOUNT: rf"""(?ai:
        (?: 微信|薇信|企鹅|扣|加[微v](?!x) | (?<![a-z]) (?:wechat|weixin|v信|[vw]x|qq?(?![a-z])) )
        [群号码加是为:：, ]{{0,4}}
        (?P<account> (?! 1[3-9]\d{{9}} {AFTER} ) (?:
            [1-9]\d{{4,10}} (?! [ ]?[多余几]?[万亿人个元块次条年票粉] )
          | [a-z] (?= [a-z-]{{0,18}}[\d_] ) [\w-]{{5,19}}
          | (?: (?<=号) | (?<=号[:： ]) ) [a-z][\w-]{{5,19}}
        ) (?! [\w-] | \.\d | @[a-z0-9-]+\.[a-z] ) ) )""",
}
GROUPS = {f"kind{n}": kind for n, kind in enumerate(PATTERNS)}
PATTERN = re.compile(
    "|".join(f"(?P<{group}>{PATTERNS[kind]})" for group, kind in GROUPS.items()), re.VERBOSE
)

# The first two digits of an id card's number: the province.
PROVINCES = {11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46}
PROVINCES |= {50, 51, 52, 53, 54, 61, 62, 63, 64, 65, 71, 81, 82, 83}
CHECK_DIGITS = "10X98765432"  # by the weighted sum modulo 11: ISO 7064, MOD 11-2

# What an example shows at its start and its end.
SHOWN = {PHONE: (3, 4), ID_CARD: (3, 2), EMAIL: (1, 0), NAME: (2, 0), ACCOUNT: (2, 1)}


def find_personal_data(text: str) -> list[Found]:
    """Return what looks like a person's in a text, in order and without overlaps."""
    account = ANNOUNCED.search(text) and FIVE_DIGITS.search(text)  # the rare one first
    if not account and not HINT.search(text):
        return []
    plain = text.translate(PLAIN)
    found = []
    for match in PATTERN.finditer(plain):
        kind = GROUPS[match.lastgroup]
        if kind == ACCOUNT:
            found.append(Found(kind, *match.span("account")))
        elif kind in KINDS and (kind != ID_CARD or is_id_card(match[0])):
            found.append(Found(kind, *match.span()))
    return found


def is_id_card(number: str) -> bool:
    """Return whether 15 or 18 characters, gaps aside, are the number of an id card.

    It has a province and a day of birth; 18 characters also have a check digit.
    """
    number = re.sub(r"\D(?!$)", "", number).upper()
    born = number[6:14] if len(number) == 18 else f"19{number[6:12]}"
    if int(number[:2]) not in PROVINCES or not "1850" < born < "2100":
        return False
    try:
        date(int(born[:4]), int(born[4:6]), int(born[6:]))
    except ValueError:
        return False
    return len(number) == 15 or check_digit(number[:17]) == number[17]


def check_digit(digits: str) -> str:
    """Return the check digit of the 17 digits of an id card."""
    weighted = sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(digits))
    return CHECK_DIGITS[weighted % 11]


def mask_personal_data(text: str) -> str:
    """Return a text with a mark such as ‹phone› in place of each that was found."""
    for found in reversed(find_personal_data(text)):
        text = f"{text[: found.start]}‹{found.kind}›{text[found.end :]}"
    return text


def masked_example(text: str, found: Found) -> str:
    """Return what was found, to be shown with most of it hidden: 138****5678."""
    example = text[found.start : found.end]
    first, last = SHOWN[found.kind]
    if found.kind == EMAIL:
        last = len(example) - example.translate(PLAIN).index("@")
    return f"{example[:first]}****{example[len(example) - last :]}"
