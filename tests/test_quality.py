"""The language model learns from any text, whatever its weights and moments are stored in, and says how well."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from benchmarks import optimizers, quality
from benchmarks.language_model import Block, Text, Transformer, rotated, standard_library
from benchmarks.stored_training import VARIANTS, start
from benchmarks.tuned_training import CONTENDERS, Setting, Trainer, Tuning

TEXT = Text(*(np.frombuffer(text * 40, np.uint8) for text in (b"import this\n", b"import that\n")))
SETTINGS = replace(quality.QUICK, steps=5, warmup=1, evaluations=2, batch=8, windows=8)


@pytest.mark.product
def test_a_comparison_learns_and_writes_a_figure_and_every_number(tmp_path):
    variants, console = (VARIANTS[0], VARIANTS[-1]), Console(width=120)
    with console.capture() as capture:
        results = quality.compare(variants, SETTINGS, 1, TEXT, tmp_path / "new", console)
        console.print(quality.table(results))
    assert "float32" in capture.get() and "split8, moments int8" in capture.get()
    assert (tmp_path / "new" / "quality.png").exists()
    content = json.loads((tmp_path / "new" / "quality.json").read_text())
    assert content["settings"]["steps"] == 5 and content["machine"]["cores"] and content["versions"]["flax"]
    float32, low = content["variants"]
    assert float32["final"]["difference"] == 0 and float32["runs"][0]["steps"] == [0, 2, 5]
    assert float32["runs"][0]["losses"][-1] < float32["runs"][0]["losses"][0] - 1
    assert low["final"]["loss"] == pytest.approx(float32["final"]["loss"], rel=0.02)
    assert low["runs"][0]["losses"][0] == pytest.approx(float32["runs"][0]["losses"][0], rel=1e-3)
    assert float32["runs"][0]["bytes_per_parameter"] == pytest.approx(12, rel=1e-3)
    assert low["runs"][0]["bytes_per_parameter"] < 5.2


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_has_an_optimizer_for_the_model(variant):
    params = nnx.state(Transformer(SETTINGS, rngs=nnx.Rngs(0)))
    stored, state = jax.eval_shape(lambda p: start(variant, SETTINGS, 0, p), params)
    dtype = jnp.float32 if variant.weights is None else jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(stored)} == {jnp.dtype(dtype)}
    assert state.count.shape == ()


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_every_contender_has_an_optimizer_for_the_model(contender):
    trainer = Trainer(contender, Setting(contender.rate, contender.values[-1]), SETTINGS, TEXT)
    params = nnx.state(nnx.eval_shape(lambda: Transformer(SETTINGS, rngs=nnx.Rngs(0))))
    state = jax.eval_shape(trainer.init, params)
    order = jax.ShapeDtypeStruct((2, SETTINGS.batch), jnp.int32)
    assert jax.eval_shape(trainer.train, (params, state), order) == (params, state)


@pytest.mark.product
def test_optimizers_are_tuned_compared_and_go_on_where_they_were(tmp_path):
    heard, console = [], Console(width=160)
    with console.capture() as capture:
        content = optimizers.compare(CONTENDERS[:2], SETTINGS, 1, TEXT, tmp_path / "runs", tmp_path, console)
        console.print(optimizers.table(content))
    assert "NAdamW" in capture.get() and (tmp_path / "optimizers.png").exists()
    assert [len(row["trials"]) for row in content["contenders"].values()] == [7, 7]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    Tuning(SETTINGS, TEXT, tmp_path / "runs", heard.append).trials(CONTENDERS[0])
    assert len(heard) == 7 and kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}


def test_a_loss_is_reached_between_two_evaluations():
    run = {"steps": [0, 10, 20], "losses": [3.0, 2.0, 1.0]}
    assert optimizers.reached(run, 1.5) == pytest.approx(15)
    assert optimizers.reached(run, 0.5) == np.inf


def test_no_byte_sees_a_later_one():
    x = jax.random.normal(jax.random.key(0), (1, 8, 16))
    block = Block(16, 2, rngs=nnx.Rngs(0))
    changed = np.flatnonzero(np.any(np.asarray(block(x) != block(x.at[0, 5].add(1.0)))[0], axis=-1))
    assert changed.tolist() == [5, 6, 7]


def test_rotary_products_depend_on_the_distance_alone():
    q, k = (jnp.broadcast_to(x, (1, 9, 1, 8)) for x in jax.random.normal(jax.random.key(1), (2, 8)))
    products = np.asarray(jnp.einsum("bqhd,bkhd->bqk", rotated(q), rotated(k))[0])
    np.testing.assert_allclose(products[1:, 1:], products[:-1, :-1], rtol=1e-5, atol=1e-5)


def test_the_text_is_split_by_file_and_always_the_same():
    text, again = (standard_library(limit=20_000) for _ in range(2))
    assert (len(text.train), len(text.validation)) == (20_000, 2_000)
    np.testing.assert_array_equal(text.train, again.train)
    assert text.validation[:64].tobytes() not in text.train.tobytes()
