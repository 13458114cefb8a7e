"""Regularisation: the L-curve with every choice of λ on it, and the posterior of λ along it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array
from bayesinv.classical.estimate import Estimate
from bayesinv.posterior.posterior import Posterior

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"l-curve": "^", "gcv": "s", "discrepancy": "D", "evidence": "o", "snr": "v"}


def l_curve(estimate: Estimate, posterior: Posterior | None = None) -> Figure:
    """Draw the L-curve with every choice of λ on it and, where it is given, the posterior of λ along it.

    posterior : of the same recording; its central 90 % are drawn along the curve and its density below.
        λ is compared through the signal-to-noise ratio it implies, so that the priors may be scaled differently

    Raises
    ------
    ValueError
        If the method has no λ, or the posterior is of another recording.
    """
    from matplotlib.figure import Figure

    grid = estimate.curve
    assert estimate.scan is not None
    assert estimate.lam is not None
    scan, lam = estimate.scan, estimate.lam
    shown = np.isfinite(grid.log_residual) & np.isfinite(grid.log_solution)
    draws = None if posterior is None else _lambda_draws(estimate, posterior)
    marked = {name: chosen.lam for name, chosen in estimate.choices.items() if np.isfinite(chosen.lam)}
    marks = np.array([*marked.values(), lam] if draws is None else [*marked.values(), lam, *draws])
    # Far from all marks the curve is nearly straight, and would only compress its corner.
    shown &= (grid.lam >= marks.min() / 300) & (grid.lam <= marks.max() * 300)
    figure = Figure(figsize=(7.0, 5.0 if draws is None else 6.5), layout="constrained")
    panels = figure.subplots(1 if draws is None else 2, squeeze=False, height_ratios=None if draws is None else [3, 1])
    axes = panels[0, 0]

    def norms(lam: Array) -> tuple[Array, Array]:
        curve = scan.curve(np.atleast_1d(lam))
        return np.exp(curve.log_residual), np.exp(curve.log_solution) * 1e9

    axes.plot(*norms(grid.lam[shown]), color="0.35", lw=1.2, zorder=2, label="L-curve")
    if draws is not None:
        low, high = np.quantile(draws, [0.05, 0.95])
        inside = np.geomspace(low, high, 50)
        label = f"posterior, 90 %: {low:.2g} to {high:.2g}"
        axes.plot(*norms(inside), color="C9", lw=7, alpha=0.6, solid_capstyle="butt", zorder=3, label=label)
        _density(panels[1, 0], draws, marks)
    for number, (name, chosen) in enumerate(estimate.choices.items()):
        color = f"C{number}"
        if not np.isfinite(chosen.lam):
            axes.plot([], [], MARKERS[name], color=color, label=f"{name}: none")
            continue
        label = f"{name}: {chosen.lam:.2g}" + (" (in doubt)" if chosen.note else "")
        axes.plot(*norms(np.array(chosen.lam)), MARKERS[name], ms=7, mec="white", color=color, zorder=4, label=label)
        if draws is not None:
            panels[1, 0].plot(chosen.lam, 0.0, MARKERS[name], ms=7, mec="white", color=color, clip_on=False, zorder=4)
    axes.plot(*norms(np.array(lam)), "o", ms=13, mfc="none", mec="k", zorder=5, label=f"used: {lam:.2g}")
    _format_norms(axes)
    axes.legend(frameon=False, fontsize=8, title="λ", title_fontsize=8)
    return figure


def _format_norms(axes: Axes) -> None:
    """Set logarithmic axes for both norms, with enough labels."""
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    axes.set(
        xscale="log",
        yscale="log",
        xlabel="residual norm (units of the noise)",
        ylabel="solution norm (nA m)",
    )
    left, right = axes.get_xlim()
    if right < 10 * left:
        # Within a decade, labels at powers of ten only are too few, and at all minor ticks too many.
        axes.xaxis.set(major_locator=MaxNLocator(6), major_formatter=ScalarFormatter(), minor_locator=NullLocator())


def _density(axes: Axes, draws: Array, marks: Array) -> None:
    """Density of log λ, on an axis wide enough for all marks."""
    from scipy.stats import gaussian_kde

    logs = np.log(draws)
    spread = float(logs.std())
    if spread > 0:
        at = np.linspace(logs.min() - spread, logs.max() + spread, 400)
        density = gaussian_kde(logs)(at)
        axes.fill_between(np.exp(at), density / density.max(), color="C9", alpha=0.6, lw=0)
    else:
        axes.axvline(float(draws[0]), color="C9")
    axes.set(xscale="log", xlim=(marks.min() / 1.5, marks.max() * 1.5), ylim=(0, 1.05), yticks=[])
    axes.set(xlabel="λ (1/(A m)²)", ylabel="posterior of λ")
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)


def _lambda_draws(estimate: Estimate, posterior: Posterior) -> Array:
    """Draws of λ from a posterior, in the estimate's scale of D."""
    assert estimate.scan is not None
    ours, theirs = estimate.problem.recording, posterior.problem.recording
    if theirs is not ours and (theirs.shape != ours.shape or not np.allclose(theirs, ours)):
        raise ValueError("the posterior is of another recording than the estimate; give one of the same problem")
    structure = posterior.mixture.structures[0]
    power = float(np.trace(structure.gram(posterior.problem))) / posterior.problem.components
    draws = posterior.hyper["lambda"].draws * (float(estimate.scan.values.mean()) / power)
    return np.asarray(draws[np.isfinite(draws)])
