"""Presets follow the packages that they are named for, weight by weight, in float64."""

import functools
import inspect
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx import presets
from adamx.presets import preset
from tests.following import STEPS, assert_follows, follow, start, stream
from tests.helpers import jitted_in_float64, product


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[test]'")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # otherwise NAdam multiplies its momenta in float32
    yield torch
    torch.set_default_dtype(before)


def torch_trajectory(torch, make):
    params = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in start().items()}
    opt = make(params.values())
    grads = {name: torch.tensor(g) for name, g in stream().items()}
    taken = {name: [] for name in params}
    for t in range(STEPS):
        for name, p in params.items():
            p.grad = grads[name][t]
        opt.step()
        for name, p in params.items():
            taken[name].append(p.detach().numpy().copy())
    return {name: np.stack(ps) for name, ps in taken.items()}


TORCH = {
    "adam": ("adam", "Adam", {}),
    "adam_tuned": ("adam", "Adam", dict(lr=0.03, betas=(0.8, 0.95), eps=1e-4)),
    "adam_l2": ("adam", "Adam", dict(weight_decay=0.1)),
    "adam_decoupled": ("adam", "Adam", dict(weight_decay=0.1, decoupled_weight_decay=True)),
    "adam_without_momentum": ("adam", "Adam", dict(betas=(0.0, 0.999))),
    "adamw": ("adamw", "AdamW", {}),
    "adamw_amsgrad": ("adamw", "AdamW", dict(amsgrad=True, weight_decay=0.1)),
    "amsgrad": ("amsgrad", "Adam", dict(amsgrad=True)),
    "amsgrad_l2": ("adam", "Adam", dict(amsgrad=True, weight_decay=0.1)),
    "adamax": ("adamax", "Adamax", {}),
    "adamax_l2": ("adamax", "Adamax", dict(weight_decay=0.1, eps=1e-3)),
    "nadam": ("nadam", "NAdam", {}),
    "nadam_l2": ("nadam", "NAdam", dict(weight_decay=0.1, momentum_decay=0.1)),
    "nadam_decoupled": ("nadam", "NAdam", dict(weight_decay=0.1, decoupled_weight_decay=True)),
    "radam": ("radam", "RAdam", {}),
    "radam_short": ("radam", "RAdam", dict(betas=(0.9, 0.9), weight_decay=0.1)),
    "radam_decoupled": ("radam", "RAdam", dict(weight_decay=0.1, decoupled_weight_decay=True)),
    "adagrad": ("adagrad", "Adagrad", {}),
    "adagrad_options": (
        "adagrad",
        "Adagrad",
        dict(lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.1, eps=1e-4),
    ),
    "rmsprop": ("rmsprop", "RMSprop", {}),
    "rmsprop_momentum": ("rmsprop", "RMSprop", dict(momentum=0.9, weight_decay=0.1)),
    "rmsprop_centered": ("rmsprop", "RMSprop", dict(centered=True, alpha=0.9)),
    "rmsprop_both": ("rmsprop", "RMSprop", dict(centered=True, momentum=0.5)),
    "adadelta": ("adadelta", "Adadelta", {}),
    "adadelta_options": ("adadelta", "Adadelta", dict(lr=0.5, rho=0.8, eps=1e-4, weight_decay=0.1)),
    "adafactor": ("adafactor", "Adafactor", {}),
    "adafactor_options": (
        "adafactor",
        "Adafactor",
        dict(lr=0.5, beta2_decay=-0.5, eps=(1e-5, 1e-2), d=1.5, weight_decay=0.1),
    ),
}


CONTAINED = {"adam_l2", "amsgrad"}
"""What amsgrad_l2 and adamw_amsgrad do, too."""


def hardest(cases):
    """By name; those with arguments stand for those of defaults, which test_presets.py reads of every package."""
    also = {theirs for _, theirs, arguments in cases.values() if arguments}

    def stands(name, theirs, arguments):
        return name not in CONTAINED and (arguments or theirs not in also)

    return [
        pytest.param(ours, theirs, arguments, id=name, marks=() if stands(name, theirs, arguments) else product)
        for name, (ours, theirs, arguments) in cases.items()
    ]


@pytest.mark.parametrize(("ours", "theirs", "arguments"), hardest(TORCH))
def test_pytorch_trajectories(ours, theirs, arguments, torch, x64):
    reference = torch_trajectory(torch, lambda params: getattr(torch.optim, theirs)(params, **arguments))
    assert_follows(follow(preset("pytorch", ours, **arguments)), reference)


COMPLEX = {name: TORCH[name] for name in TORCH if not name.startswith("adafactor")}


