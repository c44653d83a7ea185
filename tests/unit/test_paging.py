"""Pages as Link headers."""

from __future__ import annotations

from services.common.views import Page, Window
from services.read.paging import link_header


def page(*cursors: int, limit: int) -> Page[str]:
    """A page of what a view found, of which it asks for one more than the limit."""
    return Page.of([(cursor, f"item {cursor}") for cursor in cursors], limit)


def test_a_page_that_is_not_the_last_leads_to_older_and_to_newer_items() -> None:
    """The cursors are those of the items shown, not of the one that told there are more."""
    found = page(9, 7, 5, limit=2)
    assert found.items == ["item 9", "item 7"]
    assert link_header("/users/1/tweets", found, Window(2)) == (
        '</users/1/tweets?limit=2&max_id=7>; rel="next", </users/1/tweets?limit=2&since_id=9>; rel="prev"'
    )


def test_the_last_page_leads_to_newer_items_only() -> None:
    """Exactly as many items as asked for, and no more behind them."""
    assert link_header("/l", page(9, 7, limit=2), Window(2)) == '</l?limit=2&since_id=9>; rel="prev"'


def test_an_empty_page_leads_nowhere() -> None:
    """There is no cursor to give."""
    assert link_header("/l", page(limit=2), Window(2)) is None


def test_whoever_catches_up_walks_down_to_where_she_was() -> None:
    """More came since than fits a page: the next page keeps the lower bound."""
    links = link_header("/l", page(9, 7, limit=1), Window(1, since_id=3))
    assert links == '</l?limit=1&max_id=9&since_id=3>; rel="next", </l?limit=1&since_id=9>; rel="prev"'
