"""Tissue classes by a hidden Markov random field with partial volumes.

The model is the one of FSL's FAST [1]_: Gaussian classes, a Markov random field over the labels,
expectation maximisation, and fractions of mixed voxels from the classes that were found.

References
----------
.. [1] Zhang, Brady, Smith, IEEE Transactions on Medical Imaging 20(1):45-57, 2001.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.nifti1 import Nifti1Image

from colapipe.anatomy.images import same_grid
from colapipe.contrasts import LESION_LABEL, TISSUES, intensity_order
from colapipe.errors import ParticipantError

# Weight of a face neighbour one millimetre away (FAST's 0.1 counts 26 neighbours).
_BETA = 0.3
_LOG = True
_FRACTIONS = {"CSF": 0.18, "GM": 0.45, "WM": 0.37}
_CLIP = (0.5, 99.5)
_EM = 15
_EM2 = 4
_PVE = 3


def segment_tissue(image: Nifti1Image, mask: Nifti1Image, contrast: str) -> np.ndarray:
    inside = np.asarray(mask.dataobj) > 0
    data = np.asarray(image.dataobj, dtype=np.float32)
    zooms = np.linalg.norm(image.affine[:3, :3], axis=0)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(inside))
    y, m = data[box], inside[box]
    valid = m & (y > 0)
    low, high = np.percentile(y[valid], _CLIP)
    y = np.clip(y, low, high)
    if _LOG:
        y = np.log(y)
    lo, hi = float(y.min()), float(y.max())
    y = (y - lo) / (hi - lo)
    order = intensity_order(contrast)
    cum = np.concatenate([[0], np.cumsum([_FRACTIONS[t] for t in order])])
    mids = (cum[:-1] + cum[1:]) / 2
    v = y[valid]
    edges = np.quantile(v, cum)
    mu = np.array([v[(v >= a) & (v <= b)].mean() for a, b in zip(edges[:-1], edges[1:], strict=True)])
    sd = np.array([v[(v >= a) & (v <= b)].std() for a, b in zip(edges[:-1], edges[1:], strict=True)]) + 0.02
    w = (1 / zooms)
    w = w / w.max()
    # coarse
    steps = np.maximum(np.rint(2 / zooms).astype(int), 1)
    c = tuple(slice(None, None, s) for s in steps)
    cw = 1 / (zooms * steps); cw = cw / cw.max()
    mu, sd, _ = _em(y[c], m[c], valid[c], mu, sd, cw, _EM)
    mu, sd, p = _em(y, m, valid, mu, sd, w, _EM2)
    if _PVE:
        p = _pve(y, m, mu, sd, p, w)
    out = np.zeros((*inside.shape, 3), np.float32)
    rank = {t: k for k, t in enumerate(order)}
    for k, t in enumerate(TISSUES):
        out[(*box, k)] = p[rank[t]]
    segment_tissue.debug = (mu, sd)
    return out


def _neigh(p, w):
    s = np.zeros_like(p)
    for ax in range(3):
        a = [slice(None)] * 4; b = [slice(None)] * 4
        a[ax + 1] = slice(1, None); b[ax + 1] = slice(None, -1)
        s[tuple(a)] += w[ax] * p[tuple(b)]
        s[tuple(b)] += w[ax] * p[tuple(a)]
    return s


def _em(y, m, valid, mu, sd, w, n):
    p = None
    w = np.asarray(w, np.float32)
    for it in range(n):
        e = np.stack([-0.5 * ((y - np.float32(a)) / np.float32(s)) ** 2 - np.float32(np.log(s)) for a, s in zip(mu, sd, strict=True)])
        if p is not None:
            e += np.float32(_BETA) * _neigh(p, w)
        e -= e.max(0)
        np.exp(e, out=e)
        e /= e.sum(0)
        e *= m
        p = e
        q = p[:, valid]; v = y[valid]
        t = q.sum(1)
        mu = (q * v).sum(1) / t
        sd = np.sqrt((q * (v - mu[:, None]) ** 2).sum(1) / t) + 1e-3
        o = np.argsort(mu); 
        if not (o == [0, 1, 2]).all():
            mu, sd, p = mu[o], sd[o], p[o]
    return mu, sd, p


def _pve(y, m, mu, sd, p, w):
    """types: 0,1,2 pure; 3: 0/1, 4: 1/2."""
    g = np.linspace(0, 1, 512)
    f = np.linspace(0, 1, 101)[:, None]
    tables = []
    for k in range(3):
        d = np.exp(-0.5 * ((g - mu[k]) / sd[k]) ** 2) / sd[k]
        fr = np.zeros((3, 512)); fr[k] = 1
        tables.append((d, fr))
    for a, b in ((0, 1), (1, 2)):
        mm = f * mu[a] + (1 - f) * mu[b]; ss = np.sqrt(f**2 * sd[a]**2 + (1 - f)**2 * sd[b]**2)
        L = np.exp(-0.5 * ((g - mm) / ss) ** 2) / ss
        d = L.mean(0)
        ef = (f * L).sum(0) / np.maximum(L.sum(0), 1e-30)
        fr = np.zeros((3, 512)); fr[a] = ef; fr[b] = 1 - ef
        tables.append((d, fr))
    idx = np.clip(np.rint(y * 511), 0, 511).astype(np.intp)
    logd = np.log(np.maximum(np.stack([t[0] for t in tables]), 1e-20)).astype(np.float32)
    fr = np.stack([t[1] for t in tables]).astype(np.float32)  # type, tissue, 512
    for it in range(_PVE):
        s = np.float32(_BETA) * _neigh(p, np.asarray(w, np.float32))
        e = np.stack([s[0], s[1], s[2], (s[0] + s[1]) / 2, (s[1] + s[2]) / 2])
        for k in range(5): e[k] += logd[k][idx]
        e -= e.max(0); np.exp(e, out=e); e /= e.sum(0); e *= m
        p = np.stack([sum(e[k] * fr[k, t][idx] for k in range(5)) for t in range(3)])
    return p
