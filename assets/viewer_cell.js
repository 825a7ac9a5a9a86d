"use strict";
// The cells of the grid: a heatmap, a picture, or the reason why there is neither. All have the same
// methods, so that the grid need not ask which is which.

/** What every cell answers; a cell that does not care leaves it as it is. */
class Cell {
  constructor(key) {
    this.key = key;
    this.view = null;
  }

  async load() {}

  /** @param {object} state - The viewer's state; colours and opacity are taken from it. */
  showColours() {}

  /** @param {object} state - The rule for contours and the true box are taken from it. */
  showBoxes() {}

  /** @param {object} state - The threshold, or the cell's own, is taken from it. */
  showThreshold() {}

  /** Write the numbers shown into the label that a screen reader speaks. */
  describe() {}

  /** @returns {string} What the map holds at a display pixel. */
  readingAt() {
    return "";
  }

  /** @returns {number[]} Columns and rows of the raw grid, the step of the arrow keys. */
  get rawSize() {
    return [16, 16];
  }
}

/** A scoremap under the threshold, with its boxes, numbers and curve. */
class HeatmapCell extends Cell {
  /**
   * @param {object} map - The payload's cell.
   * @param {{key: string, name: string}} place
   * @param {object} grid - Its geometry, photo, colour maps and what a cell may ask of the viewer.
   */
  constructor(map, place, grid) {
    super(place.key);
    this.map = map;
    this.grid = grid;
    this.name = place.name;
    this.indices = colourIndices(map);
    this.raw = new Float32Array(decodeBase64(map.raw.values).buffer);
    this.boxes = {};
    for (const rule of ["largest", "all"]) {
      this.boxes[rule] = new LevelBoxes(map.boxes[rule], grid.geometry);
    }
    this.canvas = make("canvas", { class: "wv-layer", "aria-hidden": "true" });
    this.view = new View(grid.geometry, [grid.photoLayer(), this.canvas], "wv-is-map");
    this.curve = new Curve(map);
    this.#buildNumbers();
    this.element = make("div", { class: "wv-cell" },
      this.view.element, this.numbers, this.curve.element, this.#buildOwnThreshold(),
      factList(map.facts));
  }

