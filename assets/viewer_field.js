"use strict";
// The field of one place, laid over a row's photo: which pixels a value was computed from.

/**
 * What was asked, and what came of it: a field, or a sentence on why there is none.
 * @typedef {object} FieldAnswer
 * @property {string} row - The row's id.
 * @property {number} token - Of the question, as `onAsk` was given it; other answers are too late.
 * @property {string} [message] - Why there is no field.
 * @property {string} [levels] - Data URL of an 8-bit grey PNG on the display grid.
 * @property {number[]} [cell] - x0, y0, x1, y1 of the position's cell, in [0,1] of the photo.
 * @property {string} [title] - Which position it is; `of` says what of it was asked about.
 * @property {string} [of]
 * @property {Fact[]} [facts]
 * @property {string[]} [notes]
 */

const ASK_HINT = "click a map, or press Enter on one: what its value was computed from";

/** The field over one photo, and the note under it. */
class FieldLayer {
  /**
   * @param {object} grid - Its geometry and colour maps.
   * @param {string} name - The row's.
   * @param {boolean} isOffered - Whether anybody answers.
   */
  constructor(grid, name, isOffered) {
    this.grid = grid;
    this.name = name;
    this.isOffered = isOffered;
    this.token = null;
    this.levels = null;
    const { width, height } = grid.geometry;
    this.canvas = make("canvas", {
      class: "wv-layer wv-field-map", width, height, "aria-hidden": "true",
    });
    this.told = make("div", { role: "status" });
    this.closeButton = make("button", {
      type: "button", class: "wv-field-close", "aria-label": `close the field of ${name}`, hidden: true,
    }, "close");
    this.closeButton.addEventListener("click", () => this.close());
    this.note = make("div", { class: "wv-field", hidden: !isOffered }, this.told, this.closeButton);
    this.#hint();
  }

  /** @param {View} view - The photo's, which the field covers and in which its position is marked. */
  attach(view) {
    this.view = view;
  }

  get isOpen() {
    return this.token !== null;
  }

  /** Wait for the answer to a question. */
  await(token, from) {
    this.token = token;
    this.from = from;
    this.told.replaceChildren(make("p", {}, "measuring the field …"));
    this.closeButton.hidden = false;
  }

  /** Show an answer, unless another question was asked since. */
  async show(answer, state) {
    if (answer.token !== this.token) return;
    if (answer.message) {
      this.#clear();
      this.told.replaceChildren(make("p", { class: "wv-error" }, answer.message));
      return;
    }
    const { width, height } = this.grid.geometry;
    const levels = await decodeLevels(answer.levels, width, height);
    if (answer.token !== this.token) return;
    this.levels = levels;
    this.painted = null;
    this.showColours(state);
    const [x0, y0, x1, y1] = answer.cell;
    this.view.setPlace(
      `M${x0 * width} ${y0 * height}H${x1 * width}V${y1 * height}H${x0 * width}Z`);
    this.view.cover(this.canvas);
    this.told.replaceChildren(
      make("strong", {}, answer.title), make("div", {}, answer.of), factList(answer.facts),
      ...answer.notes.map((text) => make("p", {}, text)));
  }

  /** Draw the field in the chosen colours; the photo shows through as under the heatmaps. */
  showColours(state) {
    if (!this.levels) return;
    this.canvas.style.opacity = state.opacity;
    const colours = this.grid.sequentialMaps[state.colormap];
    if (colours === this.painted) return;
    this.painted = colours;
    const { width, height } = this.grid.geometry;
    const image = new ImageData(width, height);
    for (let i = 0; i < this.levels.length; i++) {
      const from = 3 * this.levels[i];
      image.data.set(colours.subarray(from, from + 3), 4 * i);
      image.data[4 * i + 3] = 255;
    }
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  /** Take the field away; the focus goes back to the map that was asked. */
  close() {
    const hadFocus = this.note.contains(document.activeElement);
    this.token = null;
    this.#clear();
    this.closeButton.hidden = true;
    this.#hint();
    if (hadFocus) this.from?.focus({ preventScroll: true });
  }

  #clear() {
    this.levels = null;
    this.canvas.remove();
    this.view?.setPlace("");
  }

  #hint() {
    this.told.replaceChildren(make("p", { class: "wv-field-hint" }, ASK_HINT));
  }
}
