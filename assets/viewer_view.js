"use strict";
// A picture with lines over it: the photo, what is laid on it, boxes, the crosshair and its reading.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. Attributes that are false, null or undefined are left out, true ones are empty.
 * @param {string} tag
 * @param {Object<string, unknown>} attributes
 * @param {...(Node | string | null)} children - null is left out; text is never read as HTML.
 */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Write an attribute or a text only where it differs: an equal write still costs a layout. */
function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @returns {string} A number with 4 significant digits and a real minus sign. */
function formatNumber(value) {
  if (Number.isNaN(value)) return "NaN";
  return String(Number(value.toPrecision(4))).replaceAll("-", "−");
}

/** @returns {string} A box as "x0, y0 – x1, y1". */
function formatBox([x0, y0, x1, y1]) {
  return `${x0}, ${y0} – ${x1}, ${y1}`;
}

/** @returns {HTMLElement | null} Facts as a list of name and number, each with its help on hover. */
function factList(facts) {
  if (!facts || facts.length === 0) return null;
  const pairs = facts.map(({ label, value, help }) =>
    make("div", { title: help, class: help ? "wv-fact wv-helped" : "wv-fact" },
      make("dt", {}, label), make("dd", {}, String(value))));
  return make("dl", { class: "wv-facts" }, ...pairs);
}

/** One picture of the grid. */
class View {
  /**
   * @param {Geometry} geometry
   * @param {Element[]} layers - What it shows, from the bottom up.
   * @param {string} className - Its own class beside "wv-view".
   */
  constructor(geometry, layers, className) {
    this.geometry = geometry;
    const { width, height } = geometry;
    this.boxes = this.#line("wv-box");
    this.trueBox = this.#line("wv-true");
    this.place = this.#line("wv-place");
    this.crosshair = this.#line("wv-crosshair");
    this.lines = makeSvg("svg", {
      class: "wv-lines", viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none", "aria-hidden": "true",
    }, this.boxes.group, this.trueBox.group, this.place.group,
    this.crosshair.group);
    this.reading = make("div", { class: "wv-reading", hidden: true });
    this.element = make("div", {
      class: `wv-view ${className}`, tabindex: "0", role: "img",
    }, ...layers, this.lines, this.reading);
    this.element.style.aspectRatio = `${width} / ${height}`;
  }

  /** A line with a dark casing, so that it stands out on every colour. */
  #line(name) {
    const casing = makeSvg("path", { class: `${name} wv-casing` });
    const line = makeSvg("path", { class: name });
    return { group: makeSvg("g", {}, casing, line), casing, line };
  }

  #draw(line, path) {
    setAttribute(line.casing, "d", path);
    setAttribute(line.line, "d", path);
  }

  /** @param {string} path - SVG path on the display grid; "" for none. */
  setBoxes(path) {
    this.#draw(this.boxes, path);
  }

  /** Lay one more layer over the others, under the lines. */
  cover(layer) {
    this.element.insertBefore(layer, this.lines);
  }

  /** @param {string} path - SVG path on the display grid, of the place whose field is shown; "" for none. */
  setPlace(path) {
    this.#draw(this.place, path);
  }

  /** @param {number[] | null} box - In the photo's pixels. */
  setTrueBox(box) {
    this.#draw(this.trueBox, box ? this.geometry.photoBoxPath(box) : "");
  }

  /** @param {{x: number, y: number} | null} point - A display pixel; null takes the crosshair away. */
  setCrosshair(point, reading) {
    const { width, height } = this.geometry;
    this.#draw(this.crosshair, point ? `M${point.x + 0.5} 0V${height}M0 ${point.y + 0.5}H${width}` : "");
    this.reading.hidden = !point || !reading;
    setText(this.reading, point ? reading : "");
  }

  /** @returns {{x: number, y: number}} The display pixel under a pointer event, kept inside. */
  pointAt(event) {
    const { width, height } = this.geometry;
    const [u, v] = this.shareAt(event);
    return {
      x: Math.min(Math.floor(u * width), width - 1),
      y: Math.min(Math.floor(v * height), height - 1),
    };
  }

  /** @returns {number[]} Where a pointer event lies, in [0,1] of width and height. */
  shareAt(event) {
    const area = this.element.getBoundingClientRect();
    const inside = (value) => Math.min(Math.max(value, 0), 1);
    return [
      inside((event.clientX - area.left) / area.width),
      inside((event.clientY - area.top) / area.height),
    ];
  }
}
