"""What looks like personal data in the comments: counted, shown with most of it hidden, masked."""

from collections import Counter

from pipeline.sheets.personal_data import find_personal_data, mask_personal_data, masked_example

MASKED_COLUMNS = ["custom_id", "kind", "count"]
EXAMPLES = 3  # of each kind that are shown


class PersonalData:
    """Looks at comments one by one; with `mask`, hides what it finds and keeps where it stood.

    `masked` are rows of `MASKED_COLUMNS`: how often something of a kind was hidden in a comment.
    """

    def __init__(self, mask: bool) -> None:
        self._mask = mask
        self._comments: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self.masked: list[list[str]] = []

    def look_at(self, custom_id: str, comment: str) -> str:
        """Return a comment, masked where it is to be, and count what looks like personal data."""
        found = find_personal_data(comment)
        if not found:
            return comment
        for kind, count in Counter(item.kind for item in found).items():
            self._comments[kind] += 1
            if self._mask:
                self.masked.append([custom_id, kind, str(count)])
        for item in found:
            examples = self._examples.setdefault(item.kind, [])
            if len(examples) < EXAMPLES:
                examples.append(masked_example(comment, item))
        return mask_personal_data(comment) if self._mask else comment

    def report(self) -> list[str]:
        """Return lines that say what was found, and what the user may do about it."""
        lines = [
            f"  {count:>9,}  comments with what looks like a person's {kind}, such as "
            f"{', '.join(self._examples[kind])}"
            for kind, count in self._comments.items()
        ]
        if lines and self._mask:
            lines.append(
                "  the messages hide it; the table with every column has the original text"
            )
        elif lines:
            lines.append(
                "  the messages hold it and are sent as they are: --mask-personal-data hides it"
            )
        return lines
