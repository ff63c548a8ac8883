"""Bad input gets an error at once that names the value, the leaf and the cure."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx

PARAMS = {"layer": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adamx.adam(1e-3, b1=1.0), r"b1 = 1\.0 is outside \[0, 1\)"),
        (lambda: adamx.adam(1e-3, b2=-0.1), r"b2 = -0\.1 is outside \[0, 1\)"),
        (lambda: adamx.adam(1e-3, b2=float("nan")), r"b2 = nan is outside"),
        (lambda: adamx.adam(1e-3, b2=jnp.float32(1.5)), r"b2 = 1\.5 is outside"),
        (lambda: adamx.adam(1e-3, eps=-1e-8), r"eps = -1e-08 is outside \[0, inf\)"),
        (lambda: adamx.adam(-1e-3), r"learning_rate = -0\.001 is outside"),
        (lambda: adamx.adam(float("inf")), r"learning_rate = inf is outside"),
        (lambda: adamx.adamw(1e-3, weight_decay=-1.0), r"weight_decay = -1\.0 is outside"),
        (lambda: adamx.adamw(1e-3, decay="decopled"), r"decay = 'decopled': did you mean 'decoupled'\?"),
        (lambda: adamx.adamw(1e-3, decay=None), r"decay = None: choose from 'l2'"),
        (lambda: adamx.adamw(lambda _: 1e-3, decay="independent"), r"give lr_max="),
        (lambda: adamx.adamw(0.0, decay="independent"), r"it should be positive"),
        (lambda: adamx.adamw(0.1, decay="independent", lr_max=0.01), r"learning_rate = 0\.1 exceeds lr_max = 0\.01"),
        (lambda: adamx.adamw(0.1, lr_max=0.1), r"lr_max = 0\.1 belongs to decay='independent'"),
        (lambda: adamx.amsgrad(1e-3, max_of="row"), r"max_of = 'row': did you mean 'raw'"),
        (lambda: adamx.radam(1e-3, unrectified="skp"), r"did you mean 'skip'"),
        (lambda: adamx.cadamw(1e-3, normalisation="men"), r"did you mean 'mean'"),
        (lambda: adamx.nadam(1e-3, eps_root=1e-8, momentum_decay=4e-3), r"has no eps_root"),
        (lambda: adamx.lookahead(sync_period=0), r"sync_period = 0 should be a positive whole number"),
        (lambda: adamx.lookahead(sync_period=True), r"sync_period = True should be a positive whole number"),
        (lambda: adamx.schedule_free_sgd(warmup_steps=True), r"warmup_steps = True should be a number of steps"),
        (lambda: adamx.schedule_free_sgd(state_dtype=jnp.int8), r"state_dtype = .*int8.* is not a real floating dtype"),
        (lambda: adamx.averaging(None, debias=False), r"debias=False is of an exponential average: give its decay"),
        (lambda: adamx.scale_by_lion(mode="smoth"), r"mode = 'smoth': did you mean 'smooth'"),
        (lambda: adamx.adopt(1e-3, clip_value_fn=-1.0), r"clip_value_fn = -1\.0 is outside"),
        (
            lambda: adamx.optimizer(adamx.NovoGrad(), 1e-3, complex_parts="apart"),
            r"complex_parts='apart' splits elements",
        ),
        (lambda: adamx.scale_by(adamx.Adam(), complex_parts="appart"), r"did you mean 'apart'"),
        (lambda: adamx.schedule_free_sgd(lambda _: 1e-3, warmup_steps=3), r"warmup_steps or a schedule"),
        (lambda: adamx.optimizer(adamx.AMSGrad(max_of="max"), 1e-3), r"max_of = 'max': choose from 'corrected', 'raw'"),
        (
            lambda: adamx.optimizer(adamx.ClippedByRMS(adamx.Adam(), 0.0), 1e-3),
            r"threshold = 0\.0 is outside \(0, inf\)",
        ),
        (lambda: adamx.schedule_free_sgd(b1=0.0), r"b1 = 0\.0 is outside \(0, 1\)"),
        (lambda: adamx.adam_mini(1e-3, keep=(5,)).init(jnp.ones((2, 2))), r"keep = \(5,\) names an axis .* 2 axes"),
        (lambda: adamx.preset("torch", "adam"), r"did you mean 'pytorch' or 'torch7'\?"),
        (lambda: adamx.schedule_free_eval_params({}, {}), r"holds no schedule-free optimizer"),
        (lambda: adamx.describe("adopd"), r"optimizer = 'adopd': did you mean 'adopt'"),
        (lambda: adamx.adam(1e-3, mu_dtype=jnp.int8), r"mu_dtype = .*int8.* is not a real floating dtype"),
        (lambda: adamx.adam(1e-3, mu_dtype="fast"), r"mu_dtype = 'fast' is not a real floating dtype"),
        (lambda: adamx.schedules.inverse_sqrt(1.0, every=float("inf")), r"every = inf should be a positive whole"),
        (lambda: adamx.schedules.ademamix_b3(1.0, 0.9, 10), r"b3 = 1\.0 is outside \(0, 1\)"),
        (lambda: adamx.adam(jnp.ones(3)), r"learning_rate.*shape \(3,\).*vmap"),
        (lambda: adamx.averaging(1.0), r"decay = 1\.0 is outside \[0, 1\)"),
        (lambda: adamx.scale_by(adamx.BiasCorrection(0.9, 2.0)), r"b2 = 2\.0 is outside"),
        (lambda: adamx.scale_by(Slotless(), mu_dtype=jnp.bfloat16), r"keeps no `mu`"),
        (lambda: adamx.schedules.inverse_sqrt(-1.0), r"alpha = -1\.0 is outside"),
        (lambda: adamx.schedules.inverse_sqrt(1.0, every=True), r"every = True should be a positive whole number"),
        (lambda: adamx.schedules.inverse_sqrt(1.0, every=0), r"every = 0 should be a positive whole number"),
        (lambda: adamx.schedules.decayed_beta(1.0, 0.9), r"b1 = 1\.0 is outside"),
        (lambda: adamx.schedules.decayed_beta(0.9, 1.1), r"decay = 1\.1 is outside \(0, 1\]"),
    ],
)
def test_a_value_out_of_range_is_refused_when_the_optimizer_is_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Slotless(adamx.Rule[tuple[()]]):
    def step(self, g, s, at):
        return g, s


class WrongShape(adamx.Rule[tuple[()]]):
    def step(self, g, s, at):
        return g.sum(), s


class Unfinished(adamx.Rule[tuple[()]]):
    pass


@pytest.mark.parametrize("value", ["fast", None, [1e-3]])
def test_a_learning_rate_that_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"learning_rate = .* should be a number, an array of shape"):
        adamx.adam(value)


def step_with(**options):
    opt, p = adamx.adam(1e-3), jnp.ones(2)
    return opt.step(p, opt.init(p), p, **options)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda flag: adamx.adam(flag), "learning_rate"),
        (lambda flag: adamx.adam(1e-3, b1=flag), "b1"),
        (lambda flag: adamx.adam(1e-3, b2=flag), "b2"),
        (lambda flag: adamx.adam(1e-3, eps=flag), "eps"),
        (lambda flag: adamx.adamw(1e-3, weight_decay=flag), "weight_decay"),
        (lambda flag: adamx.adamw(1e-3, decay="independent", lr_max=flag or 2), "lr_max"),
        (lambda flag: adamx.averaging(flag), "decay"),
        (lambda flag: adamx.preset("pytorch", "adam", lr=flag), "learning_rate"),
        (lambda flag: adamx.preset("pytorch", "adam", betas=(flag, 0.9)), "b1"),
        (lambda flag: adamx.schedules.inverse_sqrt(flag), "alpha"),
        (lambda flag: adamx.schedules.decayed_beta(0.9, flag), "decay"),
        (lambda flag: step_with(clip_norm=flag), "clip_norm"),
        (lambda flag: step_with(grad_scale=flag), "grad_scale"),
    ],
)
def test_a_boolean_is_no_number(make, name):
    flags = (True,) if name == "lr_max" else (True, False)
    for flag in flags:
        with pytest.raises(TypeError, match=rf"{name} = {flag} should be a number"):
            make(flag)


def test_a_schedule_of_booleans_is_refused():
    opt = adamx.adam(lambda _: True)
    with pytest.raises(TypeError, match="learning_rate = True should be a number"):
        opt.update(PARAMS, opt.init(PARAMS), PARAMS)


def test_maximize_is_yes_or_no():
    with pytest.raises(TypeError, match=r"maximize = 1\.0 should be True or False"):
        adamx.preset("pytorch", "adam", maximize=1.0)


def test_a_rule_without_a_step_is_named():
    opt = adamx.scale_by(Unfinished())
    with pytest.raises(TypeError, match="Unfinished defines no `step"):
        opt.update(PARAMS, opt.init(PARAMS))


@pytest.mark.parametrize(
    "make",
    [
        lambda: adamx.schedule_free_sgd(b1=lambda _: 0.9),
        lambda: adamx.prodigy(estim_lr0=lambda _: 1e-6),
        lambda: adamx.adagrad(1e-3, initial_accumulator_value=lambda _: 0.1),
        lambda: adamx.rmsprop(1e-3, initial_scale=lambda _: 0.1),
    ],
)
def test_what_is_the_same_at_all_steps_takes_no_schedule(make):
    with pytest.raises(TypeError, match="is the same at all steps and cannot follow a schedule"):
        make()


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (adamx.came, "min_dim_size_to_factor"),
        (adamx.adafactor, "min_dim_size_to_factor"),
        (adamx.adamx, "b1"),
        (adamx.lookahead, "sync_period"),
    ],
)
def test_arguments_that_select_code_are_refused_as_arrays_with_the_cure(factory, name):
    """optax.inject_hyperparams makes an array of every number that it is not told of."""
    with pytest.raises(TypeError, match=rf"{name} selects code.*static_args=\('{name}',\)"):
        optax.inject_hyperparams(factory)(*([1e-2] if factory is not adamx.lookahead else [])).init(PARAMS)


def test_lookahead_says_what_it_is_put_around():
    with pytest.raises(TypeError, match=r"fast_optimizer = 5 is no gradient transformation.*sync_period=5"):
        adamx.lookahead(5, 0.5)
    with pytest.raises(ValueError, match="reset_state begins the fast optimizer anew: give it"):
        adamx.lookahead(reset_state=True)
    with pytest.raises(ValueError, match="weights='split8' keeps what rounding took beside the weights"):
        adamx.lookahead(adamx.adam(1e-3, weights="split8"))
    with pytest.raises(TypeError, match=r"LookaheadParams, but .* give the fast ones alone, params\.fast"):
        adamx.lookahead(adamx.adam(1e-3)).init(optax.LookaheadParams.init_synced(PARAMS))


@pytest.mark.parametrize("build", [adamx.scale_by, lambda rule: adamx.optimizer(rule, 1e-3)])
@pytest.mark.parametrize("rule", [adamx.Adam, 1e-3, "adam"])
def test_what_is_no_rule_is_refused(build, rule):
    with pytest.raises(TypeError, match=r"is not a rule: give an instance, such as adamx\.Adam\(b1=0\.9\)"):
        build(rule)


def test_a_direction_of_another_shape_is_refused():
    opt = adamx.scale_by(WrongShape())
    with pytest.raises(ValueError, match=r"WrongShape\.step gave a direction of shape \(\) for grads\['w'\]: .*\(2,\)"):
        opt.update({"w": jnp.ones(2)}, opt.init({"w": jnp.ones(2)}))


def test_a_state_that_is_none_is_named():
    opt = adamx.adam(1e-3)
    with pytest.raises(TypeError, match=r"dict is not a state from `init\(params\)`: .* \(grads, state, params\)"):
        opt.update(PARAMS, PARAMS)
    with pytest.raises(
        TypeError, match=r"NoneType is not a state from `init\(params\)`: the order is step\(params, state"
    ):
        adamx.step_in_backward(opt, len)(PARAMS, None)


@pytest.mark.parametrize(
    ("wrap", "word", "message"),
    [
        (lambda opt: opt, "weights", "did you mean 'weight'"),
        (lambda opt: adamx.accumulate(opt, 2), "weights", "did you mean 'weight'"),
        (lambda opt: opt, "weight", r"does not read weight: wrap it in adamx\.accumulate"),
        (adamx.guard, "los", "did you mean 'loss'"),
        (lambda opt: opt, "loss", r"does not read loss: wrap it in adamx\.guard"),
        (adamx.guard, "max_norm", "does not read max_norm: give clip_norm"),
    ],
)
def test_a_keyword_that_a_wrapper_would_read_is_told_which(wrap, word, message):
    opt = wrap(adamx.adam(1e-3))
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(lambda p: opt.step(p, opt.init(p), p, **{word: 1.0}), PARAMS)


@pytest.mark.parametrize(
    "make",
    [
        lambda number: adamx.live("decay", number),
        lambda number: adamx.averaged(adamx.adam(1e-3), decay=number),
        lambda number: step_with(learning_rate=number),
    ],
)
def test_a_schedule_where_none_is_followed_is_told_so(make):
    for number in (optax.constant_schedule(0.5), adamx.live("decay", 0.5)):
        with pytest.raises(TypeError, match="should be a number: it follows no schedule here"):
            make(number)


def test_live_numbers_are_in_place_of_injected_ones():
    injected = optax.inject_hyperparams(adamx.adam)(adamx.live("learning_rate", 0.1))
    with pytest.raises(LookupError, match=r"in place of optax\.inject_hyperparams: leave that out"):
        injected.init(PARAMS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: adamx.guard(adamx.adam(1e-3).init(PARAMS)),
        lambda: adamx.guard(adamx.adamw),
        lambda: adamx.by_path([("bias", adamx.adam(1e-3))]),
        lambda: adamx.explain(PARAMS, adamx.adam(1e-3)),
    ],
)
def test_what_is_in_the_place_of_an_optimizer_is_named_in_a_few_lines(make):
    with pytest.raises(TypeError, match=r"State is not|adamw is not|Adam\(b1=0\.9|dict is not") as error:
        make()
    assert len(str(error.value)) < 500


def test_an_optimizer_prints_its_numbers_and_wrappers():
    opt = adamx.guard(adamx.averaged(adamx.adamw(adamx.live("rate", 0.1), b2=0.95, mask=PARAMS)))
    told = repr(opt)
    assert all(word in told for word in ("Guard(", "window=128", "Averaged(", "b2=0.95", "live('rate', 0.1)"))
    assert len(told) < 1000


def test_a_state_of_other_schedules_is_refused():
    constant, scheduled = adamx.adam(1e-3), adamx.adam(1e-3, b1=lambda _: 0.9)
    with pytest.raises(ValueError, match=r"is of schedules of \[\], the optimizer of \['rule\.b1'\]"):
        scheduled.update(PARAMS, constant.init(PARAMS))


@pytest.mark.parametrize(("leaf", "kind"), [(jax.nn.relu, "custom_jvp"), ("relu", "str"), (object(), "object")])
def test_leaves_that_are_no_arrays_are_refused_by_path(leaf, kind):
    with pytest.raises(TypeError, match=rf"params\['act'\] is .*{kind}.*None in its place"):
        adamx.adam(1e-3).init({"act": leaf, "w": jnp.ones(2)})


@pytest.mark.parametrize(("g", "p"), [(jnp.complex64, jnp.float32), (jnp.float32, jnp.complex64)])
def test_complex_gradients_of_real_parameters_and_the_reverse_are_refused(g, p):
    opt, params = adamx.adam(1e-3), {"w": jnp.ones(2, p)}
    with pytest.raises(TypeError, match=r"grads\['w'\] is (complex|real), its parameter (real|complex)"):
        opt.update({"w": jnp.ones(2, g)}, opt.init(params), params)


def test_a_complex_hyperparameter_is_refused():
    with pytest.raises(TypeError, match=r"b1 = .* should be a number"):
        adamx.adam(1e-3, b1=jnp.asarray(0.9 + 0j))


@pytest.mark.parametrize("value", ["no", 0.5, jnp.ones(2, bool)])
def test_a_mask_of_something_else_than_booleans_is_refused_by_path(value):
    with pytest.raises(TypeError, match=r"mask\['layer'\] = .* should be True or False"):
        adamx.adamw(1e-3, mask={"layer": value}).init(PARAMS)


def test_a_mask_that_covers_another_group_is_no_mistake():
    params, mask = {"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": True, "b": False}
    only_b = optax.masked(adamx.adamw(0.1, mask=mask), {"a": False, "b": True})
    updates, _ = only_b.update(params, only_b.init(params), params)
    np.testing.assert_allclose(updates["b"], -0.1, rtol=1e-6)


def test_a_schedules_value_of_too_few_digits_is_refused():
    opt = adamx.adam(1e-3, b2=lambda _: jnp.bfloat16(0.999))
    with pytest.raises(TypeError, match="b2 arrives as bfloat16"):
        opt.update(PARAMS, opt.init(PARAMS), PARAMS)


def test_bfloat16_hyperparameters_are_refused_with_the_cure():
    """optax.inject_hyperparams stores b2 = .999 as bfloat16 1.0 when all parameters are bfloat16."""
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    with pytest.raises(TypeError, match=r"arrives as bfloat16.*hyperparam_dtype=jnp\.float32"):
        optax.inject_hyperparams(adamx.adam)(learning_rate=1e-3).init(params)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_leaves_of_too_few_digits_to_add_up_are_refused_by_path(dtype):
    opt, cure = adamx.adam(1e-3), rf"in bfloat16 or wider, and cast them to {dtype} where they are multiplied"
    for leaf in (jnp.ones(2, dtype), jax.ShapeDtypeStruct((2,), jnp.dtype(dtype))):
        with pytest.raises(TypeError, match=rf"params\['layer'\]\['w'\] is {dtype}, .*{cure}"):
            opt.init({"layer": {"w": leaf, "b": jnp.ones(2)}})
    with pytest.raises(TypeError, match=rf"grads\['w'\] is {dtype}"):
        opt.update({"w": jnp.ones(2, dtype)}, opt.init({"w": jnp.ones(2)}))


@pytest.mark.parametrize(
    "leaf",
    [jnp.arange(3), np.array([True]), jnp.zeros(2, jnp.uint8), jnp.zeros(2, jnp.int4), jnp.zeros(2, jnp.uint4)],
)
def test_integer_leaves_are_refused_by_path(leaf):
    with pytest.raises(TypeError, match=r"params\['layer'\]\['step'\] is \w+, .*optax\.masked"):
        adamx.adam(1e-3).init({"layer": {"step": leaf, "kernel": jnp.ones(2)}})


def test_integer_gradients_are_refused_by_path():
    opt, params = adamx.adam(1e-3), {"w": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"grads\['w'\] is int32"):
        opt.update({"w": jnp.ones(2, jnp.int32)}, opt.init(params), params)


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({"layer": {"kernel": jnp.ones((2, 2))}}, r"state\['layer'\]\['bias'\] has no counterpart in the gradients"),
        (
            {"layer": {**PARAMS["layer"], "extra": jnp.ones(1)}},
            r"gradients\['layer'\]\['extra'\] has no counterpart in the state",
        ),
        (
            {"layer": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(2)}},
            r"grads\['layer'\]\['kernel'\] has shape \(2, 3\), its parameter \(2, 2\)",
        ),
        ({"layer": [jnp.ones(2), jnp.ones((2, 2))]}, r"gradients\['layer'\]\[0\] has no counterpart"),
        ({}, "None for those of frozen leaves"),
    ],
)
def test_gradients_that_do_not_match_are_refused_by_path(grads, message):
    opt = adamx.adam(1e-3)
    with pytest.raises(ValueError, match=message):
        opt.update(grads, opt.init(PARAMS), PARAMS)


def test_gradients_of_another_shape_are_refused_without_parameters_too():
    opt = adamx.adam(1e-3)
    with pytest.raises(ValueError, match=r"grads\['w'\] has shape \(3,\), but mu of its state has \(2,\)"):
        opt.update({"w": jnp.ones(3)}, opt.init({"w": jnp.ones(2)}))


def test_a_gradient_where_no_parameter_was_is_refused():
    opt = adamx.adam(1e-3)
    with pytest.raises(ValueError, match=r"grads\['w'\] is an array where `init` was given None"):
        opt.update({"w": jnp.ones(3)}, opt.init({"w": None}))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"layer": False}, r"the mask covers none of the 2 leaves, the first being params\['layer'\]\['bias'\]"),
        ({"layer": {"kernel": True}}, r"has no value for params\['layer'\]\['bias'\]"),
        (lambda params: jax.tree.map(lambda x: x.ndim > 2, params), r"the mask covers none"),
    ],
)
def test_a_mask_that_covers_nothing_or_misses_a_leaf_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        adamx.adamw(1e-3, mask=mask).init(PARAMS)


def test_decay_without_parameters_is_refused():
    opt = adamx.adamw(1e-3)
    with pytest.raises(ValueError, match=r"call `update\(grads, state, params\)`"):
        opt.update(PARAMS, opt.init(PARAMS))
