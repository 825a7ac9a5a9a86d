"""Options that several subcommands share, each with its help."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from wsolviz.methods import METHODS, PICTURES
from wsolviz.types import Precision, Space

Backbones: TypeAlias = Annotated[
    list[str], typer.Option(help="Names, one or several: efficientnet_lite0, timm/resnet50 …")
]
Panels: TypeAlias = Annotated[
    list[str],
    typer.Option(
        help=f"One or several of {', '.join([*METHODS, *PICTURES])}, or sums: cam+0.5*feature_norm."
    ),
]
Methods: TypeAlias = Annotated[
    list[str],
    typer.Option(help=f"One or several of {', '.join(METHODS)}, or sums: cam+0.5*feature_norm."),
]
FeatureSpace: TypeAlias = Annotated[Space, typer.Option(help="Feature space.")]
ImageSize: TypeAlias = Annotated[int | None, typer.Option(help="Side of the network's input.")]
Scales: TypeAlias = Annotated[
    list[int] | None, typer.Option(help="Several such sides, whose maps are averaged.")
]
Flip: TypeAlias = Annotated[bool, typer.Option("--flip", help="Average with the mirrored photo.")]
OutputStride: TypeAlias = Annotated[int | None, typer.Option(help="Finer maps where offered.")]
ForwardPrecision: TypeAlias = Annotated[Precision, typer.Option(help="Of the forward pass.")]