def complex_run():
    """Complex weights of two shapes and a real one beside them, and 20 gradients of each."""
    rng = np.random.default_rng(3)

    def draw(*shape):
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    params = {"scalar": np.array(0.3 - 0.2j), "matrix": draw(3, 4), "real": rng.standard_normal(5)}
    scales = {name: 10 ** rng.uniform(-3, 2, p.shape) for name, p in params.items()}
    grads = {"scalar": draw(20), "matrix": draw(20, 3, 4), "real": rng.standard_normal((20, 5))}
    return params, {name: g * scales[name] for name, g in grads.items()}


@pytest.mark.parametrize("maximize", [pytest.param(False, marks=pytest.mark.product), True])
@pytest.mark.parametrize(("ours", "theirs", "arguments"), hardest(COMPLEX))
def test_pytorch_steps_real_and_imaginary_parts_apart_and_climbs(ours, theirs, arguments, maximize, torch, x64):
    """Of Adafactor PyTorch refuses complex weights. The state is as complex as its weights, as PyTorch's is."""
    params, grads = complex_run()
    weights = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params.items()}
    reference = getattr(torch.optim, theirs)(weights.values(), **arguments, maximize=maximize)
    opt = preset("pytorch", ours, **arguments, maximize=maximize)
    p = jax.tree.map(jnp.asarray, params)
    state, step = opt.init(p), jitted_in_float64(opt.step)
    for t in range(20):
        for name, weight in weights.items():
            weight.grad = torch.tensor(grads[name][t])
        reference.step()
        p, state = step({name: jnp.asarray(g[t]) for name, g in grads.items()}, state, p)
        for name, weight in weights.items():
            np.testing.assert_allclose(p[name], weight.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_pytorchs_adafactor_takes_no_complex_weights_and_climbs(torch, x64):
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.complex128))
    weight.grad = torch.ones(2, dtype=torch.complex128)
    with pytest.raises(RuntimeError, match="does not support complex"):
        torch.optim.Adafactor([weight]).step()
    reference = torch_trajectory(torch, lambda params: torch.optim.Adafactor(params, maximize=True))
    assert_follows(follow(preset("pytorch", "adafactor", maximize=True)), reference)


def test_pytorch_schedules_are_functions_of_the_finished_steps(torch, x64):
    """RMSprop's momentum gathers directions, which the step size of the day scales."""

    def make(params):
        opt = torch.optim.RMSprop(params, lr=0.5, momentum=0.9, weight_decay=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: 1 / (1 + 0.3 * t))
        opt.register_step_post_hook(lambda *_: scheduler.step())
        return opt

    ours = preset("pytorch", "rmsprop", lr=lambda t: 0.5 / (1 + 0.3 * t.astype(float)), momentum=0.9, weight_decay=0.1)
    assert_follows(follow(ours), torch_trajectory(torch, make))


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    keras = pytest.importorskip("keras", reason="keras is not installed: pip install '.[test]'")
    if keras.backend.backend() != "jax":
        pytest.skip(f"keras is on its {keras.backend.backend()} backend")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")  # of its learning-rate variable
    yield keras
    keras.config.set_floatx(before)


@pytest.fixture
def means_in_float64(keras, monkeypatch):
    """Keras takes every mean in float32, also of float64 (`ops.mean`); only its Adafactor takes any."""

    def mean(x, axis=None, keepdims=False):
        return jnp.mean(keras.ops.convert_to_tensor(x), axis=axis, keepdims=keepdims)

    monkeypatch.setattr("keras.src.ops.mean", mean)


def keras_trajectory(keras, make):
    names = list(start())
    variables = [keras.Variable(p, dtype="float64") for p in start().values()]
    opt = make()
    opt.build(variables)
    grads = [jnp.asarray(g) for g in stream().values()]

    def body(carry, g):
        params, state = opt.stateless_apply(carry[1], g, carry[0])
        return (params, state), params

    carry = [v.value for v in variables], [v.value for v in opt.variables]
    taken = jitted_in_float64(lambda carry: jax.lax.scan(body, carry, grads)[1])(carry)
    return dict(zip(names, taken, strict=True))


