"""Bayesian model averaging and stacking: one posterior of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from bayesinv.axes import Array, one_of, real
from bayesinv.covariance.covariance import Structure
from bayesinv.criticism.comparison import COLOURED, compare, same_recording, why_unranked
from bayesinv.posterior.active import ActiveSets
from bayesinv.posterior.checks import Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior


def average(
    posteriors: Mapping[str, Posterior],
    weights: str | ArrayLike | Mapping[str, float] = "evidence",
    *,
    prior: ArrayLike | Mapping[str, float] | None = None,
    coloured: str = "refuse",
) -> Posterior:
    """Average models: the posterior of the currents when the model itself is not known.

        p(current | recording) = Σ_k weight_k p(current | recording, model k)

    posteriors : name to posterior, of one recording and the same sources
    weights : "evidence" gives each model its posterior probability, "stacking" the weights that predict left-out
        components best (see `compare`); or numbers, one per model
    prior : prior probability of each model, with "evidence"; equal if None
    coloured : what to do where checks of the noise over time failed: "refuse" takes no weights but numbers; "rank"
        takes those by evidence or stacking all the same

    The result has every method of a `Posterior`. Its `hyper` holds what all models have in common, and "model", the
    index of the model; its log evidence, averaged over the prior of models, is known with "evidence" only.

    Raises
    ------
    ValueError
        If recordings, whitenings or gains differ, a weight is negative or all are zero, a model lacks evidence, or
        models are not ranked.

    References: Hoeting et al. (1999), Stat. Sci. 14, 382-417; Trujillo-Barreto, Aubert-Vázquez & Valdés-Sosa (2004),
    NeuroImage 21, 1300-1319 (of source maps); Yao et al. (2018), Bayesian Anal. 13, 917-1007 (stacking).
    """
    same_recording(posteriors)
    _same_lead_field(posteriors)
    names, every = tuple(posteriors), list(posteriors.values())
    one_of("way with coloured noise", coloured, COLOURED)
    unranked = why_unranked(posteriors)
    if unranked and coloured == "refuse" and isinstance(weights, str):
        raise ValueError(f"{unranked}, or give weights as numbers")
    share, evidence = _model_weights(posteriors, weights, prior)
    structures = _all_structures(every)
    masses = [part * one.mixture.weights / one.mixture.weights.sum() for part, one in zip(share, every, strict=True)]
    mixtures = [one.mixture.picked(np.arange(len(mass)), mass) for one, mass in zip(every, masses, strict=True)]
    listed = ", ".join(f"{name} {part:.3g}" for name, part in zip(names, share, strict=True))
    return Posterior(
        problem=every[0].problem,
        model=f"average of {', '.join(names)}",
        method=f"{weights if isinstance(weights, str) else 'weights'}: {listed}",
        mixture=_joined(mixtures, structures),
        hyper=_joined_hyper(every, share, structures),
        log_evidence=evidence,
        checks=tuple(
            replace(check, name=f"{name}: {check.name}") for name, one in posteriors.items() for check in one.checks
        ),
        timings={
            stage: sum(one.timings.get(stage, 0.0) for one in every)
            for stage in dict.fromkeys(stage for one in every for stage in one.timings)
        },
        time_weights=every[0].time_weights,
        active=_joined_sets(every),
    )


def _joined_sets(posteriors: Sequence[Posterior]) -> ActiveSets | None:
    """Which focal sources are active at every node, where a model has such."""
    if all(one.active is None for one in posteriors):
        return None
    sets = [ActiveSets.dense(len(one.mixture.weights)) if one.active is None else one.active for one in posteriors]
    return ActiveSets.joined(sets)


def _same_lead_field(posteriors: Mapping[str, Posterior]) -> None:
    """Raise unless all posteriors are of the same sources with the same gain."""
    first, *others = posteriors
    ours = posteriors[first]

    def same(mine: Array | None, yours: Array | None) -> bool:
        return mine is yours or (mine is not None and yours is not None and np.array_equal(mine, yours))

    for name in others:
        theirs = posteriors[name]
        if (
            ours.problem.axes != theirs.problem.axes
            or not same(ours.problem.gain, theirs.problem.gain)
            or not same(ours.problem.error_factor, theirs.problem.error_factor)
            or not same(ours.problem.gain_modes, theirs.problem.gain_modes)
        ):
            raise ValueError(
                f"{name!r} has another gain than {first!r}; only maps of the same sources by the same lead field "
                "can be averaged"
            )
        if not same(ours.time_weights, theirs.time_weights):
            raise ValueError(f"{name!r} is of another mean over time than {first!r}; take the means after averaging")


def _all_structures(posteriors: Sequence[Posterior]) -> dict[Any, Structure]:
    """Every structure of the posteriors, once, by its key."""
    mixtures = [mixture for one in posteriors for mixture in (one.mixture, one.hyper.scales) if mixture is not None]
    return {structure.key: structure for mixture in mixtures for structure in mixture.structures}


def _joined(mixtures: Sequence[Mixture], structures: Mapping[Any, Structure]) -> Mixture:
    """One mixture of all nodes; their weights are kept as they are."""
    index = {key: i for i, key in enumerate(structures)}
    which = [
        np.array([index[structure.key] for structure in one.structures], dtype=np.int64)[one.which] for one in mixtures
    ]
    weights, variance, noise = (
        np.concatenate([getattr(one, name) for one in mixtures]) for name in ("weights", "variance", "noise")
    )
    return Mixture(weights, variance, noise, np.concatenate(which), tuple(structures.values()))


def _joined_hyper(posteriors: Sequence[Posterior], share: Array, structures: Mapping[Any, Structure]) -> Hyper:
    """Hyperparameters that all models have, each model's weighted by its share, and the model itself as one of them.

    A model has as many equally weighted draws as its weight says, picked at even steps from its own.
    """
    hypers = [one.hyper for one in posteriors]
    lengths = [len(one["lambda"].draws) for one in hypers]
    ends = np.round(max(lengths) * np.cumsum(share)).astype(int)
    picked = [
        np.linspace(0, length - 1, count).round().astype(int) if count > 1 else np.zeros(count, dtype=int)
        for length, count in zip(lengths, np.diff(ends, prepend=0), strict=True)
    ]
    common = [name for name in hypers[0] if all(name in one for one in hypers)]
    nodes = {name: np.concatenate([one.nodes[name] for one in hypers]) for name in common}
    drawn = {
        name: np.concatenate([one.draws[name][draws] for one, draws in zip(hypers, picked, strict=True)])
        for name in common
    }
    weights = [part * one.weights / one.weights.sum() for part, one in zip(share, hypers, strict=True)]
    nodes["model"] = np.repeat(np.arange(len(hypers), dtype=float), [len(one) for one in weights])
    drawn["model"] = np.repeat(np.arange(len(hypers), dtype=float), [len(draws) for draws in picked])
    scales = None
    known = [one.scales for one in hypers if one.scales is not None]
    if len(known) == len(hypers):
        total = sum(len(draws) for draws in picked)
        mixtures = [one.picked(draws, np.full(len(draws), 1 / total)) for one, draws in zip(known, picked, strict=True)]
        scales = _joined(mixtures, structures)
    return Hyper(nodes, np.concatenate(weights), drawn, scales=scales)


def _model_weights(posteriors: Mapping[str, Posterior], weights: Any, prior: Any) -> tuple[Array, Evidence | None]:
    """Weights (model,) that sum to one, and the evidence of the average where they come from evidence."""
    if isinstance(weights, str):
        one_of("kind of weights", weights, ("evidence", "stacking"))
    if prior is not None and weights != "evidence":
        raise ValueError("prior probabilities of models go with weights='evidence' alone")
    if isinstance(weights, str) and weights == "stacking":
        return np.array(list(compare(posteriors, coloured="rank").weights.values())), None
    if not isinstance(weights, str):
        return _shares("weights", weights, tuple(posteriors)), None
    known = [one.log_evidence for one in posteriors.values() if one.log_evidence is not None]
    if len(known) < len(posteriors):
        missing = [name for name, one in posteriors.items() if one.log_evidence is None]
        raise ValueError(f"{', '.join(missing)} gives no evidence; use weights='stacking', or infer by quadrature")
    prior_weights = np.full(len(known), 1 / len(known)) if prior is None else _shares("prior", prior, tuple(posteriors))
    with np.errstate(divide="ignore"):
        joint = np.array([float(one) for one in known]) + np.log(prior_weights)
    share = softmax(joint)
    return share, Evidence(float(logsumexp(joint)), float(share @ [one.error for one in known]))


def _shares(what: str, given: Any, names: tuple[str, ...]) -> Array:
    """Return weights (model,) that sum to one, of numbers in the order of the models or by their names."""
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ValueError(f"{what} are of {', '.join(map(str, given))}, but the models are {', '.join(names)}")
        given = [given[name] for name in names]
    share = real(what, given, "model")
    if len(share) != len(names):
        raise ValueError(f"{what} has model = {len(share)}, but there are {len(names)} models")
    if share.min() < 0 or not share.sum() > 0:
        raise ValueError(f"{what} must not be negative and not all be zero, but are {share.tolist()}")
    return np.asarray(share / share.sum())
