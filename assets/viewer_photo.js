"use strict";
// The photo at the head of a row, on which the user draws the true box.

/** CSS pixels that a pointer must travel before it draws; less is a click. */
const DRAG_START = 4;

/** @returns {number} CSS pixels between two pointer events. */
function travelled(from, to) {
  return Math.hypot(to.clientX - from.clientX, to.clientY - from.clientY);
}

/** The photo with the row's name and facts. */
class PhotoCell {
  /**
   * @param {object} row - The payload's row.
   * @param {object} grid - Its geometry, photo, `drawing`, the one drawing that all photos share, and
   *   `ask`, null where nobody answers.
   */
  constructor(row, grid) {
    this.grid = grid;
    this.row = row.id;
    // What could not be explained has no map that one could ask about.
    this.field = new FieldLayer(
      grid, row.title, grid.ask !== null && row.cells.some(({ kind }) => kind === "heatmap"));
    this.view = new View(grid.geometry, [grid.photoLayer()], "wv-is-photo");
    this.field.attach(this.view);
    this.view.element.addEventListener("pointerdown", (event) => grid.drawing.start(event, this.view));
    this.hint = make("p", { class: "wv-hint" });
    this.element = make("div", { class: "wv-photo" },
      this.view.element, this.hint, this.field.note,
      make("div", { class: "wv-row-title" }, row.title),
      row.subtitle ? make("div", { class: "wv-row-subtitle" }, row.subtitle) : null,
      factList(row.facts));
  }

  showColours(state) {
    this.field.showColours(state);
  }

  showBoxes(state) {
    this.view.setTrueBox(state.true_box);
    const told = state.true_box ? `true box ${formatBox(state.true_box)}` : "drag: draw the true box";
    setText(this.hint, told);
    this.hint.classList.toggle("wv-is-true", state.true_box !== null);
    setAttribute(this.view.element, "aria-label",
      `${this.grid.photo.name}, ${this.grid.geometry.imageWidth} by `
      + `${this.grid.geometry.imageHeight} pixels, ${state.true_box ? told : "no true box drawn"}`);
  }

  readingAt(point) {
    return this.grid.geometry.pointToPhoto(point).join(", ");
  }

  get rawSize() {
    return [16, 16];
  }
}

/** A true box being drawn with mouse, pen or finger; Escape gives back the one before. */
class TrueBoxDrawing {
  /**
   * @param {() => number[] | null} read - The present true box.
   * @param {(box: number[] | null) => void} write - Show another one.
   * @param {() => boolean} takesTouch - Whether a finger draws; otherwise it scrolls.
   */
  constructor(read, write, takesTouch) {
    this.read = read;
    this.write = write;
    this.takesTouch = takesTouch;
    this.listening = null;
  }

  /** Begin at a pointerdown on a view. */
  start(event, view) {
    if (event.button !== 0 || !event.isPrimary) return;
    if (event.pointerType === "touch" && !this.takesTouch()) return;
    this.stop();
    this.before = this.read();
    this.from = event;
    this.view = view;
    this.drawn = false;
    view.element.setPointerCapture(event.pointerId);
    this.listening = new AbortController();
    const options = { signal: this.listening.signal };
    view.element.addEventListener("pointermove", (move) => this.#draw(move), options);
    view.element.addEventListener("pointerup", () => this.stop(), options);
    view.element.addEventListener("pointercancel", () => this.cancel(), options);
    document.addEventListener("keydown", (key) => {
      if (key.key !== "Escape") return;
      key.preventDefault();
      this.cancel();
    }, options);
  }

  #draw(event) {
    if (!this.drawn && travelled(this.from, event) < DRAG_START) return;
    this.drawn = true;
    const { imageWidth, imageHeight } = this.view.geometry;
    const corner = (pointer) => {
      const [u, v] = this.view.shareAt(pointer);
      return [Math.floor(u * imageWidth), Math.floor(v * imageHeight)];
    };
    this.write([...corner(this.from), ...corner(event)]);
  }

  /** Keep what is drawn. */
  stop() {
    this.listening?.abort();
    this.listening = null;
  }

  /** Put back the true box from before. */
  cancel() {
    this.stop();
    if (this.drawn) this.write(this.before);
  }
}
