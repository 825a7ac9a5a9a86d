"use strict";
// The table of one result: a row for each backbone, a column for each method.

/** What one payload gives: its cells, the photo at the head of each row, and the titles. */
class Grid {
  /**
   * @param {object} payload
   * @param {{setOverride: function, setCrosshair: function, drawing: TrueBoxDrawing,
   *   ask: function | null}} actions - What cells may ask of the viewer.
   */
  constructor(payload, actions) {
    this.photo = payload.photo;
    this.geometry = new Geometry(payload.photo);
    this.setOverride = actions.setOverride;
    this.drawing = actions.drawing;
    this.ask = actions.ask;
    this.sequentialMaps = decodeMaps(payload.colormaps.sequential);
    [this.divergingMap] = Object.values(decodeMaps(payload.colormaps.diverging));
    this.crosshair = null;
    this.cells = [];
    this.photoCells = [];
    this.places = new Map();
    this.element = this.#build(payload);
    this.#listen(actions.setCrosshair);
  }

  /** Decode every map. */
  async load() {
    await Promise.all(this.cells.map((cell) => cell.load()));
  }

  /** @returns {HTMLImageElement} The photo, to lie at the bottom of a view. */
  photoLayer() {
    return make("img", { class: "wv-layer", src: this.photo.src, alt: "", draggable: "false" });
  }

  /** @returns {FieldLayer | undefined} Where a row's fields are shown. */
  fieldOf(row) {
    return this.photoCells.find((cell) => cell.row === row)?.field;
  }

  /** Put the crosshair at one place in every cell, with what each holds there; null takes it away. */
  showCrosshair(point) {
    for (const { cell } of this.places.values()) {
      cell.view.setCrosshair(point, point ? cell.readingAt(point) : "");
    }
  }

  #build({ columns, rows }) {
    this.heads = make("div", { class: "wv-heads", "aria-hidden": "true" },
      make("div", { class: "wv-row" }, make("div", { class: "wv-first" }, "photo"),
        ...columns.map(({ title, help }) => make("div", {}, make("span", { title: help, class: help ? "wv-helped" : null }, title)))));
    const spoken = make("div", { role: "row", class: "wv-spoken" },
      make("div", { role: "columnheader" }, "photo"),
      ...columns.map(({ title, help }) => make("div", { role: "columnheader" }, `${title}. ${help ?? ""}`)));
    const table = make("div", { class: "wv-table", role: "table", "aria-label": "Heatmaps" },
      spoken, ...rows.map((row) => this.#buildRow(row, columns)));
    this.scroll = make("div", { class: "wv-scroll" }, table);
    this.scroll.addEventListener("scroll", () => {
      this.heads.scrollLeft = this.scroll.scrollLeft;
    }, { passive: true });
    return this.scroll;
  }

  #buildRow(row, columns) {
    const photo = new PhotoCell(row, this);
    this.photoCells.push(photo);
    this.places.set(photo.view.element, { cell: photo });
    const cells = row.cells.map((content, i) => {
      const { method, title } = columns[i];
      const place = { key: `${row.id}/${method}`, name: `${title} of ${row.title}` };
      const cell = new CELL_KINDS[content.kind](content, place, this);
      this.cells.push(cell);
      if (cell.view) {
        this.places.set(cell.view.element, { cell, pick: { row: row.id, method } });
      }
      return make("div", { role: "cell", class: "wv-slot" }, cell.element);
    });
    return make("div", { role: "row", class: "wv-row" },
      make("div", { role: "rowheader", class: "wv-first" }, photo.element), ...cells);
  }

  #listen(setCrosshair) {
    const placeOf = (event) => this.places.get(event.target.closest(".wv-view"));
    this.element.addEventListener("pointermove", (event) => {
      const place = placeOf(event);
      setCrosshair(place ? place.cell.view.pointAt(event) : null);
    });
    this.element.addEventListener("pointerleave", () => setCrosshair(null));
    this.element.addEventListener("focusout", () => setCrosshair(null));
    let pressed = null;
    this.element.addEventListener("pointerdown", (event) => {
      pressed = event;
    });
    this.element.addEventListener("click", (event) => {
      const place = placeOf(event);
      const moved = pressed && travelled(pressed, event) >= DRAG_START;
      if (place?.cell instanceof HeatmapCell && !moved) {
        this.#pick(place, place.cell.view.pointAt(event));
      }
    });
    this.element.addEventListener("keydown", (event) => {
      const place = this.places.get(event.target);
      if (place) this.#pressKey(event, place, setCrosshair);
    });
  }

  /**
   * Arrows move the crosshair by one cell of the raw map, with Shift by one pixel; Enter picks, and
   * Escape takes away what was picked.
   */
  #pressKey(event, place, setCrosshair) {
    const { width, height } = this.geometry;
    const at = this.crosshair ?? { x: Math.floor(width / 2), y: Math.floor(height / 2) };
    const [columns, rows] = place.cell.rawSize;
    const stepX = event.shiftKey ? 1 : Math.max(1, Math.round(width / columns));
    const stepY = event.shiftKey ? 1 : Math.max(1, Math.round(height / rows));
    const moves = {
      ArrowLeft: [-stepX, 0], ArrowRight: [stepX, 0], ArrowUp: [0, -stepY], ArrowDown: [0, stepY],
    };
    if (event.key in moves) {
      const [dx, dy] = moves[event.key];
      setCrosshair({
        x: Math.min(Math.max(at.x + dx, 0), width - 1),
        y: Math.min(Math.max(at.y + dy, 0), height - 1),
      });
    } else if (event.key === "Escape") {
      setCrosshair(null);
      this.fieldOf(place.pick?.row ?? place.cell.row)?.close();
      return;
    } else if (event.key === "Enter" && place.cell instanceof HeatmapCell) {
      this.#pick(place, at);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Tell the page which place of which map was chosen, in the photo's own pixels. */
  #pick(place, point) {
    const [x, y] = this.geometry.pointToPhoto(point);
    const from = place.cell.view.element;
    const detail = { ...place.pick, x, y };
    from.dispatchEvent(new CustomEvent("wsolviz:pick", { bubbles: true, detail }));
    this.ask?.(detail, from);
  }
}

/** @returns {Object<string, Uint8Array>} 256 × 3 bytes for each name. */
function decodeMaps(maps) {
  return Object.fromEntries(
    Object.entries(maps).map(([name, text]) => [name, decodeBase64(text)]));
}
