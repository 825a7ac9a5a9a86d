"use strict";
// The browser viewer: a grid of photo × methods × backbones under one live threshold. Everything is
// computed here from maps and boxes that the page already holds; only a click on a map may ask a server.
// The files viewer*.js make one script; they only declare, so their order does not matter.

/**
 * One result. Base64 holds little-endian bytes; W×H is the display grid that all maps share.
 * @typedef {object} Payload
 * @property {{src: string, width: number, height: number, image_size: number[], name: string}} photo -
 *   A data URL of W×H pixels, and the size [width, height] of the photo itself.
 * @property {Array<{method: string, title: string, help: string}>} columns
 * @property {Array<{id: string, title: string, subtitle: string, facts: Fact[],
 *   cells: Array<Heatmap | Picture | Failure>}>} rows - One cell for each column.
 * @property {{threshold: number, contours: "largest" | "all", opacity: number, colormap: string,
 *   true_box: number[] | null, marks?: Array<{threshold: number, label: string}>}} settings - The true
 *   box is [x0, y0, x1, y1] in the photo's own pixels, corners included.
 * @property {boolean} [fresh] - Show these settings, whatever the user chose for the result before.
 * @property {{sequential: Object<string, string>, diverging: Object<string, string>}} colormaps -
 *   256×3 bytes each; maps with a sign get the first diverging one.
 *
 * @typedef {{label: string, value: string, help: string}} Fact
 *
 * @typedef {object} Heatmap
 * @property {"heatmap"} kind
 * @property {string} levels - Data URL of an 8-bit grey PNG, W×H: q = uint8(255·scoremap).
 * @property {{width: number, height: number, values: string}} raw - The heatmap itself, float32.
 * @property {number} lowest - Of the resized raw map: raw ≈ lowest + q/255·(highest − lowest).
 * @property {number} highest
 * @property {boolean} signed - Drawn around zero.
 * @property {{largest: string, all: string}} boxes - uint16 rows [first_level, last_level, x0, y0, x1,
 *   y1] on the display grid, corners included: the box is there from the first level to the last. A
 *   level that nothing lies above has none.
 * @property {Fact[]} facts
 *
 * @typedef {{kind: "picture", src: string, legend: string[][], facts: Fact[]}} Picture - The source is
 *   a data URL on the feature grid, the legend holds [label, colour].
 * @typedef {{kind: "error", message: string}} Failure
 */

/** Milliseconds without a change after which the state is handed out and spoken. */
const SETTLE_DELAY = 150;

/**
 * Show a result in an element.
 * @param {HTMLElement} element - Where to put the viewer; what else it holds is left alone.
 * @param {Payload | null} payload - null shows nothing until `update` brings a result.
 * @param {{onState?: (state: object) => void, onAsk?: (question: object) => void}} options - `onState`
 *   is told what the user changed. `onAsk` is told which place of which map was clicked, {row, method, x,
 *   y, token} in the photo's pixels, and answers with `showField`; without it nothing is asked.
 * @returns {{update: (payload: Payload | null) => Promise<void>, state: () => object | null,
 *   setState: (partial: object) => void, showField: (answer: FieldAnswer) => void,
 *   destroy: () => void}} `update` keeps the user's choices as far as they still apply; `state` is {threshold, overrides, contours, opacity, colormap, true_box}, null
 *   before the first result; `setState` ignores what cannot be shown.
 */
function mountWsolviz(element, payload, options = {}) {
  const viewer = new Viewer(element, options.onState ?? (() => {}), options.onAsk ?? null);
  viewer.update(payload);
  return {
    update: (next) => viewer.update(next),
    state: () => structuredClone(viewer.state),
    setState: (partial) => viewer.apply(partial),
    showField: (answer) => viewer.showField(answer),
    destroy: () => viewer.destroy(),
  };
}

/** @returns {boolean} Whether two payloads show the same photo, so that a true box still fits. */
function isSamePhoto(a, b) {
  return a.src === b.src && String(a.image_size) === String(b.image_size);
}

/** Holds the state, and repaints once a frame what it has changed. */
class Viewer {
  constructor(host, onState, onAsk) {
    this.onState = onState;
    this.onAsk = onAsk;
    this.questions = 0;
    this.state = null;
    this.payload = null;
    this.marks = [];
    this.grid = null;
    this.turn = 0;
    this.stale = new Set();
    this.frameRequest = 0;
    this.toolbar = new Toolbar((partial) => this.change(partial));
    this.drawing = new TrueBoxDrawing(
      () => this.state.true_box, (box) => this.change({ true_box: box }),
      () => this.toolbar.trueBox.open);
    this.top = make("div", { class: "wv-top" });
    this.root = make("div", {
      class: "wsolviz", role: "group", "aria-label": "Heatmaps by backbone and method",
    });
    host.append(this.root);
  }

