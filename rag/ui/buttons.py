"""Buttons as plain HTML: pressing one becomes an event (`controls.js`). Pure functions."""

import html

from rag.ui.language import Say


def button(
    text: str,
    do: str,
    key: str = "",
    *,
    title: str = "",
    on: str = "click",
    edits: str = "",
    pressed: bool | None = None,
    disabled: bool = False,
) -> str:
    """A button that does `do` with what `key` names, or with all there is. A single sign as its
    `text` is an icon.

    `title` says in full what it does, `edits` is what `edited` gives. `on` is the event it becomes;
    empty: the one that its place has, a click.
    `pressed` is whether it is in force, where it can be.
    """
    named = f' aria-label="{html.escape(title)}" title="{html.escape(title)}"' if title else ""
    if on:
        named += f' data-on="{on}"'
    if pressed is not None:
        named += f' aria-pressed="{str(pressed).lower()}"'
    return (
        f'<button type="button" class="{"icon" if len(text) == 1 else "text"}" dir="auto" '
        f'data-do="{do}" data-key="{html.escape(key)}"{named}{edits}'
        f"{' disabled' if disabled else ''}>{html.escape(text)}</button>"
    )


def edited(name: str, say: Say) -> str:
    """What makes a button have the text beside it (the `editable`) changed first, in a field of
    this name."""
    ok, cancel = html.escape(say("OK")), html.escape(say("Cancel"))
    return f' data-edits="{html.escape(name)}" data-ok="{ok}" data-cancel="{cancel}"'
