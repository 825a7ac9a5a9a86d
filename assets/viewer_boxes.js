"use strict";
// Boxes: on the display grid as the map gives them, in the photo's own pixels as they are measured.
// A box is [x0, y0, x1, y1], corners included.

/** Between the display grid (W×H) and the photo's own pixels. */
class Geometry {
  /** @param {{width: number, height: number, image_size: number[]}} photo */
  constructor(photo) {
    this.width = photo.width;
    this.height = photo.height;
    [this.imageWidth, this.imageHeight] = photo.image_size;
  }

  /** @returns {number[]} The photo's pixels that a box of the display grid touches. */
  boxToPhoto(x0, y0, x1, y1) {
    const { width, height, imageWidth, imageHeight } = this;
    // Whole numbers first, one division last: a rounded scale could move a corner by a pixel.
    return [
      Math.floor((x0 * imageWidth) / width),
      Math.floor((y0 * imageHeight) / height),
      Math.min(Math.ceil(((x1 + 1) * imageWidth) / width), imageWidth) - 1,
      Math.min(Math.ceil(((y1 + 1) * imageHeight) / height), imageHeight) - 1,
    ];
  }

  /** @returns {number[]} The photo's pixel at the middle of a display pixel. */
  pointToPhoto({ x, y }) {
    const { width, height, imageWidth, imageHeight } = this;
    return [
      Math.floor(((x + 0.5) * imageWidth) / width), Math.floor(((y + 0.5) * imageHeight) / height),
    ];
  }

  /**
   * A box with its corners in order, in whole pixels, inside the photo.
   * @returns {number[] | null} null where the four are not all numbers.
   */
  normalizeBox(box) {
    const numbers = Array.isArray(box) && box.length === 4 && box.every(Number.isFinite);
    if (!numbers) return null;
    const within = (value, size) => Math.min(Math.max(Math.round(value), 0), size - 1);
    const xs = [box[0], box[2]].map((x) => within(x, this.imageWidth)).sort((a, b) => a - b);
    const ys = [box[1], box[3]].map((y) => within(y, this.imageHeight)).sort((a, b) => a - b);
    return [xs[0], ys[0], xs[1], ys[1]];
  }

  /** @returns {string} SVG path of a box in the photo's pixels, on the display grid. */
  photoBoxPath([x0, y0, x1, y1]) {
    const scaleX = this.imageWidth / this.width;
    const scaleY = this.imageHeight / this.height;
    return rectanglePath(x0 / scaleX, y0 / scaleY, (x1 + 1) / scaleX, (y1 + 1) / scaleY);
  }
}

/** @returns {string} SVG path of the rectangle between two corners. */
function rectanglePath(left, top, right, bottom) {
  return `M${left} ${top}H${right}V${bottom}H${left}Z`;
}

/** @returns {number} Pixels in a box, both corners included. */
function boxArea([x0, y0, x1, y1]) {
  return (x1 - x0 + 1) * (y1 - y0 + 1);
}

/** @returns {number} Intersection over union of two boxes, pixels counted inclusively. */
function intersectionOverUnion(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]) + 1;
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]) + 1;
  if (width <= 0 || height <= 0) return 0;
  const overlap = width * height;
  return overlap / (boxArea(a) + boxArea(b) - overlap);
}

/** The boxes of one map under one contour rule, at all 256 levels. */
class LevelBoxes {
  /**
   * @param {string} text - base64 of uint16 rows [first_level, last_level, x0, y0, x1, y1].
   * @param {Geometry} geometry
   */
  constructor(text, geometry) {
    this.rows = new Uint16Array(decodeBase64(text).buffer);
    this.count = this.rows.length / 6;
    this.photoBoxes = [];
    for (let i = 0; i < this.count; i++) {
      this.photoBoxes.push(geometry.boxToPhoto(...this.rows.subarray(6 * i + 2, 6 * i + 6)));
    }
    this.byLevel = Array.from({ length: 256 }, () => []);
    for (let i = 0; i < this.count; i++) {
      for (let level = this.rows[6 * i]; level <= this.rows[6 * i + 1]; level++) {
        this.byLevel[level].push(i);
      }
    }
  }

  /** @returns {string} SVG path of every box at a level, on the display grid. */
  path(level) {
    let path = "";
    for (const i of this.byLevel[level]) {
      const at = 6 * i;
      path += rectanglePath(
        this.rows[at + 2], this.rows[at + 3], this.rows[at + 4] + 1, this.rows[at + 5] + 1,
      );
    }
    return path;
  }

  /**
   * The best box of every level.
   * @param {(box: number[]) => number} score - Of a box in the photo's pixels, 0 or more.
   * @returns {{values: Float64Array, boxes: Array<number[] | null>}} 256 each; null without a box.
   */
  best(score) {
    const values = new Float64Array(256);
    const boxes = new Array(256).fill(null);
    const scores = this.photoBoxes.map(score);
    for (let level = 0; level < 256; level++) {
      for (const i of this.byLevel[level]) {
        if (boxes[level] === null || scores[i] > values[level]) {
          values[level] = scores[i];
          boxes[level] = this.photoBoxes[i];
        }
      }
    }
    return { values, boxes };
  }
}
