"""Many searches that take long, of one token: everyone else is served meanwhile. Real processes."""

import threading

import httpx
import pytest
from api_alone import ApiAlone
from harness import wait_until
from store_contents import letter, many

#: Bodies in which words are looked for one by one, as no index is filled here: seconds for all.
ROWS, BYTES = 6000, 3000
#: More searches at once than the API has threads.
SEARCHERS = 12


@pytest.fixture
def api(tmp_path):
    api = ApiAlone(tmp_path)
    body = b"no such thing " * (BYTES // 14)
    for _ in range(0, ROWS, 200):
        api.fill(many([body] * 200, "texts"))
    api.fill(letter(b"a letter"))
    yield api.start()
    api.close()


class Searchers:
    """Clients of one token that search again as soon as they are answered."""

    def __init__(self, ask):
        self.answers = []
        self._ask = ask
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._search) for _ in range(SEARCHERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _search(self):
        while not self._stop.is_set():
            self.answers.append(self._ask("/v1/messages?q=elephant"))

    @property
    def statuses(self):
        return {answer.status_code for answer in list(self.answers)}


def test_searches_of_one_token_that_take_long_leave_threads_for_everyone_else(api):
    with httpx.Client(
        base_url=f"http://{api.env['APPLIANCE_HTTP']}",
        headers={"Authorization": f"Bearer {api.env['APPLIANCE_TOKEN']}"},
        trust_env=False,
        timeout=60,
        limits=httpx.Limits(max_connections=SEARCHERS + 4),
    ) as client:
        with Searchers(client.get) as searchers:
            wait_until(lambda: searchers.statuses == {200, 503}, "some are refused, some not", 60)
            for path in ("/v1/topics", "/v1/topics/texts/messages?limit=1", "/v1/dead-letters"):
                assert client.get(path).status_code == 200
        refused = [each for each in searchers.answers if each.status_code == 503]
        assert {each.json()["type"].rpartition(":")[2] for each in refused} == {"search-busy"}
        assert {each.headers["Retry-After"] for each in refused} == {"3"}
        ended_early = [each for each in searchers.answers if each.status_code == 200]
        assert all(each.json()["messages"] == [] for each in ended_early)
        assert client.get("/v1/messages?q=elephant").status_code == 200
