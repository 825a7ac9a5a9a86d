"""The app: tabs, theme, and how it is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from wsolviz.compare import CompareRequest, compare
from wsolviz.ui.api import build_api
from wsolviz.ui.cases import COMPARE
from wsolviz.ui.compare_tab import build_compare_tab
from wsolviz.ui.controls import EXAMPLES
from wsolviz.ui.data_roots import roots_of_environment
from wsolviz.ui.erf_tab import build_erf_tab
from wsolviz.ui.evaluate_tab import build_evaluate_tab
from wsolviz.ui.viewer import ASSETS
from wsolviz.ui.weights_input import MAX_MEGABYTES, allowed_by_environment
from wsolviz.ui.zoo_tab import build_zoo_tab

TITLE = "wsolviz"
ERF = "erf"  # the id of its tab
MAX_UPLOAD = "100mb"
KEEP = (3600, 6 * 3600)  # seconds: how often to look for old uploads, and how old they may grow


def build_app(data_roots: Sequence[Path] = (), *, allow_upload_weights: bool = False) -> gr.Blocks:
    """Lay out all tabs; nothing is served yet.

    Args:
        data_roots: folders whose data sets visitors may measure.
        allow_upload_weights: whether visitors may send weights files.
    """
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=KEEP
    ) as demo:
        gr.Markdown("# wsolviz\nWhat an image classifier localizes, and why.", elem_id="title")
        with gr.Tabs() as tabs:
            with gr.Tab("Compare", id=COMPARE):
                compare_tab = build_compare_tab(demo, uploads=allow_upload_weights)
            with gr.Tab("ERF", id=ERF) as erf_tab:
                pass  # filled once the data sets that it offers are known
            with gr.Tab("Evaluate"):
                build_evaluate_tab(data_roots, tabs, compare_tab)
            with gr.Tab("Model zoo"):
                build_zoo_tab(demo, tabs, compare_tab, uploads=allow_upload_weights)
        with erf_tab:
            build_erf_tab(demo)
        build_api()
    return demo


def build_theme() -> gr.themes.Base:
    """Colours, and fonts that are on every computer, so that none is fetched from elsewhere."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        spacing_size="sm",
        text_size="sm",
        radius_size="sm",
        font=("system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"),
        font_mono=("ui-monospace", "Consolas", "monospace"),
    ).set(  # the default's greys are below WCAG's contrast of 4.5:1 on white
        body_text_color_subdued="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def launch(
    host: str | None = None,
    port: int | None = None,
    *,
    data_roots: Sequence[Path] | None = None,
    allow_upload_weights: bool | None = None,
    block: bool = True,
) -> str:
    """Serve the app.

    The first example is explained before the first visitor comes, so that the networks are loaded
    and the compiled parts compiled by then.

    Args:
        host: address to listen on; None for Gradio's choice, which on a Space is every address.
        port: None for the first free one from 7860 on.
        data_roots: folders whose data sets visitors may measure; None for those of the
            environment.
        allow_upload_weights: whether visitors may send weights files; None for what the
            environment says.
        block: wait until the server is interrupted.

    Returns:
        The app's address.
    """
    compare(EXAMPLES[0], CompareRequest())
    roots = roots_of_environment() if data_roots is None else data_roots
    uploads = allowed_by_environment() if allow_upload_weights is None else allow_upload_weights
    _, address, _ = build_app(roots, allow_upload_weights=uploads).launch(
        server_name=host,
        server_port=port,
        theme=build_theme(),
        css=(ASSETS / "app.css").read_text(encoding="utf-8"),
        max_file_size=f"{MAX_MEGABYTES}mb" if uploads else MAX_UPLOAD,
        footer_links=["api", "settings"],
        prevent_thread_lock=not block,
        ssr_mode=False,  # the page is one component that lives in the browser anyway
    )
    return address
