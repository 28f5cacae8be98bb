"""A child's output, exit code and signals pass through as if nothing stood between."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pipeline_tools.adapters import stream
from pipeline_tools.errors import PipelineError
from pipeline_tools.text.masks import MASKED, Mask, Secret

SECRET = "hunter2-hunter2-hunter2"


def run(code: str, tmp_path: Path, *secrets: str, name: str = "python") -> tuple[int, bytes, bytes]:
    """Python code as a child: its exit code, output and errors."""
    mask = Mask()
    for secret in secrets:
        mask.add(Secret(secret))
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        ended = stream.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            environment=os.environ,
            through=mask.stream,
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
        )
    return ended.code, out.read_bytes(), err.read_bytes()


@pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
def test_the_exit_code_is_the_childs(code: int, tmp_path: Path) -> None:
    assert run(f"raise SystemExit({code})", tmp_path)[0] == code


def test_a_child_that_a_signal_ended(tmp_path: Path) -> None:
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)[0] == 137


def test_both_outputs_are_masked_though_split_across_writes(tmp_path: Path) -> None:
    code = f"""
        import os, time
        for fd in (1, 2):
            for byte in {SECRET!r}.encode():
                os.write(fd, bytes([byte]))
            os.write(fd, b" end")
    """
    assert run(code, tmp_path, SECRET) == (0, f"{MASKED} end".encode(), f"{MASKED} end".encode())


def test_binary_data_passes_unchanged(tmp_path: Path) -> None:
    _, out, _ = run("import os; os.write(1, bytes(range(256)) * 4000)", tmp_path, SECRET)
    assert out == bytes(range(256)) * 4000


def test_a_megabyte_on_both_at_once(tmp_path: Path) -> None:
    code = "import os\nfor _ in range(32): os.write(1, b'o' * 32768); os.write(2, b'e' * 32768)"
    _, out, err = run(code, tmp_path, SECRET)
    assert (len(out), len(err)) == (1 << 20, 1 << 20)


def test_a_child_that_closes_its_output_early(tmp_path: Path) -> None:
    code = "import os, time; os.write(1, b'a'); os.close(1); os.close(2); time.sleep(0.3); os._exit(7)"
    assert run(code, tmp_path) == (7, b"a", b"")


def test_a_grandchild_that_keeps_the_pipe_open_keeps_nobody_waiting(tmp_path: Path) -> None:
    code = "import subprocess; print('started', flush=True); subprocess.Popen(['sleep', '20'])"
    begun = time.monotonic()
    assert run(code, tmp_path)[:2] == (0, b"started\n")
    assert time.monotonic() - begun < 10


def test_no_such_program() -> None:
    for name, words in (("no-such-program", "is not installed"), (__file__, "cannot be executed")):
        with pytest.raises(PipelineError, match=words):
            stream.run([name], environment={"PATH": "/usr/bin"}, through=Mask().stream)


def test_the_signals_of_the_child_are_a_fresh_programs(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        argv = ["sh", "-c", "cat /proc/self/status"]
        stream.run(argv, environment=os.environ, through=Mask().stream, stdout=out.fileno())
    status = (tmp_path / "out").read_text()
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(values["SigBlk"], 16) == 0
    # Python itself ignores SIGPIPE (13).
    assert not int(values["SigIgn"], 16) & 1 << 12


DRIVER = """
import os, signal, sys
from pipeline_tools.adapters import stream
from pipeline_tools.text.masks import Mask
signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
sys.exit(stream.run([sys.executable, "-c", sys.argv[1]], environment=os.environ, through=Mask().stream).code)
"""

COUNTS = """
import signal, sys, time
seen = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda n, _: (seen.append(n), print("got", n, flush=True)))
print("ready", flush=True)
end = time.monotonic() + 20
while time.monotonic() < end and signal.SIGHUP not in seen:
    time.sleep(0.01)
time.sleep(0.3)
sys.exit(len(seen))
"""


def driver(code: str, **settings: bool) -> subprocess.Popen[str]:
    argv = (sys.executable, "-c", DRIVER, code)
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **settings)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("to_group", [False, True])
def test_each_signal_reaches_the_child_once(to_group: bool) -> None:
    with driver(COUNTS, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            (os.killpg if to_group else os.kill)(process.pid, number)
            assert process.stdout.readline() == f"got {int(number)}\n"
        assert process.wait(20) == 3


GRACE = """
import os, sys
from pipeline_tools.adapters import stream
from pipeline_tools.text.masks import Mask
ended = stream.run([sys.executable, "-c", sys.argv[1]], environment=os.environ, through=Mask().stream, grace=float(sys.argv[2]))
print(ended.code, *ended.signals, flush=True)
"""


def graceful(seconds: float) -> subprocess.Popen[str]:
    argv = (
        sys.executable,
        "-c",
        GRACE,
        COUNTS.replace("HUP not in seen", "TERM not in seen[1:]"),
        str(seconds),
    )
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_while_it_ends_in_peace_no_second_signal_reaches_the_child() -> None:
    with graceful(1000) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "got 15\n"
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        process.stdout.close()
        process.kill()


def test_a_second_signal_when_grace_is_over() -> None:
    with graceful(0.3) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got 15\ngot 15\n2 15\n"


def test_ctrl_c_on_a_terminal_reaches_the_child_once() -> None:
    pid, terminal = os.forkpty()
    if pid == 0:  # pragma: no cover
        os.execv(sys.executable, [sys.executable, "-c", DRIVER, COUNTS])  # noqa: S606 (the other side of the terminal)
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    while b"got 2" not in said:
        said += os.read(terminal, 1000)
    os.kill(pid, signal.SIGHUP)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    os.close(terminal)


def test_when_nobody_reads_the_child_ends_as_it_would_alone() -> None:
    with driver("import sys\nwhile True: sys.stdout.write('x' * 1000)") as process:
        assert process.stdout
        process.stdout.close()
        assert process.wait(20) != 0


def test_stdin_is_ours(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", DRIVER, "print(input())")
    done = subprocess.run(argv, input="hello\n", capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"


def test_output_comes_while_the_child_runs() -> None:
    code = "import os, time\nos.write(1, b'10% '); time.sleep(20)"
    with driver(code) as process:
        assert process.stdout
        timer = threading.Timer(10, process.kill)
        timer.start()
        assert os.read(process.stdout.fileno(), 4) == b"10% "
        timer.cancel()
        process.terminate()
        assert process.wait(10) == 143


def test_a_full_disk_is_an_error_and_the_child_is_ended_by_its_own_write() -> None:
    with Path("/dev/full").open("wb") as full, pytest.raises(OSError, match="No space left"):
        stream.run(
            ["sh", "-c", "echo x"],
            environment=os.environ,
            through=Mask().stream,
            stdout=full.fileno(),
            stderr=2,
        )