  #buildNumbers() {
    this.iou = make("strong", { class: "wv-iou" });
    const iouLabel = make("span", {
      class: "wv-unit", title: "Intersection over union with the true box",
    }, "IoU ");
    this.share = make("span", { class: "wv-share", title: "The box’s share of the image" });
    this.corners = make("span", {
      class: "wv-corners", title: "The box in the photo’s own pixels: x0, y0 – x1, y1",
    });
    this.count = make("span", { class: "wv-count", title: "The numbers are those of the best box" });
    this.numbers = make("div", { class: "wv-numbers" },
      make("div", {}, make("span", {}, iouLabel, this.iou), this.share),
      make("div", {}, this.corners, this.count));
  }

  #buildOwnThreshold() {
    this.ownButton = make("button", {
      type: "button", class: "wv-own-button", "aria-pressed": "false",
      "aria-label": `own threshold for ${this.name}`,
    }, "own threshold");
    this.ownSlider = make("input", {
      type: "range", class: "wv-own-slider", min: "0", max: "1", step: THRESHOLD_STEP, hidden: true,
      "aria-label": `threshold of ${this.name}`,
    });
    this.ownButton.addEventListener("click", () => {
      this.grid.setOverride(this.key, this.threshold === this.own ? null : this.threshold);
    });
    this.ownSlider.addEventListener("input", () => {
      this.grid.setOverride(this.key, this.ownSlider.valueAsNumber);
    });
    return make("div", { class: "wv-own" }, this.ownButton, this.ownSlider);
  }

  async load() {
    const { width, height } = this.grid.geometry;
    const levels = await decodeLevels(this.map.levels, width, height);
    this.raster = new MaskRaster(this.canvas, levels, width, height);
  }

  showColours(state) {
    const colourMap = this.map.signed
      ? this.grid.divergingMap : this.grid.sequentialMaps[state.colormap];
    const colours = colourTables(colourMap, this.indices, state.opacity);
    this.raster.paint(colours, this.raster.levelOf(this.#thresholdIn(state)));
    this.curve.setColours(colourGradient(colourMap, this.indices));
  }

  showBoxes(state) {
    const { geometry } = this.grid;
    const image = geometry.imageWidth * geometry.imageHeight;
    const truth = state.true_box;
    this.contours = state.contours;
    this.hasTruth = truth !== null;
    this.best = this.boxes[state.contours].best(
      (box) => (truth ? intersectionOverUnion(box, truth) : boxArea(box) / image));
    this.curve.show(this.best.values, this.hasTruth, this.raster.highest);
    this.view.setTrueBox(truth);
    this.shownLevel = null;
  }

  showThreshold(state) {
    this.own = state.overrides[this.key];
    this.threshold = this.#thresholdIn(state);
    this.#showOwnThreshold();
    const level = this.raster.levelOf(this.threshold);
    this.raster.moveTo(level);
    if (level === this.shownLevel) return;
    this.shownLevel = level;
    this.view.setBoxes(this.boxes[this.contours].path(level));
    this.curve.moveTo(level);
    this.#showNumbers(level);
  }

  #thresholdIn(state) {
    return state.overrides[this.key] ?? state.threshold;
  }

  #showOwnThreshold() {
    const hasOwn = this.own !== undefined;
    if (hasOwn === this.ownSlider.hidden) {
      this.ownSlider.hidden = !hasOwn;
      this.ownButton.setAttribute("aria-pressed", String(hasOwn));
      this.element.classList.toggle("wv-has-own", hasOwn);
    }
    setText(this.ownButton, hasOwn ? `own ${this.own.toFixed(2)}` : "own threshold");
    if (hasOwn) this.ownSlider.value = this.own;
  }

  #showNumbers(level) {
    const { geometry } = this.grid;
    const box = this.best.boxes[level];
    const count = this.boxes[this.contours].byLevel[level].length;
    const share = box ? boxArea(box) / (geometry.imageWidth * geometry.imageHeight) : 0;
    this.box = box;
    setText(this.iou, this.hasTruth ? this.best.values[level].toFixed(3) : "–");
    setText(this.share, box ? `box ${(100 * share).toFixed(1)} %` : "");
    setText(this.corners, box ? formatBox(box) : "no box");
    setText(this.count, count > 1 ? `best of ${count}` : "");
  }

  describe() {
    const iou = this.hasTruth ? `IoU ${this.iou.textContent} with the true box` : "no true box drawn";
    const box = this.box
      ? `box ${this.corners.textContent}, ${this.share.textContent} of the image` : "no box";
    setAttribute(this.view.element, "aria-label",
      `${this.name}: threshold ${this.threshold.toFixed(2)}, ${box}, ${iou}`);
  }

  readingAt({ x, y }) {
    const { width, height } = this.grid.geometry;
    const [columns, rows] = this.rawSize;
    const column = Math.floor(((x + 0.5) * columns) / width);
    const row = Math.floor(((y + 0.5) * rows) / height);
    return formatNumber(this.raw[row * columns + column]);
  }

  get rawSize() {
    return [this.map.raw.width, this.map.raw.height];
  }
}

/** A panel that is a picture: no threshold, no box of its own. */
class PictureCell extends Cell {
  constructor(picture, place, grid) {
    super(place.key);
    this.name = place.name;
    const image = make("img", { class: "wv-layer wv-pixels", src: picture.src, alt: "" });
    this.view = new View(grid.geometry, [image], "wv-is-picture");
    this.view.element.setAttribute("aria-label", this.name);
    const legend = (picture.legend ?? []).map(([label, colour]) => {
      const swatch = make("span", { class: "wv-swatch" });
      swatch.style.backgroundColor = colour;
      return make("li", {}, swatch, label);
    });
    this.element = make("div", { class: "wv-cell" }, this.view.element,
      legend.length > 0 ? make("ul", { class: "wv-legend" }, ...legend) : null,
      factList(picture.facts));
  }

  showBoxes(state) {
    this.view.setTrueBox(state.true_box);
  }
}

/** The reason why there is no map here. */
class ErrorCell extends Cell {
  constructor(error, place) {
    super(place.key);
    this.element = make("div", { class: "wv-cell" }, make("p", { class: "wv-error" }, error.message));
  }
}

const CELL_KINDS = { heatmap: HeatmapCell, picture: PictureCell, error: ErrorCell };
