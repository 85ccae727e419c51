"""A data folder is moved: what waits in its queue goes with it."""

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["new", "new \xfc"])
def test_a_queue_and_its_messages_move_with_their_folder(stack, tmp_path, name):
    one = stack(workers=0)
    sent = [f"message {number}" for number in range(20)]
    for body in sent:
        assert one.publish("orders", body).status_code == 202
    one.close()
    for place in (tmp_path / name, tmp_path / "back"):  # the second time it says the first place
        one.data.rename(place)
        one = stack(data=place, start=False)
        one.start()
        assert [row["body"] for row in one.wait_rows(20, "orders")] == sent
        assert one.publish("more", "hello", Prefer="wait=20").status_code == 201
        one.close()