KERAS = {
    "adam": ("adam", "Adam", {}),
    "adam_tuned": ("adam", "Adam", dict(learning_rate=0.03, beta_1=0.8, beta_2=0.95, epsilon=1e-4, weight_decay=0.1)),
    "adamw": ("adamw", "AdamW", {}),
    "amsgrad": ("amsgrad", "Adam", dict(amsgrad=True)),
    "adamw_amsgrad": ("adamw", "AdamW", dict(amsgrad=True, weight_decay=0.1)),
    "adamax": ("adamax", "Adamax", {}),
    "adamax_decay": ("adamax", "Adamax", dict(weight_decay=0.1)),
    "nadam": ("nadam", "Nadam", {}),
    "nadam_decay": ("nadam", "Nadam", dict(weight_decay=0.1)),
    "lamb": ("lamb", "Lamb", {}),
    "lamb_decay": ("lamb", "Lamb", dict(learning_rate=0.03, weight_decay=0.1)),
    "lion": ("lion", "Lion", {}),
    "lion_decay": ("lion", "Lion", dict(weight_decay=0.1)),
    "adafactor": ("adafactor", "Adafactor", {}),
    "adafactor_decay": ("adafactor", "Adafactor", dict(learning_rate=0.5, weight_decay=0.1, clip_threshold=1.5)),
    "adafactor_absolute": ("adafactor", "Adafactor", dict(learning_rate=0.5, relative_step=False)),
    "adagrad": ("adagrad", "Adagrad", {}),
    "adagrad_options": ("adagrad", "Adagrad", dict(initial_accumulator_value=0.5, epsilon=1e-4, weight_decay=0.1)),
    "rmsprop": ("rmsprop", "RMSprop", {}),
    "rmsprop_momentum": ("rmsprop", "RMSprop", dict(momentum=0.9, weight_decay=0.1)),
    "rmsprop_centered": ("rmsprop", "RMSprop", dict(centered=True, momentum=0.5)),
    "adadelta": ("adadelta", "Adadelta", {}),
    "adadelta_options": ("adadelta", "Adadelta", dict(learning_rate=0.5, rho=0.8, weight_decay=0.1)),
}


@pytest.mark.parametrize(("ours", "theirs", "arguments"), hardest(KERAS))
def test_keras_trajectories(ours, theirs, arguments, keras, means_in_float64, x64, loose):
    reference = keras_trajectory(keras, lambda: getattr(keras.optimizers, theirs)(**arguments))
    assert_follows(follow(preset("keras", ours, **arguments)), reference)


def test_keras_rounds_means_of_float64_to_float32(keras, x64):
    x = np.random.default_rng(0).standard_normal(100)
    assert 1e-10 < abs(float(keras.ops.mean(x)) - x.mean()) < 1e-7


@pytest.mark.parametrize(
    "optimizer", ["rmsprop", *(pytest.param(name, marks=product) for name in ("adamw", "lamb")), "adafactor"]
)
def test_keras_schedules_are_functions_of_the_finished_steps(optimizer, keras, means_in_float64, x64, loose):
    """RMSprop's momentum has gathered the earlier step sizes by the time that they change."""
    arguments = {"weight_decay": 0.1, **({"momentum": 0.9} if optimizer == "rmsprop" else {})}
    classes = {"rmsprop": "RMSprop", "adamw": "AdamW", "lamb": "Lamb", "adafactor": "Adafactor"}
    schedule = keras.optimizers.schedules.InverseTimeDecay(0.5, decay_steps=7, decay_rate=0.3)
    reference = keras_trajectory(
        keras, lambda: getattr(keras.optimizers, classes[optimizer])(learning_rate=schedule, **arguments)
    )
    ours = preset("keras", optimizer, learning_rate=lambda t: 0.5 / (1 + 0.3 * t.astype(float) / 7), **arguments)
    assert_follows(follow(ours), reference)


def test_an_average_without_debiasing_is_that_of_keras_with_use_ema(keras, x64, loose):
    """It starts at the weights after the first step, neither at those before it nor at 0."""
    variables = [keras.Variable(p, dtype="float64") for p in start().values()]
    theirs = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9)
    theirs.build(variables)
    ours = optax.chain(preset("keras", "adam", learning_rate=0.1), adamx.averaging(0.9, debias=False))
    params = jax.tree.map(jnp.asarray, start())
    state, update = ours.init(params), jax.jit(ours.update)
    for t in range(10):
        grads = {name: jnp.asarray(g[t]) for name, g in stream().items()}
        theirs.apply([*grads.values()], variables)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        averaged = adamx.averaged_params(state)
        for name, average in zip(start(), theirs._model_variables_moving_average, strict=True):
            np.testing.assert_allclose(averaged[name], np.asarray(average), rtol=1e-12, atol=1e-12)


