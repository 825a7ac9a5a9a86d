"use strict";
// The controls over the grid: one threshold for every cell, and how everything is drawn.

/** Finer than the 1/255 between two levels, and 2 digits fall on it. */
const THRESHOLD_STEP = "0.002";

/** The bar of controls; it reports a change and shows a state, and keeps none itself. */
class Toolbar {
  /** @param {(partial: object) => void} change - Called with the part of the state to change. */
  constructor(change) {
    this.change = change;
    this.box = null;
    this.element = make("div", { class: "wv-toolbar", role: "group", "aria-label": "Display" },
      this.#buildThreshold(),
      make("div", { class: "wv-controls" }, this.#buildContours(), this.#buildOpacity(),
        this.#buildColours(), this.#buildTrueBox()));
  }

  #buildThreshold() {
    this.threshold = make("input", {
      type: "range", class: "wv-threshold", min: "0", max: "1", step: THRESHOLD_STEP,
      "aria-label": "threshold",
    });
    this.thresholdValue = make("output", { class: "wv-value" });
    this.marks = make("div", { class: "wv-marks" });
    this.threshold.addEventListener("input", () => {
      this.change({ threshold: this.threshold.valueAsNumber });
    });
    return make("div", { class: "wv-control wv-threshold-control" },
      make("span", { class: "wv-label", title: "Share of each score map’s range, from its lowest value to its highest, above which a pixel is in the mask" }, "threshold"),
      make("div", { class: "wv-track" }, this.threshold, this.marks), this.thresholdValue);
  }

  #buildContours() {
    const name = `wv-contours-${Math.random().toString(36).slice(2)}`;
    const help = {
      largest: "The box of the mask’s largest contour", all: "A box for every contour of the mask",
    };
    this.contours = {};
    const choices = Object.keys(help).map((value) => {
      this.contours[value] = make("input", { type: "radio", name, value });
      this.contours[value].addEventListener("change", () => this.change({ contours: value }));
      return make("label", { title: help[value] }, this.contours[value], make("span", {}, value));
    });
    return make("div", { class: "wv-segments", role: "radiogroup", "aria-label": "contours" }, ...choices);
  }

  #buildOpacity() {
    this.opacity = make("input", {
      type: "range", class: "wv-opacity", min: "0", max: "1", step: "0.01", "aria-label": "opacity",
    });
    this.opacity.addEventListener("input", () => this.change({ opacity: this.opacity.valueAsNumber }));
    return make("label", { class: "wv-control", title: "Opacity of the heatmap over the photo" },
      make("span", { class: "wv-label" }, "opacity"), this.opacity);
  }

  #buildColours() {
    this.colours = make("select", { class: "wv-colours", "aria-label": "colour map" });
    this.colours.addEventListener("change", () => this.change({ colormap: this.colours.value }));
    return make("label", { class: "wv-control", title: "Maps with a sign are drawn in two-sided colours around zero" },
      make("span", { class: "wv-label" }, "colours"), this.colours);
  }

  #buildTrueBox() {
    this.corners = ["x0", "y0", "x1", "y1"].map((label) => {
      const field = make("input", {
        type: "number", min: "0", step: "1", inputmode: "numeric", "aria-label": `true box ${label}`,
      });
      field.addEventListener("change", () => this.#readCorners());
      // A frame later, when what was typed has become the box.
      field.addEventListener("blur", () => requestAnimationFrame(() => this.#showCorners(this.box)));
      return field;
    });
    const labels = ["x0", "y0", "x1", "y1"];
    const fields = this.corners.map((field, i) => make("label", {}, labels[i], field));
    this.clear = make("button", { type: "button", class: "wv-clear" }, "clear");
    this.clear.addEventListener("click", () => {
      this.change({ true_box: null });
      this.trueBox.firstChild.focus(); // once there is nothing to clear, the button loses the focus
    });
    this.trueBox = make("details", { class: "wv-true-box" },
      make("summary", {}, make("span", { class: "wv-true-key", "aria-hidden": "true" }), "true box"),
      make("div", { class: "wv-panel" },
        make("p", {}, "Drag on the photo (a finger draws while this is open, else it scrolls), "
          + "or write its corners in the photo’s own pixels:"),
        make("div", { class: "wv-fields" }, ...fields), this.clear));
    this.trueBox.addEventListener("keydown", (event) => this.#closeOnEscape(event));
    return this.trueBox;
  }

  #readCorners() {
    const box = this.corners.map((field) => field.valueAsNumber);
    if (box.every(Number.isFinite)) this.change({ true_box: box });
  }

  #closeOnEscape(event) {
    if (event.key !== "Escape" || !this.trueBox.open) return;
    this.trueBox.open = false;
    this.trueBox.firstChild.focus();
  }

  /** Offer what a new result brings: its colour maps, its marked thresholds, its photo's size. */
  update(payload, marked) {
    const names = Object.keys(payload.colormaps.sequential);
    this.colours.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    const marks = marked.map(({ threshold, label }) => {
      const text = `${label}: ${threshold.toFixed(2)}`;
      const mark = make("button", { type: "button", class: "wv-mark", title: text, "aria-label": text });
      mark.style.setProperty("--at", threshold);
      mark.addEventListener("click", () => this.change({ threshold }));
      return mark;
    });
    this.marks.replaceChildren(...marks);
    const [width, height] = payload.photo.image_size;
    this.corners.forEach((field, i) => {
      field.max = (i % 2 === 0 ? width : height) - 1;
    });
  }

  /** Show a state on the controls. */
  show(state) {
    this.threshold.value = state.threshold;
    setText(this.thresholdValue, state.threshold.toFixed(2));
    this.contours[state.contours].checked = true;
    this.opacity.value = state.opacity;
    this.colours.value = state.colormap;
    this.#showCorners(state.true_box);
  }

  /**
   * The field in use is left alone, since a write would end the selection in it, and all are while
   * corners are still missing.
   */
  #showCorners(box) {
    this.clear.disabled = box === null;
    const isNew = String(box) !== String(this.box);
    this.box = box;
    this.corners.forEach((field, i) => {
      const value = box ? String(box[i]) : "";
      const isTyped = box === null && !isNew;
      if (field !== document.activeElement && !isTyped && field.value !== value) field.value = value;
    });
  }
}
