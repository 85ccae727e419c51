"""The hosts of a URL in the order in which they are tried: one that did not answer comes last."""

from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_LISTS: Final = ("host", "hostaddr", "port")


class Hosts:
    """Hosts of the database at `url`.

    An old primary that came back takes writes, and answers no commit, as its standbys follow
    another one now. By its place in the URL it would be tried again and again.
    """

    def __init__(self, url: str) -> None:
        self._given = self.url = url

    def put_last(self, host: str, port: int) -> None:
        """Try this host after all others from now on."""
        known = conninfo_to_dict(self._given)
        lists = {name: str(known[name]).split(",") for name in _LISTS if known.get(name)}
        many = max(map(len, lists.values()), default=1)
        columns = {
            name: each * many if len(each) == 1 else each
            for name, each in lists.items()
            if len(each) in (1, many)
        }
        names = columns.get("host") or columns.get("hostaddr") or []
        ports = columns.get("port") or [str(port)] * many
        order = sorted(
            range(len(names)), key=lambda place: (names[place], ports[place]) == (host, str(port))
        )
        if len(order) > 1:
            moved = {name: ",".join(each[i] for i in order) for name, each in columns.items()}
            self.url = make_conninfo(self._given, **moved)
