"""A run that was killed goes on where it was, to the same end; another setting is another run."""

import numpy as np
import pytest

from paper import runs
from paper.runs import Runs, Training

KEY = {"figure": "f", "seed": 0}


class Killed(Exception):
    """In the place of a signal."""


@pytest.fixture(autouse=True)
def saved_at_once(monkeypatch):
    monkeypatch.setattr(runs, "SAVED", -1.0)


class Game:
    """Two runs side by side whose parameter is a sum of epochs, and the epochs that were trained."""

    def __init__(self, dies_at=None, lost_at=None):
        self.trained, self.dies_at, self.lost_at = [], dies_at, lost_at

    def epoch(self, number, carry):
        self.trained.append(number)
        if number == self.dies_at:
            raise Killed
        sums = carry[0] + number
        return (np.full_like(sums, np.nan) if number == self.lost_at else sums), carry[1] + 1

    def play(self, folder, epochs, last=6, key=KEY, heard=lambda *epoch: None):
        training = Training(
            lambda: (np.zeros((2, 1)), np.zeros(2)), self.epoch, lambda number, x: x[0][:, 0], lambda x: 10 * x[1]
        )
        return Runs(folder).train(key, training, epochs, last, heard)


def test_a_killed_run_goes_on_where_it_was_and_ends_alike(tmp_path):
    whole, heard = Game().play(None, 6), []
    with pytest.raises(Killed):
        Game(dies_at=4).play(tmp_path, 6)
    game = Game()
    found = game.play(tmp_path, 6, heard=lambda number, values, kept: heard.append((number, values[0], kept)))
    assert game.trained == [4, 5, 6]
    np.testing.assert_array_equal(found.curve, whole.curve)
    np.testing.assert_array_equal(found.end, [60, 60])
    assert heard == [(1, 1, True), (2, 3, True), (3, 6, True), (4, 10, False), (5, 15, False), (6, 21, False)]
    again = Game()
    np.testing.assert_array_equal(again.play(tmp_path, 6).end, whole.end)
    assert again.trained == []


def test_who_is_killed_while_writing_leaves_what_was_there(tmp_path, monkeypatch):
    Game().play(tmp_path, 2)

    def half(file, **content):
        file.write(b"half")
        raise Killed

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(Killed):
        Game().play(tmp_path, 4)
    monkeypatch.undo()
    game = Game()
    game.play(tmp_path, 4)
    assert game.trained == [3, 4]


@pytest.mark.parametrize("other", [{"figure": "f", "seed": 1}, KEY | {"momentum": 0.9}])
def test_with_another_setting_it_runs_anew(tmp_path, other):
    Game().play(tmp_path, 6)
    game = Game()
    game.play(tmp_path, 6, key=other)
    assert game.trained == [1, 2, 3, 4, 5, 6] and len(list(tmp_path.iterdir())) == 2


def test_a_short_run_goes_on_to_a_longer_and_keeps_its_weights_until_its_end(tmp_path):
    short = Game().play(tmp_path, 2)
    assert short.leaves and not short.end.size
    game = Game()
    end = game.play(tmp_path, 6)
    assert game.trained == [3, 4, 5, 6] and not end.leaves and end.end.size
    np.testing.assert_array_equal(Game().play(tmp_path, 2).curve, short.curve)


def test_what_was_shed_is_read_and_begins_anew_if_it_is_to_go_on(tmp_path):
    Game().play(tmp_path, 2)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    Runs(tmp_path).shed(KEY)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < size
    read, anew = Game(), Game()
    read.play(tmp_path, 2)
    anew.play(tmp_path, 3)
    assert (read.trained, anew.trained) == ([], [1, 2, 3])


def test_the_seconds_are_those_of_all_commands(tmp_path):
    first = Game().play(tmp_path, 4).seconds
    training = Training(lambda: (np.zeros((2, 1)),), lambda n, x: x, lambda n, x: x[0][:, 0], lambda x: x[0][:, 0])
    again = Runs(tmp_path)
    assert again.train(KEY, training, 4, 6, lambda *epoch: None).seconds == first == again.seconds("f") > 0
    assert again.seconds("another") == 0 and Runs(tmp_path) == again


def test_a_run_that_diverged_is_not_trained_on(tmp_path):
    game = Game(lost_at=3)
    curve = game.play(tmp_path, 6).curve
    assert game.trained == [1, 2, 3]
    np.testing.assert_array_equal(curve[:, 0], [0, 1, 3, np.nan, np.nan, np.nan, np.nan])
