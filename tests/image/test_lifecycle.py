"""Starting, ending and replacing containers: what stays, and what the engine is told."""

from engine import HARDENED, IMAGE, run_to_its_end, wait_until


def test_a_plain_docker_run_works_and_docker_stop_ends_it_in_time_with_status_0(start, volume):
    container = start(volume).wait_ready()
    container.store("plain", "kept")
    seconds, status = container.stop()
    print(f"docker stop took {seconds:.1f} s")
    assert status == 0
    assert seconds < 10, "docker stop would have killed it"

    container.start_again().wait_ready()
    assert container.bodies("plain") == ["kept"]


def test_a_new_container_with_another_host_name_has_every_queued_message_and_row(start, volume):
    first = start(volume, *HARDENED, "--hostname", "first").wait_ready()
    first.store("moved", "a row")
    first.exec("supervisorctl", "stop", "worker:*")
    queued = [f"queued {number}" for number in range(100)]
    for body in queued:
        assert first.publish("moved", body).status_code == 202
    assert first.bodies("moved") == ["a row"]
    token = first.exec("appliance", "token")
    first.remove()  # with kill -9: nothing gets the chance to write anything more

    second = start(volume, *HARDENED, "--hostname", "second").wait_ready()
    wait_until(lambda: len(second.bodies("moved")) > len(queued), "every message is a row")
    assert second.bodies("moved") == ["a row", *queued]
    assert second.exec("appliance", "token") == token


def test_a_bad_setting_ends_the_container_with_its_name_and_a_status_of_its_own(volume):
    status, output = run_to_its_end("--env", "APPLIANCE_WORKERS=many", IMAGE)
    assert status == 78
    assert "APPLIANCE_WORKERS" in output
    status, output = run_to_its_end("--env", "APPLIANCE_WORKER=1", IMAGE)
    assert status == 78
    assert "did you mean APPLIANCE_WORKERS?" in output


def test_a_data_folder_that_cannot_be_written_is_refused_with_words(tmp_path):
    tmp_path.chmod(0o755)  # ours, not the container's user's
    status, output = run_to_its_end("--volume", f"{tmp_path}:/data", IMAGE)
    assert status == 78
    assert "APPLIANCE_DATA" in output
    assert "10001" in output


def prepare(volume, command):
    """Put something into a volume as the container's user would."""
    status, output = run_to_its_end(
        "--volume", f"{volume}:/data", "--entrypoint", "sh", IMAGE, "-c", command
    )
    assert status == 0, output


def test_a_volume_of_a_broker_that_this_one_can_not_follow_is_refused_untouched(volume):
    prepare(volume, "mkdir -m 700 /data/broker && echo 9.9.9 > /data/broker/version")
    status, output = run_to_its_end("--volume", f"{volume}:/data", IMAGE)
    assert status == 78
    assert "was written by RabbitMQ 9.9.9" in output
    prepare(volume, "test 9.9.9 = $(cat /data/broker/version) && test ! -e /data/broker/db")


def test_a_program_that_is_given_up_ends_the_container_with_status_3(start, volume):
    """Takes 30 s: a program is given up after six failed starts."""
    prepare(volume, "mkdir -m 700 -p /data/broker/rabbitmq.conf")
    container = start(volume, *HARDENED)
    assert container.wait(90) == 3
    assert "/data/broker can't be used" in container.logs
    assert "broker was given up" in container.logs


def test_the_brokers_memory_follows_the_containers_limit(start, volume):
    container = start(volume, *HARDENED, "--memory", "640m", "--memory-swap", "640m").wait_ready()
    container.store("small", "in 640 MB")
    conf = container.exec("cat", "/data/broker/rabbitmq.conf")
    assert f"vm_memory_high_watermark.absolute = {int(640 * 2**20 * 0.4)}\n" in conf
