"""What producers dropped, as `runstream status` shows it."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runstream_schemas.journal_status import Loss

__all__ = ["fields", "greatest", "losses_by_journal"]


def fields(record: Any) -> dict[str, Any]:
    """A record as a document."""
    return {name: getattr(record, name) for name in record.__struct_fields__}


def greatest(losses: Iterable["Loss"]) -> list["Loss"]:
    """Of several counts for one segment and reason the greatest holds."""
    held: dict[tuple[str, int, str], Loss] = {}
    for loss in losses:
        key = (loss.producer_id, loss.segment, loss.reason)
        if key not in held or held[key].count < loss.count:
            held[key] = loss
    return [held[key] for key in sorted(held)]


def losses_by_journal(losses: Iterable[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Journal, reason and events."""
    sums: Counter[tuple[str, str]] = Counter()
    for loss in losses:
        sums[loss["producer_id"], loss["reason"]] += loss["count"]
    return [(*key, count) for key, count in sums.items()]
