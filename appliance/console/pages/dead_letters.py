"""Dead letters: by reason, one by one, sent again or discarded with a result for each."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, render_template, request
from werkzeug.exceptions import NotFound

from appliance.auth.principal import Right
from appliance.console.acting import acting
from appliance.console.body_preview import body_preview
from appliance.console.letter_reasons import words_of
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs, patterns, principal
from appliance.model.topics import check_topic
from appliance.operations.letter_batches import discard_each, redrive_each
from appliance.store.rows import Choice, Letter

#: Letters on a page, and letters that one press of a button is for at most.
_ROWS: Final = 50
_MOST: Final = 1000
#: From so many letters on, discarding them wants their number typed.
_TYPED_FROM: Final = 11
_MAX_SEQ: Final = 2**63 - 1
_HISTORY: Final = 20


@dataclass(frozen=True)
class Chosen:
    """The letters that a form is about: those marked, those of a reason, or all.

    `until` is the newest one when the page was made: letters that came since are not meant.
    """

    seqs: tuple[int, ...]
    reason: str | None
    topic: str | None
    every: bool
    after: int
    until: int


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/dead-letters and the addresses below it."""
    letters = parts.dead_letters

    @views.get("/dead-letters")
    def show_dead_letters() -> str:
        reason, topic = request.args.get("reason") or None, request.args.get("topic") or None
        before, after = (_seq(request.args.get(name)) for name in ("before", "after"))
        choice = Choice(reason, topic, patterns(), before=before, after=after)
        page = letters.page(choice, _ROWS, 2**20)
        rows = sorted(page.rows, key=lambda letter: -letter.seq)
        newer = after is not None
        newest = letters.page(Choice(patterns=patterns()), 1, 1).rows
        return render_template(
            "console/dead_letters.html",
            groups=[(name, count, words_of(name)) for name, count in letters.reasons(patterns())],
            letters=rows,
            preview=_first_line,
            reason=reason,
            topic=topic,
            until=newest[0].seq if newest else 0,
            older=rows[-1].seq if rows and (page.more or newer) else None,
            newer=rows[0].seq if rows and (before is not None or (newer and page.more)) else None,
        )

    @views.get("/dead-letters/<int:seq>")
    def show_dead_letter(seq: int) -> str:
        letter = _visible(parts, seq)
        body = letter.body if letter.body is not None else letters.body(letter.seq) or b""
        can_ask = principal().may(Right.ADMIN)
        return render_template(
            "console/dead_letter.html",
            letter=letter,
            words=words_of(letter.reason),
            body=body_preview(body),
            history=parts.access.redrives(letter.id, _HISTORY) if can_ask else [],
        )

    @views.post("/dead-letters/redrive")
    @needs(Right.ADMIN)
    def redrive_dead_letters() -> str:
        chosen, topic = _chosen(request.form), request.form.get("to", "").strip()
        seqs, following = _seqs(parts, chosen)
        results = redrive_each(
            parts.redriver,
            map(str, seqs),
            lambda name: letters.find(int(name)),
            acting(),
            topic=check_topic(topic) if topic else None,
            force=request.form.get("force") == "true",
        )
        return _done(parts, "redrive", chosen, results, following)

    @views.post("/dead-letters/discard")
    @needs(Right.ADMIN)
    def discard_dead_letters() -> Any:
        chosen = _chosen(request.form)
        count = _count(parts, chosen)
        typed, is_sure = request.form.get("typed", "").strip(), "sure" in request.form
        is_right = count < _TYPED_FROM or typed.replace(",", "") == str(count)
        if not count:
            raise PageError(400, "No letter is marked. Go back and mark some.")
        if not is_sure or not is_right:
            return render_template(
                "console/letters_confirm.html",
                chosen=chosen,
                count=count,
                must_type=count >= _TYPED_FROM,
                wrong=is_sure and not is_right,
            )
        seqs, following = _seqs(parts, chosen)
        results = discard_each(
            letters, map(str, seqs), lambda name: letters.find(int(name)), acting()
        )
        return _done(parts, "discard", chosen, results, following)


def _done(
    parts: ConsoleParts, action: str, chosen: Chosen, results: list[Any], following: int | None
) -> str:
    left = next((int(each.name) for each in results if each.outcome == "left"), None)
    after = left - 1 if left is not None else following
    return render_template(
        "console/letters_done.html",
        action=action,
        chosen=chosen,
        results=sorted(results, key=lambda each: each.outcome in ("queued", "discarded")),
        became={
            each.message.id: _place(parts, each.message.id)
            for each in results[:100]
            if each.message is not None
        },
        done=sum(each.outcome in ("queued", "discarded") for each in results),
        after=None if chosen.seqs else after,
        form=request.form,
    )


def _place(parts: ConsoleParts, message_id: str) -> tuple[str, int | None]:
    """Return what has become of a message that was sent again: a row, a letter, or on its way."""
    if parts.reader.message(message_id) is not None:
        return "stored", None
    seqs = parts.dead_letters.of_message(message_id)
    return ("dead", seqs[-1]) if seqs else ("waiting", None)


def _chosen(form: Mapping[str, str]) -> Chosen:
    """Return the letters that a form names. Raises PageError."""
    marked = request.form.getlist("seq")
    if len(marked) > _MOST or not all(re.fullmatch(r"[1-9][0-9]{0,18}", each) for each in marked):
        raise PageError(400, "The form names letters in a way that no page of this console does.")
    return Chosen(
        seqs=tuple(sorted(int(each) for each in marked if int(each) <= _MAX_SEQ)),
        reason=form.get("reason") or None,
        topic=form.get("topic") or None,
        every=form.get("every") == "true",
        after=_seq(form.get("after")) or 0,
        until=_seq(form.get("until")) or 0,
    )


def _choice(chosen: Chosen) -> Choice:
    return Choice(chosen.reason, chosen.topic, patterns(), after=chosen.after)


def _seqs(parts: ConsoleParts, chosen: Chosen) -> tuple[list[int], int | None]:
    """Return the letters, oldest first, and after which one the rest begins."""
    if chosen.seqs or not chosen.every:
        return list(chosen.seqs), None
    pieces = parts.dead_letters.pieces(_choice(chosen), _MOST + 1)
    letters = itertools.chain.from_iterable(pieces)
    found = [letter.seq for letter in letters if letter.seq <= chosen.until]
    return found[:_MOST], found[_MOST - 1] if len(found) > _MOST else None


def _count(parts: ConsoleParts, chosen: Chosen) -> int:
    if chosen.seqs or not chosen.every:
        return len(chosen.seqs)
    whole = parts.dead_letters.count(_choice(chosen))
    return whole if not chosen.after else len(_seqs(parts, chosen)[0])


def _visible(parts: ConsoleParts, seq: int) -> Letter:
    letter = parts.dead_letters.find(seq) if seq <= _MAX_SEQ else None
    if letter is None or not principal().may(Right.READ, letter.topic):
        raise NotFound
    return letter


def _first_line(letter: Letter) -> str:
    """Return what a list shows of a letter's body."""
    if letter.body is None:
        return "(too large to be shown here)"
    shown = body_preview(letter.body[:600])
    return shown.text[:200] if shown.is_text else f"(binary) {letter.body[:24].hex(' ')}"


def _seq(text: str | None) -> int | None:
    if text and re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) and int(text) <= _MAX_SEQ:
        return int(text)
    return None
