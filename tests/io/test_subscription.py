"""`agentpipe.Subscription` in this process against real hubs: kills, cuts, several hubs, positions that are kept."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from agentpipe import AuthError, Event, Gap, HubUnreachable, Subscription
from agentpipe.errors import InputMissing, OptionError
from tests.faults.lab.proxy import Proxy
from tests.hub_process import HubProcess
from tests.io.hubs import PATIENCE_S, events, eventually
from tests.io.talking_hub import TalkingHub
from tests.redis_process import RedisProcess


@pytest.fixture
def hub(tmp_path, environment) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path, environment, "--heartbeat", "1s")
    process.start()
    yield process
    process.stop(signal.SIGKILL)


def stored(hub, data: bytes) -> None:
    """Post events until the hub has them: a hub that knows some of them already ignores those."""
    while True:
        try:
            status, _, answer = hub.request("api/events", data, Content_Type="application/x-ndjson")
        except OSError:
            time.sleep(0.02)  # it is being killed or started just now
            continue
        assert status in (200, 503), answer
        if status == 200:
            return


@pytest.fixture
def put(hub):
    """Publish events and wait until they are stored."""

    def publish(data: bytes) -> bytes:
        stored(hub, data)
        return data

    return publish


def reading(hub, **options):
    return Subscription(hub.url, token=hub.token, **options)


def lines(found):
    return b"".join(event.line + b"\n" for event in found)


def test_the_log_from_its_start_to_its_head(hub, put):
    data = put(events(1, 300) + b'{"odd" : 1.50,"type":"t","run_id":"s","sequence":1,"big":123456789012345678901234}\n')
    with reading(hub, follow=False) as log:
        found = list(log)
        assert lines(found) == data
        assert found[-1].envelope["big"] == 123456789012345678901234
        assert log.report()["out"] == 301
        assert log.position == log.report()["position"]
        assert list(log) == []


def test_without_a_context_it_opens_and_ends_by_itself(hub, put):
    data = put(events(1, 5))
    assert lines(reading(hub, follow=False)) == data


def test_filters(hub, put):
    put(events(1, 50))
    second = put(events(1, 30, run="s", kind="error"))
    assert lines(reading(hub, follow=False, runs=["s"])) == second
    assert lines(reading(hub, follow=False, types=["error"], runs=["r"])) == b""
    with reading(hub, since="start", types={"error"}) as log:
        assert lines(next(log) for _ in range(30)) == second


def test_a_program_that_ends_anywhere_goes_on_from_the_position_it_kept(hub, put):
    data = put(events(1, 137))
    got, kept = [], "start"
    for count in (1, 20, 33, 5, 200):
        with reading(hub, since=kept, follow=False) as log:
            for event in log:
                got.append(event)
                kept = log.position
                if len(got) % count == 0:
                    break
    assert lines(got) == data, "nothing twice, nothing missing"


def test_under_a_filter_the_kept_position_is_never_ahead(hub, put):
    mixed = b"".join(events(n, n) + events(n, n, run="s") for n in range(1, 60))
    put(mixed)
    with reading(hub, since="start", runs=["s"]) as log:
        first = [next(log) for _ in range(7)]
        kept = log.position
    with reading(hub, since=kept, runs=["s"]) as log:
        rest = [next(log)]
        while rest[-1].sequence < 59:
            rest.append(next(log))
    seen = {event.identity: event for event in first + rest}
    assert lines(seen.values()) == events(1, 59, run="s")


def test_it_knows_its_position_before_the_first_event(hub, put):
    put(events(1, 3))
    with reading(hub) as log:
        assert log.take(0.0) is None
        eventually(lambda: log.take(0.05) is None and log.position, "a position")
        assert log.position.endswith(":3")


def test_every_event_once_across_kills_and_cuts(hub):
    """The hub is killed and started again while events are published, and links are cut."""
    got, notes, reports = [], [], []

    def publish():
        for first in range(1, 8001, 100):
            stored(hub, events(first, first + 99))
            eventually(lambda ahead=first: len(got) > ahead - 300, "the reader to keep up")

    def read(proxy):
        with Subscription(proxy.url, token=hub.token, since="start", warn=notes.append) as log:
            for event in log:
                got.append(event)
                if event.sequence == 8000:
                    reports.append(log.report())
                    log.close()

    with Proxy(hub.port) as proxy:
        threads = [threading.Thread(target=publish), threading.Thread(target=read, args=(proxy,))]
        for thread in threads:
            thread.start()
        for count in (500, 1500, 2500, 4000, 6000, 7000):
            eventually(lambda wanted=count: len(got) >= wanted, f"event {count}")
            if count in (1500, 4000):
                hub.kill()
                hub.start()
            else:
                proxy.cut()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    assert lines(got) == events(1, 8000)
    assert reports[0]["missed"] == 0
    assert reports[0]["reconnects"] >= 4
    assert any("trying again" in note for note in notes)
    assert any("back after" in note for note in notes)


def begun(log):
    """The program waits for its first event in a thread, because nothing is asked before somebody waits."""
    reader = threading.Thread(target=log.take, args=(0.5,))
    reader.start()
    return reader


def test_a_hole_comes_in_its_place_as_a_gap():
    with TalkingHub() as hub, Subscription(hub.url, since="e:0") as log:
        reader = begun(log)
        hub.confirms(0)
        reader.join()
        hub.sends(0, 2, "a", "b")
        hub.says({"type": "gap", "id": 1, "from": 3, "to": 9, "count": 4, "reason": "evicted"})
        hub.sends(9, 10, "c")
        found = [next(log) for _ in range(4)]
        assert [item.event_id if isinstance(item, Event) else item for item in found] == [
            "a", "b", Gap(3, 9, 4, "evicted"), "c",
        ]  # fmt: skip
        assert found[2].type == "gap"
        assert (log.position, log.report()["missed"], log.report()["gaps"]) == ("e:10", 4, 1)


def test_a_position_behind_a_hole_is_not_given_out_before_the_hole_is():
    with TalkingHub() as hub, Subscription(hub.url, since="e:3") as log:
        reader = begun(log)
        hub.confirms(9, recovered=False)
        reader.join()
        assert log.position == "e:3"
        hub.says({"type": "gap", "id": 1, "from": 4, "to": 9, "count": 6, "reason": "evicted"})
        assert next(log) == Gap(4, 9, 6, "evicted")
        assert log.position == "e:9"


def test_a_store_that_fails_for_a_while_is_asked_again():
    got = []
    with TalkingHub() as hub, Subscription(hub.url, since="last:2") as log:
        reader = threading.Thread(target=lambda: got.append(next(log)))
        reader.start()
        for own_id in (1, 2):
            assert hub.asked() == {"type": "subscribe", "id": own_id, "since": {"last": 2}, "filter": {}}
            hub.says({"type": "error", "code": "unavailable", "message": "the disk is full", "in_reply_to": own_id})
        hub.confirms(4, own_id=3)
        hub.sends(4, 5, "a", own_id=3)
        reader.join(PATIENCE_S)
    assert [event.event_id for event in got] == ["a"]


def test_close_from_another_thread_ends_the_iteration(hub):
    log = reading(hub)
    ended = []
    reader = threading.Thread(target=lambda: ended.extend(log))
    reader.start()
    time.sleep(0.3)
    log.close()
    reader.join(PATIENCE_S)
    assert not reader.is_alive()
    log.close()
    assert log.take() is None


def test_close_from_a_signal_handler_ends_it_too(hub):
    log = reading(hub)
    before = signal.signal(signal.SIGUSR1, lambda *_: log.close())
    try:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert list(log) == []
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_forked_child_does_no_harm_to_its_parents_connection(hub, put):
    put(events(1, 3))
    with Subscription(hub.url, token_file=str(hub.token_file), since="start") as stream:
        assert next(stream).sequence == 1
        child = os.fork()
        if child == 0:  # nothing may be raised here: the child is this test once more
            status = 1
            try:
                stream.take(0.1)
            except RuntimeError:
                stream.close()
                stream.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        put(events(4, 5))
        assert [next(stream).sequence for _ in range(4)] == [2, 3, 4, 5]
        assert stream.report()["reconnects"] == 0


@pytest.mark.parametrize("url", ["real", "ws://127.0.0.1:1"])
def test_one_that_nobody_closed_gives_everything_back_and_says_so(hub, put, url):
    put(events(1, 3))
    before = os.listdir("/proc/self/fd")
    url = hub.url if url == "real" else url
    stream = Subscription(url, token_file=str(hub.token_file), since="start", connect_timeout=None)
    stream.take(PATIENCE_S if url == hub.url else 0.5)
    trying = [thread for thread in threading.enumerate() if thread.name == "connect"]
    with pytest.warns(ResourceWarning, match="unclosed <agentpipe"):
        del stream
    for thread in trying:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_it_gives_every_descriptor_back(hub, put):
    put(events(1, 3))
    list(reading(hub, follow=False))
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert len(list(reading(hub, follow=False))) == 3
        with reading(hub) as log:
            log.take(0.0)
        with pytest.raises(HubUnreachable), Subscription("127.0.0.1:1", connect_timeout=0.05) as log:
            next(log)
    eventually(lambda: sorted(os.listdir("/proc/self/fd")) == before, "what was opened to be closed")


def test_a_hub_that_was_never_there_and_arguments_that_make_no_sense(tmp_path):
    with pytest.raises(HubUnreachable, match="refused"):
        next(Subscription(["127.0.0.1:1", "127.0.0.1:2"], connect_timeout=0.3))
    for wrong in ({"urls": []}, {"urls": "ftp://h"}, {"urls": "h", "since": "yesterday"}):
        with pytest.raises(OptionError):
            Subscription(**wrong)
    with pytest.raises(InputMissing):
        Subscription("h", token_file=str(tmp_path / "none"))


def test_a_wrong_token_is_refused_for_good(hub):
    with pytest.raises(AuthError), Subscription(hub.url, token="nonsense") as log:
        next(log)


def test_several_hubs_the_one_that_answers_is_read_and_refusals_are_left_out(hub, put, tmp_path, environment):
    data = put(events(1, 40))
    folder = tmp_path / "strict"
    folder.mkdir()
    strict = HubProcess(folder, environment)
    strict.start()
    notes = []
    try:
        urls = ["127.0.0.1:1", strict.url, hub.url]
        assert lines(Subscription(urls, token=hub.token, follow=False, warn=notes.append)) == data
        with pytest.raises(AuthError):
            next(Subscription([strict.url, strict.url.replace("127.0.0.1", "localhost")], token="nonsense"))
    finally:
        strict.stop(signal.SIGKILL)
    assert any("not asked again" in note for note in notes)


def test_a_position_holds_across_hubs_of_one_log():
    got = []

    def read(log):
        got.extend(event.event_id for event in log)

    with TalkingHub() as one, TalkingHub() as other, Subscription([one.url, other.url], since="e:0") as log:
        reader = threading.Thread(target=read, args=(log,))
        reader.start()
        one.confirms(0)
        one.sends(0, 2, "a", "b")
        eventually(lambda: len(got) == 2, "two events")
        one.cut()
        assert other.asked()["since"] == {"epoch": "e", "offset": 2}
        other.says(
            {"type": "subscription_confirmed", "id": 2, "position": {"epoch": "e", "offset": 2}, "recovered": True}
        )
        other.sends(2, 3, "c", own_id=2)
        eventually(lambda: len(got) == 3, "the third")
        log.close()
        reader.join(PATIENCE_S)
        assert (got, log.position) == (["a", "b", "c"], "e:3")


def test_importing_the_package_stays_cheap():
    code = "import sys, agentpipe; print(sorted({'socket', 'msgspec', 'typing', 'websocket'} & set(sys.modules)))"
    plain = "import sys; print(sorted({'socket', 'msgspec', 'typing', 'websocket'} & set(sys.modules)))"
    python = sys.executable
    out = [subprocess.run([python, "-c", text], capture_output=True, check=True).stdout for text in (code, plain)]
    assert out[0] == out[1]


# --- several real hubs


@contextlib.contextmanager
def two_hubs(tmp_path, environment, store):
    """Hubs with one token, each with its own store, or both with *store*."""
    hubs = []
    try:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "token").write_text("t" * 40)
            (tmp_path / name / "token").chmod(0o600)
            hubs.append(HubProcess(tmp_path / name, environment, store=store))
            hubs[-1].start()
        yield hubs
    finally:
        for hub in hubs:
            hub.kill()


def published(environment, hub, first, last):
    command = ["agentpipe", "publish", "--token-file", str(hub.token_file), hub.url]
    subprocess.run(command, input=events(first, last), env=environment, check=True, timeout=PATIENCE_S)


def numbers_and_gaps(stream, last):
    """What comes until the event *last*."""
    found = []
    while found[-1:] != [last]:
        what = stream.take(PATIENCE_S)
        assert what is not None, found
        found.append(what.sequence if isinstance(what, Event) else what.reason)
    return found


def test_from_one_hub_to_another_of_its_redis_and_back_nothing_is_missed_or_twice(tmp_path, environment):
    with RedisProcess(tmp_path / "redis") as redis, two_hubs(tmp_path, environment, redis.url) as (a, b):
        published(environment, a, 1, 20)
        urls, token = [a.url, b.url], a.token
        with Subscription(urls, token=token, since="start") as stream:
            assert numbers_and_gaps(stream, 20) == list(range(1, 21))
            a.kill()
            published(environment, b, 21, 40)
            assert numbers_and_gaps(stream, 30) == list(range(21, 31))  # a batch half handed out
            kept = stream.position
        a.start()
        published(environment, a, 41, 45)
        b.kill()
        with Subscription(urls, token=token, since=kept) as stream:
            assert numbers_and_gaps(stream, 45) == list(range(31, 46))
            assert stream.report()["gaps"] == 0


def test_a_position_at_a_hub_of_another_log_is_a_gap_and_that_log_from_its_start(tmp_path, environment):
    with two_hubs(tmp_path, environment, "hub.db") as (a, b):
        published(environment, a, 1, 20)
        published(environment, b, 101, 105)
        with Subscription([a.url, b.url], token=a.token, since="start") as stream:
            assert numbers_and_gaps(stream, 20) == list(range(1, 21))
            a.kill()
            found = numbers_and_gaps(stream, 105)
        assert found[0] == "epoch"
        assert [each for each in found if isinstance(each, int)][-5:] == [101, 102, 103, 104, 105]
