"""A label of MNE-Python is the sources at its vertices, wherever sets of sources are taken."""

from types import SimpleNamespace

import mne
import numpy as np
import pytest
from mne_objects import decimated, given
from numpy.testing import assert_allclose, assert_array_equal

import bayesinv as bi
from bayesinv.head.labels import sources_at
from bayesinv.head.parcels import check_labels
from bayesinv.problem.account import account

pytestmark = pytest.mark.filterwarnings(
    "ignore:The measurement information indicates a low-pass:RuntimeWarning", "ignore:the whitened baseline:UserWarning"
)


@pytest.fixture(scope="module")
def posterior(auditory, forward, noise_cov):
    return given(bi.from_mne(decimated(auditory), forward, noise_cov, outliers="drop"))


@pytest.fixture(scope="module")
def labels(full_forward):
    """All vertices of the surface within 25 mm of one of its places, on either side and on both."""
    found = {}
    for hemi, space in zip(("lh", "rh"), full_forward["src"], strict=True):
        places = space["rr"]
        near = np.flatnonzero(np.linalg.norm(places - places[space["vertno"][300]], axis=1) < 0.025)
        found[hemi] = mne.Label(near, hemi=hemi, name=f"near-{hemi}", subject="sample")
    return {**found, "both": found["lh"] + found["rh"]}


def vertices_in(stc, label):
    """Vertices of either side that MNE-Python finds in a label."""
    inside = stc.in_label(label)
    return [np.asarray(inside.lh_vertno), np.asarray(inside.rh_vertno)]


@pytest.mark.parametrize("which", ["lh", "rh", "both"])
def test_it_holds_the_sources_that_mne_finds_in_it(posterior, labels, which):
    sources, stc = posterior.problem.sources, posterior.to_mne("mean")
    found = sources_at("it", labels[which], sources)
    for side, vertices in enumerate(vertices_in(stc, labels[which])):
        assert_array_equal(sources.vertices[found[sources.hemispheres[found] == side]], vertices)
    region = posterior.region({"it": labels[which]})
    assert_allclose(region.mean[0], stc.in_label(labels[which]).data.mean(axis=0), rtol=1e-10)
    assert_array_equal(np.flatnonzero(check_labels({"it": labels[which]}, sources) == 0), found)
    assert region.notes == (f"it: {len(found)} of the {size(labels[which])} vertices of the label are sources",)


def size(label):
    return sum(len(half.vertices) for half in ((label.lh, label.rh) if label.hemi == "both" else (label,)))


def test_means_are_those_that_mne_extracts(posterior, labels, forward):
    stc, both = posterior.to_mne("mean"), [labels["lh"], labels["rh"]]
    src = forward["src"].copy()
    for side, space in enumerate(src):
        # MNE-Python wants the sources of the estimate, without those that were left out at the door.
        space["vertno"] = stc.vertices[side]
        space["inuse"] = np.isin(np.arange(space["np"]), space["vertno"]).astype(int)
        space["nuse"] = len(space["vertno"])
    for flip, mode in ((False, "mean"), (True, "mean_flip")):
        wanted = mne.extract_label_time_course(stc, both, src, mode=mode)
        region = posterior.region(both, flip=flip)
        assert region.names == ("near-lh", "near-rh")
        # Which way a region flows as a whole is a matter of convention.
        turned = np.sign(np.sum(region.mean * wanted, axis=1, keepdims=True)) if flip else 1.0
        assert_allclose(region.mean * turned, wanted, rtol=1e-10)


def test_one_alone_and_several_have_their_own_names(posterior, labels):
    assert posterior.region(labels["rh"]).names == ("near-rh",)
    one, other = posterior.region([labels["rh"], labels["lh"]]).mean
    assert_allclose(one, posterior.region({"a": labels["rh"]}).mean[0], rtol=1e-12)
    assert_allclose(other, posterior.region({"a": labels["lh"]}).mean[0], rtol=1e-12)
    mixed = posterior.region(
        {"label": labels["rh"], "numbers": sources_at("", labels["rh"], posterior.problem.sources)}
    )
    assert_allclose(*mixed.mean, rtol=1e-12)
    with pytest.raises(ValueError, match="two labels are called 'near-rh'; give each its own name"):
        posterior.region([labels["rh"], labels["rh"]])


def test_vertices_of_sources_alone_need_no_words(posterior):
    sources = posterior.problem.sources
    right = np.flatnonzero(sources.hemispheres == 1)[10:15]
    region = posterior.region(mne.Label(sources.vertices[right], hemi="rh", name="all", subject="sample"))
    assert region.notes == ()
    assert_allclose(region.mean[0], posterior.mean[right].mean(axis=0), rtol=1e-12)


def test_parcels_take_them(posterior, labels):
    problem = posterior.problem.with_parcels([labels["lh"], labels["rh"]])
    assert_array_equal(
        problem.parcels, posterior.problem.with_parcels({key: labels[key] for key in ("lh", "rh")}).parcels
    )
    wanted = np.full(problem.source_count, -1)
    for number, key in enumerate(("lh", "rh")):
        wanted[sources_at("", labels[key], problem.sources)] = number
    assert_array_equal(problem.parcels, wanted)
    assert account(problem)["parcels"] == f"2, of {np.count_nonzero(wanted >= 0)} sources"


def test_what_does_not_fit_is_refused(posterior, labels):
    problem, label = posterior.problem, labels["rh"]
    left = np.flatnonzero(problem.sources.hemispheres == 0)
    half = given(bi.Problem.from_arrays(problem.gain[:, left], problem.recording, sources=problem.sources.pick(left)))
    nowhere = bi.Problem.from_arrays(problem.gain, problem.recording)
    other = label.copy()
    other.subject = "fsaverage"
    for call, words in (
        (lambda: half.region(label), "label 'near-rh' has hemi = 'rh', but no source lies on that hemisphere"),
        (lambda: half.problem.with_parcels([label]), "label 'near-rh' has hemi = 'rh', but no source lies on that"),
        (lambda: posterior.region({"it": mne.Label([7], hemi="rh", subject="sample")}), "'it' covers no source: none"),
        (lambda: posterior.region({"it": other}), "'it' is of subject 'fsaverage', but the sources are of 'sample'"),
        (lambda: given(nowhere).region(label), "want sources that know their vertices and hemispheres"),
        (lambda: posterior.region({"it": label.vertices}), r"names source \d+, .*label that says which hemisphere"),
        (lambda: problem.with_parcels({"it": label.vertices}), r"names source \d+, .*label that says which hemisphere"),
        (lambda: posterior.region([label, [3, 4]]), "labels of a surface stand beside other things"),
        (lambda: posterior.region([3, 4]), "regions are a list; give a mapping from name"),
        (lambda: posterior.region(3), "regions are a int; give a mapping from name"),
        (lambda: posterior.region({"it": [[3, 4], [5, 6]]}), r"along one axis, but holds int64 of shape \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    # Of a label of both sides what is there is taken, and how much that is.
    region = half.region({"it": labels["both"]})
    assert_allclose(region.mean, half.region({"it": labels["lh"]}).mean, rtol=1e-12)
    assert f"of the {size(labels['both'])} vertices" in region.notes[0]


def test_other_objects_of_that_form_are_labels_too(posterior, labels):
    same = SimpleNamespace(hemi="rh", vertices=labels["rh"].vertices.tolist(), name="own")
    assert_allclose(posterior.region(same).mean, posterior.region(labels["rh"]).mean, rtol=1e-12)