  /** Show a new result, once all of it is decoded; the one before stays in view until then. */
  async update(payload) {
    const turn = ++this.turn;
    this.drawing.stop();
    this.root.setAttribute("aria-busy", String(payload !== null));
    this.state = payload ? this.#carryState(payload) : null;
    this.marks = payload ? this.#carryMarks(payload) : [];
    this.payload = payload;
    if (!payload) {
      this.grid = null;
      this.root.replaceChildren();
      return;
    }
    const grid = new Grid(payload, {
      drawing: this.drawing,
      setOverride: (key, threshold) => this.#setOverride(key, threshold),
      setCrosshair: (point) => this.#setCrosshair(point),
      ask: this.onAsk && ((place, from) => this.#ask(place, from)),
    });
    try {
      await grid.load();
    } catch (error) {
      if (turn === this.turn) this.#showFailure(error);
      return;
    }
    if (turn === this.turn) this.#show(grid);
  }

  destroy() {
    this.turn++;
    this.drawing.stop();
    cancelAnimationFrame(this.frameRequest);
    clearTimeout(this.settleTimer);
    this.root.remove();
  }

  /** A change that the user made. */
  change(partial) {
    this.apply(partial);
    clearTimeout(this.settleTimer);
    this.settleTimer = setTimeout(() => {
      this.#describe();
      this.onState(structuredClone(this.state));
    }, SETTLE_DELAY);
  }

  /** A change, whoever made it. */
  apply(partial) {
    if (!this.state) return;
    const valid = this.#validated(partial);
    Object.assign(this.state, valid);
    if ("opacity" in valid || "colormap" in valid) this.stale.add("colours");
    if ("contours" in valid || "true_box" in valid) this.stale.add("boxes");
    this.#requestFrame();
  }

  /** Show the field that was asked for. */
  showField(answer) {
    this.grid?.fieldOf(answer.row)?.show(answer, this.state);
  }

  #ask(place, from) {
    const token = ++this.questions;
    this.grid.fieldOf(place.row).await(token, from);
    this.onAsk({ ...place, token });
  }

  #show(grid) {
    const { columns } = this.payload;
    this.root.style.setProperty("--wv-columns", columns.length);
    const shown = this.grid;
    this.grid = grid;
    if (shown && this.top.isConnected) { // the toolbar stays where it is, and so does the focus
      shown.heads.replaceWith(grid.heads);
      shown.element.replaceWith(grid.element);
    } else {
      this.top.replaceChildren(this.toolbar.element, grid.heads);
      this.root.replaceChildren(this.top, grid.element);
    }
    this.toolbar.update(this.payload, this.marks);
    this.stale.add("colours").add("boxes");
    this.#paint();
    this.#describe();
    this.root.setAttribute("aria-busy", "false");
  }

  #showFailure(error) {
    this.grid = null;
    const message = `This result could not be shown: ${error.message}. Explain the photo again.`;
    this.root.replaceChildren(make("p", { class: "wv-error", role: "alert" }, message));
    this.root.setAttribute("aria-busy", "false");
  }

  #requestFrame() {
    if (this.frameRequest) return;
    this.frameRequest = requestAnimationFrame(() => {
      this.frameRequest = 0;
      this.#paint();
    });
  }

  #paint() {
    const { grid, state, stale } = this;
    if (grid?.photo !== this.payload?.photo) return; // the next result is still being decoded
    if (!grid) return;
    this.toolbar.show(state);
    if (stale.has("colours")) {
      for (const cell of [...grid.photoCells, ...grid.cells]) cell.showColours(state);
    }
    if (stale.has("boxes")) {
      for (const cell of [...grid.photoCells, ...grid.cells]) cell.showBoxes(state);
    }
    for (const cell of grid.cells) cell.showThreshold(state);
    if (stale.has("crosshair")) grid.showCrosshair(grid.crosshair);
    stale.clear();
  }

  #describe() {
    for (const cell of this.grid?.cells ?? []) cell.describe();
  }

  #setCrosshair(point) {
    if (!this.grid || (!point && !this.grid.crosshair)) return;
    this.grid.crosshair = point;
    this.stale.add("crosshair");
    this.#requestFrame();
  }

  #setOverride(key, threshold) {
    const overrides = { ...this.state.overrides };
    if (threshold === null) delete overrides[key];
    else overrides[key] = threshold;
    this.change({ overrides });
  }

  /** The state that a new payload starts with: its settings, under what the user chose before. */
  #carryState(payload) {
    const { threshold, contours, opacity, colormap, true_box: trueBox } = payload.settings;
    const initial = {
      threshold, overrides: { ...payload.settings.overrides }, contours, opacity, colormap,
      true_box: trueBox ?? null,
    };
    const before = payload.fresh ? null : this.state;
    const keys = new Set(payload.rows.flatMap(
      (row) => payload.columns.map(({ method }) => `${row.id}/${method}`)));
    const overrides = Object.fromEntries(
      Object.entries((before ?? initial).overrides).filter(([key]) => keys.has(key)));
    if (!before) return { ...initial, overrides };
    return {
      ...before,
      overrides,
      colormap: before.colormap in payload.colormaps.sequential ? before.colormap : colormap,
      true_box: isSamePhoto(this.payload.photo, payload.photo) ? before.true_box : initial.true_box,
    };
  }

  /** Marked thresholds belong to a photo: a new result on the same one keeps them. */
  #carryMarks(payload) {
    const same = this.payload && isSamePhoto(this.payload.photo, payload.photo);
    return same && !payload.fresh ? this.marks : payload.settings.marks ?? [];
  }

  /** What of a partial state can be shown: numbers kept in [0,1], the box kept inside the photo. */
  #validated(partial) {
    const valid = {};
    const share = (value) => Math.min(Math.max(value, 0), 1);
    for (const name of ["threshold", "opacity"]) {
      if (Number.isFinite(partial[name])) valid[name] = share(partial[name]);
    }
    if (["largest", "all"].includes(partial.contours)) valid.contours = partial.contours;
    if (partial.colormap in this.payload.colormaps.sequential) valid.colormap = partial.colormap;
    if (partial.overrides) {
      valid.overrides = Object.fromEntries(Object.entries(partial.overrides)
        .filter(([, value]) => Number.isFinite(value)).map(([key, value]) => [key, share(value)]));
    }
    if (partial.true_box !== undefined) {
      const box = new Geometry(this.payload.photo).normalizeBox(partial.true_box);
      if (box || partial.true_box === null) valid.true_box = box;
    }
    return valid;
  }
}
