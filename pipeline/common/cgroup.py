"""The memory that a container or a cluster's job may use, as Linux's control groups say."""

from pathlib import Path, PurePosixPath

CONTROLLERS = {  # the one of version 2 has no name: folder, limit, use, what can be taken back
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
NO_LIMIT = 2**63


def free_in_cgroup(root: Path = Path("/")) -> tuple[int, int]:
    """Return free bytes and the limit of the tightest control group, `NO_LIMIT` without one.

    Pages of files that were read lately count as free. Source: the kernel's cgroup-v2.rst and
    cgroup-v1/memory.rst. A process in a container may see its own group as the root.
    """
    found = [(NO_LIMIT, NO_LIMIT)]
    listed = root / "proc/self/cgroup"
    for line in listed.read_text().splitlines() if listed.is_file() else []:
        _, controllers, path = line.split(":", 2)
        for name in CONTROLLERS.keys() & controllers.split(","):
            place = PurePosixPath(path.lstrip("/"))
            for group in (place, *place.parents):
                found += _limit(root / "sys/fs/cgroup", group, *CONTROLLERS[name])
    return min(free for free, _ in found), min(limit for _, limit in found)


def _limit(
    mount: Path, group: PurePosixPath, folder: str, limit: str, used: str, inactive: str
) -> list[tuple[int, int]]:
    """Return a group's free bytes and limit, nothing where it has none."""
    place = mount / folder / group
    if not (place / limit).is_file() or not (place / used).is_file():
        return []
    text = (place / limit).read_text().strip()
    if text == "max" or int(text) >= 2**60:  # version 1 writes a number near 2**63
        return []
    stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
    taken = int((place / used).read_text()) - int(stat.get(inactive, 0))
    return [(max(0, int(text) - taken), int(text))]
