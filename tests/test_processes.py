"""Several processes: they step as one does, and one killed in the middle goes on as if nothing had happened."""

import multiprocessing
import signal
import socket
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from tests.process import OPT, SAVED, STEPS, Run, main

LIMIT = 240
"""Seconds after which processes that hang are ended."""


def exits(processes: int, folder: Path, part: str) -> list[int | None]:
    """Exit codes of the processes that take a part of the training on four devices; none of them is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.process"])  # imported once for all
    words = [(address, processes, rank, folder, part) for rank in range(processes)]
    running = [forks.Process(target=main, args=each) for each in words]
    try:
        for each in running:
            each.start()
        for each in running:
            each.join(LIMIT)
        return [each.exitcode for each in running]
    finally:
        for each in running:
            each.kill()
            each.join()


@pytest.mark.devices
def test_two_processes_step_as_one_and_go_on_from_a_checkpoint_as_if_never_killed(tmp_path):
    """The one process, too, sums by gloo: its order of summation is another than that of XLA within a process."""
    assert exits(1, tmp_path, "undisturbed") == [0]
    assert exits(2, tmp_path, "begin") == [-signal.SIGKILL] * 2
    assert exits(2, tmp_path, "resume") == [0] * 2

    elsewhere = Run("model", devices=2)
    saved, undisturbed, resumed = (elsewhere.restored(tmp_path / of) for of in ("begin", "undisturbed", "resume"))
    jax.tree.map(np.testing.assert_array_equal, resumed, undisturbed)

    masters = lambda carry: adamx.master_params(OPT, carry[1], carry[0])  # noqa: E731
    first, last = masters(saved), masters(undisturbed)
    there = masters(elsewhere.advance(saved, SAVED, STEPS))
    for a, b, begin in zip(*map(jax.tree.leaves, (there, last, first)), strict=True):
        assert jnp.linalg.norm(a - b) < 0.01 * jnp.linalg.norm(b - begin)  # .0014: a code here and there is another
