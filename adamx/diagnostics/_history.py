"""A history of metrics by step, written to a dictionary, TensorBoard or an HTML page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import _page


class History:
    """Metrics by name and step: those that `read` returns and any others of a training loop.

    Attributes:
        series: for each metric its steps and its values, two lists of equal length.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.diagnostics.monitor(adamx.adam(0.1))
        >>> params, history = {"w": jnp.array([1.0, -2.0])}, adamx.diagnostics.History()
        >>> state = opt.init(params)
        >>> for step in range(1, 4):
        ...     params, state = opt.step(params, state, params)
        ...     history.add(step, adamx.diagnostics.read(state), loss=float(jnp.sum(params["w"] ** 2)))
        >>> steps, values = history.series["all/step_max"]
        >>> steps, [round(x, 2) for x in values]
        ([1, 2, 3], [1.0, 1.0, 1.0])
    """

    def __init__(self) -> None:
        self.series: dict[str, tuple[list[int], list[float]]] = {}

    def add(self, step: int, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Add the values of one step. A name may be missing at some steps.

        Args:
            step: the number of the step; not less than at the last call.
            values: by name; any kind of scalar.
            **more: further ones.

        Raises:
            ValueError: a value is not one number; steps go back.
        """
        for name, value in {**(values or {}), **more}.items():
            steps, known = self.series.setdefault(name, ([], []))
            if steps and step < steps[-1]:
                raise ValueError(f"step {step} of {name!r} comes after step {steps[-1]}: add them in their order")
            if getattr(value, "shape", ()) != ():
                raise ValueError(f"{name!r} has shape {value.shape} at step {step}: add one number at a time")
            steps.append(int(step))
            known.append(float(value))

    def to_html(self, path: Path | str, title: str = "What the optimizer did") -> None:
        """Write a self-contained HTML page with a plot for each metric and a line for each group; needs matplotlib.

        Args:
            path: the file to write.
            title: the page's heading.

        Raises:
            ValueError: nothing was added.
        """
        Path(path).write_text(_page.page(self.series, title), encoding="utf-8")

    def to_tensorboard(self, directory: Path | str) -> None:
        """Write scalars that TensorBoard shows; needs tensorboardX.

        Args:
            directory: the folder of the event file.

        Raises:
            ModuleNotFoundError: it is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_tensorboard needs it: pip install tensorboardX", name="tensorboardX"
            ) from error
        writer = SummaryWriter(str(directory))
        for name, (steps, values) in self.series.items():
            for step, value in zip(steps, values, strict=True):
                writer.add_scalar(name, value, step)
        writer.close()
