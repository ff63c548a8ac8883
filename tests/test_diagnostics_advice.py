"""Advice on ε, β2 and the step size is right where the right answer is known, and says why."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx.diagnostics import half_life, lr_range_test, suggest_b2, suggest_eps

SIZES = {"w": jnp.asarray(10.0 ** np.linspace(-12, -6, 6001), jnp.float32)}


def test_an_eps_that_dominates_few_weights_is_kept():
    advice = suggest_eps({"w": 10.0 ** jnp.linspace(-6, -1, 1000)})
    assert advice.eps == 1e-8 and "too few to matter" in advice.reason
    assert suggest_eps({"w": 10.0 ** jnp.linspace(-6, -1, 1000)}, adamx.adam(1e-3, eps=1e-7)).eps == 1e-7


def test_an_eps_that_dominates_is_lowered_until_it_does_not():
    advice = suggest_eps(SIZES)
    assert advice.dominated[1e-8] == pytest.approx(4 / 6, abs=1e-3)
    assert advice.eps == 1e-12 and "dominates 66.7 %" in advice.reason
    assert advice.search == (1e-12, pytest.approx(1e-9))
    assert advice.quantiles[0.5] == pytest.approx(1e-9, rel=0.01)


def test_sizes_are_those_of_the_second_moment_without_its_bias():
    opt = adamx.adam(1e-3, eps=1e-10)
    params = {"w": jnp.zeros(6001)}
    _, state = opt.step(SIZES, opt.init(params), params)
    for found in (
        suggest_eps(state, opt),
        suggest_eps(optax.chain(opt).init(params)[0]._replace(**state._asdict()), opt),
    ):
        # After one step the corrected second moment is the gradient's square.
        assert found.quantiles == pytest.approx(suggest_eps(SIZES).quantiles, rel=1e-4)
        assert "present 1e-10" in found.reason


def test_each_group_has_its_own_numbers():
    """Or the decay rate of others would correct its second moment, and the ε of others dominate it."""
    groups = [adamx.Group("head", b2=0.5, eps=1e-3), adamx.Group(lambda path, _: path == "still", frozen=True)]
    opt, sizes = adamx.adam(1e-3, eps=1e-20, groups=groups), jnp.asarray([1e-6, 1e-5, 1e-4, 1e-2])
    grads = {"body": sizes, "head": sizes, "still": sizes}
    _, state = opt.step(grads, opt.init(grads), grads)
    told, wanted = suggest_eps(state, opt, params=grads), suggest_eps([sizes, sizes])
    assert told.quantiles == pytest.approx(wanted.quantiles, rel=1e-4)
    assert "present 1e-20 and 1e-03 dominates 37.5 %" in told.reason
    assert "present 1e-20 and 1e-03 dominates" in suggest_eps(grads, opt).reason


@pytest.mark.parametrize("moments", ["bfloat16", "int8"])
def test_coded_moments_are_decoded(moments):
    params = {"w": jnp.zeros((64, 128))}
    grads = {"w": jnp.asarray(10.0 ** np.random.default_rng(0).uniform(-6, -2, (64, 128)), jnp.float32)}
    opt = adamx.adam(1e-3, moments=moments)
    _, state = opt.step(grads, opt.init(params), params)
    found = suggest_eps(state, opt, params=params)
    assert found.quantiles == pytest.approx(suggest_eps(grads).quantiles, rel=0.1)
    with pytest.raises(ValueError, match="are coded"):
        suggest_eps(state, opt)


def test_zeros_and_infinities_are_left_out_and_told():
    found = suggest_eps({"w": jnp.asarray([0.0, 0.0, jnp.inf, 1e-3, 1e-3, 1e-3])})
    assert found.zeros == 0.5 and found.dominated[1e-4] == 0


def test_advice_is_read_as_text():
    assert str(suggest_eps(SIZES)).startswith("eps = 1e-12: the present 1e-08 dominates")
    assert str(suggest_b2(1, 1000)).startswith("b2 = 0.999307: a half-life of 1000 tokens is 1000 steps of 1")


def test_a_gradient_weighs_half_after_the_half_life():
    advice = suggest_b2(batch=4096, tokens=1e6)
    assert advice.b2**advice.steps == pytest.approx(0.5, rel=1e-9)
    assert advice.window == pytest.approx(1 / (1 - advice.b2), rel=1e-9)
    assert suggest_b2(512, half_life(0.95, 512)).b2 == pytest.approx(0.95, rel=1e-12)
    assert suggest_b2(256, half_life(0.95, 512)).b2 == pytest.approx(0.95**0.5, rel=1e-12)


def test_a_pair_whose_steps_have_no_bound_is_named():
    assert "take b1 below 0.707" in suggest_b2(1000, 1000).reason
    assert "But" not in suggest_b2(1000, 1000, b1=0.5).reason


X = jnp.asarray(np.random.default_rng(0).standard_normal((8, 32, 5)), jnp.float32)
W = jnp.linspace(-1.0, 1.0, 5)


def quadratic(w, batch):
    return jnp.mean((batch @ (w - W)) ** 2)


@pytest.mark.parametrize("make", [optax.sgd, lambda rate: adamx.adam(rate)], ids=["sgd", "adam"])
def test_the_advised_step_size_trains_and_the_largest_does_not(make):
    found = lr_range_test(quadratic, jnp.zeros(5), X, make, high=100.0)
    assert found.steps[0] == pytest.approx(1e-6) and found.losses.shape == found.smoothed.shape == found.steps.shape

    def trained(rate):
        opt = make(rate)

        def body(i, carry):
            w, state = carry
            updates, state = opt.update(jax.grad(quadratic)(w, X[i % 8]), state, w)
            return w + updates, state

        w, _ = jax.lax.fori_loop(0, 40, body, (jnp.zeros(5), opt.init(jnp.zeros(5))))
        return quadratic(w, X[0])

    advised, least, largest = map(jax.jit(trained), (found.lr, found.lr / 100, float(found.steps[-1])))
    assert advised < 0.3 * least
    assert not largest < advised


def test_batches_from_an_iterator_and_stacked_ones_give_the_same():
    stacked = lr_range_test(quadratic, jnp.zeros(5), X, adamx.adam, steps=40)
    drawn = lr_range_test(quadratic, jnp.zeros(5), (X[i % 8] for i in range(40)), adamx.adam, steps=40)
    np.testing.assert_allclose(stacked.losses, drawn.losses, rtol=1e-5)


def test_an_optimizer_is_taken_apart_for_its_step_size():
    by_name = lr_range_test(quadratic, jnp.zeros(5), X, lambda rate: adamx.adamw(rate, b1=0.5), steps=40)
    itself = lr_range_test(quadratic, jnp.zeros(5), X, adamx.adamw(123.0, b1=0.5), steps=40)
    np.testing.assert_array_equal(by_name.losses, itself.losses)


def test_batches_that_differ_by_chance_do_not_pass_for_a_slope():
    chance = jnp.asarray(1 + np.random.default_rng(0).uniform(-0.5, 0.5, 200), jnp.float32)

    def noisy(w, batch):
        return chance.mean() * batch[1] * jnp.sum((w - W) ** 2)

    data = (X[jnp.arange(200) % 8], chance)
    quiet = lr_range_test(noisy, jnp.zeros(5), (data[0], jnp.ones(200)), adamx.adam, high=10.0)
    loud = lr_range_test(noisy, jnp.zeros(5), data, adamx.adam, high=10.0)
    assert quiet.lr / 4 < loud.lr < 4 * quiet.lr


def test_a_loss_that_never_falls_is_said():
    found = lr_range_test(lambda w, batch: -quadratic(w, batch) * 0 + jnp.sum(w) * 0 + 1, jnp.zeros(5), X, adamx.adam)
    assert "fell at none" in found.reason and found.lr == found.steps[0]


def test_the_picture_is_opaque(tmp_path):
    from matplotlib.image import imread

    found = lr_range_test(quadratic, jnp.zeros(5), X, adamx.adam, high=10.0)
    found.plot(tmp_path / "lr.png")
    picture = imread(tmp_path / "lr.png")
    assert picture.shape[:2] == (750, 1200) and (picture[..., -1] == 1).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: suggest_eps({"w": jnp.zeros(3)}), ValueError, "of 3 sizes none is finite and above 0"),
        (lambda: suggest_eps(adamx.adam(1.0).init(SIZES)), ValueError, r"call suggest_eps\(state, opt\)"),
        (lambda: suggest_eps(SIZES, adamx.lion(1.0)), TypeError, "no second moment with an eps"),
        (lambda: suggest_b2(0, 10), ValueError, "batch = 0 is outside"),
        (lambda: half_life(1.0, 10), ValueError, r"b2 = 1\.0 is outside"),
        (lambda: lr_range_test(quadratic, W, X, adamx.adam, low=1.0, high=0.1), ValueError, "0 < low < high"),
        (lambda: lr_range_test(quadratic, W, X, adamx.adam, steps=3), ValueError, "steps = 3 should be at least 10"),
        (lambda: lr_range_test(quadratic, W, X, optax.sgd(1.0)), TypeError, "hides its step size"),
        (lambda: lr_range_test(quadratic, W, X, adamx.scale_by_adam()), TypeError, "has no step size to replace"),
        (lambda: lr_range_test(quadratic, W, (X, jnp.zeros(3)), adamx.adam), ValueError, "counts the batches"),
        (lambda: lr_range_test(quadratic, W, iter([X[0]] * 3), adamx.adam), ValueError, "only 3 finite losses"),
    ],
)
def test_mistakes_are_named_with_their_cure(call, error, message):
    with pytest.raises(error, match=message):
        call()