SCHEDULE = optax.cosine_decay_schedule(0.5, 60)
FACTORED = {"learning_rate": SCHEDULE, "min_dim_size_to_factor": 2}
OPTAX = {
    "adam": ("adam", dict(learning_rate=1e-3)),
    "adam_options": ("adam", dict(learning_rate=SCHEDULE, b1=0.8, b2=0.95, eps=1e-4, eps_root=1e-6, nesterov=True)),
    "adamw": ("adamw", dict(learning_rate=1e-3)),
    "adamw_schedule": ("adamw", dict(learning_rate=SCHEDULE, weight_decay=0.1)),
    "adamax": ("adamax", dict(learning_rate=1e-3)),
    "adamaxw": ("adamaxw", dict(learning_rate=1e-3, weight_decay=0.1)),
    "amsgrad": ("amsgrad", dict(learning_rate=1e-3)),
    "amsgrad_paper": ("amsgrad", dict(learning_rate=1e-3, bias_correction_mu=False, bias_correction_nu=False)),
    "nadam": ("nadam", dict(learning_rate=1e-3)),
    "nadamw": ("nadamw", dict(learning_rate=1e-3, weight_decay=0.1)),
    "radam": ("radam", dict(learning_rate=1e-3)),
    "adabelief": ("adabelief", dict(learning_rate=1e-3)),
    "adagrad": ("adagrad", dict(learning_rate=1e-3)),
    "rmsprop": ("rmsprop", dict(learning_rate=1e-3, bias_correction=True)),
    "rmsprop_momentum": ("rmsprop", dict(learning_rate=SCHEDULE, momentum=0.9, nesterov=True, initial_scale=1.0)),
    "rmsprop_centered": ("rmsprop", dict(learning_rate=1e-3, centered=True, eps=1e-4, momentum=0.5)),
    "adadelta": ("adadelta", dict(learning_rate=0.5, weight_decay=0.1)),
    "adafactor": ("adafactor", {}),
    "adafactor_factored": ("adafactor", {**FACTORED, "weight_decay_rate": 0.1}),
    "adafactor_momentum": ("adafactor", {**FACTORED, "momentum": 0.9, "multiply_by_parameter_scale": False}),
    "lamb": ("lamb", dict(learning_rate=1e-3, weight_decay=0.1)),
    "lion": ("lion", dict(learning_rate=1e-3)),
}


def optax_trajectory(opt):
    params, grads = jax.tree.map(jnp.asarray, (start(), stream()))

    def body(carry, g):
        updates, state = opt.update(g, carry[1], carry[0])
        params = optax.apply_updates(carry[0], updates)
        return (params, state), params

    return jitted_in_float64(lambda p: jax.lax.scan(body, (p, opt.init(p)), grads)[1])(params)


@pytest.fixture
def optax_in_float64(monkeypatch):
    """Optax's Adafactor takes its decay rate, 1 - t**-.8, and its momentum in float32."""
    factored, adafactor = optax.scale_by_factored_rms, optax.adafactor
    exact = functools.partial(factored, decay_rate_fn=lambda t, c: 1 - (t + 1).astype(float) ** -c)
    monkeypatch.setattr("optax._src.factorized.scale_by_factored_rms", exact)
    monkeypatch.setattr(optax, "adafactor", functools.partial(adafactor, dtype_momentum=jnp.float64))


@pytest.mark.product  # test_optax_parity.py compares the same optimizers by their names here
@pytest.mark.parametrize(("name", "arguments"), OPTAX.values(), ids=OPTAX.keys())
def test_optax_trajectories(name, arguments, optax_in_float64, x64, loose):
    reference = optax_trajectory(getattr(optax, name)(**arguments))
    assert_follows(follow(preset("optax", name, **arguments)), reference)


def _same_defaults(entry, signature):
    theirs = {name: p.default for name, p in signature.parameters.items()}
    for name, ours in entry.defaults.items():
        if ours is presets.REQUIRED:
            assert theirs[name] is inspect.Parameter.empty or entry.notes.startswith("climbs"), name
        elif (entry.optimizer, name) not in {("amsgrad", "amsgrad"), ("muon", "ns_coeffs")}:  # which has Optax's name
            assert theirs[name] == ours, name


@pytest.mark.parametrize("name", presets.PRESETS["pytorch"])
def test_defaults_are_those_of_pytorch(name, torch):
    classes = {cls.lower(): cls for cls in dir(torch.optim)}
    cls = "Adam" if name == "amsgrad" else classes[name]
    _same_defaults(presets.PRESETS["pytorch"][name], inspect.signature(getattr(torch.optim, cls)))


@pytest.mark.parametrize("name", presets.PRESETS["keras"])
def test_defaults_are_those_of_keras(name, keras):
    classes = {cls.lower(): cls for cls in dir(keras.optimizers)}
    cls = "Adam" if name == "amsgrad" else classes[name]
    _same_defaults(presets.PRESETS["keras"][name], inspect.signature(getattr(keras.optimizers, cls)))


@pytest.mark.parametrize("name", presets.PRESETS["optax"])
def test_defaults_are_those_of_optax(name):
    theirs = getattr(optax if hasattr(optax, name) else optax.contrib, name)
    _same_defaults(presets.PRESETS["optax"][name], inspect.signature(theirs))


def test_optax_adadelta_climbs_without_a_learning_rate():
    """Its default, `None`, leaves out the sign together with the factor; here a step size has to be given."""
    p = jnp.ones(2)
    opt = optax.adadelta()
    assert (opt.update(p, opt.init(p), p)[0] > 0).all()
    with pytest.raises(ValueError, match="optax has no default for learning_rate"):
        preset("optax", "adadelta")
