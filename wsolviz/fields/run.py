"""Measuring the fields of a request, gone on with where an earlier run was broken off."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import partial

import torch

from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import recount
from wsolviz.classes import find_class
from wsolviz.errors import explain_error
from wsolviz.fields.networks import load_network, weights_digest
from wsolviz.fields.request import (
    BrokenPhoto,
    FieldRequest,
    FieldRow,
    Fields,
    MissingRow,
    WeightsKind,
    label_of,
)
from wsolviz.fields.step import OnStep, Step, ignore_step
from wsolviz.fields.store import FieldKey, FieldState, FieldStore
from wsolviz.memory import keeping_freed_memory
from wsolviz.progress import StoppedError
from wsolviz.receptive_field import field_sum, preprocessing_at

SAVE_EVERY = 4  # photos, so many at most are measured again after a run was killed


def measure_fields(
    request: FieldRequest, on_step: OnStep = ignore_step, store: FieldStore | None = None
) -> Fields:
    """The field of every network of a request.

    What was measured before is taken from the store, and a measurement that was broken off goes on
    there; with one photo a pass the sum is the same to the last bit. A network that fails is told
    in `Fields.missing` and stops no other.

    Args:
        request: networks, photos and options.
        on_step: told before a network is loaded, of what the store has of it, and after each pass;
            a `StoppedError` from it ends the run, which can be gone on with.
        store: where fields are kept; None for the user's own.
    """
    store = FieldStore() if store is None else store
    rows: list[FieldRow] = []
    missing: list[MissingRow] = []
    for index, (name, kind) in enumerate(request.networks):
        try:
            rows.append(_measure_row(request, name, kind, index, on_step, store))
        except StoppedError:
            raise
        except Exception as error:  # whatever it is, the other networks go on
            missing.append(MissingRow(name, kind, *explain_error(error, label_of(name, kind))))
    return Fields(request, tuple(rows), tuple(missing))


@keeping_freed_memory()
def _measure_row(
    request: FieldRequest,
    name: str,
    kind: WeightsKind,
    index: int,
    on_step: OnStep,
    store: FieldStore,
) -> FieldRow:
    count = len(request.photos)
    step = partial(Step, label_of(name, kind), index, len(request.networks), num_photos=count)
    on_step(step(done=0, loading=True))
    backbone = load_network(name, kind, request)
    chosen = request.class_choice
    names = backbone.class_names
    class_index = None if chosen is None else find_class(chosen, backbone.num_classes, names)
    key = _key(request, backbone, kind, class_index)
    passes = _Passes(backbone, request, class_index)
    state = saved = store.load(key)
    began = state
    try:
        on_step(step(done=state.done, num_broken=len(state.broken)))
        while state.done < count:
            state = passes.next(state)
            measured, took = state.done - began.done, state.seconds - began.seconds
            speed = measured / took
            if state.done - saved.done >= SAVE_EVERY:
                store.save(key, state)
                saved = state
            on_step(step(done=state.done, speed=speed, num_broken=len(state.broken)))
    finally:
        if state.done > saved.done:
            store.save(key, state)
        recount(backbone)
    return _row(request, backbone, kind, key, state, began.done)


def _row(
    request: FieldRequest,
    backbone: Backbone,
    kind: WeightsKind,
    key: FieldKey,
    state: FieldState,
    num_reused: int,
) -> FieldRow:
    broken = tuple(BrokenPhoto(request.photos[i].name, reason) for i, reason in state.broken)
    if state.summed is None:
        raise ValueError(f"No photo could be read; the first, {broken[0].name}: {broken[0].reason}")
    class_index, names = key.class_index, backbone.class_names
    class_name = ""
    if class_index is not None:
        class_name = names[class_index] if names else f"class {class_index}"
    return FieldRow(
        backbone=backbone.name,
        weights=kind,
        source=backbone.weights.source,
        sha256=key.weights,
        seed=key.seed,
        erf=state.summed.mean(backbone.name, class_index),
        class_name=class_name,
        broken=broken,
        seconds=state.seconds,
        num_reused=num_reused,
    )


def _key(
    request: FieldRequest, backbone: Backbone, kind: WeightsKind, class_index: int | None
) -> FieldKey:
    photos = hashlib.sha256("\n".join(photo.digest for photo in request.photos).encode())
    return FieldKey(
        backbone=backbone.name,
        weights=weights_digest(backbone),
        seed=request.seed if kind == "random" else None,
        output_stride=request.output_stride,
        precision=request.precision,
        size=request.size,
        position=request.position,
        class_index=class_index,
        photos=photos.hexdigest(),
        num_photos=len(request.photos),
        device=backbone.device.type,
    )


@dataclass(frozen=True)
class _Passes:
    """One pass after another over the photos of a request."""

    backbone: Backbone
    request: FieldRequest
    class_index: int | None

    def next(self, state: FieldState) -> FieldState:
        """The state after one more pass.

        A pass is of the same photos in every run, broken ones included, because the sum may depend
        in its last bits on what a batch holds.
        """
        start, size = time.perf_counter(), self.request.batch_size
        stop = min((state.done // size + 1) * size, len(self.request.photos))
        preprocess = preprocessing_at(self.backbone, self.request.size)
        images, broken, summed = [], state.broken, state.summed
        for index in range(state.done, stop):
            try:
                images.append(preprocess(self.request.photos[index].read().image))
            except ValueError as error:
                broken = (*broken, (index, str(error)))
        if images:
            batch = torch.stack(images)
            fresh = field_sum(self.backbone, batch, self.request.position, self.class_index)
            summed = fresh if summed is None else summed + fresh
        seconds = state.seconds + time.perf_counter() - start
        return FieldState(stop, summed, broken, seconds)
